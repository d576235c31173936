"""Pictures that stay where they lie until a step asks for them: for sets that do not fit into memory."""

import hashlib
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import numpy as np
import torch
from torch import Tensor

from arcinvert.errors import InputError
from arcinvert.training.data.faces import Faces
from arcinvert.training.data.image_files import Picture, Pictures, decode

READERS = 4
"""Threads that read and decode pictures side by side."""


class StoredImages:
    """Stands in for the tensor (N, 112, 112, 3) of all pictures: indexed by rows it reads and decodes these.

    Args:
        pictures: where they lie.
    """

    def __init__(self, pictures: Pictures) -> None:
        self._pictures, self._pool = pictures, ThreadPoolExecutor(READERS)

    def __len__(self) -> int:
        return len(self._pictures.entries)

    def __getitem__(self, rows: Tensor | slice) -> Tensor:
        """(B,) rows, or a slice of them -> (B, 112, 112, 3) uint8 RGB.

        Raises:
            InputError: a picture that cannot be read, or that is not 112x112 with 8 bits a channel.
        """
        entries = self._pictures.entries
        numbers = range(len(entries))[rows] if isinstance(rows, slice) else rows.tolist()
        if not numbers:
            return torch.empty(0, 112, 112, 3, dtype=torch.uint8)
        images = list(self._pool.map(self._image, [entries[number] for number in numbers]))
        return torch.from_numpy(np.stack(images))

    def _image(self, entry: Picture) -> np.ndarray:
        return decode(_content(self._pictures, entry), str(self._pictures.source / entry.file))


def stored_faces(pictures: Pictures, identities: Sequence[str], *, keep: Collection[str] | None = None) -> Faces:
    """What :func:`~arcinvert.training.data.faces.open_faces` gives, with the pictures left where they lie.

    Their bytes are read once for the digest, which is the same, but nothing is decoded.

    Raises:
        InputError: see there; what is no picture is noticed when a step asks for it.
    """
    chosen = pictures.of(identities, keep)
    names = chosen.identities
    labels = {name: label for label, name in enumerate(names)}
    digest = hashlib.sha256()
    for entry in chosen.entries:
        content = hashlib.sha256(_content(chosen, entry)).digest()
        digest.update(entry.file.encode(errors="surrogatepass") + b"\0" + content)
    return Faces(
        tuple(entry.file for entry in chosen.entries),
        cast(Tensor, StoredImages(chosen)),  # nobody asks more of it than rows
        torch.tensor([labels[entry.identity] for entry in chosen.entries]),
        tuple(names),
        digest.hexdigest(),
    )


def _content(pictures: Pictures, entry: Picture) -> bytes:
    try:
        return pictures.read(entry)
    except OSError as error:
        raise InputError(f"cannot read the picture {str(pictures.source / entry.file)!r}: {error}") from None
