"""SQLite files, opened so that nothing is written and no code in them runs."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

import numpy as np

from arcinvert.audit.stores.columns import VECTOR_NAMES, guess, identity_column, vector_column
from arcinvert.audit.stores.store import Block, Contents, Index, RawStore
from arcinvert.audit.stores.vectors import Reader
from arcinvert.errors import InputError, UsageError

LEAST = 16
"""A column whose values hold at least so many numbers may hold embeddings, whatever its name."""


@contextmanager
def read_only(path: Path) -> Iterator[sqlite3.Connection]:
    """A read-only connection.

    Raises:
        InputError: not a database, or a damaged one.
    """
    # ``immutable`` creates no files, but ignores a log that a writer has not merged yet.
    log = path.with_name(path.name + "-wal")
    immutable = "" if log.is_file() and log.stat().st_size else "&immutable=1"
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path.resolve()))}?mode=ro{immutable}", uri=True)) as connection:
            connection.execute("pragma query_only = on")
            connection.execute("pragma trusted_schema = off")
            # Text that is not UTF-8 is text all the same.
            connection.text_factory = lambda raw: raw.decode(errors="replace")
            yield connection
    except (sqlite3.Error, OverflowError, UnicodeError) as error:  # names of columns may be no UTF-8
        raise InputError(f"{str(path)!r} is no SQLite database that can be read: {error}") from None


class SqliteStore(RawStore):
    """A table of a SQLite file: vectors are blobs or text, rows in the order of the rowid, or of the primary key."""

    kind = "sqlite"

    def __init__(
        self, path: Path, table: str | None = None, column: str | None = None, identity: str | None = None
    ) -> None:
        self.path = path
        with read_only(path) as connection:
            tables = self._tables(connection)
            self.table = self._choose(connection, tables, table, column)
            self.name = f"{str(path)!r}, table {self.table!r}"
            columns = tables[self.table]
            likely = [] if column else self._likely(connection, self.table, columns)
            self.vector = vector_column(columns, column, self.name, likely=likely)
            self.identity = identity_column(columns, identity, self.name, vector=self.vector)
            row = connection.execute(f"select * from {_quoted(self.table)} limit 1").fetchone()  # noqa: S608
            (count,) = connection.execute(f"select count(*) from {_quoted(self.table)}").fetchone()  # noqa: S608
            (keys,) = connection.execute(
                "select wr from pragma_table_list where schema = 'main' and name = ?", (self.table,)
            ).fetchone()
            keyed = [n for n, k in connection.execute("select name, pk from pragma_table_info(?)", (self.table,)) if k]
        self.order = ", ".join(map(_quoted, keyed)) if keys else "rowid"
        beside = {name: value for name, value in zip(columns, row or (), strict=False) if name != self.vector}
        self.contents = Contents(beside, self.identity, tables=tuple(name for name in tables if name != self.table))
        self.settle(count)

    def raw(self, rows: int) -> Iterator[tuple[Sequence[object], Sequence[object] | None]]:
        listed = ", ".join(map(_quoted, self._columns()))
        with read_only(self.path) as connection:
            cursor = connection.execute(f"select {listed} from {_quoted(self.table)} order by {self.order}")  # noqa: S608
            while found := cursor.fetchmany(rows):
                yield [row[0] for row in found], None if self.identity is None else [row[1] for row in found]

    def take(self, positions: Index) -> Block:
        if self.order != "rowid":
            return super().take(positions)
        wanted = self.check(positions)
        columns, table = ", ".join(map(_quoted, self._columns())), _quoted(self.table)
        with read_only(self.path) as connection:
            rows = connection.execute(f"select rowid from {table} order by rowid")  # noqa: S608
            keys = np.fromiter((key for (key,) in rows), np.int64)
            if len(keys) != self.count:
                raise InputError(f"{self.name} changed while it was read: {self.count} rows, now {len(keys)}")
            query = f"select {columns} from {table} where rowid = ?"  # noqa: S608
            found = [connection.execute(query, (key,)).fetchone() for key in keys[wanted].tolist()]
        names = None if self.identity is None else [row[1] for row in found]
        return self.block(wanted, [row[0] for row in found], names)

    def _columns(self) -> list[str]:
        return [self.vector] if self.identity is None else [self.vector, self.identity]

    def _tables(self, connection: sqlite3.Connection) -> dict[str, list[str]]:
        names = connection.execute(
            "select name from sqlite_master where type = 'table' and name not like 'sqlite\\_%' escape '\\' "
            "and sql not like 'create virtual%' order by name"
        )
        found = {}
        for (name,) in names.fetchall():
            info = connection.execute("select name from pragma_table_info(?)", (name,))
            found[name] = [column for (column,) in info]
        if not found:
            raise InputError(f"{str(self.path)!r} has no tables")
        return found

    def _choose(
        self, connection: sqlite3.Connection, tables: dict[str, list[str]], wanted: str | None, column: str | None
    ) -> str:
        if wanted is not None:
            if wanted not in tables:
                raise UsageError(f"{str(self.path)!r} has no table {wanted!r}, but {', '.join(map(repr, tables))}")
            return wanted
        if column is not None:
            fitting = [name for name, columns in tables.items() if column in columns]
        else:
            fitting = [name for name, columns in tables.items() if guess(columns, VECTOR_NAMES[:-2])]
            fitting = fitting or [n for n, columns in tables.items() if self._likely(connection, n, columns)]
        if len(fitting) == 1 or len(tables) == 1:
            return (fitting or list(tables))[0]
        listed = ", ".join(map(repr, (fitting or list(tables))[:10]))
        raise UsageError(f"{str(self.path)!r} has several tables that might hold embeddings: {listed}; use --table")

    def _likely(self, connection: sqlite3.Connection, table: str, columns: list[str]) -> list[str]:
        """The columns whose first value can be read as an embedding."""
        found = []
        for column in columns:
            name = _quoted(column)
            query = f"select {name} from {_quoted(table)} where {name} is not null limit 1"  # noqa: S608
            (value,) = connection.execute(query).fetchone() or (None,)
            try:
                if isinstance(value, str | bytes) and len(Reader.for_values([value], "")(value)) >= LEAST:
                    found.append(column)
            except (ValueError, InputError):
                continue
        return found


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
