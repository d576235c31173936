"""arcinvert turns a face embedding back into a face.

The names below are loaded when they are first used: importing the package does not import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from arcinvert.errors import ArcInvertError
from arcinvert.telemetry import switch_off

__version__ = "0.2.0"

switch_off()  # before any library is imported that would report something

_HOMES = {
    "ContentCredentials": "arcinvert.synthesis.credentials",
    "Inversion": "arcinvert.inversion.invert",
    "Inverter": "arcinvert.inverter",
    "LeakageReport": "arcinvert.audit",
    "Recipe": "arcinvert.inversion.invert",
    "Recognizer": "arcinvert.recognizer",
    "TrainConfig": "arcinvert.training.config",
    "View": "arcinvert.inversion.invert",
    "align_photo": "arcinvert.faces.choice",
    "audit": "arcinvert",
    "contact_sheet": "arcinvert.synthesis.sheets",
    "invert": "arcinvert.inversion.invert",
    "metrics": "arcinvert.evaluation",
    "objectives": "arcinvert.inversion",
    "parameterization": "arcinvert.inversion",
    "plots": "arcinvert.evaluation",
    "presets": "arcinvert.inversion",
    "priors": "arcinvert.inversion",
    "purify_training": "arcinvert.training.subcenters",
    "train": "arcinvert.training.trainer",
    "write_png": "arcinvert.synthesis.sheets",
}
_MODULES = {"audit", "metrics", "objectives", "parameterization", "plots", "presets", "priors"}

__all__ = [
    "ArcInvertError",
    "ContentCredentials",
    "Inversion",
    "Inverter",
    "LeakageReport",
    "Recipe",
    "Recognizer",
    "TrainConfig",
    "View",
    "__version__",
    "align_photo",
    "audit",
    "contact_sheet",
    "invert",
    "metrics",
    "objectives",
    "parameterization",
    "plots",
    "presets",
    "priors",
    "purify_training",
    "train",
    "write_png",
]

if TYPE_CHECKING:
    from arcinvert import audit
    from arcinvert.audit import LeakageReport
    from arcinvert.evaluation import metrics, plots
    from arcinvert.faces.choice import align_photo
    from arcinvert.inversion import objectives, parameterization, presets, priors
    from arcinvert.inversion.invert import Inversion, Recipe, View, invert
    from arcinvert.inverter import Inverter
    from arcinvert.recognizer import Recognizer
    from arcinvert.synthesis.credentials import ContentCredentials
    from arcinvert.synthesis.sheets import contact_sheet, write_png
    from arcinvert.training.config import TrainConfig
    from arcinvert.training.subcenters import purify_training
    from arcinvert.training.trainer import train


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'arcinvert' has no attribute {name!r}")
    home = _HOMES[name]
    value = import_module(f"{home}.{name}") if name in _MODULES else getattr(import_module(home), name)
    globals()[name] = value
    return value
