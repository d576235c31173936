"""Arrow columns as rows of numbers, and parquet files as stores."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from arcinvert.audit.stores.arrays import to_float
from arcinvert.audit.stores.columns import VECTOR_NAMES, guess, identity_column, is_run, vector_column, wide_columns
from arcinvert.audit.stores.store import (
    BLOCK,
    SAMPLE,
    Block,
    Contents,
    Index,
    Store,
    check_size,
    join,
    name_of,
    need,
    one_line,
    say_format,
)
from arcinvert.audit.stores.vectors import Mask, Reader, Rows, matrix, size_of
from arcinvert.errors import InputError

BATCH = 8192
"""Rows decoded at a time: more is slower and needs more memory."""


def open_parquet(parquet: Any, file: Path) -> Any:
    """A parquet file, mapped into memory: a damaged one may claim huge pages, but no memory is taken for them.

    Raises:
        pyarrow.ArrowException, OSError, UnicodeError: it is damaged, or not there.
    """
    return parquet.ParquetFile(file, memory_map=True, buffer_size=0, pre_buffer=False)


class Columns:
    """The columns of an Arrow schema that are read, and how.

    Attributes:
        vectors: the column of the embeddings, or D columns of one number each.
        identity: the column that names the people, or None.
        size: D; set by :meth:`settle`.
    """

    def __init__(
        self, schema: Any, column: str | None, identity: str | None, name: str, numbers: str | None = None
    ) -> None:
        self.numbers = numbers
        self.pa, self.name = need("pyarrow", "stores"), name
        columns = list(schema.names)
        if len(set(columns)) != len(columns):
            raise InputError(f"{name} has several columns of one name")
        likely = [c for c in columns if self.holds_rows(schema.field(c).type)]
        run = column if is_run(column, columns) else None
        plain = run is None and (likely or column is not None or guess(columns, VECTOR_NAMES[:-2]))
        wide = [] if plain else self._wide(schema, columns, run)
        self.vectors = wide or [vector_column(columns, column, name, likely=likely)]
        self.identity = identity_column(columns, identity, name, vector=self.vectors[0])
        self.rest = [c for c in columns if c not in self.vectors]
        self.reader, self.size = Reader(), len(wide)

    @property
    def wanted(self) -> list[str]:
        """The columns to ask for."""
        return [*self.vectors, *([self.identity] if self.identity is not None else [])]

    def holds_rows(self, kind: Any) -> bool:
        """Whether a type is one of lists of numbers."""
        kind = getattr(kind, "storage_type", kind)
        types = self.pa.types
        lists = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
        return bool(lists and (types.is_floating(kind.value_type) or types.is_integer(kind.value_type)))

    def _wide(self, schema: Any, columns: Sequence[str], run: str | None) -> list[str]:
        found = wide_columns(columns, run, self.name)
        return found if all(self.pa.types.is_floating(schema.field(c).type) for c in found) else []

    def settle(self, batches: Iterator[Any]) -> None:
        """Infer D from the first rows."""
        values: list[object] = []
        if len(self.vectors) == 1:
            for batch in batches:
                column = _storage(batch.column(0))
                kind = column.type
                if self.pa.types.is_fixed_size_list(kind):
                    self.size = kind.list_size
                    break
                values += python_values(column.slice(0, SAMPLE - len(values)))
                if len(values) >= SAMPLE:
                    break
            if not self.size:
                self.reader = Reader.for_values(values, self.name, self.numbers)
                self.size = size_of(values, self.reader, self.name)
                say_format(values, self.reader, self.size, self.name)
        check_size(self.size, self.name)

    def block(self, batch: Any, start: int) -> Block:
        """The rows from ``start`` on; the batch has the columns :attr:`wanted` in their order."""
        if len(self.vectors) > 1:
            parts = [to_float(batch.column(i).to_numpy(zero_copy_only=False)) for i in range(self.size)]
            rows, kept = np.stack(parts, 1), np.ones(batch.num_rows, bool)
            skipped: dict[str, int] = {}
        else:
            rows, kept, skipped = self._rows(_storage(batch.column(0)))
        positions = np.arange(start, start + batch.num_rows)
        names = None
        if self.identity is not None:
            column = batch.column(len(self.vectors))
            values = python_values(column if kept.all() else column.filter(self.pa.array(kept)))
            names = [name_of(value) for value in values]
        return Block(positions[kept], rows, names, skipped)

    def _rows(self, column: Any) -> tuple[Rows, Mask, dict[str, int]]:
        """The rows that can be read, a mask (n,) of them, and why the others cannot."""
        kind = column.type
        if not self.holds_rows(kind):
            rows, kept, skipped = matrix(python_values(column), self.size, self.reader)
            return rows[kept], kept, dict(skipped)
        valid = column.is_valid().to_numpy(zero_copy_only=False)
        if self.pa.types.is_fixed_size_list(kind):
            lengths = np.full(len(column), kind.list_size)  # another file of the store may have another size
        else:
            lengths = np.diff(column.offsets.to_numpy())
        kept = valid & (lengths == self.size)
        counts = {"null": int((~valid).sum()), "ragged": int((valid & ~kept).sum())}
        column = column if kept.all() else column.filter(self.pa.array(kept))
        numbers = column.flatten().to_numpy(zero_copy_only=False)  # an entry that is null becomes NaN
        rows = to_float(numbers).reshape(-1, self.size)
        return rows, kept, {reason: count for reason, count in counts.items() if count}


class ParquetStore(Store):
    """A parquet file, or a folder of them in the order of their names."""

    kind = "parquet"

    def __init__(
        self, path: Path, column: str | None = None, identity: str | None = None, numbers: str | None = None
    ) -> None:
        self.pa, self.parquet = need("pyarrow", "stores"), need("pyarrow.parquet", "stores")
        self.name = str(path)
        self.files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
        opened = [self._open(file) for file in self.files]
        self.counts = [self._rows_of(file.metadata, path) for file, path in zip(opened, self.files, strict=True)]
        self.count = sum(self.counts)
        if not self.count:
            raise InputError(f"expected embeddings, {self.name!r} has no rows")
        self.columns = Columns(opened[0].schema_arrow, column, identity, repr(self.name), numbers)
        self.columns.settle(batch for n in range(len(self.files)) for batch in self._batches(n, SAMPLE))
        self.size = self.columns.size
        first = dict.fromkeys(self.columns.rest)
        self.contents = Contents(first | self._values(self.columns.rest), self.columns.identity)

    @staticmethod
    def _rows_of(metadata: Any, file: Path) -> int:
        """The number of rows, which a damaged file may give wrong."""
        parts = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        count = int(metadata.num_rows)
        if min(parts, default=0) < 0 or sum(parts) != count:
            raise InputError(f"{str(file)!r} is damaged: it claims {count} rows, its row groups {sum(parts)}")
        return count

    def _values(self, columns: list[str]) -> dict[str, object]:
        for number in range(len(self.files)):
            for batch in self._batches(number, 1, columns):
                return first_row(batch)
        return {}

    def _open(self, file: Path) -> Any:
        try:
            return open_parquet(self.parquet, file)
        except (self.pa.ArrowException, OSError, UnicodeError) as error:  # names of columns may be no UTF-8
            raise InputError(f"{str(file)!r} is not a whole parquet file: {one_line(error)}") from None

    def _batches(self, number: int, rows: int, columns: list[str] | None = None, groups: Any = None) -> Iterator[Any]:
        wanted = self.columns.wanted if columns is None else columns
        file = self._open(self.files[number])
        try:
            for batch in file.iter_batches(rows, row_groups=groups, columns=wanted, use_threads=False):
                yield batch.select(wanted)
        except (self.pa.ArrowException, OSError, KeyError, UnicodeError) as error:
            raise InputError(f"{str(self.files[number])!r} is damaged: {one_line(error)}") from None
        finally:
            file.close()

    def blocks(self, rows: int = BLOCK) -> Iterator[Block]:
        start = 0
        for number, count in enumerate(self.counts):
            end = start + count
            for batch in self._batches(number, min(rows, BATCH)):
                yield self.columns.block(batch, start)
                start += batch.num_rows
            if start != end:
                raise InputError(f"{str(self.files[number])!r} changed while it was read")

    def take(self, positions: Index) -> Block:
        wanted = self.check(positions)
        found: list[Block] = []
        start = 0
        for number in range(len(self.files)):
            with self._open(self.files[number]) as file:
                sizes = [file.metadata.row_group(g).num_rows for g in range(file.metadata.num_row_groups)]
            for group, size in enumerate(sizes):
                if ((wanted >= start) & (wanted < start + size)).any():
                    found += self._inside(number, group, start, wanted)
                start += size
        return join(found, self.size)

    def _inside(self, number: int, group: int, start: int, wanted: Index) -> Iterator[Block]:
        for batch in self._batches(number, BATCH, groups=[group]):
            inside = wanted[(wanted >= start) & (wanted < start + batch.num_rows)]
            if len(inside):
                chosen = self.columns.block(batch.take(self.pa.array(inside - start)), 0)
                yield Block(inside[chosen.positions], chosen.templates, chosen.identities, chosen.skipped)
            start += batch.num_rows


def python_values(column: Any) -> list[object]:
    """The values of an Arrow array; bytes for text that is no UTF-8, no bytes for what Python cannot hold (dates)."""
    try:
        return list(column.to_pylist())
    except (ValueError, OverflowError):
        return [_python_value(scalar) for scalar in column]


def first_row(batch: Any) -> dict[str, object]:
    """Column -> value of a batch's first row."""
    return {name: python_values(batch.column(n).slice(0, 1))[0] for n, name in enumerate(batch.schema.names)}


def _python_value(scalar: Any) -> object:
    try:
        return scalar.as_py()
    except (ValueError, OverflowError):
        return bytes(scalar.as_buffer().to_pybytes()) if hasattr(scalar, "as_buffer") else b""


def _storage(column: Any) -> Any:
    """The storage of an extension type."""
    return getattr(column, "storage", column)
