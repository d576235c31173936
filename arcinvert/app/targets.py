"""Targets to invert: a photo, a row of a file of embeddings, or a row of a store."""

import mimetypes
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from arcinvert.audit.stores import open_store
from arcinvert.embeddings import check_embeddings, read_embeddings
from arcinvert.errors import InputError
from arcinvert.faces.alignment import SIZE, align, read_photo
from arcinvert.faces.choice import choose
from arcinvert.faces.listing import is_image
from arcinvert.faces.photos import open_detector
from arcinvert.recognizer import Recognizer

EXAMPLE = Path(__file__).with_name("example.jpg")
"""A synthetic photo: a person who does not exist."""
MAX_FILE_BYTES = 64 << 20
"""Largest file that the page takes."""


@dataclass(frozen=True, eq=False)
class Target:
    """An embedding to invert.

    Attributes:
        embedding: (D,) unit norm.
        crop: (112, 112, 3) uint8, the aligned face behind it; None where only numbers were given.
        message: how it was read, in words.
    """

    embedding: Tensor
    crop: Tensor | None
    message: str


def read_target(path: Path, recognizer: Recognizer, row: int = 0) -> Target:
    """Read a target: the largest face of a photo, or row number ``row`` of any other file.

    Raises:
        InputError: too large, no face, another dimension, no such row, or not a file that can be read.
        EnvironmentProblem: the face detector or the client of a store is not installed.
    """
    if not path.is_file():
        raise InputError("expected a file, found none; add it again")
    if path.stat().st_size > MAX_FILE_BYTES:
        size = path.stat().st_size / (1 << 20)
        raise InputError(
            f"expected a file of at most {MAX_FILE_BYTES >> 20} MB, got {size:.0f} MB; `arcinvert audit` has no limit"
        )
    if is_image(path) or (mimetypes.guess_type(path.name)[0] or "").startswith("image/"):
        return _from_photo(path, recognizer)
    return _from_rows(path, recognizer, row)


def _from_photo(path: Path, recognizer: Recognizer) -> Target:
    photo = read_photo(path)
    if photo.shape == (SIZE, SIZE, 3):
        crop, message = photo, f"An image of {SIZE}x{SIZE} is used as an aligned face."
    else:
        faces = open_detector().detect(photo)
        if not faces:
            raise InputError("no face was found in this photo; try one that shows a face from the front")
        face, taken = choose(faces, photo)
        crop = align(photo, face.landmarks)
        message = "One face was found." if len(faces) == 1 else f"{len(faces)} faces were found; {taken} is used."
    image = torch.from_numpy(np.array(crop))
    return Target(recognizer.embed(image.permute(2, 0, 1)[None])[0].cpu(), image, message)


def _from_rows(path: Path, recognizer: Recognizer, row: int) -> Target:
    size = recognizer.embedding_size
    if path.suffix.lower() in (".npy", ".npz"):
        read = read_embeddings(str(path), size=size)
        rows, note = read.rows, read.note()
        if not 0 <= row < len(rows):
            raise InputError(f"expected a row from 0 to {len(rows) - 1}, got {row}")
        chosen, count = rows[row], len(rows)
    else:
        store = open_store(str(path))
        if not 0 <= row < store.count:
            raise InputError(f"expected a row from 0 to {store.count - 1}, got {row}")
        block = store.take(np.array([row]))
        if not len(block.templates):
            raise InputError(f"row {row} of this store holds no embedding")
        checked = check_embeddings(block.templates, size)
        chosen, note, count = checked.rows[0], None, store.count
    message = f"Row {row} of {count}: {size} numbers, no image." + (f" ({note})" if note else "")
    return Target(torch.from_numpy(np.array(chosen)), None, message)
