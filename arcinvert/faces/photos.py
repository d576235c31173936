"""From photos to aligned crops and to embeddings, and both to files."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from arcinvert.checkpoint import atomic_write
from arcinvert.errors import InputError
from arcinvert.faces.alignment import SIZE, SUFFIXES, Detector, RetinaFace, align_photo, read_photo
from arcinvert.faces.scrfd import SCRFD
from arcinvert.progress import Progress, silent
from arcinvert.recognizer import Recognizer

RETINAFACE = "retinaface"


@dataclass(frozen=True, eq=False)
class Embedded:
    """Embeddings and what became of every photo.

    Attributes:
        rows: (N, D) float32, unit norm.
        files: the N photos behind the rows, in order.
        skipped: photos without a face or that cannot be read, with the reason.
        remarks: what should be said, such as several faces in one photo.
    """

    rows: NDArray[np.float32]
    files: tuple[Path, ...]
    skipped: tuple[tuple[Path, str], ...]
    remarks: tuple[str, ...]


def list_photos(paths: Sequence[Path]) -> list[Path]:
    """Files as they are, folders replaced by their pictures in sorted order.

    Raises:
        InputError: no such file or folder, or a folder without pictures.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
            if not inside:
                raise InputError(f"expected pictures in the folder {str(path)!r}, found none")
            found += inside
        elif path.is_file():
            found.append(path)
        else:
            raise InputError(f"expected a photo or a folder, found nothing at {str(path)!r}")
    return found


def open_detector(name: str = RETINAFACE) -> Detector:
    """``retinaface``, or the SCRFD of an ONNX file.

    Raises:
        InputError: another name, or not such a file; see :class:`arcinvert.faces.scrfd.SCRFD`.
        EnvironmentProblem: the detector's packages are missing or do not load.
    """
    return RetinaFace() if name == RETINAFACE else SCRFD(Path(name))


def embed_photos(
    recognizer: Recognizer,
    paths: Sequence[Path],
    *,
    aligned: bool = False,
    detector: str = RETINAFACE,
    progress: Progress = silent,
) -> Embedded:
    """Detect, align and embed the largest face of each photo.

    Args:
        recognizer: gives the embeddings.
        paths: photos and folders.
        aligned: the photos are aligned 112x112 crops and are taken as they are; no detector is opened.
        detector: see :func:`open_detector`.
        progress: told (done, all, text).

    Raises:
        InputError: see :func:`list_photos` and :func:`open_detector`. A photo that cannot be used is
            skipped, not raised.
        EnvironmentProblem: the detector cannot be loaded.
    """
    photos = list_photos(paths)
    finder = None if aligned else open_detector(detector)
    rows, files, skipped, remarks = [], [], [], []
    for number, path in enumerate(photos, start=1):
        crop, faces, reason = _crop(path, finder)
        progress(number, len(photos), "embedding")
        if crop is None:
            skipped.append((path, reason))
            continue
        if faces > 1:
            remarks.append(f"{str(path)!r} shows {faces} faces; the largest is taken")
        rows.append(recognizer.embed(torch.from_numpy(crop.copy()).permute(2, 0, 1)[None])[0].cpu().numpy())
        files.append(path)
    stacked = np.stack(rows) if rows else np.empty((0, recognizer.embedding_size), np.float32)
    return Embedded(stacked.astype(np.float32), tuple(files), tuple(skipped), tuple(remarks))


@dataclass(frozen=True)
class Aligned:
    """What became of a folder of photos.

    Attributes:
        files: the crops that were written.
        skipped, remarks: see :class:`Embedded`.
    """

    files: tuple[Path, ...]
    skipped: tuple[tuple[Path, str], ...]
    remarks: tuple[str, ...]


def align_folder(folder: Path, out: Path, *, detector: str = RETINAFACE, progress: Progress = silent) -> Aligned:
    """Write the largest face of each photo as an aligned 112x112 PNG, in folders like those of the photos.

    Args:
        folder: photos, at any depth; ``folder/<identity>/<photo>`` is what training and evaluation want.
        out: the folder of the crops.
        detector: see :func:`open_detector`.
        progress: told (done, all, text).

    Raises:
        InputError: see :func:`list_photos` and :func:`open_detector`; two photos whose crops would
            have one name. A photo that cannot be used is skipped, not raised.
        EnvironmentProblem: the detector cannot be loaded.
    """
    if not folder.is_dir():
        raise InputError(f"expected a folder of photos, got {str(folder)!r}")
    photos = list_photos([folder])
    crops = [out / photo.relative_to(folder).with_suffix(".png") for photo in photos]
    twice = [crop for crop, count in Counter(crops).items() if count > 1]
    if twice:
        raise InputError(f"two photos would become {str(twice[0])!r}; rename one")
    finder = open_detector(detector)
    files, skipped, remarks = [], [], []
    for number, (photo, path) in enumerate(zip(photos, crops, strict=True), start=1):
        crop, faces, reason = _crop(photo, finder)
        progress(number, len(photos), "aligning")
        if crop is None:
            skipped.append((photo, reason))
            continue
        if faces > 1:
            remarks.append(f"{str(photo)!r} shows {faces} faces; the largest is taken")
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as temporary:
            Image.fromarray(crop).save(temporary, format="PNG")
        files.append(path)
    return Aligned(tuple(files), tuple(skipped), tuple(remarks))


def save_embeddings(path: Path, rows: NDArray[np.float32]) -> None:
    """Write (N, D) float32 as ``.npy``; the old file stays until the new one is complete."""
    with atomic_write(path) as temporary, open(temporary, "wb") as file:
        np.save(file, rows)


def _crop(path: Path, detector: Detector | None) -> tuple[NDArray[np.uint8] | None, int, str]:
    """The aligned crop and how many faces were found; or None and the reason."""
    try:
        if detector is not None:
            crop, faces = align_photo(path, detector)
            return crop, faces, "no face found"
        whole = read_photo(path)
    except InputError as error:
        return None, 0, str(error)
    if whole.shape != (SIZE, SIZE, 3):
        return None, 0, f"expected a {SIZE}x{SIZE} crop, got {whole.shape[1]}x{whole.shape[0]}"
    return whole, 1, ""
