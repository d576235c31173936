"""Stores that are ``.npy`` or ``.npz`` files. Headers are checked against the file before anything is allocated."""

import math
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from arcinvert.audit.stores.columns import IDENTITY_NAMES, VECTOR_NAMES, guess, named
from arcinvert.audit.stores.store import (
    BLOCK,
    LEAST_SIZE,
    MOST_SIZE,
    Block,
    Contents,
    Index,
    Store,
    check_size,
    name_of,
)
from arcinvert.embeddings import DAMAGED, LIKELY, is_bomb, read_header
from arcinvert.errors import InputError
from arcinvert.evaluation.readers.lists import read_labels

EQUAL = 1e-2
"""Relative deviation of norms that counts as one norm."""
WHOLE = 2 << 30
"""Largest array in bytes that may be in memory at once: identities, or a compressed one in Fortran order."""


@dataclass(frozen=True)
class Layout:
    """The header of a ``.npy``: type, shape (N, D) or (N,), order, and where the numbers start."""

    dtype: "np.dtype[Any]"
    shape: tuple[int, ...]
    fortran: bool
    start: int


def read_layout(stream: BinaryIO, length: int, name: str) -> Layout:
    """The header of a ``.npy`` of ``length`` bytes.

    Raises:
        InputError: damaged, of another length than it says, or an array of pickled objects.
    """
    try:
        shape, fortran, dtype = read_header(stream)
    except DAMAGED as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"{name} has a damaged .npy header: {reason[:200]}") from None
    start = stream.tell()
    if dtype.hasobject:
        raise InputError(f"{name} holds pickled objects; pickles run code and are not read")
    if start + math.prod(shape) * dtype.itemsize != length:
        raise InputError(f"{name} says shape {shape} of {dtype}, but has {length - start} bytes of numbers")
    return Layout(dtype, shape, fortran, start)


def _rows_layout(layout: Layout, name: str) -> Layout:
    """As (N, D)."""
    shape = layout.shape
    shape = (shape[0], shape[2]) if len(shape) == 3 and shape[1] == 1 else shape
    shape = (1, *shape) if len(shape) == 1 else shape
    if layout.dtype.kind not in "fiu" or len(shape) != 2 or not math.prod(shape):
        raise InputError(f"expected embeddings (N, D), {name} has shape {layout.shape} of {layout.dtype}")
    check_size(shape[1], name)
    return Layout(layout.dtype, shape, layout.fortran and len(layout.shape) > 1, layout.start)


def to_float(values: NDArray[np.generic]) -> NDArray[np.float32]:
    """As float32; numbers that are too large become infinite."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.ascontiguousarray(values, np.float32)


def refuse_transposed(store: Store) -> None:
    """Refuse an array that holds embeddings as columns, or may.

    The evidence is unit norm: of the columns and not of the rows, or of neither, while N is a usual D and D is not.

    Raises:
        InputError: it is transposed, or may be.
    """
    if not LEAST_SIZE < store.count <= MOST_SIZE:
        return
    rows = next(store.blocks()).templates
    with np.errstate(invalid="ignore", over="ignore"):
        spreads = [float(norms.std() / max(norms.mean(), 1e-30)) for norms in (_norms(rows), _norms(rows.T))]
    shape = f"{store.name!r} has shape ({store.count}, {store.size})"
    if spreads[0] < EQUAL:
        return
    if spreads[1] < EQUAL:
        raise InputError(
            f"{shape}, and its columns have norm {_norms(rows.T)[0]:.3g}, its rows differ: transposed? "
            f"save the array's .T, or use --size {store.size}"
        )
    if store.count in LIKELY and store.size not in LIKELY:
        raise InputError(
            f"{shape}: {store.count} embeddings of {store.size} numbers, or {store.size} of {store.count} that are "
            f"transposed? use --size {store.size}, or save the array's .T"
        )


def _norms(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.asarray(np.sqrt((rows.astype(np.float64) ** 2).sum(1)), np.float64)


class NpyStore(Store):
    """An array in a ``.npy`` file. Identities: a text file, a label a line; default: ``NAME.labels.txt``."""

    kind = "npy"

    def __init__(self, path: Path, identity: str | None = None) -> None:
        self.path, self.name = path, str(path)
        with open(path, "rb") as file:
            self.layout = _rows_layout(read_layout(file, path.stat().st_size, repr(self.name)), repr(self.name))
        self.count, self.size = self.layout.shape
        self.names, label_file = sidecar(path, identity, self.count)
        self.contents = Contents(label_file=label_file, quantization=stored_as(self.layout.dtype))

    def blocks(self, rows: int = BLOCK) -> Iterator[Block]:
        for start in range(0, self.count, rows):
            # The file is opened again for each block, so that mapped pages do not add up to the whole file.
            yield self._block(np.arange(start, min(start + rows, self.count)), slice(start, start + rows))

    def take(self, positions: Index) -> Block:
        wanted = self.check(positions)
        return self._block(wanted, wanted)

    def _block(self, positions: Index, rows: slice | Index) -> Block:
        layout = self.layout
        order: Any = "F" if layout.fortran else "C"
        try:
            array = np.memmap(self.path, layout.dtype, "r", layout.start, layout.shape, order)
        except (OSError, ValueError) as error:
            raise InputError(f"{self.name!r} cannot be read any more: {error}") from None
        names = None if self.names is None else [self.names[i] for i in positions]
        return Block(positions, to_float(array[rows]), names)


class NpzStore(Store):
    """An array of a ``.npz`` archive, unpacked while it is read; another array may hold identities."""

    kind = "npz"

    def __init__(self, path: Path, column: str | None = None, identity: str | None = None) -> None:
        self.path, self.name = path, str(path)
        with damage(self.name), zipfile.ZipFile(path) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            layouts: dict[str, Layout] = {}
            for key, info in members.items():
                if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise InputError(f"{self.name!r} is compressed in a way that numpy does not write")
                if is_bomb(info):
                    raise InputError(f"{key!r} of {self.name!r} unpacks to {info.file_size} bytes: a zip bomb?")
            matrices: list[str] = []
            unread: dict[str, str] = {}
            for key, info in members.items():
                with archive.open(info) as stream:
                    if stream.read(6) != npy.MAGIC_PREFIX:
                        continue
                with archive.open(info) as stream:
                    try:
                        layouts[key] = read_layout(cast(BinaryIO, stream), info.file_size, f"{key!r} of {self.name!r}")
                    except InputError as error:
                        if key in (column, identity) or len(members) == 1 or guess([key], VECTOR_NAMES):
                            raise
                        unread[key] = str(error)
                        continue
                if len(layouts[key].shape) > 1 and layouts[key].dtype.kind in "fiu":
                    matrices.append(key)
            self.column = self._column(list(layouts), matrices, column)
            self.member = members[self.column].filename
            self.layout = _rows_layout(layouts[self.column], f"{self.column!r} of {self.name!r}")
            if self.layout.fortran and math.prod(self.layout.shape) * self.layout.dtype.itemsize > WHOLE:
                raise InputError(f"{self.name!r} is compressed in Fortran order; save numpy.ascontiguousarray of it")
            self.count, self.size = self.layout.shape
            rest = [key for key in members if key != self.column]
            asked = identity is not None
            who = named(rest, identity, repr(self.name)) if asked and identity else guess(rest, IDENTITY_NAMES)
            self.names = None
            if who is not None and who in layouts:
                self.names = self._labels(archive, members[who], layouts[who], asked)
            if who is not None and self.names is None:
                unread.setdefault(who, f"{who!r} of {self.name!r} is not read: it is no list of {self.count} names")
                unread[who] += "; to name the people, save numpy.array(names, dtype=str)"
        self.contents = Contents(dict.fromkeys(rest), who, quantization=stored_as(self.layout.dtype), unread=unread)

    def _column(self, columns: list[str], matrices: list[str], wanted: str | None) -> str:
        if wanted is not None:
            return named(columns, wanted, repr(self.name))
        found = guess(columns, VECTOR_NAMES) or (matrices[0] if len(matrices) == 1 else None)
        if found is None:
            listed = ", ".join(columns[:10]) or "none that can be read"
            raise InputError(f"{self.name!r} holds {len(columns)} arrays ({listed}); choose one with --column")
        return found

    def _labels(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo, layout: Layout, asked: bool) -> list[str] | None:
        size = math.prod(layout.shape) * layout.dtype.itemsize
        if layout.shape != (self.count,) or layout.dtype.kind not in "iuUSf" or size > WHOLE:
            if asked:
                raise InputError(
                    f"expected {self.count} identities in {self.name!r}, got {layout.shape} of {layout.dtype}"
                )
            return None
        with archive.open(info) as stream:
            stream.read(layout.start)
            values = np.frombuffer(stream.read(size), layout.dtype)
        return [name_of(value) for value in values.tolist()]

    def blocks(self, rows: int = BLOCK) -> Iterator[Block]:
        layout, width = self.layout, self.size * self.layout.dtype.itemsize
        with damage(self.name), zipfile.ZipFile(self.path) as archive, archive.open(self.member) as stream:
            stream.read(layout.start)
            if layout.fortran:
                content = stream.read(self.count * width)
                rows = self.count
            for start in range(0, self.count, rows):
                positions = np.arange(start, min(start + rows, self.count))
                if not layout.fortran:
                    content = stream.read(len(positions) * width)
                if len(content) != len(positions) * width:
                    raise InputError(f"{self.name!r} ends early, in row {start + len(content) // width}")
                array = np.frombuffer(content, layout.dtype)
                shaped = array.reshape(len(positions), self.size, order="F" if layout.fortran else "C")
                names = None if self.names is None else self.names[start : start + len(positions)]
                yield Block(positions, to_float(shaped), names)


@contextmanager
def damage(name: str) -> Iterator[None]:
    """Turn the errors of a damaged archive into an InputError."""
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, UnicodeError) as error:
        raise InputError(f"{name!r} is not a whole .npz file: {error}") from None


def sidecar(path: Path, identity: str | None, count: int) -> tuple[list[str] | None, str | None]:
    """Identities of a file that holds embeddings alone, and their text file: ``identity``, or one beside the file.

    Raises:
        InputError: no such file, or not a label for each row.
    """
    beside_it = path.with_name(path.stem + ".labels.txt")
    source = Path(identity) if identity is not None else beside_it if beside_it.is_file() else None
    if source is None:
        return None, None
    numbers, names = read_labels(source)
    if len(numbers) != count:
        raise InputError(f"{str(path)!r} has {count} rows, but {str(source)!r} {len(numbers)} labels")
    return [names[n] for n in numbers], source.name


def stored_as(dtype: "np.dtype[Any]") -> str | None:
    """The quantization that the type of the numbers implies."""
    return f"the numbers are stored as {dtype}" if dtype.kind in "iu" and dtype.itemsize == 1 else None
