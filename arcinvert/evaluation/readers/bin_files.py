"""Verification sets in InsightFace's layout, such as ``lfw.bin``."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from arcinvert import safe_pickle
from arcinvert.errors import InputError
from arcinvert.faces.alignment import SIZE
from arcinvert.faces.images import open_image

MAX_BIN = 1 << 30
MAX_PICTURES = 50_000
MAX_PICTURE = 1 << 20
"""Limits of a ``.bin``: its bytes, its images, and the bytes of an image."""


@dataclass(frozen=True, eq=False)
class BinPairs:
    """Pairs of a ``.bin``: images 2i and 2i + 1 are pair i.

    Attributes:
        images: (2P, 112, 112, 3) uint8 RGB.
        same: (P,) bool.
    """

    images: NDArray[np.uint8]
    same: NDArray[np.bool_]


def read_bin(path: Path) -> BinPairs:
    """Read a verification set: a pickle of (encoded images, whether each pair shows one person).

    Nothing is unpickled; see :mod:`arcinvert.safe_pickle`. The images are bytes or arrays of bytes,
    written by Python 2 or 3 with any protocol.

    Raises:
        InputError: no such file, a file that is too large, damaged or of other content, an image that is not 112x112,
            or a number of images that does not fit the number of pairs.
    """
    source = repr(str(path))
    if not path.is_file():
        raise InputError(f"expected a .bin file of pairs, found none at {source}")
    if path.stat().st_size > MAX_BIN:
        raise InputError(f"expected a .bin of at most {MAX_BIN >> 20} MiB, got {source}")
    content = safe_pickle.read_pickle(path.read_bytes(), source)
    try:
        pictures, answers = safe_pickle.items(content)
        encoded = list(safe_pickle.items(pictures))
        same = np.array([safe_pickle.truth(value) for value in safe_pickle.items(answers)], bool)
        if len(encoded) != 2 * len(same) or not len(same):
            raise ValueError(f"{len(encoded)} pictures to {len(same)} pairs")
        if len(encoded) > MAX_PICTURES:
            raise ValueError(f"more than {MAX_PICTURES:,} pictures")
        images = np.empty((len(encoded), SIZE, SIZE, 3), np.uint8)
        for number, value in enumerate(encoded):
            images[number] = _decode(safe_pickle.blob(value, MAX_PICTURE), number)
    except safe_pickle.DAMAGED as error:
        raise InputError(f"expected pairs of pictures in {source}: {error}") from None
    return BinPairs(images, same)


def _decode(content: bytes, number: int) -> NDArray[np.uint8]:
    """An encoded crop as (112, 112, 3) RGB; ValueError for anything else."""
    try:
        with open_image(content, f"picture {number}") as picture:
            if picture.size != (SIZE, SIZE):
                raise InputError(f"picture {number} is {picture.size[0]}x{picture.size[1]}, not {SIZE}x{SIZE}")
            return np.asarray(picture.convert("RGB"))
    except InputError as error:
        raise ValueError(str(error)) from None
