"""Folders of identities: ``DIR/<identity>/<image>``."""

from collections.abc import Sequence
from pathlib import Path

from arcinvert.errors import UnreadableImage
from arcinvert.faces.listing import identity_folders as identity_folders
from arcinvert.faces.listing import identity_images
from arcinvert.training.data.image_files import ImageFile, ImageFiles, sort_images


def folder_images(folder: Path, identities: Sequence[str] | None = None) -> ImageFiles:
    """The images of these identity folders, or of all.

    Raises:
        InputError: see :func:`~arcinvert.faces.listing.identity_images`.
    """
    people, skipped = identity_images(folder, identities)
    found = [ImageFile(name, f"{name}/{path.name}", 0) for name, images in people.items() for path in images]

    def read(entry: ImageFile) -> bytes:
        path = folder / entry.file
        if not path.is_file():  # a pipe would be waited for
            raise UnreadableImage(f"expected an image file, found none at {str(path)!r}")
        return path.read_bytes()

    return sort_images(folder, found, read, skipped)
