"""Telemetry of other libraries: the environment variables that switch it off, and whether their values do."""

import os
from collections.abc import Mapping

NO_TELEMETRY = {
    "DO_NOT_TRACK": "1",  # several libraries
    "ORT_DISABLE_TELEMETRY": "1",  # onnxruntime 1.32 looks up a host some seconds after its first session
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_UPDATE_CHECK": "1",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "GRADIO_RUN_HISTORY": "False",  # the browser would keep inputs and images of past runs
    "NO_ALBUMENTATIONS_UPDATE": "1",  # imported by some versions of insightface
}
"""Environment variables that keep libraries from reporting or asking anything. The other libraries (torch, faiss,
lancedb, pyarrow, qdrant-client on a folder) contact nothing by themselves. `tests/test_privacy.py` runs the main jobs
and fails on any connection."""

# A switch is read in any case; "yes" and "on" by onnxruntime 1.32 and huggingface_hub, not by albumentations.
_YES = {"1", "true", "yes", "on"}
_SHORT_YES = {"1", "true"}


def switch_off() -> None:
    """Set the variables that the user has not set; call it before the libraries are imported."""
    for name, value in NO_TELEMETRY.items():
        os.environ.setdefault(name, value)


def allowed_by(environment: Mapping[str, str]) -> list[str]:
    """The variables whose value in `environment`, or whose absence there, allows a library to report or to ask."""
    return [name for name in NO_TELEMETRY if not _is_off(name, environment.get(name))]


def _is_off(name: str, value: str | None) -> bool:
    if value is None:
        return False
    if NO_TELEMETRY[name] == "False":  # gradio 6 takes "True" alone for a yes; other versions may take any
        return value.lower() not in _YES
    return value.lower() in (_SHORT_YES if name == "NO_ALBUMENTATIONS_UPDATE" else _YES)
