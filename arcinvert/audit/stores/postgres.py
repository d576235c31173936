"""PostgreSQL with pgvector, or with arrays, JSON or bytes: read in transactions that cannot write."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from arcinvert.audit.stores.columns import VECTOR_NAMES, NamesElsewhere, guess, identity_column, named, vector_column
from arcinvert.audit.stores.layouts import placed
from arcinvert.audit.stores.store import Block, Contents, Index, RawStore, need, one_line
from arcinvert.audit.stores.vectors import Reader
from arcinvert.errors import EnvironmentProblem, InputError, UsageError

DIALECTS = ("postgresql", "postgres")
WANTED = "expected a database as postgresql://USER@HOST/DATABASE"
OWN = {"vector": "pgvector", "halfvec": "pghalfvec"}
READABLE = {*OWN, "_float4", "_float8", "_numeric", "json", "jsonb", "text", "varchar", "bytea"}
BATCH = 4096
TIMEOUT = 15
"""Seconds to wait for a server."""
_COLUMNS = """
    select n.nspname, c.relname, a.attname, t.typname, c.relkind = 'v'
    from pg_attribute a join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace
    join pg_type t on t.oid = a.atttypid
    where c.relkind in ('r', 'p', 'm', 'v') and a.attnum > 0 and not a.attisdropped
    and n.nspname not in ('pg_catalog', 'information_schema') and n.nspname not like 'pg_toast%'
    and has_table_privilege(c.oid, 'select')
    order by 1, 2, a.attnum
"""
_KEYS = """
    select a.attname from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attnum = any(i.indkey)
    join pg_class c on c.oid = i.indrelid join pg_namespace n on n.oid = c.relnamespace
    where i.indisprimary and n.nspname = %s and c.relname = %s
"""
Tables = dict[tuple[str, str], dict[str, str]]


def is_address(source: str) -> bool:
    """Whether a source is an address or connection string, of any database, and no path: it may hold a password."""
    return re.match(r"[a-z][a-z0-9+.-]+://|.*\bpassword\s*=", source, re.IGNORECASE | re.DOTALL) is not None


def _parse(url: str) -> tuple[str, str]:
    """The address as libpq reads it (SQLAlchemy's ``postgresql+psycopg://`` too), and without user and password.

    Raises:
        UsageError: it is none; the message quotes nothing that may be the password.
    """
    scheme, colon, rest = url.partition("://")
    scheme = scheme.lower().partition("+")[0]
    if not colon or scheme not in DIALECTS:
        raise UsageError(f"{WANTED}, got another kind of address")
    url = f"{scheme}://{rest}"
    try:
        parts = urlsplit(url)
        place = f"{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}"
    except ValueError:
        raise UsageError(f"{WANTED}, got one whose host or port cannot be read; is its password %-encoded?") from None
    if "@" in parts.path + parts.query + parts.fragment:
        raise UsageError(f"{WANTED}, got an @ behind the host; is its password %-encoded?")
    return url, f"postgresql://{place}{parts.path}"


class PostgresStore(RawStore):
    """A table of a PostgreSQL database.

    Positions follow the order of the rows on disk. If the number of rows changes between two passes, the store is
    refused. Passwords may be in the URL, ``PGPASSWORD`` or ``.pgpass``.
    """

    kind = "postgres"

    def __init__(
        self,
        url: str,
        table: str | None = None,
        column: str | None = None,
        identity: str | None = None,
        numbers: str | None = None,
        identity_table: str | None = None,
    ) -> None:
        self.url, where = _parse(url)
        self.psycopg = need("psycopg", "stores")
        self.numbers = numbers
        with self._transaction() as connection:
            tables: Tables = {}
            views: Tables = {}
            for schema, name, attribute, kind, view in connection.execute(_COLUMNS).fetchall():
                (views if view else tables).setdefault((schema, name), {})[attribute] = kind
            columns_of = {name: kinds for (_, name), kinds in tables.items()}
            table, column, identity_table = placed(columns_of, where, table, column, identity, identity_table)
            self.table = _choose(tables, views, table, column, where)
            self.view = self.table in views
            self.name = f"{where}, {'view' if self.view else 'table'} {'.'.join(self.table)!r}"
            kinds = (tables | views)[self.table]
            likely = [name for name, kind in kinds.items() if kind in OWN]
            self.vector = vector_column(list(kinds), column, self.name, likely=likely)
            if kinds[self.vector] not in READABLE:
                raise InputError(f"column {self.vector!r} of {self.name} is {kinds[self.vector]}, which is not read")
            sql = self.psycopg.sql
            self.selected = [sql.Identifier(self.vector)]
            if identity_table is not None:
                names = NamesElsewhere.parse(identity_table)
                named(list(kinds), names.key, self.name)
                self.identity: str | None = self._names(connection, tables | views, names, where)
            else:
                self.identity = identity_column(list(kinds), identity, self.name, vector=self.vector)
                self.selected += [] if self.identity is None else [sql.Identifier(self.identity)]
            query = self._sql("select * from {}", table=True) + self._sql(" limit 1")
            first = connection.execute(query).fetchone() or [None] * len(kinds)
            count = connection.execute(self._sql("select count(*) from {}", table=True)).fetchone()[0]
        own = OWN.get(kinds[self.vector])
        columns = dict(zip(kinds, first, strict=False))
        del columns[self.vector]
        self.contents = Contents(columns, self.identity)
        self.settle(count, Reader(own) if own else None)

    def raw(self, rows: int) -> Iterator[tuple[Sequence[object], Sequence[object] | None]]:
        people = self.identity is not None
        query = self._sql("select ") + self._columns() + self._sql(" from {}", table=True)
        with self._transaction() as connection, connection.cursor(name="arcinvert", binary=True) as cursor:
            cursor.execute(query)
            while found := cursor.fetchmany(min(rows, BATCH)):
                values = [row[0] for row in found]
                yield values, [row[1] for row in found] if people else None

    def take(self, positions: Index) -> Block:
        if self.view:  # which has no order of its own
            return super().take(positions)
        wanted = self.check(positions)
        people = self.identity is not None
        inner = self._sql("select row_number() over () - 1 as arcinvert_row, ") + self._columns()
        inner += self._sql(" from {}", table=True)
        query = self._sql("select * from (") + inner
        query += self._sql(") as numbered where arcinvert_row = any(%s) order by arcinvert_row")
        with self._transaction() as connection, connection.cursor(binary=True) as cursor:
            found = cursor.execute(query, (wanted.tolist(),)).fetchall()
        if len(found) != len(wanted):
            raise InputError(f"{self.name} changed while it was read")
        return self.block(wanted, [row[1] for row in found], [row[2] for row in found] if people else None)

    @contextmanager
    def _transaction(self) -> Iterator[Any]:
        """One read-only snapshot, with rows in the order of the disk."""
        psycopg = self.psycopg
        try:
            with psycopg.connect(self.url, connect_timeout=TIMEOUT) as connection:
                connection.read_only = True
                connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
                connection.execute("set local synchronize_seqscans = off")
                connection.execute("set local max_parallel_workers_per_gather = 0")
                yield connection
        except psycopg.OperationalError as error:
            raise EnvironmentProblem(f"the database does not answer: {self._line(error)}") from None
        except psycopg.Error as error:
            raise InputError(f"the database refuses: {self._line(error)}") from None

    def _line(self, error: BaseException) -> str:
        """The message of an error without the password, which libpq quotes where it cannot parse an address."""
        parts = urlsplit(self.url)
        given = [parts.password or "", *(value for name, value in parse_qsl(parts.query) if name == "password")]
        line = one_line(error)
        for secret in {form for text in given if text for form in (text, unquote(text))}:
            line = line.replace(secret, "***")
        return line

    def _columns(self) -> Any:
        return self.psycopg.sql.SQL(", ").join(self.selected)

    def _names(self, connection: Any, tables: Tables, names: NamesElsewhere, where: str) -> str:
        """Select the names of another table; returns what to call them."""
        sql, other = self.psycopg.sql, _choose(tables, {}, names.table, None, where)
        keys = [key for (key,) in connection.execute(_KEYS, other).fetchall()]
        key = names.joined_by(list(tables[other]), keys, where)
        query = sql.SQL("(select other.{} from {} as other where other.{} = {} limit 1)")
        place = sql.Identifier(*self.table, names.key)
        self.selected.append(
            query.format(sql.Identifier(names.name), sql.Identifier(*other), sql.Identifier(key), place)
        )
        return f"{names.table}.{names.name}"

    def _sql(self, text: str, *, table: bool = False) -> Any:
        sql = self.psycopg.sql
        return sql.SQL(text).format(sql.Identifier(*self.table)) if table else sql.SQL(text)


def _choose(tables: Tables, views: Tables, wanted: str | None, column: str | None, where: str) -> tuple[str, str]:
    if wanted is not None:
        fitting = [key for key in tables | views if wanted in (key[1], ".".join(key))]
    elif column is not None:
        fitting = [key for key, kinds in tables.items() if column in kinds]
    else:
        fitting = [key for key, kinds in tables.items() if set(kinds.values()) & set(OWN)]
        fitting = fitting or [
            key for key, kinds in tables.items() if kinds.get(guess(kinds, VECTOR_NAMES) or "") in READABLE
        ]
    if len(fitting) == 1:
        return fitting[0]
    listed = ", ".join(repr(".".join(key)) for key in list(fitting or tables)[:10]) or "no table that may be read"
    if views:
        listed += (
            f" (and views, read if --table names one: {', '.join(repr('.'.join(key)) for key in list(views)[:10])})"
        )
    if wanted is not None or fitting:
        said = f"no table {wanted!r}, but" if wanted is not None and not fitting else "several tables that fit:"
        raise UsageError(f"{where} has {said} {listed}; use --table")
    raise InputError(f"no table of {where} holds embeddings; it has {listed}")
