"""Copies of SQLite stores: one whose embeddings are replaced, row by row, and the copying itself."""

import itertools
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np

from arcinvert.audit.stores.sqlite import SqliteStore, quoted, read_only
from arcinvert.audit.stores.vectors import matrix
from arcinvert.checkpoint import atomic_write
from arcinvert.errors import InputError, UsageError
from arcinvert.mapping.linear_map import LinearMap
from arcinvert.migration.arrays import BLOCK, Count
from arcinvert.migration.encoding import encode

PAGES = 4096
"""Pages that are copied at a time."""


def write_sqlite(store: SqliteStore, mapping: LinearMap, out: Path, count: Count) -> None:
    """Write a copy of the database; a row without an embedding keeps its other columns and holds null.

    What the old embeddings occupied is overwritten with zeros. Other tables, among them indexes of vectors, stay.

    Raises:
        UsageError: a view, or a table with triggers, which the conversion would set off.
        InputError: the database does not take the new values.
    """
    table, column = quoted(store.table), quoted(store.vector)
    with copied(store, out) as (source, copy):
        keys = len(store.order.split(", "))
        wanted = f"({store.order}) = ({', '.join('?' * keys)})"
        update = f"update {table} set {column} = ? where {wanted}"  # noqa: S608
        query = f"select {column}, {store.order} from {table} order by {store.order}"  # noqa: S608
        rows = source.execute(query)
        while part := list(itertools.islice(rows, BLOCK)):
            copy.executemany(update, _updates(store, part, mapping, count))


@contextmanager
def copied(store: SqliteStore, out: Path) -> Iterator[tuple[sqlite3.Connection, sqlite3.Connection]]:
    """A connection to the database, and one to its copy, which is at ``out`` once its changes are committed.

    Raises:
        UsageError: a view, or a table with triggers, which a change would set off.
        InputError: the database does not take the new values.
    """
    if store.view:
        raise UsageError(f"expected a table, {store.name} is a view, which takes no embeddings")
    with atomic_write(out) as temporary, read_only(store.path) as source:
        (triggers,) = source.execute(
            "select count(*) from sqlite_master where type = 'trigger' and tbl_name = ? collate nocase", (store.table,)
        ).fetchone()
        if triggers:
            raise UsageError(f"{store.name} has {triggers} triggers, which new embeddings would set off; drop them")
        try:
            with closing(sqlite3.connect(temporary, isolation_level=None)) as copy:
                source.backup(copy, pages=PAGES)
                copy.execute("pragma trusted_schema = off")
                copy.execute("pragma secure_delete = on")
                copy.execute("pragma journal_mode = delete")  # a copy of a database with a log has one too
                copy.execute("pragma journal_mode = off")
                copy.execute("pragma synchronous = off")
                copy.execute("begin")
                yield source, copy
                copy.execute("commit")
        except sqlite3.Error as error:
            raise InputError(f"{store.name} does not take the new embeddings: {error}") from None


def _updates(
    store: SqliteStore, part: list[tuple[object, ...]], mapping: LinearMap, count: Count
) -> Iterator[tuple[object, ...]]:
    values = [row[0] for row in part]
    templates, kept, _ = matrix(values, store.size, store.reader)
    mapped = mapping.apply(templates)
    mapped[~kept] = np.nan
    missing = np.isnan(mapped[:, 0])
    count(len(mapped), int(missing.sum()))
    for (old, *keys), row, gone in zip(part, mapped, missing, strict=True):
        yield None if gone else encode(old, row, store.reader), *keys
