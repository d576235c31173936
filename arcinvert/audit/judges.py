"""Judges: recognizers that decide whether two images show one person, at thresholds fixed beforehand."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from arcinvert.audit.types import Count, Share
from arcinvert.errors import InputError
from arcinvert.evaluation.metrics import allowed_false_matches, threshold_at_fmr
from arcinvert.evaluation.readers.crops import files_digest, identity_files, read_crop, readable_files
from arcinvert.faceprior.prior import FacePrior
from arcinvert.faces.listing import report_skipped
from arcinvert.inversion.invert import to_bytes
from arcinvert.progress import Progress, silent
from arcinvert.recognizer import Recognizer

FMRS = (1e-2, 1e-3)
MAX_IMAGES = 3000
"""Of a folder; their four and a half million pairs fix any threshold here."""


@dataclass(frozen=True, eq=False)
class ThresholdFaces:
    """Faces outside the store: they fix the thresholds, and an attacker on a defense may learn from them.

    Attributes:
        images: (M, 112, 112, 3) uint8.
        labels: (M,) int64, the identity of each.
        source: where they come from, in words.
        digest: SHA-256 of them.
        folder: whether they come from a folder; else they are rendered.
    """

    images: Tensor
    labels: NDArray[np.int64]
    source: str
    digest: str
    folder: bool = False


@dataclass(frozen=True)
class Threshold:
    """The cosine from which a judge accepts.

    Attributes:
        fmr: the false match rate it allows.
        threshold: the lowest cosine that keeps this rate; None if the pairs are too few.
        impostor_pairs: that fixed it.
        reason: why there is no threshold, else None.
    """

    fmr: Share
    threshold: float | None
    impostor_pairs: Count
    reason: str | None = None


@dataclass(frozen=True, eq=False)
class Judge:
    """A recognizer with its thresholds.

    Attributes:
        name: of its file.
        recognizer: the network.
        attacked: whether the attack was made against it.
        thresholds: one for each of :data:`FMRS`.
        own: (M, D) its embeddings of the faces that fixed them, unit norm.
    """

    name: str
    recognizer: Recognizer
    attacked: bool
    thresholds: tuple[Threshold, ...]
    own: Tensor

    def embed(self, images: Sequence[Tensor] | Tensor) -> Tensor:
        """(N, 112, 112, 3) uint8 -> (N, D) on the CPU, unit norm."""
        stacked = images if isinstance(images, Tensor) else torch.stack(list(images))
        return self.recognizer.embed(stacked.permute(0, 3, 1, 2)).cpu()


def render(prior: FacePrior, rows: Tensor) -> Iterator[Tensor]:
    """The faces of the prior at ``rows`` (N,), in batches of (n, 112, 112, 3) uint8 on the CPU."""
    for part in torch.split(rows.to(prior.codes.device), 32):
        with torch.no_grad():
            yield to_bytes(prior.render(prior.codes[part].to(prior.code_scale) * prior.code_scale)).cpu()


def prior_faces(prior: FacePrior) -> ThresholdFaces:
    """One rendered face of each identity behind the face prior."""
    _, first = np.unique(prior.labels.cpu().numpy(), return_index=True)
    first = np.sort(first)
    source = f"the face prior's own synthetic faces, one rendered image of each of {len(first)} identities"
    images = torch.cat(list(render(prior, torch.from_numpy(first))))
    return ThresholdFaces(images, prior.labels.cpu().numpy()[first], source, prior.digest)


def folder_faces(folder: Path) -> ThresholdFaces:
    """Aligned crops ``folder/<identity>/<image>``: every identity's first, then every second, up to :data:`MAX_IMAGES`.

    Raises:
        InputError: not such a folder, or an image that is not an aligned crop.
    """
    files, labels, skipped = identity_files(folder)
    place = np.concatenate([np.arange(n) for n in np.bincount(labels)])
    chosen = np.sort(np.lexsort((labels, place))[:MAX_IMAGES])
    used, people, damaged = readable_files([files[row] for row in chosen], labels[chosen])
    report_skipped(skipped + damaged)
    images = torch.from_numpy(np.stack([read_crop(path) for path in used]))
    source = f"{len(used)} images of {len(np.unique(people))} identities in {str(folder)!r}"
    return ThresholdFaces(images, people, source, files_digest(folder, used), folder=True)


def make_judge(
    name: str, recognizer: Recognizer, faces: ThresholdFaces, *, attacked: bool = False, progress: Progress = silent
) -> Judge:
    """Fix a recognizer's thresholds on the pairs of different people among ``faces``.

    Raises:
        InputError: the faces show only one person.
    """
    parts = []
    for start in range(0, len(faces.images), 32):
        parts.append(recognizer.embed(faces.images[start : start + 32].permute(0, 3, 1, 2)).cpu())
        progress(min(start + 32, len(faces.images)), len(faces.images), f"thresholds of {name}")
    own = torch.cat(parts)
    first, second = np.triu_indices(len(own), k=1)
    impostor = (own @ own.T).numpy()[first, second][faces.labels[first] != faces.labels[second]]
    if not len(impostor):
        raise InputError("expected faces of several people to fix thresholds on, got one person")
    return Judge(name, recognizer, attacked, tuple(_threshold(fmr, impostor) for fmr in FMRS), own)


def _threshold(fmr: float, impostor: NDArray[np.floating]) -> Threshold:
    value, pairs = threshold_at_fmr(fmr, impostor=impostor), len(impostor)
    few = (
        f"{pairs} impostor pairs allow {allowed_false_matches(fmr, pairs)} false matches; fewer than 3 fix no threshold"
    )
    return Threshold(fmr, value, pairs, few if value is None else None)


def judge_names(paths: Sequence[Path]) -> list[str]:
    """A name for each file, with a number where two are alike."""
    stems = [path.stem for path in paths]
    return [stem if stems.count(stem) == 1 else f"{stem} ({i + 1})" for i, stem in enumerate(stems)]
