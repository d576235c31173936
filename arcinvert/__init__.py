"""arcinvert turns a face embedding back into a face.

The names below are loaded when they are first used: importing the package does not import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from arcinvert.errors import ArcInvertError

__version__ = "0.1.0"

_HOMES = {
    "Inversion": "arcinvert.inversion.invert",
    "LeakageReport": "arcinvert.audit",
    "Recipe": "arcinvert.inversion.invert",
    "Recognizer": "arcinvert.recognizer",
    "TrainConfig": "arcinvert.training.config",
    "audit": "arcinvert",
    "calibrate": "arcinvert.calibration.calibration",
    "invert": "arcinvert.inversion.invert",
    "train": "arcinvert.training.trainer",
    "metrics": "arcinvert.evaluation",
    "objectives": "arcinvert.inversion",
    "parameterization": "arcinvert.inversion",
    "presets": "arcinvert.inversion",
    "priors": "arcinvert.inversion",
}
_MODULES = {"audit", "metrics", "objectives", "parameterization", "presets", "priors"}

__all__ = [
    "ArcInvertError",
    "Inversion",
    "LeakageReport",
    "Recipe",
    "Recognizer",
    "TrainConfig",
    "__version__",
    "audit",
    "calibrate",
    "invert",
    "metrics",
    "objectives",
    "parameterization",
    "presets",
    "priors",
    "train",
]

if TYPE_CHECKING:
    from arcinvert import audit
    from arcinvert.audit import LeakageReport
    from arcinvert.calibration.calibration import calibrate
    from arcinvert.evaluation import metrics
    from arcinvert.inversion import objectives, parameterization, presets, priors
    from arcinvert.inversion.invert import Inversion, Recipe, invert
    from arcinvert.recognizer import Recognizer
    from arcinvert.training.config import TrainConfig
    from arcinvert.training.trainer import train


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'arcinvert' has no attribute {name!r}")
    home = _HOMES[name]
    value = import_module(f"{home}.{name}") if name in _MODULES else getattr(import_module(home), name)
    globals()[name] = value
    return value
