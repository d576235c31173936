"""The enrolled photos behind the sample's templates, and other photos of the same people."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from arcinvert.audit.checks.mismatch import SURE, PhotoCosines
from arcinvert.audit.judges import Judge, ThresholdFaces
from arcinvert.audit.rates import References
from arcinvert.audit.types import Count
from arcinvert.errors import InputError
from arcinvert.faces.alignment import SIZE, Detector, RetinaFace, read_photo
from arcinvert.faces.choice import align_photo
from arcinvert.faces.listing import report_skipped
from arcinvert.faces.photos import list_photos
from arcinvert.recognizer import Recognizer

MAX_PHOTOS = 1000
"""That fix thresholds, everybody's first before anybody's second: half a million pairs."""

MAX_KEPT = 4000
"""Crops in memory, of 37 kB each; others are read again."""


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
        cosines: of each template to the nearest photo of its person, and of another one.
        crops: reads any photo of the folder.
        people: file in the folder -> whom it shows, by its folder, its record, or its own name.
    """

    enrolled: tuple[Tensor | None, ...]
    second: tuple[Tensor | None, ...]
    files: tuple[Path | None, ...]
    matches: PhotoMatches
    cosines: PhotoCosines
    crops: "_Crops"
    people: Mapping[Path, str]

    def faces(self) -> ThresholdFaces | None:
        """The crops of at most :data:`MAX_PHOTOS` photos; None if none shows a face."""
        names, labels = np.unique(list(self.people.values()), return_inverse=True)
        place: list[int] = []
        seen: dict[int, int] = {}
        for label in labels.tolist():
            seen[label] = seen.get(label, -1) + 1
            place.append(seen[label])
        files, order = list(self.people), np.lexsort((labels, np.array(place)))[:MAX_PHOTOS]
        found = [(int(labels[i]), crop) for i in order if (crop := self.crops.crop(files[i])) is not None]
        if not found:
            return None
        images = torch.stack([crop for _, crop in found])
        people = np.array([label for label, _ in found])
        digest = hashlib.sha256(images.numpy().tobytes()).hexdigest()
        source = f"{len(found)} photos of {len(np.unique(people))} people in {self.matches.folder!r}"
        return ThresholdFaces(images, people, source, digest, folder=True, people=tuple(map(str, names)))

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
    sure: float = SURE,
) -> Photos:
    """Find the enrolled photo of each template of the sample, and another of the same person.

    Candidates are the photos in ``folder/<identity>/``; else the one whose name is that of the identity, or the number
    of the record in the store; else, where the store names nobody, all photos. If there are several candidates, the one
    with the highest cosine to the template (by the attacked recognizer) is taken, provided it reaches ``sure``; a
    single candidate is always taken. Photos that are not 112x112 are aligned first.

    Args:
        folder: of the photos.
        recognizer: the attacked one.
        targets: (N, D), unit norm: the sample's templates.
        positions: (N) in the store.
        identities: (N) names, None where the store has none.
        sure: the lowest cosine of an enrolled photo to its template, where several may be meant.

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
    named: list[list[Path]] = []
    for row, position in enumerate(positions):
        name = None if identities is None else identities[row]
        candidates = _candidates(files, name, position)
        named.append(candidates if name is not None or len(candidates) < len(files) else [])
        cosine = read.cosine(candidates, targets[row])
        good = [candidates[i] for i in np.argsort(-cosine, kind="stable") if np.isfinite(cosine[i])]
        known = len(good) == 1 or (len(good) > 1 and cosine.max() >= sure)
        enrolled = good[0] if known else None
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
        f"(at least {sure:g}) where there are several",
    )
    crops = [tuple(None if path is None else read.crop(path) for path in paths) for paths in (first, second)]
    people = {path: str(path.parent) if path.parent != Path() else path.name for path in files}
    for row, path in enumerate(first):
        if path is not None and path.parent == Path() and identities is not None and identities[row]:
            people[path] = str(identities[row])
    cosines = _nearest(read, named, targets, identities)
    enrolled_files = tuple(None if p is None else folder / p for p in first)
    return Photos(crops[0], crops[1], enrolled_files, matches, cosines, read, people)


def _nearest(
    read: "_Crops", named: Sequence[Sequence[Path]], targets: Tensor, identities: Sequence[str | None] | None
) -> PhotoCosines:
    """The nearest photo of each template's person, and the nearest of as many photos of the next other people."""
    own, other = np.full(len(named), np.nan), np.full(len(named), np.nan)
    for row, paths in enumerate(named):
        strangers: list[Path] = []
        for after in (*range(row + 1, len(named)), *range(row)):
            if len(strangers) >= len(paths):
                break
            if identities is None or identities[after] != identities[row]:
                strangers += named[after]
        own[row] = _highest(read.cosine(paths, targets[row]))
        if len(strangers) >= len(paths):
            other[row] = _highest(read.cosine(strangers[: len(paths)], targets[row]))
    return PhotoCosines(own, other)


def _highest(cosine: NDArray[np.float32]) -> float:
    """NaN where no photo shows a face."""
    finite = cosine[np.isfinite(cosine)]
    return float(finite.max()) if len(finite) else np.nan


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
    """Photos as crops; each is read and embedded once."""

    def __init__(self, folder: Path, recognizer: Recognizer) -> None:
        self.folder, self.recognizer = folder, recognizer
        self.rows: dict[Path, NDArray[np.float32]] = {}
        self.seen: dict[Path, Tensor | None] = {}
        self.detector: Detector | None = None

    @property
    def unreadable(self) -> int:
        return sum(not np.isfinite(row[0]) for row in self.rows.values())

    def crop(self, path: Path) -> Tensor | None:
        """(112, 112, 3) uint8, or None without a face."""
        if path in self.seen:
            return self.seen[path]
        found = self._read(path)
        if len(self.seen) < MAX_KEPT:
            self.seen[path] = found
        return found

    def _read(self, path: Path) -> Tensor | None:
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
