"""Folders of identities: ``DIR/<identity>/<image>.(jpg|jpeg|png|webp|bmp)``."""

from collections.abc import Sequence
from pathlib import Path

from arcinvert.errors import InputError
from arcinvert.faces.alignment import SUFFIXES
from arcinvert.training.data.image_files import ImageFile, ImageFiles, sort_images


def identity_folders(folder: Path) -> list[str]:
    """Names of the identity folders, sorted.

    Raises:
        InputError: no such folder, or nothing in it.
    """
    if not folder.is_dir():
        raise InputError(f"expected a folder of identities, got {str(folder)!r}")
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not names:
        raise InputError(f"expected one sub-folder per identity in {str(folder)!r}, found none")
    return names


def folder_images(folder: Path, identities: Sequence[str]) -> ImageFiles:
    """The images of these identity folders.

    Raises:
        InputError: an identity without images.
    """
    found = []
    for name in identities:
        names = [p.name for p in (folder / name).iterdir() if p.suffix.lower() in SUFFIXES]
        if not names:
            raise InputError(f"expected images ({', '.join(sorted(SUFFIXES))}) in {str(folder / name)!r}, found none")
        found += [ImageFile(name, f"{name}/{file}", 0) for file in names]

    def read(entry: ImageFile) -> bytes:
        path = folder / entry.file
        if not path.is_file():  # a pipe would be waited for
            raise InputError(f"cannot read the image {str(path)!r}: expected a file")
        return path.read_bytes()

    return sort_images(folder, found, read)
