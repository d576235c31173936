"""The vectors of an index that hnswlib keeps as several files, as Chroma does; the links between them are not read."""

import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from arcinvert.errors import InputError

HEADER, ROWS = "header.bin", "data_level0.bin"
_HEADER = struct.Struct("<i6Q")
"""Version; offset of level 0, capacity, count, bytes of a row, offset of the label, offset of the vector."""


class HnswVectors:
    """Vectors by their label, mapped into memory.

    Args:
        folder: with ``header.bin`` and ``data_level0.bin``.
        name: of the store, for messages.

    Raises:
        InputError: damaged files.
    """

    def __init__(self, folder: Path, name: str) -> None:
        try:
            with open(folder / HEADER, "rb") as file:
                fields = _HEADER.unpack(file.read(_HEADER.size))
            size = (folder / ROWS).stat().st_size
            _, start, _, count, step, label, vector = fields
            length = label - vector
            if start or length < 8 or length % 4 or label + 8 > step or count * step > size:
                raise ValueError(f"{count} rows of {step} bytes with a vector at {vector} to {label} in {size} bytes")
            kind = np.dtype(
                {"names": ["vector", "label"], "formats": [("<f4", length // 4), "<u8"], "offsets": [vector, label],
                 "itemsize": step}
            )  # fmt: skip
            self.rows = np.memmap(folder / ROWS, kind, "r", shape=(count,)) if count else np.empty(0, kind)
        except (ValueError, struct.error, OSError, OverflowError) as error:
            raise InputError(f"{name} has an index that is damaged: {error}") from None
        labels = np.array(self.rows["label"])
        self.order = np.argsort(labels, kind="stable")
        self.labels = labels[self.order]

    def vector(self, label: int) -> NDArray[np.float32] | None:
        """(D,) the vector of a label; None if there is none."""
        place = int(np.searchsorted(self.labels, label)) if label >= 0 else len(self.labels)
        if place == len(self.labels) or int(self.labels[place]) != label:
            return None
        return np.array(self.rows["vector"][self.order[place]], np.float32)
