"""FAISS index files: the rows that an index can reconstruct, in the order of its ids."""

import logging
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from arcinvert.audit.stores import faiss_reader
from arcinvert.audit.stores.arrays import sidecar, to_float
from arcinvert.audit.stores.child import Child, seconds_for
from arcinvert.audit.stores.store import BLOCK, Block, Contents, Index, Rows, Store, check_size, need
from arcinvert.errors import InputError

log = logging.getLogger(__name__)

LOSSY = re.compile(r"PQ|ScalarQuantizer|SQ|LSH|Residual|LocalSearch|Additive|FastScan|RaBitQ|Lattice")
FLAT, FLAT_START = ("IndexFlat", "IndexFlatIP", "IndexFlatL2"), 45
"""Indexes that are a header and then the rows. They are read as an array, block by block, which takes a third of the
time and keeps memory bounded."""
MEMORY = 2 << 30
"""Bytes that the process with FAISS may take, beside four times the index."""
HEADER = struct.Struct("<4siq")


class FaissStore(Store):
    """An index file. Flat indexes stay on disk; FAISS loads the others into memory, in a process of its own.

    Positions follow the order of adding, or of the ids of an inverted file. Identities come from a text
    file as for ``.npy``, or from the ids of an IDMap or of an inverted file if these repeat.
    """

    kind = "faiss"

    def __init__(self, path: Path, identity: str | None = None) -> None:
        self.name = str(path)
        need("faiss", "search")
        _check_header(path, self.name)
        self.reader = _Reader(path, self.name)
        facts = self.reader.facts
        self.count, self.size = int(facts["count"]), check_size(int(facts["size"]), repr(self.name))
        if not self.count:
            raise InputError(f"expected embeddings, the index {self.name!r} is empty")
        self.names, label_file = sidecar(path, identity, self.count)
        if self.names is None and facts["ids"] is not None:
            self.names = [str(number) for number in facts["ids"]]
            log.info("%s: ids repeat and are read as people: %d of them", self.name, len(set(self.names)))
        self.index, inner, quantization = str(facts["index"]), str(facts["inner"]), None
        if LOSSY.search(inner) or LOSSY.search(self.index):
            quantization = f"the index is a {inner}"
        elif self.index == "IndexPreTransform" and facts["kept"] < self.size:
            quantization = f"the index keeps {facts['kept']} of {self.size} dimensions"
        self.contents = Contents(label_file=label_file, quantization=quantization)
        self.flat: Path | None = None
        first, last = self._rows(0, 1), self._rows(self.count - 1, 1)  # fails if the index cannot reconstruct rows
        if self.index in FLAT and path.stat().st_size == FLAT_START + 4 * self.count * self.size:
            self.flat = path
            if not np.array_equal([self._rows(0, 1), self._rows(self.count - 1, 1)], [first, last], equal_nan=True):
                self.flat = None

    def blocks(self, rows: int = BLOCK) -> Iterator[Block]:
        for start in range(0, self.count, rows):
            count = min(rows, self.count - start)
            names = None if self.names is None else self.names[start : start + count]
            yield Block(np.arange(start, start + count), self._rows(start, count), names)

    def take(self, positions: Index) -> Block:
        wanted = self.check(positions)
        rows = np.empty((len(wanted), self.size), np.float32)
        for number, position in enumerate(wanted):
            rows[number] = self._rows(int(position), 1)[0]
        return Block(wanted, rows, None if self.names is None else [self.names[i] for i in wanted])

    def _rows(self, start: int, count: int) -> Rows:
        try:
            if self.flat is not None:
                shape = (self.count, self.size)
                return to_float(np.memmap(self.flat, "<f4", "r", FLAT_START, shape)[start : start + count])
        except (OSError, ValueError) as error:
            raise InputError(f"{self.name!r} cannot be read any more: {error}") from None
        try:
            return np.frombuffer(self.reader.rows(start, count), "<f4").reshape(count, self.size)
        except ValueError as error:
            raise InputError(f"a {self.index} such as {self.name!r} cannot reconstruct its rows: {error}") from None


class _Reader(Child):
    """The process of :mod:`arcinvert.audit.stores.faiss_reader` that has a file open.

    Attributes:
        facts: its description of the index.

    Raises:
        InputError: the file is refused, or ends the process.
    """

    def __init__(self, path: Path, name: str) -> None:
        size, what = path.stat().st_size, f"the FAISS index {name!r}"
        super().__init__(faiss_reader.__file__, [str(path.resolve())], what, MEMORY + 4 * size, seconds_for(size))
        kind, value, _ = self.reply()
        if kind != faiss_reader.FACTS:
            raise InputError(f"{name!r} is no FAISS index that can be read: {_line(value)}")
        self.facts: dict[str, Any] = value

    def rows(self, start: int, count: int) -> bytes:
        """Rows in float32; ValueError if the index cannot give them."""
        self.send(f"{start} {count}")
        kind, value, content = self.reply()
        if kind != faiss_reader.FACTS:
            raise ValueError(_line(value))
        return content


def _check_header(path: Path, name: str) -> None:
    """Check the header against the size of the file, before FAISS allocates memory for it."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        start = file.read(HEADER.size)
    if start[:3] == b"IBx" or start[:4] == b"IBMp":
        raise InputError(f"{name!r} is a binary index; only indexes of float embeddings are read")
    if len(start) < HEADER.size:
        raise InputError(f"{name!r} is too short for a FAISS index")
    _, dimension, count = HEADER.unpack(start)
    # The smallest codes have one bit a number, and D is at least 2.
    if dimension < 1 or count < 0 or count > 8 * size:
        raise InputError(f"{name!r} says {count} embeddings of {dimension} numbers, in {size} bytes")


def _line(text: str) -> str:
    """FAISS's message without the place in its source."""
    return " ".join(text.split())[:300].rpartition("Error: ")[2]
