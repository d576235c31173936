"""SQLite files, opened so that nothing is written and no code in them runs."""

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

import numpy as np

from arcinvert.audit.stores.columns import VECTOR_NAMES, NamesElsewhere, guess, identity_column, named, vector_column
from arcinvert.audit.stores.layouts import placed
from arcinvert.audit.stores.store import Block, Contents, Index, RawStore
from arcinvert.audit.stores.vectors import Reader
from arcinvert.errors import InputError, UsageError

LEAST = 16
"""A column whose values hold at least so many numbers may hold embeddings, whatever its name."""
TICK, TICKS = 100_000, 3000
"""Instructions between two looks at the clockwork of a view, and how many ticks may pass before its next rows."""
VIEW_VALUE = 1 << 24
"""Largest value that a view may make, in bytes."""


@contextmanager
def read_only(path: Path) -> Iterator[sqlite3.Connection]:
    """A read-only connection.

    Raises:
        InputError: not a database, or a damaged one, or one that another process begins to write.
    """
    # ``immutable`` creates no files, but ignores a log that a writer has not merged yet. Such a log is read by an index
    # in memory where no writer has it open: otherwise SQLite would leave its index (-shm) beside the store.
    log, index = (path.with_name(path.name + ending) for ending in ("-wal", "-shm"))
    logged = log.is_file() and log.stat().st_size > 0
    alone = logged and not index.exists()
    how = f"&vfs={'win32' if os.name == 'nt' else 'unix'}-none" if alone else "" if logged else "&immutable=1"
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path.resolve()))}?mode=ro{how}", uri=True)) as connection:
            if alone:
                connection.execute("pragma locking_mode = exclusive")
            connection.execute("pragma query_only = on")
            connection.execute("pragma trusted_schema = off")
            # Text that is not UTF-8 is text all the same.
            connection.text_factory = lambda raw: raw.decode(errors="replace")
            yield connection
            if alone and index.exists():
                raise InputError(f"{str(path)!r} is being written by another process; try again")
    except (sqlite3.Error, OverflowError, UnicodeError) as error:  # names of columns may be no UTF-8
        raise InputError(f"{str(path)!r} is no SQLite database that can be read: {error}") from None


class SqliteStore(RawStore):
    """A table of a SQLite file: vectors are blobs or text, rows in the order of the rowid, or of the primary key."""

    kind = "sqlite"

    def __init__(
        self,
        path: Path,
        table: str | None = None,
        column: str | None = None,
        identity: str | None = None,
        numbers: str | None = None,
        identity_table: str | None = None,
    ) -> None:
        self.path, self.numbers = path, numbers
        self.view, self.ticks = False, 0
        with self._connected() as connection:
            tables, views = self._tables(connection), self._views(connection)
            if table is not None and table not in tables and table in views:
                self.view, tables[table] = True, self._info(connection, table)
        table, column, identity_table = placed(tables, repr(str(path)), table, column, identity, identity_table)
        with self._connected() as connection:
            self.table = self._choose(connection, tables, views, table, column)
            self.name = f"{str(path)!r}, {'view' if self.view else 'table'} {self.table!r}"
            columns = tables[self.table]
            likely = [] if column else self._likely(connection, self.table, columns)
            self.vector = vector_column(columns, column, self.name, likely=likely)
            self.selected = [quoted(self.vector)]
            if identity_table is not None:
                self.identity: str | None = self._names(connection, tables, NamesElsewhere.parse(identity_table))
            else:
                self.identity = identity_column(columns, identity, self.name, vector=self.vector)
                self.selected += [] if self.identity is None else [quoted(self.identity)]
            row = connection.execute(f"select * from {quoted(self.table)} limit 1").fetchone()  # noqa: S608
            (count,) = connection.execute(f"select count(*) from {quoted(self.table)}").fetchone()  # noqa: S608
            (keys,) = connection.execute(
                "select wr from pragma_table_list where schema = 'main' and name = ?", (self.table,)
            ).fetchone()
            keyed = _keys(connection, self.table)
        self.order = "" if self.view else ", ".join(map(quoted, keyed)) if keys else "rowid"
        beside = {name: value for name, value in zip(columns, row or (), strict=False) if name != self.vector}
        self.contents = Contents(beside, self.identity, tables=tuple(name for name in tables if name != self.table))
        self.settle(count)

    def raw(self, rows: int) -> Iterator[tuple[Sequence[object], Sequence[object] | None]]:
        query = f"select {', '.join(self.selected)} from {quoted(self.table)}"  # noqa: S608
        with self._connected() as connection:
            cursor = connection.execute(query + (f" order by {self.order}" if self.order else ""))
            while found := cursor.fetchmany(rows):
                self.ticks = 0
                yield [row[0] for row in found], None if self.identity is None else [row[1] for row in found]

    def take(self, positions: Index) -> Block:
        if self.order != "rowid":
            return super().take(positions)
        wanted = self.check(positions)
        columns, table = ", ".join(self.selected), quoted(self.table)
        with read_only(self.path) as connection:
            rows = connection.execute(f"select rowid from {table} order by rowid")  # noqa: S608
            keys = np.fromiter((key for (key,) in rows), np.int64)
            if len(keys) != self.count:
                raise InputError(f"{self.name} changed while it was read: {self.count} rows, now {len(keys)}")
            query = f"select {columns} from {table} where rowid = ?"  # noqa: S608
            found = [connection.execute(query, (key,)).fetchone() for key in keys[wanted].tolist()]
        if None in found:
            raise InputError(f"{self.name} is damaged: a row that is listed is not there")
        names = None if self.identity is None else [row[1] for row in found]
        return self.block(wanted, [row[0] for row in found], names)

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        """A read-only connection; that to a view is bounded, because a view is a program."""
        with read_only(self.path) as connection:
            if self.view:
                connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, VIEW_VALUE)
                connection.set_progress_handler(self._tick, TICK)
            yield connection

    def _tick(self) -> bool:
        self.ticks += 1
        return self.ticks > TICKS

    def _names(self, connection: sqlite3.Connection, tables: dict[str, list[str]], names: NamesElsewhere) -> str:
        """Select the names of another table; returns what to call them."""
        where = repr(str(self.path))
        if names.table not in tables:
            raise UsageError(f"{where} has no table {names.table!r}, but {', '.join(map(repr, list(tables)[:10]))}")
        named(tables[self.table], names.key, self.name)
        key = names.joined_by(tables[names.table], _keys(connection, names.table), where)
        self.selected.append(
            f"(select other.{quoted(names.name)} from {quoted(names.table)} as other "  # noqa: S608
            f"where other.{quoted(key)} = {quoted(self.table)}.{quoted(names.key)} limit 1)"
        )
        return f"{names.table}.{names.name}"

    def _tables(self, connection: sqlite3.Connection) -> dict[str, list[str]]:
        names = connection.execute(
            "select name from sqlite_master where type = 'table' and name not like 'sqlite\\_%' escape '\\' "
            "and sql not like 'create virtual%' order by name"
        )
        found = {}
        for (name,) in names.fetchall():
            found[name] = self._info(connection, name)
        return found

    def _views(self, connection: sqlite3.Connection) -> list[str]:
        return [name for (name,) in connection.execute("select name from sqlite_master where type = 'view'").fetchall()]

    def _info(self, connection: sqlite3.Connection, table: str) -> list[str]:
        return [column for (column,) in connection.execute("select name from pragma_table_info(?)", (table,))]

    def _choose(
        self,
        connection: sqlite3.Connection,
        tables: dict[str, list[str]],
        views: list[str],
        wanted: str | None,
        column: str | None,
    ) -> str:
        hint = f"; the views {', '.join(map(repr, views[:10]))} are read if --table names one" if views else ""
        if not tables:
            raise InputError(f"{str(self.path)!r} has no tables{hint}")
        if wanted is not None:
            if wanted not in tables:
                raise UsageError(
                    f"{str(self.path)!r} has no table {wanted!r}, but {', '.join(map(repr, tables))}{hint}"
                )
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
            name = quoted(column)
            query = f"select {name} from {quoted(table)} where {name} is not null limit 1"  # noqa: S608
            (value,) = connection.execute(query).fetchone() or (None,)
            try:
                if isinstance(value, str | bytes) and len(Reader.for_values([value], "")(value)) >= LEAST:
                    found.append(column)
            except (ValueError, InputError):
                continue
        return found


def _keys(connection: sqlite3.Connection, table: str) -> list[str]:
    """The columns of the primary key."""
    return [name for name, key in connection.execute("select name, pk from pragma_table_info(?)", (table,)) if key]


def quoted(name: str) -> str:
    """A name as SQL has it."""
    return '"' + name.replace('"', '""') + '"'
