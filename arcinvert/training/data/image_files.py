"""Where the pictures of a source lie, before any is read; and what one must be to be trained on."""

import io
from collections.abc import Callable, Collection
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from arcinvert.errors import InputError
from arcinvert.faces.alignment import SIZE

MAX_CONTENT = 1 << 24
"""Bytes of one picture in an archive; a 112x112 bitmap takes 38 thousand."""


class Picture(NamedTuple):
    """One picture: who it shows, its path relative to the source (``identity/name.jpg``), and its place there."""

    identity: str
    file: str
    place: int


@dataclass(frozen=True)
class Pictures:
    """Pictures of a source, by identity and file name.

    Attributes:
        source: names it in errors.
        entries: one identity after the other; ``file`` is unique.
        read: the bytes of a picture; InputError or OSError if it cannot be had.
    """

    source: Path
    entries: tuple[Picture, ...]
    read: Callable[[Picture], bytes]

    @property
    def identities(self) -> list[str]:
        """The names, in the order of their pictures."""
        return list(dict.fromkeys(entry.identity for entry in self.entries))

    def of(self, identities: Collection[str], keep: Collection[str] | None = None) -> "Pictures":
        """Those of ``identities``, in that order, and of these only the files in ``keep``.

        Raises:
            InputError: an identity that is not here, or a file in ``keep`` that one of them does not have.
        """
        wanted = {name: position for position, name in enumerate(identities)}
        here = [entry for entry in self.entries if entry.identity in wanted]
        here.sort(key=lambda entry: wanted[entry.identity])
        if missing := sorted(wanted.keys() - {entry.identity for entry in here}):
            raise InputError(f"no pictures of {missing[0]!r} in {str(self.source)!r} ({len(missing)} such identities)")
        if keep is not None:
            asked = {file for file in keep if file.split("/")[0] in wanted}
            if strange := sorted(asked - {entry.file for entry in here}):
                what = f"{len(strange)} pictures that are not in {str(self.source)!r}"
                raise InputError(f"the clean list names {what}, such as {strange[0]!r}")
            here = [entry for entry in here if entry.file in asked]
            if not here:
                raise InputError(f"the clean list keeps no picture of {str(self.source)!r}")
        return Pictures(self.source, tuple(here), self.read)


def sort_pictures(source: Path, found: list[Picture], read: Callable[[Picture], bytes]) -> Pictures:
    """:class:`Pictures` of what was found in any order.

    Raises:
        InputError: nothing was found, or two pictures of one name.
    """
    if not found:
        raise InputError(f"no pictures in {str(source)!r}")
    found.sort()
    for first, second in pairwise(found):
        if first.file == second.file:
            raise InputError(f"two pictures named {first.file!r} in {str(source)!r}")
    return Pictures(source, tuple(found), read)


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


def decode(content: bytes, where: str) -> np.ndarray:
    """(112, 112, 3) uint8 RGB.

    Raises:
        InputError: not a picture, not 112x112, or not of 8 bits a channel; ``where`` names it.
    """
    try:
        with Image.open(io.BytesIO(content)) as picture:
            if picture.size != (SIZE, SIZE):
                raise InputError(f"expected {SIZE}x{SIZE} aligned faces, got {picture.size} in {where!r}")
            if picture.mode[0] in "IF":  # Pillow would clip it to white
                raise InputError(f"expected 8 bits a channel, got mode {picture.mode} in {where!r}")
            return np.asarray(picture.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"cannot read the picture {where!r}: {error}") from None
