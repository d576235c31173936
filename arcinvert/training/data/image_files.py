"""The image files of a data set, listed before any is read; and the decoder of training images."""

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from arcinvert.errors import InputError, UnreadableImage
from arcinvert.faces.alignment import SIZE
from arcinvert.faces.images import open_image
from arcinvert.faces.listing import Skipped

MAX_CONTENT = 1 << 24
"""Bytes of one image in an archive; a 112x112 bitmap takes 38 thousand."""


class ImageFile(NamedTuple):
    """One image: its identity, its path relative to the source (``identity/name.jpg``), and its place in the source."""

    identity: str
    file: str
    place: int


@dataclass(frozen=True)
class ImageFiles:
    """The images of a source, sorted by identity and file name.

    Attributes:
        source: its path, for error messages.
        entries: one identity after the other; ``file`` is unique.
        read: returns the bytes of an image; raises InputError or OSError.
        skipped: files that are left out, because they are no images or cannot be read.
    """

    source: Path
    entries: tuple[ImageFile, ...]
    read: Callable[[ImageFile], bytes]
    skipped: tuple[Skipped, ...] = ()

    def __len__(self) -> int:
        return len(self.entries)

    def path(self, entry: ImageFile) -> str:
        """The path of an image, for error messages."""
        return str(self.source / entry.file)

    def content(self, entry: ImageFile) -> bytes:
        """The bytes of an image.

        Raises:
            UnreadableImage: it cannot be read.
        """
        try:
            return self.read(entry)
        except OSError as error:
            raise UnreadableImage(f"cannot read the image {self.path(entry)!r}: {error}") from None

    def labels(self) -> list[int]:
        """The position of each entry's identity in :attr:`identities`."""
        number = {name: label for label, name in enumerate(self.identities)}
        return [number[entry.identity] for entry in self.entries]

    @property
    def identities(self) -> list[str]:
        """The names, in the order of the entries."""
        return list(dict.fromkeys(entry.identity for entry in self.entries))

    def of(self, identities: Collection[str], keep: Collection[str] | None = None) -> "ImageFiles":
        """The images of ``identities``, in that order; with ``keep`` only those that it names.

        Raises:
            InputError: an identity that is not here, or a file in ``keep`` that one of them does not have.
        """
        wanted = {name: position for position, name in enumerate(identities)}
        here = [entry for entry in self.entries if entry.identity in wanted]
        here.sort(key=lambda entry: wanted[entry.identity])
        if missing := sorted(wanted.keys() - {entry.identity for entry in here}):
            raise InputError(f"no images of {missing[0]!r} in {str(self.source)!r} ({len(missing)} such identities)")
        if keep is not None:
            asked = {file for file in keep if file.split("/")[0] in wanted}
            if strange := sorted(asked - {entry.file for entry in here}):
                what = f"{len(strange)} images that are not in {str(self.source)!r}"
                raise InputError(f"the clean list names {what}, such as {strange[0]!r}")
            here = [entry for entry in here if entry.file in asked]
            if not here:
                raise InputError(f"the clean list keeps no image of {str(self.source)!r}")
        return ImageFiles(self.source, tuple(here), self.read, self.skipped)

    def without(self, damaged: Mapping[str, str]) -> "ImageFiles":
        """All but these images: ``file`` -> why it cannot be read.

        Raises:
            InputError: no image is left.
        """
        if not damaged:
            return self
        left = tuple(entry for entry in self.entries if entry.file not in damaged)
        if not left:
            raise InputError(next(iter(damaged.values())))
        skipped = ((str(self.source / file), reason) for file, reason in damaged.items())
        return ImageFiles(self.source, left, self.read, (*self.skipped, *skipped))


def sort_images(
    source: Path, found: list[ImageFile], read: Callable[[ImageFile], bytes], skipped: Sequence[Skipped] = ()
) -> ImageFiles:
    """The images found in any order, sorted.

    Raises:
        InputError: nothing was found, or two images of one name.
    """
    if not found:
        reason = f"; left out: {skipped[0][0]!r}: {skipped[0][1]}" if skipped else ""
        raise InputError(f"no images in {str(source)!r}{reason}")
    found.sort()
    for first, second in pairwise(found):
        if first.file == second.file:
            raise InputError(f"two images named {first.file!r} in {str(source)!r}")
    return ImageFiles(source, tuple(found), read, tuple(skipped))


def identity_name(name: object, where: str) -> str:
    """``name`` if it can be the name of an identity folder; a whole number gets eight digits.

    Raises:
        InputError: it cannot.
    """
    if isinstance(name, (int, float)) and not isinstance(name, bool) and 0 <= name < 1e8 and name == int(name):
        return f"{int(name):08d}"
    if isinstance(name, str) and name and not name.startswith(".") and not set(name) & set("/\\\0"):
        return name
    raise InputError(f"expected a whole number from 0 or a folder's name as identity, got {name!r} in {where}")


def digest_entry(file: str, content: bytes) -> bytes:
    """The bytes with which an image enters the digest of a data set: its name, 0, and the SHA-256 of its content."""
    return file.encode(errors="surrogatepass") + b"\0" + hashlib.sha256(content).digest()


def decode(content: bytes, path: str) -> np.ndarray:
    """(112, 112, 3) uint8 RGB.

    Raises:
        UnreadableImage: not an image, or damaged; the message names ``path``.
        InputError: not 112x112, or not of 8 bits a channel.
    """
    with open_image(content, path) as image:
        if image.size != (SIZE, SIZE):
            raise InputError(f"expected {SIZE}x{SIZE} aligned faces, got {image.size} in {path!r}")
        if image.mode[0] in "IF":  # Pillow would clip it to white
            raise InputError(f"expected 8 bits a channel, got mode {image.mode} in {path!r}")
        return np.asarray(image.convert("RGB"))
