"""A copy of a SQLite store with rows added."""

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from arcinvert.audit.stores.sqlite import SqliteStore, quoted
from arcinvert.errors import UsageError
from arcinvert.mapping.linear_map import Rows
from arcinvert.migration.encoding import encode, like
from arcinvert.migration.sqlite import copied

BY_HAND = "; add the rows by hand"


def add_to_sqlite(store: SqliteStore, rows: Rows, names: Sequence[str], out: Path) -> tuple[str, ...]:
    """Write a copy of the database; other tables, among them indexes of vectors, stay. Returns the empty columns.

    Raises:
        UsageError: the table needs more than an embedding and a name, or its names are in another table.
    """
    table, vector, identity = quoted(store.table), quoted(store.vector), store.identity
    if identity is not None and identity not in store.contents.columns:
        raise UsageError(f"the names of {store.name} are in another table, {identity}{BY_HAND}")
    columns = [vector] if identity is None else [vector, quoted(identity)]
    with copied(store, out) as (source, copy):
        stored = source.execute(f"select {vector} from {table} where length({vector}) > 0")  # noqa: S608
        old = like((value for (value,) in stored), store.size, store.reader)
        insert = f"insert into {table} ({', '.join(columns)}) values ({', '.join('?' * len(columns))})"  # noqa: S608
        values = [encode(old, row, store.reader, whole=True) for row in rows]
        try:
            if identity is None:
                copy.executemany(insert, [(value,) for value in values])
            else:
                copy.executemany(insert, zip(values, names, strict=True))
        except sqlite3.IntegrityError as error:
            raise UsageError(f"{store.name} takes no rows of an embedding and a name alone: {error}{BY_HAND}") from None
        if copy.execute(f"pragma foreign_key_check({table})").fetchone():
            raise UsageError(f"the rows of {store.name} belong to rows of another table{BY_HAND}")
        # A column with a default, or one that counts up, is not empty.
        counts_up = "(pk > 0 and upper(type) = 'INTEGER')"
        query = f"select name from pragma_table_info(?) where dflt_value is null and not {counts_up}"  # noqa: S608
        given = {store.vector, identity}
        return tuple(name for (name,) in copy.execute(query, (store.table,)) if name not in given)
