"""Where calibrations are kept: in the checkpoint, in a file beside it, or in the user's cache."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from arcinvert.calibration.auxiliary import default_auxiliary
from arcinvert.calibration.calibration import Calibration
from arcinvert.calibration.fit import calibrate
from arcinvert.checkpoint import load_checkpoint, save_checkpoint
from arcinvert.errors import CheckpointError, EnvironmentProblem
from arcinvert.faceprior.prior import FacePrior
from arcinvert.formats import open_checkpoint
from arcinvert.formats.hub import cache_folder
from arcinvert.progress import Progress, silent
from arcinvert.recognizer import BESIDE, Recognizer

log = logging.getLogger(__name__)


def find_calibration(recognizer: Recognizer, prior: FacePrior | None = None) -> Calibration | None:
    """The calibration of a checkpoint, its own or one beside it; else that of the user's cache; else None.

    One for another auxiliary recognizer counts as none, and so does a damaged one in the cache.

    Args:
        recognizer: loaded from a file.
        prior: of all faces. Without one the cache is not searched.

    Raises:
        CheckpointError: the checkpoint's own calibration is incomplete or damaged.
    """
    tensors, header = recognizer.calibration_tensors, recognizer.header.get("calibration")
    header = header if isinstance(header, Mapping) else {}
    if "auxiliary.expected.factor" in tensors and header.get("auxiliary") in (None, default_auxiliary().digest):
        return Calibration.from_tensors(tensors, header, recognizer)
    if prior is None:
        return None
    try:
        stored = load_checkpoint(_cache_file(recognizer, prior))
        return Calibration.from_tensors(stored.section("calibration"), stored.header["calibration"], recognizer)
    except (CheckpointError, KeyError, OSError):
        return None


def load_calibration(recognizer: Recognizer, prior: FacePrior, *, progress: Progress = silent) -> Calibration:
    """The calibration that :func:`find_calibration` finds; else a new one, which the user's cache keeps.

    Args:
        recognizer: loaded from a file; the cache goes by its digest.
        prior: of all faces.
        progress: see :func:`~arcinvert.calibration.fit.calibrate`.

    Raises:
        CheckpointError: see :func:`find_calibration`.
    """
    found = find_calibration(recognizer, prior)
    if found is not None:
        return found
    log.info(
        "this network has no calibration yet: fitting one on %d synthetic faces, once (it is kept in the cache; "
        "`arcinvert calibrate` writes it into the checkpoint)",
        len(prior),
    )
    made = calibrate(recognizer, prior, progress=progress)
    try:
        save_checkpoint(_cache_file(recognizer, prior), {"calibration": made.header}, _tensors(made))
    except EnvironmentProblem as problem:
        log.warning("the calibration is not kept: %s", problem)
    # Rounded as in the file, so that this run and the next give the same images.
    return Calibration.from_tensors(made.to_tensors(), made.header, recognizer)


def save_calibration(source: Path, out: Path, calibration: Calibration) -> str:
    """Write a copy of the checkpoint ``source``, of any format, with ``calibration``; returns its digest.

    An ``out`` named ``NAME.calibration.safetensors`` gets the calibration alone: it is found beside NAME.
    """
    stored = open_checkpoint(source)
    header: dict[str, Any] = {"kind": "calibration", "recognizer": stored.digest}
    tensors: dict[str, Tensor] = {}
    if not out.name.endswith(BESIDE):
        header = stored.header
        tensors = {key: value for key, value in stored.tensors.items() if not key.startswith("calibration.")}
    return save_checkpoint(out, header | {"calibration": calibration.header}, tensors | _tensors(calibration))


def _cache_file(recognizer: Recognizer, prior: FacePrior) -> Path:
    parts = [prior.digest[:16], "" if prior.detail is None else prior.detail.digest[:8], default_auxiliary().digest[:8]]
    return cache_folder() / "calibrations" / f"{recognizer.digest[:32]}-{''.join(parts)}.safetensors"


def _tensors(calibration: Calibration) -> dict[str, Tensor]:
    return {f"calibration.{key}": value for key, value in calibration.to_tensors().items()}
