"""MySQL and MariaDB: read in one transaction for each pass that cannot write."""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from arcinvert.audit.stores.columns import VECTOR_NAMES, NamesElsewhere, guess, identity_column, named, vector_column
from arcinvert.audit.stores.layouts import placed
from arcinvert.audit.stores.store import Contents, RawStore, need, one_line
from arcinvert.errors import EnvironmentProblem, InputError, UsageError

DIALECTS = ("mysql", "mariadb")
WANTED = "expected a database as mysql://USER@HOST/DATABASE"
READABLE = {
    "blob", "tinyblob", "mediumblob", "longblob", "binary", "varbinary", "vector",
    "text", "tinytext", "mediumtext", "longtext", "json", "char", "varchar",
}  # fmt: skip
BATCH = 4096
TIMEOUT = 15
"""Seconds to wait for a server."""
QUERY = {"unix_socket", "ssl_ca"}
"""Keys behind the ``?`` of an address."""
_COLUMNS = """
    select c.table_name, c.column_name, lower(c.data_type), t.table_type = 'VIEW'
    from information_schema.columns c
    join information_schema.tables t on t.table_schema = c.table_schema and t.table_name = c.table_name
    where c.table_schema = database() order by c.table_name, c.ordinal_position
"""
_KEYS = """
    select column_name from information_schema.key_column_usage
    where table_schema = database() and table_name = %s and constraint_name = 'PRIMARY' order by ordinal_position
"""
Tables = dict[str, dict[str, str]]


def is_mysql(source: str) -> bool:
    """Whether a source is the address of a MySQL or MariaDB database."""
    return re.match(r"(mysql|mariadb)(\+[a-z0-9]+)?://", source, re.IGNORECASE) is not None


def _parse(url: str) -> tuple[dict[str, Any], str]:
    """The arguments of a connection, and the address without user and password.

    Raises:
        UsageError: it is none; the message quotes nothing that may be the password.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "localhost", parts.port or 3306
    except ValueError:
        raise UsageError(f"{WANTED}, got one whose host or port cannot be read; is its password %-encoded?") from None
    if "@" in parts.path + parts.query + parts.fragment:
        raise UsageError(f"{WANTED}, got an @ behind the host; is its password %-encoded?")
    asked = {key: values[-1] for key, values in parse_qs(parts.query).items()}
    database = unquote(parts.path.strip("/"))
    if not database or set(asked) - QUERY:
        raise UsageError(
            f"{WANTED}, perhaps with ?unix_socket=FILE or ?ssl_ca=FILE, got one without a database or with others"
        )
    user = unquote(parts.username) if parts.username else None
    password = unquote(parts.password) if parts.password else os.environ.get("MYSQL_PWD", "")
    place = f"{host}{f':{parts.port}' if parts.port else ''}"
    return {
        "host": host, "port": port, "user": user, "password": password, "database": database, **asked,
    }, f"{parts.scheme.lower().partition('+')[0]}://{place}/{database}"  # fmt: skip


class MysqlStore(RawStore):
    """A table of a MySQL or MariaDB database, in the order of its primary key.

    If the number of rows changes between two passes, the store is refused. A password may be in the address or in
    ``MYSQL_PWD``.
    """

    kind = "mysql"

    def __init__(
        self,
        url: str,
        table: str | None = None,
        column: str | None = None,
        identity: str | None = None,
        numbers: str | None = None,
        identity_table: str | None = None,
    ) -> None:
        self.arguments, where = _parse(url)
        self.pymysql = need("pymysql", "stores")
        self.numbers = numbers
        with self._transaction() as connection:
            tables: Tables = {}
            views: Tables = {}
            for name, attribute, kind, view in _rows(connection, _COLUMNS):
                (views if view else tables).setdefault(name, {})[attribute] = _text(kind)
            table, column, identity_table = placed(tables, where, table, column, identity, identity_table)
            self.table = _choose(tables, views, table, column, where)
            self.name = f"{where}, {'view' if self.table in views else 'table'} {self.table!r}"
            kinds = (tables | views)[self.table]
            likely = [name for name, kind in kinds.items() if kind == "vector"]
            self.vector = vector_column(list(kinds), column, self.name, likely=likely)
            if kinds[self.vector] not in READABLE:
                raise InputError(f"column {self.vector!r} of {self.name} is {kinds[self.vector]}, which is not read")
            self.selected = [_quoted(self.vector)]
            if identity_table is not None:
                names = NamesElsewhere.parse(identity_table)
                named(list(kinds), names.key, self.name)
                self.identity: str | None = self._names(connection, tables | views, names, where)
            else:
                self.identity = identity_column(list(kinds), identity, self.name, vector=self.vector)
                self.selected += [] if self.identity is None else [_quoted(self.identity)]
            keys = [] if self.table in views else _keys(connection, self.table)
            self.key = keys[0] if len(keys) == 1 else None
            self.order = ", ".join(map(_quoted, keys))
            place = _quoted(self.table)
            first = next(iter(_rows(connection, f"select * from {place} limit 1")), [None] * len(kinds))  # noqa: S608
            ((count,),) = _rows(connection, f"select count(*) from {place}")  # noqa: S608
        columns = dict(zip(kinds, first, strict=False))
        del columns[self.vector]
        others = tuple(name for name in tables if name != self.table)
        self.contents = Contents(columns, self.identity, tables=others)
        self.settle(count)

    def raw(self, rows: int) -> Iterator[tuple[Sequence[object], Sequence[object] | None]]:
        size, people = min(rows, BATCH), self.identity is not None
        columns, place = ", ".join(self.selected), _quoted(self.table)
        last: tuple[object, ...] = ()
        position = 0
        with self._transaction() as connection:
            while True:
                # Pages instead of an unbuffered result, which a reader that stops early would have to read to its end.
                if self.key is not None:
                    key = _quoted(self.key)
                    after = f"where {key} > %s" if last else ""
                    query = f"select {columns}, {key} from {place} {after} order by {key} limit {size}"  # noqa: S608
                else:
                    order = f"order by {self.order}" if self.order else ""
                    query = f"select {columns} from {place} {order} limit {size} offset {position}"  # noqa: S608
                found = _rows(connection, query, last)
                if not found:
                    return
                position += len(found)
                last = (found[-1][-1],) if self.key is not None else ()
                yield [row[0] or None for row in found], [row[1] for row in found] if people else None

    @contextmanager
    def _transaction(self) -> Iterator[Any]:
        """One read-only snapshot."""
        pymysql = self.pymysql
        try:
            connection = pymysql.connect(
                **self.arguments, connect_timeout=TIMEOUT, charset="utf8mb4", local_infile=False, autocommit=False
            )
            with closing(connection):
                _rows(connection, "set session transaction isolation level repeatable read")
                _rows(connection, "start transaction with consistent snapshot, read only")
                yield connection
        except pymysql.OperationalError as error:
            raise EnvironmentProblem(f"the database does not answer: {self._line(error)}") from None
        except pymysql.MySQLError as error:
            raise InputError(f"the database refuses: {self._line(error)}") from None
        except RuntimeError as error:  # a kind of password that needs another package
            raise EnvironmentProblem(f"the database cannot be asked: {self._line(error)}") from None

    def _line(self, error: BaseException) -> str:
        """The message of an error, without the password."""
        line, password = one_line(error), self.arguments["password"]
        return line.replace(password, "***") if password else line

    def _names(self, connection: Any, tables: Tables, names: NamesElsewhere, where: str) -> str:
        """Select the names of another table; returns what to call them."""
        if names.table not in tables:
            raise UsageError(f"{where} has no table {names.table!r}, but {', '.join(map(repr, list(tables)[:10]))}")
        key = names.joined_by(list(tables[names.table]), _keys(connection, names.table), where)
        self.selected.append(
            f"(select other.{_quoted(names.name)} from {_quoted(names.table)} as other "  # noqa: S608
            f"where other.{_quoted(key)} = {_quoted(self.table)}.{_quoted(names.key)} limit 1)"
        )
        return f"{names.table}.{names.name}"


def _choose(tables: Tables, views: Tables, wanted: str | None, column: str | None, where: str) -> str:
    if wanted is not None:
        fitting = [name for name in tables | views if name == wanted]
    elif column is not None:
        fitting = [name for name, kinds in tables.items() if column in kinds]
    else:
        fitting = [name for name, kinds in tables.items() if "vector" in kinds.values()]
        fitting = fitting or [
            name for name, kinds in tables.items() if kinds.get(guess(kinds, VECTOR_NAMES) or "") in READABLE
        ]
    if len(fitting) == 1:
        return fitting[0]
    listed = ", ".join(map(repr, list(fitting or tables)[:10])) or "no table that may be read"
    if views:
        listed += f" (and views, read if --table names one: {', '.join(map(repr, list(views)[:10]))})"
    if wanted is not None or fitting:
        said = f"no table {wanted!r}, but" if wanted is not None and not fitting else "several tables that fit:"
        raise UsageError(f"{where} has {said} {listed}; use --table")
    raise InputError(f"no table of {where} holds embeddings; it has {listed}")


def _rows(connection: Any, query: str, values: Sequence[object] = ()) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(query, tuple(values))
        return list(cursor.fetchall())


def _keys(connection: Any, table: str) -> list[str]:
    """The columns of the primary key."""
    return [_text(name) for (name,) in _rows(connection, _KEYS, (table,))]


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``").replace("%", "%%") + "`"
