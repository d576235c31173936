"""Aligned crops of 112x112: one file, or a folder of identities."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from arcinvert.errors import InputError
from arcinvert.faces.alignment import as_crop, read_photo
from arcinvert.faces.listing import Skipped, identity_images, unreadable


def read_crop(path: Path) -> NDArray[np.uint8]:
    """An aligned crop, (112, 112, 3) uint8 RGB.

    Raises:
        InputError: it cannot be read, or see :func:`~arcinvert.faces.alignment.as_crop`.
    """
    return as_crop(read_photo(path), str(path))


def identity_files(folder: Path) -> tuple[tuple[Path, ...], NDArray[np.int64], list[Skipped]]:
    """The images of ``folder/<identity>/`` in sorted order, their labels (N,) from 0, and the files that are not used.

    Raises:
        InputError: no such folder, no sub-folder, or no image in any.
    """
    people, skipped = identity_images(folder)
    labels = np.repeat(np.arange(len(people)), [len(images) for images in people.values()])
    return tuple(path for images in people.values() for path in images), labels, skipped


def readable_files(
    files: Sequence[Path], labels: NDArray[np.int64]
) -> tuple[tuple[Path, ...], NDArray[np.int64], list[Skipped]]:
    """The files that can be read, their labels, again from 0 without gaps, and the others; each is read.

    Raises:
        InputError: none can be read.
    """
    skipped = unreadable(files)
    bad = {file for file, _ in skipped}
    kept = np.array([str(path) not in bad for path in files], bool)
    if not kept.any():
        raise InputError(skipped[0][1])
    _, numbers = np.unique(labels[kept], return_inverse=True)
    return tuple(path for path, keep in zip(files, kept, strict=True) if keep), numbers.astype(np.int64), skipped


def files_digest(folder: Path, files: Sequence[Path]) -> str:
    """SHA-256 over the names (relative to ``folder``) and bytes of the files, in order; hexadecimal."""
    digest = hashlib.sha256()
    for path in files:
        name = path.relative_to(folder).as_posix()
        digest.update(name.encode(errors="surrogatepass") + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
