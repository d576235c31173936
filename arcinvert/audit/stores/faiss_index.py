"""FAISS index files: the rows that an index can reconstruct, in the order of its ids."""

import logging
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from arcinvert.audit.stores.arrays import sidecar, to_float
from arcinvert.audit.stores.store import BLOCK, Block, Contents, Index, Rows, Store, check_size, need, one_line
from arcinvert.errors import InputError

log = logging.getLogger(__name__)

LOSSY = re.compile(r"PQ|ScalarQuantizer|SQ|LSH|Residual|LocalSearch|Additive|FastScan|RaBitQ|Lattice")
FLAT, FLAT_START = ("IndexFlat", "IndexFlatIP", "IndexFlatL2"), 45
"""Indexes that are a header and then the rows. They are read as an array, block by block, which takes a third of the
time and keeps memory bounded."""
HEADER = struct.Struct("<4siq")


class FaissStore(Store):
    """An index file. Flat indexes stay on disk; FAISS loads the others into memory.

    Positions follow the order of adding, or of the ids of an inverted file. Identities come from a text
    file as for ``.npy``, or from the ids of an IDMap or of an inverted file if these repeat.
    """

    kind = "faiss"

    def __init__(self, path: Path, identity: str | None = None) -> None:
        self.name, self.faiss = str(path), need("faiss", "search")
        _check_header(path, self.name)
        index = self._read(path)
        self.count, self.size = int(index.ntotal), check_size(int(index.d), repr(self.name))
        if not self.count:
            raise InputError(f"expected embeddings, the index {self.name!r} is empty")
        ids = None
        if type(index).__name__.startswith("IndexIDMap"):
            ids = self.faiss.vector_to_array(index.id_map)
            self.outer, index = index, self.faiss.downcast_index(index.index)  # the outer one owns the inner
        self.index = index
        self.ids: Index | None = None
        inner = self._inner(index)
        if hasattr(inner, "invlists"):
            listed = self._list_order(inner)
            ids = listed if ids is None else ids
        self.names, label_file = sidecar(path, identity, self.count)
        if self.names is None and ids is not None and len(np.unique(ids)) < self.count:
            self.names = [str(number) for number in ids]
            log.info("%s: ids repeat and are read as people: %d of them", self.name, len(set(self.names)))
        named, quantization = type(inner).__name__, None
        if LOSSY.search(named) or LOSSY.search(type(index).__name__):
            quantization = f"the index is a {named}"
        elif inner is not index and type(index).__name__ == "IndexPreTransform" and inner.d < self.size:
            quantization = f"the index keeps {inner.d} of {self.size} dimensions"
        self.contents = Contents(label_file=label_file, quantization=quantization)
        self.flat: Path | None = None
        first, last = self._rows(0, 1), self._rows(self.count - 1, 1)  # fails if the index cannot reconstruct rows
        if type(index).__name__ in FLAT and path.stat().st_size == FLAT_START + 4 * self.count * self.size:
            self.flat = path
            if not np.array_equal([self._rows(0, 1), self._rows(self.count - 1, 1)], [first, last], equal_nan=True):
                self.flat = None

    def _read(self, path: Path) -> Any:
        try:
            # FAISS maps the codes of flat indexes into memory, and reads other indexes.
            flags = self.faiss.IO_FLAG_READ_ONLY | getattr(self.faiss, "IO_FLAG_MMAP_IFC", 0)
            return self.faiss.read_index(str(path), flags)
        except (RuntimeError, MemoryError) as error:
            raise InputError(f"{self.name!r} is no FAISS index that can be read: {_line(error)}") from None

    def _inner(self, index: Any) -> Any:
        """The index behind transformations of the embeddings."""
        while type(index).__name__ == "IndexPreTransform":
            index = self.faiss.downcast_index(index.index)
        return index

    def _list_order(self, index: Any) -> Index:
        """Give an inverted file a map from positions to rows; returns its ids, ascending."""
        if isinstance(index, self.faiss.IndexIVFFastScan):  # whose reconstruction crashes the process
            raise InputError(f"a {type(index).__name__} such as {self.name!r} cannot reconstruct its rows")
        lists = index.invlists
        parts, places = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for number in range(lists.nlist):
            size = lists.list_size(number)
            if size:
                parts.append(self.faiss.rev_swig_ptr(lists.get_ids(number), size).copy())
                places.append((number << 32) | np.arange(size))
        ids = np.concatenate(parts)
        order = np.argsort(ids, kind="stable")
        ids = ids[order]
        if len(ids) != self.count:
            raise InputError(f"{self.name!r} says {self.count} rows, its inverted file has {len(ids)}")
        if np.array_equal(ids, np.arange(self.count)):
            index.set_direct_map_type(self.faiss.DirectMap.Array)
        else:
            self.faiss.copy_array_to_vector(np.concatenate(places)[order], index.direct_map.array)
            index.direct_map.type = self.faiss.DirectMap.Array
            self.ids = np.arange(self.count)
        return ids

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
            if self.ids is not None:
                return to_float(self.index.reconstruct_batch(self.ids[start : start + count]))
            return to_float(self.index.reconstruct_n(start, count))
        except (OSError, ValueError) as error:
            raise InputError(f"{self.name!r} cannot be read any more: {error}") from None
        except RuntimeError as error:
            kind = type(self.index).__name__
            raise InputError(f"a {kind} such as {self.name!r} cannot reconstruct its rows: {_line(error)}") from None


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


def _line(error: BaseException) -> str:
    """FAISS's message without the place in its source."""
    return one_line(error).rpartition("Error: ")[2]
