"""arcinvert turns a face embedding back into a face.

The names below are loaded when they are first used: importing the package does not import torch.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from arcinvert.errors import ArcInvertError

__version__ = "0.2.0"

NO_TELEMETRY = {
    "DO_NOT_TRACK": "1",  # several libraries
    "ORT_DISABLE_TELEMETRY": "1",  # onnxruntime 1.32 looks up a host some seconds after its first session
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_UPDATE_CHECK": "1",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "GRADIO_RUN_HISTORY": "False",  # the browser would keep inputs and images of past runs
    "NO_ALBUMENTATIONS_UPDATE": "1",  # imported by some versions of insightface
}
"""Environment variables that keep libraries from reporting or asking anything: set here, before any of them is
imported, unless the user has set them. The other libraries (torch, faiss, lancedb, pyarrow, qdrant-client on a folder)
contact nothing by themselves. `tests/test_privacy.py` runs the main jobs and fails on any connection."""
for _name, _value in NO_TELEMETRY.items():
    os.environ.setdefault(_name, _value)

_HOMES = {
    "Inversion": "arcinvert.inversion.invert",
    "Inverter": "arcinvert.inverter",
    "LeakageReport": "arcinvert.audit",
    "Recipe": "arcinvert.inversion.invert",
    "Recognizer": "arcinvert.recognizer",
    "TrainConfig": "arcinvert.training.config",
    "View": "arcinvert.inversion.invert",
    "align_photo": "arcinvert.faces.alignment",
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
    from arcinvert.faces.alignment import align_photo
    from arcinvert.inversion import objectives, parameterization, presets, priors
    from arcinvert.inversion.invert import Inversion, Recipe, View, invert
    from arcinvert.inverter import Inverter
    from arcinvert.recognizer import Recognizer
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
