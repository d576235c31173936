"""LanceDB: a folder of tables, each a folder ``NAME.lance``."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from arcinvert.audit.stores.arrow import BATCH, Columns
from arcinvert.audit.stores.store import BLOCK, SAMPLE, Block, Contents, Index, Store, join, need, one_line
from arcinvert.errors import InputError, UsageError


class LanceStore(Store):
    """A table of a LanceDB database on this machine, in its newest version."""

    kind = "lancedb"

    def __init__(
        self,
        path: Path,
        table: str | None = None,
        column: str | None = None,
        identity: str | None = None,
        numbers: str | None = None,
    ) -> None:
        self.lancedb, self.pa = need("lancedb", "stores"), need("pyarrow", "stores")
        if path.suffix == ".lance" and table is None:
            path, table = path.parent, path.stem
        self.folder = path
        self.table = _choose(path, table)
        self.name = f"{str(path)!r}, table {self.table!r}"
        opened = self._open()
        self.count = int(opened.count_rows())
        if not self.count:
            raise InputError(f"expected embeddings, {self.name} has no rows")
        self.columns = Columns(opened.schema, column, identity, self.name, numbers)
        self.columns.settle(self._batches(SAMPLE))
        self.size = self.columns.size
        rest = self.columns.rest
        first = next(self._batches(1, rest, limit=1)).to_pylist()[0] if rest else {}
        self.contents = Contents(first, self.columns.identity)

    def _open(self) -> Any:
        try:
            return self.lancedb.connect(str(self.folder)).open_table(self.table)
        except (RuntimeError, ValueError, OSError) as error:
            raise InputError(f"{self.name} is no Lance table that can be read: {one_line(error)}") from None

    def _batches(self, rows: int, columns: list[str] | None = None, limit: int | None = None) -> Iterator[Any]:
        wanted = self.columns.wanted if columns is None else columns
        try:
            query = self._open().search().select(wanted)
            for batch in (query if limit is None else query.limit(limit)).to_batches(rows):
                yield batch.select(wanted)
        except (RuntimeError, ValueError, OSError) as error:
            raise InputError(f"{self.name} is damaged: {one_line(error)}") from None

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
        try:
            query = self._open().take_offsets(wanted.tolist()).select(self.columns.wanted)
            found = query.to_arrow().select(self.columns.wanted)
        except (RuntimeError, ValueError, OSError) as error:
            raise InputError(f"{self.name} is damaged: {one_line(error)}") from None
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
