"""A data set whose images are read at every step, for sets that do not fit into memory."""

import hashlib
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import numpy as np
import torch
from torch import Tensor

from arcinvert.errors import UnreadableImage
from arcinvert.training.data.faces import FaceDataset
from arcinvert.training.data.image_files import ImageFile, ImageFiles, decode, digest_entry

READERS = 4
"""Threads that read and decode images in parallel."""


class StreamedImages:
    """Replaces the tensor (N, 112, 112, 3) of all images: indexed by rows, it reads and decodes these."""

    def __init__(self, listed: ImageFiles) -> None:
        self._listed, self._pool = listed, ThreadPoolExecutor(READERS)

    def __len__(self) -> int:
        return len(self._listed)

    def __getitem__(self, rows: Tensor | slice) -> Tensor:
        """(B,) rows, or a slice of them -> (B, 112, 112, 3) uint8 RGB.

        Raises:
            InputError: an image that cannot be read, or that is not 112x112 with 8 bits a channel.
        """
        entries = self._listed.entries
        numbers = range(len(entries))[rows] if isinstance(rows, slice) else rows.tolist()
        if not numbers:
            return torch.empty(0, 112, 112, 3, dtype=torch.uint8)
        images = list(self._pool.map(self._image, [entries[number] for number in numbers]))
        return torch.from_numpy(np.stack(images))

    def _image(self, entry: ImageFile) -> np.ndarray:
        return decode(self._listed.content(entry), self._listed.path(entry))


def stream_faces(images: ImageFiles, identities: Sequence[str], *, keep: Collection[str] | None = None) -> FaceDataset:
    """The data set of :func:`~arcinvert.training.data.faces.open_faces`, with the images left on the disk.

    Each is read once, for the digest, which is the same, and to leave out those that cannot be read.

    Raises:
        InputError: see there.
    """
    listed, digest = readable(images.of(identities, keep))
    return FaceDataset.of(listed, cast(Tensor, StreamedImages(listed)), digest)  # only rows are asked of it


def readable(images: ImageFiles) -> tuple[ImageFiles, str]:
    """The images that can be read, and their digest, that of :class:`~arcinvert.training.data.faces.FaceDataset`.

    Raises:
        InputError: no image can be read, or one that is not 112x112 with 8 bits a channel.
    """

    def check(entry: ImageFile) -> tuple[bytes, str | None]:
        try:
            content = images.content(entry)
            decode(content, images.path(entry))
        except UnreadableImage as error:
            return b"", str(error)
        return digest_entry(entry.file, content), None

    digest, damaged = hashlib.sha256(), {}
    with ThreadPoolExecutor(READERS) as pool:
        for start in range(0, len(images), 1024):
            part = images.entries[start : start + 1024]
            for entry, (described, reason) in zip(part, pool.map(check, part), strict=True):
                digest.update(described)
                if reason is not None:
                    damaged[entry.file] = reason
    return images.without(damaged), digest.hexdigest()
