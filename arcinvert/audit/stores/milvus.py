"""Milvus Lite's folder (version 3): parquet files and a log of Arrow streams for each collection.

It is read without Milvus's client, which would write to it.

A row that was changed or deleted stays in older files: of the rows with one primary key, the newest counts, unless a
deletion is newer still.
"""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arcinvert.audit.stores.arrow import BATCH, Columns, first_row, open_parquet, python_values
from arcinvert.audit.stores.columns import guess, identity_column, named
from arcinvert.audit.stores.milvus_files import (
    COLLECTIONS,
    LOG,
    MANIFEST,
    SCHEMA,
    collections_of,
    dynamic_fields,
    fields_of,
    read_json,
)
from arcinvert.audit.stores.store import BLOCK, SAMPLE, Block, Contents, Index, Store, join, name_of, need, one_line
from arcinvert.errors import InputError, UsageError

log = logging.getLogger(__name__)

SEQUENCE, PARTITION, DYNAMIC = "_seq", "_partition", "$meta"
"""Columns of Milvus's own: order of writing; in the log the partition; fields beyond the schema, as JSON."""
VECTORS = ("float_vector", "float16_vector", "bfloat16_vector", "int8_vector")


class MilvusStore(Store):
    """A collection of a Milvus Lite folder; ``identity`` is a field, also one beyond the schema.

    Rows are in the order of the files, those of the log last.
    """

    kind = "milvus"

    def __init__(
        self,
        folder: Path,
        table: str | None = None,
        column: str | None = None,
        identity: str | None = None,
        numbers: str | None = None,
    ) -> None:
        self.pa, self.parquet = need("pyarrow", "stores"), need("pyarrow.parquet", "stores")
        collections = collections_of(folder)
        self.table = _choose(collections, table, folder)
        self.folder = collections[self.table]
        self.name = f"{str(folder)!r}, collection {self.table!r}"
        fields = fields_of(read_json(self.folder / SCHEMA), self.name)
        self.key = next((name for name, (_, primary) in fields.items() if primary), "")
        likely = [name for name, (kind, _) in fields.items() if kind in VECTORS]
        if not self.key or not likely:
            raise InputError(f"{self.name} has no primary key or no vectors; it has {', '.join(map(repr, fields))}")
        column = column or (likely[0] if len(likely) == 1 else guess(likely, ("embedding", "vector", "face")))
        if column is None:
            raise UsageError(f"{self.name} has several vectors: {', '.join(map(repr, likely[:10]))}; use --column")
        self.cut: set[Path] = set()
        self.files, deletions = self._list()
        self.live = self._live(deletions)
        self.count = int(sum(mask.sum() for mask in self.live))
        if not self.count:
            raise InputError(f"expected embeddings, got no rows in {self.name}")
        plain = [name for name in fields if name not in (column, self.key)]
        first = self._first([*plain, DYNAMIC])
        beyond = dynamic_fields(first.pop(DYNAMIC, None))
        rest = first | beyond
        self.identity = identity_column(list(rest), identity, self.name, vector="")
        self.nested = self.identity is not None and self.identity not in first
        schema = self._schema()
        outer = DYNAMIC if self.nested else self.identity
        if outer is not None:
            named(schema.names, outer, self.name)
        self.columns = Columns(schema, column, outer, self.name, numbers)
        self.columns.identity = outer
        self.columns.settle(
            batch for n in range(len(self.files)) for batch in self._batches(n, self.columns.wanted, SAMPLE)
        )
        self.size = self.columns.size
        self.contents = Contents(rest | {self.key: None}, self.identity)

    def _list(self) -> tuple[list[Path], list[Path]]:
        """The files of rows and of deletions."""
        partitions: Any = read_json(self.folder / MANIFEST).get("partitions")
        rows: list[Path] = []
        deletions: list[Path] = []
        try:
            for partition, files in dict(partitions).items():
                for kind, found in (("data_files", rows), ("delta_files", deletions)):
                    found += [self._inside(self.folder / "partitions" / partition, name) for name in files[kind]]
        except (KeyError, TypeError, ValueError):
            raise InputError(f"{self.name} has a manifest that lists no files") from None
        rows += sorted((self.folder / LOG).glob("wal_data_*.arrow"))
        return rows, deletions + sorted((self.folder / LOG).glob("wal_delta_*.arrow"))

    def _inside(self, place: Path, name: object) -> Path:
        path = place / str(name)
        if not path.resolve().is_relative_to(self.folder.resolve()):
            raise InputError(f"{self.name} has a manifest that names a file outside it: {str(name)[:100]!r}")
        return path

    def _live(self, deletions: Sequence[Path]) -> list[NDArray[np.bool_]]:
        """For each file (n,) which rows count."""
        deleted: dict[object, int] = {}
        for file in deletions:
            for key, sequence in self._keys(file):
                deleted[key] = max(sequence, deleted.get(key, -1))
        newest: dict[object, tuple[int, int, int]] = {}
        counts = []
        for number, file in enumerate(self.files):
            place = 0
            for key, sequence in self._keys(file):
                # a log that was moved to a file before a crash has the same rows again
                if sequence > newest.get(key, (-1, 0, 0))[0]:
                    newest[key] = sequence, number, place
                place += 1
            counts.append(place)
        found = [np.zeros(count, bool) for count in counts]
        for key, (sequence, number, place) in newest.items():
            found[number][place] = sequence > deleted.get(key, -1)
        return found

    def _keys(self, file: Path) -> Iterator[tuple[object, int]]:
        """The primary key of each row of a file, and its place in the order of writing."""
        for batch in self._open(file, [self.key, SEQUENCE], BATCH):
            for key, sequence in zip(*map(python_values, batch.columns), strict=True):
                if type(sequence) is not int or not isinstance(key, int | str | bytes):
                    raise InputError(f"{self.name} is damaged in {file.name!r}: a row without a key or its order")
                yield key, sequence

    def _open(self, file: Path, columns: Sequence[str], rows: int) -> Iterator[Any]:
        """Some columns of a parquet file or of a log, in batches; a log may end in the middle of a row."""
        if not file.is_file():
            raise InputError(f"{self.name} lacks a file that its manifest lists: {file.name!r}")
        try:
            if file.suffix == ".arrow":
                with self.pa.memory_map(str(file)) as source, self.pa.ipc.open_stream(source) as stream:
                    while (batch := self._next(stream, file)) is not None:
                        yield batch.select(list(columns))
                return
            with open_parquet(self.parquet, file) as opened:
                for batch in opened.iter_batches(rows, columns=list(columns), use_threads=False):
                    yield batch.select(list(columns))
        except (self.pa.ArrowException, OSError, KeyError, UnicodeError) as error:  # names may be no UTF-8
            raise InputError(f"{self.name} is damaged in {file.name!r}: {one_line(error)}") from None

    def _next(self, stream: Any, file: Path) -> Any:
        """The next batch of a log, None at its end; as Milvus does, what was not written whole is left out."""
        try:
            batch = stream.read_next_batch()
            batch.validate(full=True)
        except StopIteration:
            return None
        except (self.pa.ArrowInvalid, OSError):
            if file not in self.cut:
                log.warning(
                    "%s: the log %r is cut off; what follows its last whole batch is left out", self.name, file.name
                )
            self.cut.add(file)
            return None
        return batch

    def _schema(self) -> Any:
        for file in self.files:
            if file.suffix != ".arrow":
                with open_parquet(self.parquet, file) as opened:
                    return opened.schema_arrow
            with self.pa.memory_map(str(file)) as source, self.pa.ipc.open_stream(source) as stream:
                return stream.schema
        raise InputError(f"expected embeddings, {self.name} has no files")

    def _first(self, columns: Sequence[str]) -> dict[str, object]:
        """A row's values in the columns that are there."""
        there = [name for name in columns if name in self._schema().names]
        for number in range(len(self.files)):
            for batch in self._batches(number, there, 1) if there else ():
                return first_row(batch)
        return {}

    def _batches(self, number: int, columns: Sequence[str], rows: int) -> Iterator[Any]:
        """The rows of a file that count, without empty batches."""
        mask, place = self.live[number], 0
        for batch in self._open(self.files[number], columns, rows):
            kept = mask[place : place + batch.num_rows]
            place += batch.num_rows
            if len(kept) != batch.num_rows:
                break
            if kept.any():
                yield batch.filter(self.pa.array(kept))
        if place != len(mask):
            raise InputError(f"{self.name} changed while it was read")

    def blocks(self, rows: int = BLOCK) -> Iterator[Block]:
        start = 0
        for number in range(len(self.files)):
            for whole in self._batches(number, self.columns.wanted, min(rows, BATCH)):
                for first in range(0, whole.num_rows, rows):
                    batch = whole.slice(first, rows)
                    yield self._named(self.columns.block(batch, start))
                    start += batch.num_rows

    def take(self, positions: Index) -> Block:
        wanted, start, found = self.check(positions), 0, []
        for number, mask in enumerate(self.live):
            end = start + int(mask.sum())
            if not ((wanted >= start) & (wanted < end)).any():
                start = end
                continue
            for batch in self._batches(number, self.columns.wanted, BATCH):
                inside = wanted[(wanted >= start) & (wanted < start + batch.num_rows)]
                if len(inside):
                    chosen = self._named(self.columns.block(batch.take(self.pa.array(inside - start)), 0))
                    found.append(Block(inside[chosen.positions], chosen.templates, chosen.identities, chosen.skipped))
                start += batch.num_rows
        return join(found, self.size)

    def _named(self, block: Block) -> Block:
        """The block with identities from beyond the schema, if they are there."""
        if not self.nested or block.identities is None:
            return block
        names = [name_of(dynamic_fields(text).get(self.identity or "")) for text in block.identities]
        return Block(block.positions, block.templates, names, block.skipped)


def is_milvus(folder: Path) -> bool:
    """Whether a folder is Milvus Lite's."""
    return (folder / COLLECTIONS).is_dir() and (folder / "LOCK").is_file()


def _choose(collections: dict[str, Path], wanted: str | None, folder: Path) -> str:
    if wanted is not None and wanted in collections:
        return wanted
    if wanted is None and len(collections) == 1:
        return next(iter(collections))
    listed = ", ".join(map(repr, list(collections)[:10])) or "none"
    raise UsageError(f"expected one of the collections of {str(folder)!r}: {listed}; use --table")
