"""The interface of every store of embeddings: rows in order, read-only, in blocks."""

import logging
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arcinvert.audit.stores.vectors import Reader, matrix, size_of
from arcinvert.errors import EnvironmentProblem, InputError

log = logging.getLogger(__name__)

Rows = NDArray[np.float32]
Index = NDArray[np.int64]

BLOCK = 65536
LEAST_SIZE, MOST_SIZE = 2, 8192
"""Allowed D of an embedding."""
SAMPLE = 1000
"""Rows at the start of a store from which D is inferred."""
NAME = 1000
"""Characters of an identity's name that are kept."""


@dataclass(frozen=True)
class Contents:
    """What a store holds beside the rows, as far as opening it shows; names are as the store has them, unescaped.

    Attributes:
        columns: column (or array, field) beside the embeddings -> a value of it, None where it is unknown.
        identity: the column that names the people, or None.
        label_file: the text file that names them, or None.
        tables: other tables of the database.
        quantization: how the format quantizes the embeddings, or None.
        normalized_on_load: whether the database normalizes the embeddings when it loads them.
        unread: column that cannot be read -> the reason, and the way out, as a sentence.
    """

    columns: Mapping[str, object] = field(default_factory=dict)
    identity: str | None = None
    label_file: str | None = None
    tables: tuple[str, ...] = ()
    quantization: str | None = None
    normalized_on_load: bool = False
    unread: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Note:
    """Something that opening a store left out, and the way out, as a sentence."""

    text: str


@dataclass(frozen=True, eq=False)
class Block:
    """Some rows of a store.

    Attributes:
        positions: (n,) int64, ascending; row numbers in the whole store, from 0.
        templates: (n, D) float32 as stored: not normalized, perhaps NaN or zero.
        identities: n names as they are stored (unescaped), ``""`` where a row names nobody; None where the whole store
            names nobody.
        skipped: how many rows between these were skipped, by reason: ``null``, ``ragged``, ``unreadable``, ``pickle``.
    """

    positions: Index
    templates: Rows
    identities: list[str] | None
    skipped: Mapping[str, int] = field(default_factory=dict)


class Store(ABC):
    """A read-only source of embeddings.

    Attributes:
        kind: ``npy``, ``npz``, ``parquet``, ``csv``, ``faiss``, ``sqlite``, ``postgres``, ``lancedb``, ``qdrant``,
            ``chroma``, ``milvus`` or ``mysql``.
        name: for display; holds no password.
        count: N, all rows, including those that cannot be read.
        size: D.
        contents: what the store holds beside the rows.
    """

    kind: str
    name: str
    count: int
    size: int
    contents: Contents

    @property
    def notes(self) -> tuple[Note, ...]:
        """What of the store is not read: one for each entry of :attr:`Contents.unread`."""
        return tuple(map(Note, self.contents.unread.values()))

    @abstractmethod
    def blocks(self, rows: int = BLOCK) -> Iterator[Block]:
        """All rows in order, at most ``rows`` at a time.

        Raises:
            InputError: the store turns out to be damaged, or has changed.
        """

    def take(self, positions: Index) -> Block:
        """The rows at ``positions`` (n,), ascending and different; rows that cannot be read are skipped.

        Raises:
            InputError: positions that are not such, or a damaged store.
        """
        wanted = self.check(positions)
        found = [
            pick(block, np.isin(block.positions, wanted))
            for block in self.blocks()
            if len(wanted) and len(block.positions) and block.positions[-1] >= wanted[0]
        ]
        return join(found, self.size)

    def check(self, positions: Index) -> Index:
        """Refuse positions that are not ascending, or not of this store."""
        wanted = np.asarray(positions, np.int64)
        if wanted.ndim != 1 or (
            len(wanted) and (wanted[0] < 0 or wanted[-1] >= self.count or (np.diff(wanted) < 1).any())
        ):
            raise InputError(f"expected ascending positions from 0 to {self.count - 1}")
        return wanted


class RawStore(Store):
    """A store whose rows arrive as Python values: lists, bytes or text.

    A subclass sets ``kind``, ``name`` and ``contents``, gives :meth:`raw`, and then calls :meth:`settle`.
    """

    reader: Reader
    numbers: str | None = None
    """Format of numbers in blobs that the user named; None: guessed."""

    @abstractmethod
    def raw(self, rows: int) -> Iterator[tuple[Sequence[object], Sequence[object] | None]]:
        """Values and identities of all rows in order, at most ``rows`` at a time."""

    def settle(self, count: int, reader: Reader | None = None) -> None:
        """Infer D from the first rows, and the format of the vectors unless ``reader`` is given; ``count`` is N.

        Raises:
            InputError: no row, or none that holds a vector.
        """
        first, _ = next(self.raw(SAMPLE), ((), None))
        if not count or not len(first):
            raise InputError(f"expected embeddings, got no rows in {self.name}")
        self.count = count
        self.reader = reader or Reader.for_values(first, self.name, self.numbers)
        self.size = check_size(size_of(first, self.reader, self.name), self.name)
        say_format(first, self.reader, self.size, self.name)

    def blocks(self, rows: int = BLOCK) -> Iterator[Block]:
        position = 0
        for values, identities in self.raw(rows):
            yield self.block(np.arange(position, position + len(values)), values, identities)
            position += len(values)
        if position != self.count:
            raise InputError(f"{self.name} changed while it was read: {self.count} rows, now {position}")

    def take(self, positions: Index) -> Block:
        wanted = self.check(positions)
        found, position = [], 0
        for values, identities in self.raw(BLOCK):
            inside = wanted[(wanted >= position) & (wanted < position + len(values))]
            chosen = [values[n - position] for n in inside]
            named = None if identities is None else [identities[n - position] for n in inside]
            found.append(self.block(inside, chosen, named))
            position += len(values)
            if not len(wanted) or position > wanted[-1]:
                break
        return join(found, self.size)

    def block(self, positions: Index, values: Sequence[object], identities: Sequence[object] | None) -> Block:
        """Rows as they arrive, without those that do not hold D numbers."""
        templates, kept, skipped = matrix(values, self.size, self.reader)
        names = None if identities is None else [name_of(identities[i]) for i in np.flatnonzero(kept).tolist()]
        return Block(positions[kept], templates[kept] if not kept.all() else templates, names, skipped)


def name_of(value: object) -> str:
    """An identity as text: 3, 3.0 and "3" are one; ``""`` for none."""
    if type(value) is str:
        return value[:NAME]
    if value is None or value != value:
        return ""
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).decode(errors="replace")[:NAME]
    if isinstance(value, float | np.floating) and float(value).is_integer():
        value = int(value)
    return str(value)[:NAME]


def pick(block: Block, keep: NDArray[np.bool_]) -> Block:
    """Some rows of a block."""
    names = block.identities
    if names is not None:
        names = [names[i] for i in np.flatnonzero(keep)]
    return Block(block.positions[keep], block.templates[keep], names)


def join(blocks: Sequence[Block], size: int) -> Block:
    """Blocks one after another as one; ``size`` is D."""
    skipped: Counter[str] = Counter()
    for block in blocks:
        skipped.update(block.skipped)
    return Block(
        np.concatenate([np.empty(0, np.int64), *(block.positions for block in blocks)]),
        np.concatenate([np.empty((0, size), np.float32), *(block.templates for block in blocks)]),
        None if any(b.identities is None for b in blocks) else [n for b in blocks for n in b.identities or ()],
        dict(skipped),
    )


def check_size(size: int, name: str) -> int:
    """D, if it can be one.

    Raises:
        InputError: it cannot.
    """
    if not LEAST_SIZE <= size <= MOST_SIZE:
        hint = ": transposed? (rows are embeddings)" if size > MOST_SIZE else ""
        raise InputError(f"expected embeddings of {LEAST_SIZE} to {MOST_SIZE} numbers, {name} has {size}{hint}")
    return size


def say_format(values: Sequence[object], reader: Reader, size: int, name: str) -> None:
    """Log which format of numbers was found in blobs, or in coded text."""
    first = next((value for value in values if value is not None), None)
    if reader.coding or isinstance(first, bytes | bytearray | memoryview):
        length = len(first) if isinstance(first, str | bytes | bytearray | memoryview) else 0
        unit = "characters" if isinstance(first, str) else "bytes"
        log.info("%s: %d %s a row are read as %d numbers, %s", name, length, unit, size, reader.format)


def need(module: str, extra: str) -> Any:
    """Import the client of a kind of store.

    Raises:
        EnvironmentProblem: it is not installed.
    """
    try:
        return import_module(module)
    except ImportError:
        raise EnvironmentProblem(f"this store needs {module}; pip install 'arcinvert[{extra}]'") from None


def one_line(error: BaseException) -> str:
    """The message of a client's error as one short line."""
    return " ".join(str(error).split())[:300] or type(error).__name__
