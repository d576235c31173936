"""The enrolled photos behind the sample's templates, and other photos of the same people."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from arcinvert.audit.judges import Judge
from arcinvert.audit.rates import References
from arcinvert.audit.types import Count
from arcinvert.errors import InputError
from arcinvert.faces.alignment import SIZE, Detector, RetinaFace, align_photo, read_photo
from arcinvert.faces.listing import report_skipped
from arcinvert.faces.photos import list_photos
from arcinvert.recognizer import Recognizer

SURE = 0.9
"""A photo with this cosine to a template, or a higher one, counts as the photo behind it."""


@dataclass(frozen=True)
class PhotoMatches:
    """How the photos of a sample were found.

    Attributes:
        folder: of the photos.
        templates: of the sample.
        enrolled, second: how many of them have an enrolled photo, and another one of the same person.
        unreadable: photos that show no face, and files that cannot be read as an image.
        method: in words.
    """

    folder: str
    templates: Count
    enrolled: Count
    second: Count
    unreadable: Count
    method: str


@dataclass(frozen=True, eq=False)
class Photos:
    """The photos of a sample.

    Attributes:
        enrolled: (N) the enrolled crop (112, 112, 3) uint8, None where it was not found.
        second: (N) another one of the same person, None where there is none.
        files: (N) the file of ``enrolled``.
        matches: the counts, for the report.
    """

    enrolled: tuple[Tensor | None, ...]
    second: tuple[Tensor | None, ...]
    files: tuple[Path | None, ...]
    matches: PhotoMatches

    def references(self, judge: Judge) -> References:
        """A judge's embeddings of them."""
        return References(_embed(judge, self.enrolled), _embed(judge, self.second))


def match_photos(
    folder: Path,
    recognizer: Recognizer,
    targets: Tensor,
    *,
    positions: Sequence[int],
    identities: Sequence[str | None] | None,
) -> Photos:
    """Find the enrolled photo of each template of the sample, and another of the same person.

    Candidates are the photos in ``folder/<identity>/``; else the one whose name is that of the identity, or the number
    of the record in the store; else, where the store names nobody, all photos. If there are several candidates, the one
    with the highest cosine to the template (by the attacked recognizer) is taken, provided it reaches :data:`SURE`; a
    single candidate is always taken. Photos that are not 112x112 are aligned first.

    Args:
        folder: of the photos.
        recognizer: the attacked one.
        targets: (N, D), unit norm: the sample's templates.
        positions: (N) in the store.
        identities: (N) names, None where the store has none.

    Raises:
        InputError: no such folder, or no photos in it.
    """
    if not folder.is_dir():
        raise InputError(f"expected a folder of photos, got {str(folder)!r}")
    listed, skipped = list_photos([folder])
    report_skipped(skipped)
    files = [path.relative_to(folder) for path in listed]
    read = _Crops(folder, recognizer)
    first: list[Path | None] = []
    second: list[Path | None] = []
    for row, position in enumerate(positions):
        name = None if identities is None else identities[row]
        candidates = _candidates(files, name, position)
        cosine = read.cosine(candidates, targets[row])
        good = [candidates[i] for i in np.argsort(-cosine, kind="stable") if np.isfinite(cosine[i])]
        sure = len(good) == 1 or (len(good) > 1 and cosine.max() >= SURE)
        enrolled = good[0] if sure else None
        home = Path() if name is None else Path(name)
        home = home if enrolled is None else enrolled.parent
        others = [path for path in files if path.parent == home != Path() and path != enrolled]
        first.append(enrolled)
        second.append(next((path for path in others if np.isfinite(read.cosine([path], targets[row])[0])), None))
    matches = PhotoMatches(
        folder=str(folder),
        templates=len(first),
        enrolled=sum(path is not None for path in first),
        second=sum(path is not None for path in second),
        unreadable=read.unreadable + len(skipped),
        method="by the name of the identity or record, then by the attacked recognizer's cosine "
        f"(at least {SURE:g}) where there are several",
    )
    crops = [tuple(None if path is None else read.crop(path) for path in paths) for paths in (first, second)]
    return Photos(crops[0], crops[1], tuple(None if p is None else folder / p for p in first), matches)


def _candidates(files: Sequence[Path], name: str | None, position: int) -> list[Path]:
    if name is not None:
        inside = [path for path in files if path.parent == Path(name)]
        if inside:
            return inside
    called = [path for path in files if path.stem == name or _number(path.stem) == position]
    if called or name is not None:
        return called[:1]
    return list(files)


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() else None


class _Crops:
    """Photos as crops; each is read and embedded once, and only its embedding is kept."""

    def __init__(self, folder: Path, recognizer: Recognizer) -> None:
        self.folder, self.recognizer = folder, recognizer
        self.rows: dict[Path, NDArray[np.float32]] = {}
        self.detector: Detector | None = None

    @property
    def unreadable(self) -> int:
        return sum(not np.isfinite(row[0]) for row in self.rows.values())

    def crop(self, path: Path) -> Tensor | None:
        """(112, 112, 3) uint8, or None without a face."""
        try:
            whole = read_photo(self.folder / path)
            if whole.shape == (SIZE, SIZE, 3):
                return torch.from_numpy(whole.copy())
            self.detector = self.detector or RetinaFace()
            found, _ = align_photo(self.folder / path, self.detector)
        except InputError:  # a photo that cannot be read is counted, not raised
            return None
        return None if found is None else torch.from_numpy(found.copy())

    def embed(self, paths: Sequence[Path]) -> NDArray[np.float32]:
        """(n, D); minus infinity where there is no face."""
        new = [path for path in paths if path not in self.rows]
        for start in range(0, len(new), 32):
            part = new[start : start + 32]
            crops = {path: crop for path in part if (crop := self.crop(path)) is not None}
            if crops:
                found = self.recognizer.embed(torch.stack(list(crops.values())).permute(0, 3, 1, 2)).cpu().numpy()
                self.rows |= dict(zip(crops, found, strict=True))
            nothing = np.full(self.recognizer.embedding_size, -np.inf, np.float32)
            self.rows |= {path: nothing for path in part if path not in crops}
        size = self.recognizer.embedding_size
        return np.stack([self.rows[path] for path in paths]) if paths else np.empty((0, size), np.float32)

    def cosine(self, paths: Sequence[Path], target: Tensor) -> NDArray[np.float32]:
        """(n,) to the target (D,); minus infinity where there is no face."""
        rows = self.embed(paths)
        cosine = np.nan_to_num(rows, neginf=0) @ target.cpu().numpy()
        return np.where(np.isneginf(rows[:, 0]), -np.inf, cosine).astype(np.float32)


def _embed(judge: Judge, crops: Sequence[Tensor | None]) -> Tensor:
    """(N, D), NaN where there is no crop."""
    found = torch.full((len(crops), judge.own.shape[1]), torch.nan)
    there = [row for row, crop in enumerate(crops) if crop is not None]
    if there:
        found[there] = judge.embed([crop for crop in crops if crop is not None])
    return found
