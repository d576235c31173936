"""What an evaluation reads: verification sets, folders of identities, label and pair lists; and their embeddings.

Faces here are aligned crops of 112x112. A protocol is exact or it is nothing: a picture that is
missing or cannot be read ends in an error, it is never left out.
"""

import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from arcinvert import safe_pickle as binfile
from arcinvert.embeddings import check_embeddings
from arcinvert.errors import InputError, UsageError
from arcinvert.evaluation.readers.lists import Integers, Pairs, Truths, read_labels, read_pairs
from arcinvert.faces.alignment import DAMAGED, SIZE, SUFFIXES, read_photo
from arcinvert.progress import Progress, silent
from arcinvert.recognizer import Recognizer

FLIPS = ("none", "average", "concatenate")
"""The flip test: the picture alone; or with its mirror image, their mean, or both side by side. Then unit norm."""
MAX_BIN = 1 << 30
MAX_PICTURES = 50_000
MAX_PICTURE = 1 << 20
"""Bytes of a ``.bin``, how many pictures it may hold, and bytes of one; more is refused."""

Rows = NDArray[np.float32]

__all__ = [
    "FLIPS",
    "BinPairs",
    "EmbeddedFolder",
    "Pairs",
    "embed_files",
    "embed_folder",
    "embed_images",
    "files_digest",
    "flip_test",
    "identity_files",
    "read_bin",
    "read_crop",
    "read_labels",
    "read_pairs",
]


@dataclass(frozen=True, eq=False)
class BinPairs:
    """Pairs of a ``.bin``: pictures 2i and 2i + 1 are pair i.

    Attributes:
        images: (2P, 112, 112, 3) uint8 RGB.
        same: (P,) bool.
    """

    images: NDArray[np.uint8]
    same: Truths


class EmbeddedFolder(NamedTuple):
    """A folder of identities and its embeddings.

    Attributes:
        rows: (N, D) or (N, 2D) float32, unit norm.
        labels: (N,) int64, the sorted identities from 0.
        files: the N pictures; an identity's name is that of the folder a file lies in.
        digest: SHA-256 over the names and bytes of the files, as that of a training set.
    """

    rows: Rows
    labels: Integers
    files: tuple[Path, ...]
    digest: str


def read_bin(path: Path) -> BinPairs:
    """Read a verification set in InsightFace's layout, such as ``lfw.bin``: a pickle of (encoded pictures, same).

    Nothing is unpickled, see :mod:`arcinvert.safe_pickle`. The pictures are bytes or arrays of
    bytes; Python 3 wrote them, or Python 2 with protocol 2.

    Raises:
        InputError: no such file, too large, damaged, something else in it, a picture that is not of
            112x112, or not two pictures to a pair.
    """
    source = repr(str(path))
    if not path.is_file():
        raise InputError(f"expected a .bin file of pairs, found none at {source}")
    if path.stat().st_size > MAX_BIN:
        raise InputError(f"expected a .bin of at most {MAX_BIN >> 20} MiB, got {source}")
    content = binfile.read_pickle(path.read_bytes(), source)
    try:
        pictures, answers = binfile.items(content)
        encoded = list(binfile.items(pictures))
        same = np.array([binfile.truth(value) for value in binfile.items(answers)], bool)
        if len(encoded) != 2 * len(same) or not len(same):
            raise ValueError(f"{len(encoded)} pictures to {len(same)} pairs")
        if len(encoded) > MAX_PICTURES:
            raise ValueError(f"more than {MAX_PICTURES:,} pictures")
        images = np.empty((len(encoded), SIZE, SIZE, 3), np.uint8)
        for number, value in enumerate(encoded):
            images[number] = _decode(binfile.blob(value, MAX_PICTURE), number)
    except binfile.DAMAGED as error:
        raise InputError(f"expected pairs of pictures in {source}: {error}") from None
    return BinPairs(images, same)


def read_crop(path: Path) -> NDArray[np.uint8]:
    """An aligned crop, (112, 112, 3) uint8 RGB.

    Raises:
        InputError: it cannot be read, or is of another size.
    """
    picture = read_photo(path)
    if picture.shape != (SIZE, SIZE, 3):
        raise InputError(
            f"expected aligned {SIZE}x{SIZE} crops, got {picture.shape[1]}x{picture.shape[0]} in {str(path)!r}"
        )
    return picture


def identity_files(folder: Path) -> tuple[tuple[Path, ...], Integers]:
    """The pictures of ``folder/<identity>/`` in sorted order, and (N,) labels from 0.

    Raises:
        InputError: no such folder, no sub-folders, or one without pictures.
    """
    if not folder.is_dir():
        raise InputError(f"expected a folder of identities, got {str(folder)!r}")
    people = sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not people:
        raise InputError(f"expected one sub-folder per identity in {str(folder)!r}, found none")
    files: list[Path] = []
    labels: list[int] = []
    for label, person in enumerate(people):
        inside = sorted(p for p in person.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file())
        if not inside:
            raise InputError(f"expected pictures ({', '.join(sorted(SUFFIXES))}) in {str(person)!r}, found none")
        files += inside
        labels += [label] * len(inside)
    return tuple(files), np.array(labels, np.int64)


def files_digest(folder: Path, files: Sequence[Path]) -> str:
    """SHA-256 over the names (relative to ``folder``) and bytes of the files, in order; hexadecimal."""
    digest = hashlib.sha256()
    for path in files:
        name = path.relative_to(folder).as_posix()
        digest.update(name.encode(errors="surrogatepass") + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def flip_test(embeddings: Rows, mirrored: Rows, how: str) -> Rows:
    """Join the embeddings of pictures and of their mirror images.

    Args:
        embeddings, mirrored: (N, D), unit norm.
        how: ``none``, ``average`` (their mean) or ``concatenate`` (side by side).

    Returns:
        (N, D), or (N, 2D) for ``concatenate``; unit norm.

    Raises:
        UsageError: another ``how``.
        InputError: other shapes; rows that are not finite, or opposite to their mirror image.
    """
    if embeddings.shape != mirrored.shape or embeddings.ndim != 2:
        raise InputError(f"expected mirrored embeddings {embeddings.shape}, got {mirrored.shape}")
    if how == "none":
        return embeddings
    if how == "average":
        return check_embeddings(embeddings + mirrored, embeddings.shape[1]).rows
    if how == "concatenate":
        return check_embeddings(np.concatenate([embeddings, mirrored], 1), 2 * embeddings.shape[1]).rows
    raise UsageError(f"expected a flip of none, average or concatenate, got {how!r}")


def embed_images(
    recognizer: Recognizer,
    images: NDArray[np.uint8],
    *,
    flip: str = "none",
    batch_size: int = 32,
    progress: Progress = silent,
) -> Rows:
    """Embed aligned crops.

    Args:
        recognizer: gives the embeddings.
        images: (N, 112, 112, 3) uint8 RGB.
        flip: one of :data:`FLIPS`.
        batch_size: pictures a forward pass; with a flip test twice as many.
        progress: told (done, all, text).

    Returns:
        (N, D) float32, unit norm; (N, 2D) for ``concatenate``.

    Raises:
        UsageError: another flip or batch size.
        InputError: another shape or type.
    """
    if images.ndim != 4 or images.shape[1:] != (SIZE, SIZE, 3) or images.dtype != np.uint8:
        raise InputError(f"expected images (N, {SIZE}, {SIZE}, 3) of uint8, got {images.shape} of {images.dtype}")
    return _embed(recognizer, len(images), lambda number: images[number], flip, batch_size, progress)


def embed_files(
    recognizer: Recognizer,
    files: Sequence[Path],
    *,
    flip: str = "none",
    batch_size: int = 32,
    progress: Progress = silent,
) -> Rows:
    """Embed the aligned crops in these files; one batch is in memory at a time. See :func:`embed_images`.

    Raises:
        UsageError: another flip or batch size.
        InputError: a picture that cannot be read or is not of 112x112.
    """

    return _embed(recognizer, len(files), lambda number: read_crop(files[number]), flip, batch_size, progress)


def embed_folder(
    recognizer: Recognizer,
    folder: Path,
    *,
    flip: str = "none",
    batch_size: int = 32,
    progress: Progress = silent,
) -> EmbeddedFolder:
    """Embed every aligned crop of ``folder/<identity>/``.

    Raises:
        UsageError, InputError: see :func:`embed_files` and :func:`identity_files`.
    """
    files, labels = identity_files(folder)
    rows = embed_files(recognizer, files, flip=flip, batch_size=batch_size, progress=progress)
    return EmbeddedFolder(rows, labels, files, files_digest(folder, files))


def _embed(
    recognizer: Recognizer,
    count: int,
    crop: Callable[[int], NDArray[np.uint8]],
    flip: str,
    batch_size: int,
    progress: Progress,
) -> Rows:
    if flip not in FLIPS or batch_size < 1:
        raise UsageError(f"expected a flip of {', '.join(FLIPS)} and a batch size above 0, got {flip} and {batch_size}")
    width = recognizer.embedding_size * (2 if flip == "concatenate" else 1)
    parts = [np.empty((0, width), np.float32)]
    for start in range(0, count, batch_size):
        stop = min(start + batch_size, count)
        images = torch.from_numpy(np.stack([crop(number) for number in range(start, stop)])).permute(0, 3, 1, 2)
        rows = recognizer.embed(images, batch_size=batch_size).cpu().numpy()
        if flip != "none":
            rows = flip_test(rows, recognizer.embed(images.flip(3), batch_size=batch_size).cpu().numpy(), flip)
        parts.append(check_embeddings(rows, width).rows)
        progress(stop, count, "embedding")
    return np.concatenate(parts)


def _decode(content: bytes, number: int) -> NDArray[np.uint8]:
    """An encoded crop as (112, 112, 3) RGB; ValueError for anything else."""
    try:
        with Image.open(io.BytesIO(content), formats=("JPEG", "PNG", "WEBP", "BMP")) as picture:
            if picture.size != (SIZE, SIZE):
                raise ValueError(f"picture {number} is {picture.size[0]}x{picture.size[1]}, not {SIZE}x{SIZE}")
            return np.asarray(picture.convert("RGB"))
    except Image.DecompressionBombError:
        raise ValueError(f"picture {number} is not {SIZE}x{SIZE}") from None
    except DAMAGED as error:
        raise ValueError(f"picture {number}: {' '.join(str(error).split()) or type(error).__name__}") from None
