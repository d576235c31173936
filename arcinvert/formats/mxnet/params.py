"""Reader of MXNet's ``.params``: arrays, then their names, as in ``src/ndarray/ndarray.cc`` up to MXNet 1.9."""

import math
import re
import struct
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from arcinvert.errors import CheckpointError
from arcinvert.file_bytes import read_bytes

MAX_BYTES = 4 << 30
"""Largest size of a file."""
LIST_MAGIC = 0x112
V1, V2, V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA  # any other first word of an array is its number of dimensions
DTYPES = {0: "<f4", 1: "<f8", 2: "<f2", 3: "u1", 4: "<i4", 5: "i1", 6: "<i8"}


class _Bytes:
    """Reads a file from the front, and never past its end."""

    def __init__(self, path: Path) -> None:
        try:
            self.content = memoryview(read_bytes(path, MAX_BYTES))
        except OSError as error:
            raise CheckpointError(f"cannot read {str(path)!r}: {error.strerror or error}") from None
        self.path, self.place = path, 0

    def damaged(self, what: str) -> CheckpointError:
        return CheckpointError(f"{str(self.path)!r} is not a whole MXNet parameter file: {what}")

    def take(self, size: int) -> memoryview:
        left = len(self.content) - self.place
        if size > left:
            raise self.damaged(f"expected {size} bytes at {self.place}, got {left}")
        self.place += size
        return self.content[self.place - size : self.place]

    def numbers(self, kind: str, count: int = 1) -> list[int]:
        return [int(n) for n in struct.unpack(f"<{count}{kind}", self.take(count * struct.calcsize(f"<{kind}")))]


def read_params(path: Path) -> dict[str, Tensor]:
    """The arrays of a file by name, without the prefixes ``arg:`` and ``aux:``.

    Raises:
        CheckpointError: the file cannot be read, or is damaged.
    """
    file = _Bytes(path)
    magic, _, count = file.numbers("Q", 3) if len(file.content) >= 24 else (0, 0, 0)
    if magic != LIST_MAGIC:
        raise file.damaged(f"expected a list of arrays ({LIST_MAGIC:#x}), got {magic:#x}")
    arrays: list[Tensor | None] = []
    while len(arrays) < count:
        arrays.append(_array(file))
    named = file.numbers("Q")[0]
    if named != count:
        raise file.damaged(f"expected {count} names, got {named}")
    found: dict[str, Tensor] = {}
    for array in arrays:
        name = bytes(file.take(file.numbers("Q")[0])).decode(errors="replace")
        name = re.sub(r"^(arg|aux):", "", name)
        if name in found:
            raise file.damaged(f"{name!r} is there twice")
        if array is not None:
            found[name] = array
    if file.place != len(file.content):
        raise file.damaged(f"expected {file.place} bytes, got {len(file.content)}")
    return found


def _array(file: _Bytes) -> Tensor | None:
    """The next array; None if it was saved without a shape."""
    magic = rank = file.numbers("I")[0]
    storage = file.numbers("i")[0] if magic in (V2, V3) else 0
    if storage != 0:
        raise file.damaged(f"expected dense arrays, got one of storage type {storage}")
    if magic in (V1, V2, V3):
        rank = file.numbers("i")[0]
    if rank == (-1 if magic == V3 else 0):
        return None
    if not 0 <= rank <= 8:
        raise file.damaged(f"expected an array of up to 8 dimensions, got {rank}")
    shape = file.numbers("q" if magic in (V1, V2, V3) else "I", rank)
    _device, _number, flag = file.numbers("i", 3)
    if flag not in DTYPES or any(size < 1 for size in shape):
        raise file.damaged(f"expected an array of numbers, got shape {shape} of type {flag}")
    dtype = np.dtype(DTYPES[flag])
    array = np.frombuffer(file.take(math.prod(shape) * dtype.itemsize), dtype).reshape(shape)
    return torch.from_numpy(array.astype(dtype.newbyteorder("=")))
