"""Where calibrations are kept: in the checkpoint, in a file beside it, or in the user's cache."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from arcinvert.calibration.auxiliary import default_auxiliary
from arcinvert.calibration.calibration import Calibration
from arcinvert.calibration.fit import calibrate, seconds_per_face
from arcinvert.checkpoint import load_checkpoint, save_checkpoint
from arcinvert.errors import CheckpointError, EnvironmentProblem
from arcinvert.faceprior.prior import FacePrior
from arcinvert.formats import open_checkpoint
from arcinvert.formats.hub import cache_folder
from arcinvert.formats.license import license_of, license_of_digest
from arcinvert.progress import Progress, silent
from arcinvert.recognizer import BESIDE, Recognizer

log = logging.getLogger(__name__)

EDITION = 3
"""Of the fit: raised whenever the same faces give another calibration, so that the cache's older ones are made anew."""


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
    return _kept(cache_file(recognizer, prior), recognizer)


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
    kept = cache_file(recognizer, prior)
    whole = len(prior) * seconds_per_face(recognizer, prior)
    log.info(
        "this network has no calibration yet: fitting one on up to %d synthetic faces, once; about %s to %s (fewer "
        "faces if more no longer improve it). It is kept in %s; `arcinvert calibrate` writes it into the checkpoint "
        "or beside it",
        len(prior),
        _duration(whole / 2),
        _duration(whole),
        kept,
    )
    return _keep(kept, calibrate(recognizer, prior, progress=progress), recognizer)


def mixed_calibration(
    recognizer: Recognizer, prior: FacePrior, crops: Tensor, digest: str, *, progress: Progress = silent
) -> Calibration:
    """A calibration on the faces of the prior and on ``crops``, of the user's cache or a new one, which is kept there.

    Photographs embed otherwise than synthetic faces do, so a few crops of other people of the domain that is attacked
    make the calibration fit it better. They add to the synthetic faces: crops of one kind of people alone would make
    everybody look like them.

    Args:
        recognizer: loaded from a file; the cache goes by its digest.
        prior: of all synthetic faces.
        crops: (N, 112, 112, 3) uint8, identity by identity.
        digest: SHA-256 of the crops.
        progress: see :func:`~arcinvert.calibration.fit.calibrate`.
    """
    kept = cache_file(recognizer, prior, digest)
    if (found := _kept(kept, recognizer)) is not None:
        return found
    log.info("calibrating on %d crops beside %d synthetic faces, once (kept in the cache)", len(crops), len(prior))
    return _keep(kept, calibrate(recognizer, prior, crops, progress=progress), recognizer)


def save_calibration(source: Path, out: Path, calibration: Calibration) -> str:
    """Write a copy of the checkpoint ``source``, of any format, with ``calibration``; returns its digest.

    An ``out`` named ``NAME.calibration.safetensors`` gets the calibration alone: it is found beside NAME.
    """
    stored = open_checkpoint(source)
    license = license_of(stored.header, stored.digest)
    header = _header(stored.digest, license, calibration)
    tensors: dict[str, Tensor] = {}
    if not out.name.endswith(BESIDE):
        header = stored.header | {"calibration": calibration.header, "license": license}
        tensors = {key: value for key, value in stored.tensors.items() if not key.startswith("calibration.")}
    return save_checkpoint(out, header, tensors | _tensors(calibration))


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _header(digest: str, license: str, calibration: Calibration) -> dict[str, Any]:
    """Of a file that holds a calibration alone: it can lie beside the recognizer, or in the cache."""
    faces = license_of_digest(calibration.prior_digest)
    return {
        "kind": "calibration",
        "recognizer": digest,
        "calibration": calibration.header,
        "license": license if license == faces else f"recognizer: {license}; face prior: {faces}",
    }


def cache_file(recognizer: Recognizer, prior: FacePrior, crops: str = "") -> Path:
    """Where the user's cache keeps the calibration on the faces of a prior, and on crops of this digest beside them."""
    parts = f"{recognizer.digest[:32]}-{prior.digest[:16]}{default_auxiliary().digest[:8]}-{EDITION}"
    return cache_folder() / "calibrations" / f"{parts}{crops and '-' + crops[:16]}.safetensors"


def _kept(path: Path, recognizer: Recognizer) -> Calibration | None:
    """The calibration of a file of the cache; None where there is none, or a damaged one."""
    try:
        stored = load_checkpoint(path)
        return Calibration.from_tensors(stored.section("calibration"), stored.header["calibration"], recognizer)
    except (CheckpointError, KeyError, OSError):
        return None


def _keep(path: Path, made: Calibration, recognizer: Recognizer) -> Calibration:
    """Write a calibration; returns it rounded as in the file, so that this run and the next give the same images."""
    try:
        save_checkpoint(path, _header(recognizer.digest, recognizer.license, made), _tensors(made))
    except EnvironmentProblem as problem:
        log.warning("the calibration is not kept: %s", problem)
    return Calibration.from_tensors(made.to_tensors(), made.header, recognizer)


def _tensors(calibration: Calibration) -> dict[str, Tensor]:
    return {f"calibration.{key}": value for key, value in calibration.to_tensors().items()}
