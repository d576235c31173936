"""From photos to aligned crops and to embeddings, and both to files."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from arcinvert.checkpoint import atomic_write
from arcinvert.errors import InputError
from arcinvert.faces.alignment import Detector, RetinaFace, as_crop, read_photo
from arcinvert.faces.choice import MAIN, aligned_face, check_choice
from arcinvert.faces.listing import Skipped, report_skipped, sort_out, unreadable
from arcinvert.faces.scrfd import SCRFD
from arcinvert.faces.yunet import YuNet, is_yunet
from arcinvert.progress import Progress, silent
from arcinvert.recognizer import Recognizer

RETINAFACE = "retinaface"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class UsedPhotos:
    """What became of each photo.

    Attributes:
        files: photos with a face, or the crops that were written of them, in order.
        skipped: photos without a face, and files that cannot be read as an image, with the reason.
    """

    files: tuple[Path, ...]
    skipped: tuple[Skipped, ...]


def list_photos(paths: Sequence[Path]) -> tuple[list[Path], list[Skipped]]:
    """Files as they are, folders replaced by their images in sorted order; and the other files of the folders.

    Raises:
        InputError: no such file or folder, or a folder without images.
    """
    found: list[Path] = []
    skipped: list[Skipped] = []
    for path in paths:
        if path.is_dir():
            images, others = sort_out(inner for inner in path.rglob("*") if not inner.is_dir())
            if not images:
                reason = f": {others[0][0]!r} is left out: {others[0][1]}" if others else ""
                raise InputError(f"expected images in the folder {str(path)!r}, found none{reason}")
            found += images
            skipped += others
        elif path.is_file():
            found.append(path)
        else:
            raise InputError(f"expected a photo or a folder, found nothing at {str(path)!r}")
    return found, skipped


def open_detector(name: str = RETINAFACE) -> Detector:
    """``retinaface``, or the SCRFD or YuNet of an ONNX file.

    Raises:
        InputError: another name, or not such a file; see :class:`arcinvert.faces.scrfd.SCRFD`.
        EnvironmentProblem: the detector's packages are missing or do not load.
    """
    if name == RETINAFACE:
        return RetinaFace()
    return YuNet(Path(name)) if is_yunet(Path(name)) else SCRFD(Path(name))


def embed_photos(
    recognizer: Recognizer,
    paths: Sequence[Path],
    *,
    aligned: bool = False,
    detector: str = RETINAFACE,
    face: str = MAIN,
    gray_bits: int | None = None,
    strict: bool = False,
    progress: Progress = silent,
) -> tuple[NDArray[np.float32], UsedPhotos]:
    """Detect, align and embed one face of each photo.

    Args:
        recognizer: computes the embeddings.
        paths: photos and folders.
        aligned: the photos are aligned 112x112 crops and are taken as they are; no detector is opened.
        detector: see :func:`open_detector`.
        face: which one, where a photo shows several; see :func:`~arcinvert.faces.choice.choose`.
        gray_bits: see :func:`~arcinvert.faces.alignment.read_photo`.
        strict: raise InputError if a file cannot be read as an image, before anything is detected.
        progress: called with (done, all, text).

    Returns:
        (N, D) float32, unit norm, and the N photos behind the rows.

    Raises:
        InputError: see :func:`list_photos` and :func:`open_detector`; or no photo can be used. One among
            others that cannot is skipped.
        EnvironmentProblem: the detector cannot be loaded.
    """
    check_choice(face)
    photos, skipped = _listed(paths, strict)
    rows = [np.empty((0, recognizer.embedding_size), np.float32)]

    def embed(photo: Path, crop: NDArray[np.uint8]) -> Path:
        rows.append(recognizer.embed(torch.from_numpy(crop.copy()).permute(2, 0, 1)[None]).cpu().numpy())
        return photo

    opened = None if aligned else open_detector(detector)
    found = _each_crop(photos, skipped, opened, face, gray_bits, embed, progress, "embedding")
    return np.concatenate(rows).astype(np.float32), found


def align_folder(
    folder: Path,
    out: Path,
    *,
    detector: str = RETINAFACE,
    face: str = MAIN,
    gray_bits: int | None = None,
    strict: bool = False,
    progress: Progress = silent,
) -> UsedPhotos:
    """Write one face of each photo as an aligned 112x112 PNG, in folders like those of the photos.

    Args:
        folder: photos, at any depth; training and evaluation expect ``folder/<identity>/<photo>``.
        out: the folder of the crops.
        detector: see :func:`open_detector`.
        face: which one, where a photo shows several; see :func:`~arcinvert.faces.choice.choose`.
        gray_bits: see :func:`~arcinvert.faces.alignment.read_photo`.
        strict: raise InputError if a file cannot be read as an image, before anything is detected.
        progress: called with (done, all, text).

    Raises:
        InputError: see :func:`list_photos` and :func:`open_detector`; two photos whose crops would
            have one name; or no photo can be used. One among others that cannot is skipped.
        EnvironmentProblem: the detector cannot be loaded.
    """
    check_choice(face)
    if not folder.is_dir():
        raise InputError(f"expected a folder of photos, got {str(folder)!r}")
    photos, skipped = _listed([folder], strict)
    crops = {photo: out / photo.relative_to(folder).with_suffix(".png") for photo in photos}
    twice = [path for path, count in Counter(crops.values()).items() if count > 1]
    if twice:
        raise InputError(f"two photos would become {str(twice[0])!r}; rename one")

    def write(photo: Path, crop: NDArray[np.uint8]) -> Path:
        with atomic_write(crops[photo]) as temporary:
            Image.fromarray(crop).save(temporary, format="PNG")
        return crops[photo]

    return _each_crop(photos, skipped, open_detector(detector), face, gray_bits, write, progress, "aligning")


def save_embeddings(path: Path, rows: NDArray[np.float32]) -> None:
    """Write (N, D) float32 as ``.npy``; the old file stays until the new one is complete."""
    with atomic_write(path) as temporary, open(temporary, "wb") as file:
        np.save(file, rows)


def _listed(paths: Sequence[Path], strict: bool) -> tuple[list[Path], list[Skipped]]:
    """See :func:`list_photos`; the files that are left out are logged, or refused."""
    photos, skipped = list_photos(paths)
    if strict:
        skipped += unreadable(photos)
    report_skipped(skipped, strict=strict)
    return photos, skipped


def _each_crop(
    photos: Sequence[Path],
    skipped: Sequence[Skipped],
    detector: Detector | None,
    face: str,
    gray_bits: int | None,
    use: Callable[[Path, NDArray[np.uint8]], Path],
    progress: Progress,
    text: str,
) -> UsedPhotos:
    """``use`` is called with each photo and its crop, and returns the file to list."""
    files, left_out = [], list(skipped)
    for number, photo in enumerate(photos, start=1):
        try:
            crop = _crop(photo, detector, face, gray_bits)
        except InputError as error:
            log.warning("skipped %r: %s", str(photo), error)
            left_out.append((str(photo), str(error)))
        else:
            files.append(use(photo, crop))
        progress(number, len(photos), text)
    if not files:
        more = f" ({len(left_out)} such files)" if len(left_out) > 1 else ""
        raise InputError(f"no photo can be used: {left_out[0][0]!r}: {left_out[0][1]}{more}")
    return UsedPhotos(tuple(files), tuple(left_out))


def _crop(photo: Path, detector: Detector | None, face: str, gray_bits: int | None) -> NDArray[np.uint8]:
    if detector is None:
        return as_crop(read_photo(photo, gray_bits=gray_bits), photo.name)
    found = aligned_face(photo, detector, face, gray_bits=gray_bits)
    if found is None:
        raise InputError("no face found")
    for remark in found.remarks():
        log.warning("%r %s", str(photo), remark)
    return found.crop
