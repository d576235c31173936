"""LanceDB: a folder of tables, each a folder ``NAME.lance``."""

import contextlib
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from arcinvert.audit.stores import lance_reader
from arcinvert.audit.stores.arrow import BATCH, Columns, first_row
from arcinvert.audit.stores.child import Child, seconds_for
from arcinvert.audit.stores.store import BLOCK, SAMPLE, Block, Contents, Index, Store, join, need, one_line
from arcinvert.errors import InputError, UsageError

MEMORY = 6 << 30
"""Bytes that the process with Lance may reserve, beside four times the table: its allocators reserve more than they
use."""


class LanceStore(Store):
    """A table of a LanceDB database on this machine, in its newest version, read in a process of its own."""

    kind = "lancedb"

    def __init__(
        self,
        path: Path,
        table: str | None = None,
        column: str | None = None,
        identity: str | None = None,
        numbers: str | None = None,
    ) -> None:
        self.pa = need("pyarrow", "stores")
        need("lancedb", "stores")
        if path.suffix == ".lance" and table is None:
            path, table = path.parent, path.stem
        self.folder = path
        self.table = _choose(path, table)
        self.name = f"{str(path)!r}, table {self.table!r}"
        self._scans = itertools.count()
        self.count, schema = self._open()
        if not self.count:
            raise InputError(f"expected embeddings, {self.name} has no rows")
        self.columns = Columns(schema, column, identity, self.name, numbers)
        self.columns.settle(self._batches(SAMPLE))
        self.size = self.columns.size
        rest = self.columns.rest
        first = first_row(next(self._batches(1, rest, limit=1))) if rest else {}
        self.contents = Contents(first, self.columns.identity)

    def _open(self) -> tuple[int, Any]:
        """Start the process that reads the table; how many rows it has, and its schema."""
        files = (self.folder / f"{self.table}.lance").rglob("*")
        size = sum(path.stat().st_size for path in files if path.is_file())
        arguments = [str(self.folder.resolve()), self.table]
        self._child = Child(lance_reader.__file__, arguments, self.name, MEMORY + 4 * size, seconds_for(size))
        kind, value, content = self._child.reply()
        if kind != lance_reader.REPLY:
            raise InputError(f"{self.name} is no Lance table that can be read: {_line(value)}")
        with self._damage():
            return int(value), self.pa.ipc.read_schema(self.pa.py_buffer(content))

    def _ask(self, **request: Any) -> list[Any]:
        """The batches of a reply, none at the end of a scan."""
        self._child.send(json.dumps(request))
        kind, value, content = self._child.reply()
        if kind == lance_reader.REFUSED:
            raise InputError(f"{self.name} is damaged: {_line(value)}")
        with self._damage():
            return list(self.pa.ipc.open_stream(content)) if kind == lance_reader.REPLY else []

    @contextlib.contextmanager
    def _damage(self) -> Iterator[None]:
        try:
            yield
        except (RuntimeError, ValueError, OSError, TypeError) as error:
            raise InputError(f"{self.name} is damaged: {one_line(error)}") from None

    def _batches(self, rows: int, columns: list[str] | None = None, limit: int | None = None) -> Iterator[Any]:
        wanted, scan = self.columns.wanted if columns is None else columns, next(self._scans)
        try:
            while batches := self._ask(scan=scan, columns=wanted, rows=rows, limit=limit):
                yield from batches
        finally:
            self._child.send(json.dumps({"scan": scan, "close": True}))

    def blocks(self, rows: int = BLOCK) -> Iterator[Block]:
        start = 0
        for batch in self._batches(min(rows, BATCH)):
            yield self.columns.block(batch, start)
            start += batch.num_rows
        if start != self.count:
            raise InputError(f"{self.name} changed while it was read: {self.count} rows, now {start}")

    def take(self, positions: Index) -> Block:
        wanted = self.check(positions)
        if not len(wanted):
            return join([], self.size)
        batches = self._ask(scan=next(self._scans), columns=self.columns.wanted, offsets=wanted.tolist())
        found = self.pa.Table.from_batches(batches)
        if found.num_rows != len(wanted):
            raise InputError(f"{self.name} changed while it was read")
        chosen = self.columns.block(found.combine_chunks().to_batches()[0], 0)
        return Block(wanted[chosen.positions], chosen.templates, chosen.identities, chosen.skipped)


def is_lance(folder: Path) -> bool:
    """Whether a folder is a Lance table, or holds some."""
    return folder.suffix == ".lance" or any(folder.glob("*.lance"))


def _choose(folder: Path, wanted: str | None) -> str:
    tables = sorted(path.stem for path in folder.glob("*.lance"))
    if wanted is not None and wanted in tables:
        return wanted
    if wanted is None and len(tables) == 1:
        return tables[0]
    listed = ", ".join(map(repr, tables[:10])) or "none"
    raise UsageError(f"expected one of the tables of {str(folder)!r}: {listed}; use --table")


def _line(text: str) -> str:
    """The reader's message as one short line."""
    return " ".join(text.split())[:300]
