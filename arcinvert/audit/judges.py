"""Judges: recognizers that decide whether two images show one person, at thresholds fixed beforehand."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from arcinvert.audit.impostors import ImpostorScores
from arcinvert.audit.thresholds import Basis, Threshold, fix
from arcinvert.evaluation.readers.crops import files_digest, identity_files, read_crop, readable_files
from arcinvert.faceprior.prior import FacePrior
from arcinvert.faces.listing import report_skipped
from arcinvert.progress import Progress, silent
from arcinvert.recognizer import Recognizer

MAX_IMAGES = 3000
"""Of a folder; their four and a half million pairs fix any threshold here."""

THRESHOLD_FACES = 1000
"""Of the face prior, at most: their half a million pairs fix an FMR of 1e-4, and more cost time."""


@dataclass(frozen=True, eq=False)
class ThresholdFaces:
    """Faces outside the store: they fix the thresholds, and an attacker on a defense may learn from them.

    Attributes:
        images: (M, 112, 112, 3) uint8.
        labels: (M,) int64, the identity of each.
        source: where they come from, in words.
        digest: SHA-256 of them.
        folder: whether they come from a folder; else they are rendered.
        people: the name of each label; empty for faces that are rendered.
    """

    images: Tensor
    labels: NDArray[np.int64]
    source: str
    digest: str
    folder: bool = False
    people: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Judge:
    """A recognizer with its thresholds.

    Attributes:
        name: of its file.
        recognizer: the network.
        attacked: whether the attack was made against it.
        thresholds: one for each of :data:`~arcinvert.audit.thresholds.FMRS`, and perhaps one that was given.
        own: (M, D) its embeddings of the faces outside the store, unit norm.
        source: what fixed the thresholds, in words.
        synthetic: its thresholds on synthetic faces, for comparison; empty where they are not known.
    """

    name: str
    recognizer: Recognizer
    attacked: bool
    thresholds: tuple[Threshold, ...]
    own: Tensor
    source: str = ""
    synthetic: tuple[Threshold, ...] = ()

    def embed(self, images: Sequence[Tensor] | Tensor) -> Tensor:
        """(N, 112, 112, 3) uint8 -> (N, D) on the CPU, unit norm."""
        stacked = images if isinstance(images, Tensor) else torch.stack(list(images))
        return self.recognizer.embed(stacked.permute(0, 3, 1, 2)).cpu()


@functools.lru_cache(maxsize=1)
def prior_faces(prior: FacePrior) -> ThresholdFaces:
    """Synthetic faces of the face prior, one of each person."""
    rows = range(min(THRESHOLD_FACES, len(prior)))
    source = f"the face prior's own synthetic faces, one image of each of {len(rows)} identities"
    return ThresholdFaces(prior.pictures(rows), np.arange(len(rows)), source, prior.digest)


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
    names = {int(label): str(path.parent.relative_to(folder)) for label, path in zip(people, used, strict=True)}
    named = tuple(names.get(label, "") for label in range(int(people.max()) + 1))
    return ThresholdFaces(images, people, source, files_digest(folder, used), folder=True, people=named)


def make_judge(
    name: str, recognizer: Recognizer, faces: ThresholdFaces, *, attacked: bool = False, progress: Progress = silent
) -> Judge:
    """Fix a recognizer's thresholds on the pairs of different people among ``faces``.

    Raises:
        InputError: the faces show only one person.
    """
    own = embed_faces(recognizer, faces.images, f"thresholds of {name}", progress)
    basis: Basis = "photos" if faces.folder else "synthetic faces"
    fixed = fix(ImpostorScores.of(own.numpy(), faces.labels), basis, faces.source)
    return Judge(name, recognizer, attacked, fixed.thresholds, own, fixed.source)


def embed_faces(recognizer: Recognizer, images: Tensor, text: str = "", progress: Progress = silent) -> Tensor:
    """(N, 112, 112, 3) uint8 -> (N, D) on the CPU, unit norm; ``text`` names the work for ``progress``."""
    parts = []
    for start in range(0, len(images), 32):
        parts.append(recognizer.embed(images[start : start + 32].permute(0, 3, 1, 2)).cpu())
        progress(min(start + 32, len(images)), len(images), text)
    return torch.cat(parts)


def judge_names(paths: Sequence[Path]) -> list[str]:
    """A name for each file, with a number where two are alike."""
    stems = [path.stem for path in paths]
    return [stem if stems.count(stem) == 1 else f"{stem} ({i + 1})" for i, stem in enumerate(stems)]
