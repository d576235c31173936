"""Which files of a folder are images, by their content; and what is said of the others.

A file's name says nothing. Hidden files that are no images (such as those a file manager leaves) are passed over; every
other file that is not used is counted and named.
"""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

from PIL import Image

from arcinvert.errors import InputError
from arcinvert.faces.images import IMAGE_FORMATS, open_image

START = 16
"""Bytes at the start of a file by which its format is known."""
NAMED = 5
"""So many of the files that are left out are named in a message."""
_HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_LEFT_BY_SYSTEMS = ("Thumbs.db", "desktop.ini")

log = logging.getLogger(__name__)

Skipped = tuple[str, str]
"""A file that is left out, and the reason."""


def not_an_image(start: bytes) -> str | None:
    """Why a file with these first bytes is not read as an image; None if it is an image of a listed format."""
    if not start:
        return "empty"
    Image.init()
    accepts = [Image.OPEN[name][1] for name in IMAGE_FORMATS]
    start = start[:START].ljust(START, b"\0")
    # Pillow takes a text that begins with "BM" or "Py" for a bitmap.
    text = (start[:1] == b"P" and not start[2:3].isspace()) or (start[:2] == b"BM" and b"\0" not in start)
    if not text and any(accept is None or accept(start) is True for accept in accepts):
        return None
    if start[4:8] == b"ftyp" and start[8:12] in _HEIC:
        return "HEIC is not read: install arcinvert[heic], or convert it to JPEG or PNG"
    return f"not an image ({', '.join(IMAGE_FORMATS)})"


def is_image(path: Path) -> bool:
    """Whether a file begins as an image of a listed format does."""
    return _reason(path) is None


def sort_out(paths: Iterable[Path]) -> tuple[list[Path], list[Skipped]]:
    """The images among these paths, and the files that are none, each in sorted order.

    Hidden files that are no images are in neither list.
    """
    images, skipped = [], []
    for path in sorted(paths):
        reason = _reason(path)
        if reason is None:
            images.append(path)
        elif not path.name.startswith(".") and path.name not in _LEFT_BY_SYSTEMS:
            skipped.append((str(path), reason))
    return images, skipped


def identity_images(
    folder: Path, identities: Iterable[str] | None = None
) -> tuple[dict[str, list[Path]], list[Skipped]]:
    """The images ``folder/<identity>/<image>`` by identity, both sorted; and the files that are not used.

    An identity without an image is among these; hidden folders are passed over.

    Args:
        folder: of the identities.
        identities: only these.

    Raises:
        InputError: no such folder, no sub-folder, or no image in any.
    """
    names = identity_folders(folder)
    people: dict[str, list[Path]] = {}
    skipped: list[Skipped] = []
    if identities is None:
        images, skipped = sort_out(path for path in folder.iterdir() if not path.is_dir())
        skipped += [(str(path), "expected in the folder of an identity") for path in images]
    for name in names if identities is None else identities:
        people[name], others = sort_out((folder / name).iterdir())
        if not people[name]:
            del people[name]
            others = others or [(str(folder / name), "no image in it")]
        skipped += others
    if not people:
        raise InputError(
            f"expected images ({', '.join(IMAGE_FORMATS)}) in the folders of {str(folder)!r}, found none; "
            f"left out: {skipped[0][0]!r}: {skipped[0][1]}"
        )
    return people, skipped


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


def unreadable(images: Iterable[Path]) -> list[Skipped]:
    """The images that cannot be decoded, with the reasons; each is read."""
    skipped = []
    for path in images:
        try:
            with open_image(path) as image:
                image.load()
        except InputError as error:
            skipped.append((str(path), str(error)))
    return skipped


def report_skipped(skipped: Sequence[Skipped], *, strict: bool = False) -> None:
    """Log how many files are left out, and the first five with the reasons.

    Raises:
        InputError: there are such files, and ``strict`` is set.
    """
    if not skipped:
        return
    named = "; ".join(f"{file!r}: {reason}" for file, reason in skipped[:NAMED])
    more = f"; and {len(skipped) - NAMED} more" if len(skipped) > NAMED else ""
    if strict:
        raise InputError(f"expected images alone, got {len(skipped)} that cannot be used: {named}{more}")
    log.warning("left out %d file%s: %s%s", len(skipped), "s" if len(skipped) > 1 else "", named, more)


def _reason(path: Path) -> str | None:
    try:
        if path.is_dir():
            return "a folder, not an image"
        if not path.is_file():
            return "no regular file"
        with open(path, "rb") as stream:
            return not_an_image(stream.read(START))
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
