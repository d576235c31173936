"""Pairs: pictures, and what a recognizer that nobody has made of them."""

import hashlib
import logging
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from arcinvert.audit.black_box.names import open_named, rows_of_pictures
from arcinvert.errors import InputError
from arcinvert.evaluation.readers.crops import files_digest
from arcinvert.faces.alignment import SIZE, Detector, RetinaFace, read_photo
from arcinvert.faces.choice import align_photo
from arcinvert.faces.listing import Skipped, report_skipped
from arcinvert.faces.photos import list_photos
from arcinvert.mapping.fit import ENOUGH_PAIRS, fit_map
from arcinvert.mapping.linear_map import LinearMap, Rows
from arcinvert.mapping.quality import MapQuality, measure
from arcinvert.progress import Progress, silent
from arcinvert.recognizer import Recognizer

log = logging.getLogger(__name__)

BATCH = 32


@dataclass(frozen=True, eq=False)
class Pairs:
    """Embeddings of pictures by a recognizer that is known by them alone.

    Attributes:
        folder: of the pictures.
        files: (N) the pictures.
        labels: (N,) int64, the person of each: its folder; without folders, every picture is a person.
        rows: (N, D) float32, unit norm.
        skipped: pictures and rows that were left out, with the reasons.
        digest: SHA-256 over names and embeddings.
    """

    folder: Path
    files: tuple[Path, ...]
    labels: NDArray[np.int64]
    rows: Rows
    skipped: tuple[Skipped, ...]
    digest: str

    def only(self, keep: NDArray[np.bool_], skipped: tuple[Skipped, ...]) -> "Pairs":
        """Those of ``keep`` (N,), with the reasons for the others."""
        files = tuple(path for path, kept in zip(self.files, keep, strict=True) if kept)
        return replace(
            self, files=files, labels=self.labels[keep], rows=self.rows[keep], skipped=self.skipped + skipped
        )


def read_pairs(embeddings: str, folder: Path) -> Pairs:
    """Read the embeddings of the pictures in a folder.

    Args:
        embeddings: a store that names the pictures (a column ``picture``, ``file``, ``path``, ...), or one with a row
            for each picture in the sorted order of their paths; NaN where the system found no face.
        folder: ``folder/<identity>/<picture>``, or pictures of one person each.

    Raises:
        InputError: no such files, embeddings that belong to none of the pictures, or not one pair.
    """
    if not folder.is_dir():
        raise InputError(f"expected a folder of pictures, got {str(folder)!r}")
    listed, skipped = list_photos([folder])
    report_skipped(skipped)
    names = [path.relative_to(folder).as_posix() for path in listed]
    store = open_named(embeddings)
    found = rows_of_pictures(store, names, f"pictures in {str(folder)!r}")
    positions = np.unique(np.fromiter(found.values(), np.int64))
    block = store.take(positions)
    place = {position: n for n, position in enumerate(block.positions.tolist())}
    pictures, usable = [], []
    reasons = dict.fromkeys(range(len(listed)), "expected one row of embeddings that names it, got none or several")
    with np.errstate(over="ignore", invalid="ignore"):
        norms = np.sqrt(np.einsum("nd,nd->n", block.templates, block.templates, dtype=np.float64))
    for picture, position in found.items():
        row = place.get(position)
        if row is None or not np.isfinite(norms[row]) or not norms[row]:
            reasons[picture] = "its embedding has no direction: the system found no face?"
            continue
        pictures.append(picture)
        usable.append(row)
    if not pictures:
        raise InputError(f"expected embeddings of the pictures in {str(folder)!r}, got none that can be used")
    used = set(pictures)
    left_out = tuple((str(listed[n]), reason) for n, reason in reasons.items() if n not in used)
    report_skipped(left_out)
    rows = np.asarray(block.templates[usable] / norms[usable, None], np.float32)
    files = tuple(listed[n] for n in pictures)
    digest = hashlib.sha256("\0".join(names[n] for n in pictures).encode(errors="surrogatepass") + rows.tobytes())
    return Pairs(folder, files, _people(folder, files), rows, (*skipped, *left_out), digest.hexdigest())


def _people(folder: Path, files: tuple[Path, ...]) -> NDArray[np.int64]:
    """The folder of each picture as a number; a picture beside the folders is a person of its own."""
    names = [str(path) if path.parent == folder else str(path.parent) for path in files]
    if all(path.parent == folder for path in files):
        log.info("the pictures are in no folders of people: each counts as a person of its own")
    return np.asarray(np.unique(names, return_inverse=True)[1], np.int64)


def fit_pairs(
    pairs: Pairs, recognizer: Recognizer, *, progress: Progress = silent
) -> tuple[LinearMap, MapQuality, Pairs]:
    """Fit a map from the system behind the pairs to a recognizer.

    Pictures that are not 112x112 are aligned first; those without a face are left out.

    Returns:
        The map, with digests and quality in its header; how good it is; and the pairs that were used.

    Raises:
        InputError: too few pairs.
        EnvironmentProblem: pictures have to be aligned, and the detector does not load.
    """
    native, missing = _embedded(pairs, recognizer, progress)
    keep = np.isfinite(native[:, 0])
    report_skipped(missing)
    pairs = pairs.only(keep, missing)
    native = native[keep]
    fitted = fit_map(pairs.rows, native, pairs.labels)
    quality = measure(fitted.predicted, native, pairs.labels, ridge=fitted.ridge, source=pairs.rows)
    if quality.pairs < ENOUGH_PAIRS:
        log.warning(
            "%d pairs fit a rough map (held-out cosine %.3f); %d or more fit a better one",
            quality.pairs,
            quality.cosine,
            ENOUGH_PAIRS,
        )
    header = {
        "to": recognizer.digest,
        "pairs": pairs.digest,
        "pictures": files_digest(pairs.folder, pairs.files),
        "quality": quality.to_json(),
    }
    return replace(fitted.map, header=header), quality, pairs


def _embedded(pairs: Pairs, recognizer: Recognizer, progress: Progress) -> tuple[Rows, tuple[Skipped, ...]]:
    """(N, K) by the recognizer, NaN without a face; and the pictures without one, with the reasons."""
    found = np.full((len(pairs.files), recognizer.embedding_size), np.nan, np.float32)
    detector: Detector | None = None
    missing: list[Skipped] = []
    for start in range(0, len(pairs.files), BATCH):
        crops: dict[int, NDArray[np.uint8]] = {}
        for number, path in enumerate(pairs.files[start : start + BATCH], start):
            try:
                crop = read_photo(path)
                if crop.shape != (SIZE, SIZE, 3):
                    detector = detector or RetinaFace()
                    aligned, _ = align_photo(path, detector)
                    if aligned is None:
                        raise InputError("no face found")
                    crop = aligned
                crops[number] = crop
            except InputError as error:  # a picture that cannot be used is counted, not raised
                missing.append((str(path), str(error)))
        if crops:
            images = torch.from_numpy(np.stack(list(crops.values()))).permute(0, 3, 1, 2)
            found[list(crops)] = recognizer.embed(images).cpu().numpy()
        progress(min(start + BATCH, len(pairs.files)), len(pairs.files), "embedding the pictures")
    return found, tuple(missing)
