"""Aligned crops of 112x112: one file, or a folder of identities."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from arcinvert.errors import InputError
from arcinvert.faces.alignment import SIZE, SUFFIXES, read_photo


def read_crop(path: Path) -> NDArray[np.uint8]:
    """An aligned crop, (112, 112, 3) uint8 RGB.

    Raises:
        InputError: it cannot be read, or has another size.
    """
    picture = read_photo(path)
    if picture.shape != (SIZE, SIZE, 3):
        raise InputError(
            f"expected aligned {SIZE}x{SIZE} crops, got {picture.shape[1]}x{picture.shape[0]} in {str(path)!r}"
        )
    return picture


def identity_files(folder: Path) -> tuple[tuple[Path, ...], NDArray[np.int64]]:
    """The images of ``folder/<identity>/`` in sorted order, and their labels (N,) from 0.

    Raises:
        InputError: no such folder, no sub-folder, or one without images.
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
