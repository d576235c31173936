"""A real PostgreSQL server with pgvector, started for the test."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from arcinvert.audit.checks import scan
from arcinvert.audit.stores import open_store
from arcinvert.errors import EnvironmentProblem, InputError, UsageError

COUNT, SIZE = 5000, 24


@pytest.fixture(scope="module")
def templates() -> np.ndarray:
    rows = np.random.default_rng(2).normal(size=(COUNT, SIZE))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def run(server: str, *statements: str) -> list[Any]:
    import psycopg

    with psycopg.connect(server, autocommit=True) as connection:
        for statement in statements:
            cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


@pytest.fixture(scope="module")
def filled(postgres: str, templates: np.ndarray) -> str:
    """A table of each type, and one beside them that holds none."""
    import psycopg

    server = postgres

    columns = {
        "faces": f"embedding vector({SIZE})",
        "halves": f"embedding halfvec({SIZE})",
        "lists": "embedding real[]",
        "doubles": "embedding double precision[]",
        "json": "embedding jsonb",
        "texts": "embedding text",
        "blobs": "embedding bytea",
    }
    run(server, "create extension if not exists vector", "create schema other")
    with psycopg.connect(server, autocommit=True) as connection:
        for name, column in columns.items():
            connection.execute(f"create table {name} (id serial primary key, {column}, identity text, face bytea)")
            with connection.cursor().copy(f"copy {name} (embedding, identity) from stdin") as copy:
                for number, row in enumerate(templates if name == "faces" else templates[:50]):
                    text = "[" + ",".join(map(str, row.tolist())) + "]"
                    text = text.replace("[", "{").replace("]", "}") if name in ("lists", "doubles") else text
                    text = "\\x" + row.tobytes().hex() if name == "blobs" else text
                    copy.write_row((text, f"p{number // 2}"))
        connection.execute("update faces set face = '\\xffd8ffe000' where id = 1")
        connection.execute("create table people (id int, note text)")
        connection.execute(f'create table other."odd ""name" (vector vector({SIZE}))')
        connection.execute(f"""insert into other."odd ""name" values ('{templates[0].tolist()}')""")
    return server


@pytest.mark.parametrize(
    ("table", "tolerance"),
    [("faces", 0), ("halves", 1e-3), ("lists", 0), ("doubles", 0), ("json", 0), ("texts", 0), ("blobs", 0)],
)
def test_every_type_of_column(filled: str, templates: np.ndarray, table: str, tolerance: float) -> None:
    store = open_store(filled, table=table)
    count = COUNT if table == "faces" else 50
    assert (store.kind, store.count, store.size) == ("postgres", count, SIZE)
    blocks = list(store.blocks())
    read = np.concatenate([block.templates for block in blocks])
    order = np.argsort([int(n) for n in np.concatenate([b.positions for b in blocks])])
    names = [name for block in blocks for name in block.identities or ()]
    if table == "faces":  # the row that was changed has moved to the end, which is where it lies on the disk
        assert np.array_equal(read, np.concatenate([templates[1:], templates[:1]]))
        assert names[-1] == "p0"
    else:
        assert np.abs(read[order] - templates[:count]).max() <= tolerance
        assert names == [f"p{n // 2}" for n in range(count)]
    chosen = np.array([0, 7, count - 1])
    taken = store.take(chosen)
    assert np.array_equal(taken.templates, read[chosen])
    assert taken.identities == [names[n] for n in chosen]


def test_what_lies_beside_is_found(filled: str) -> None:
    codes = {finding.code: finding.text for finding in scan(open_store(filled, table="faces")).findings}
    assert "'face'" in codes["faces"]
    assert "'identity'" in codes["names"]


def test_tables_by_schema_and_name(filled: str, templates: np.ndarray) -> None:
    with pytest.raises(UsageError, match=r"several tables that fit: .*'public\.faces'.*--table"):
        open_store(filled)
    store = open_store(filled, table='other.odd "name')
    assert np.array_equal(store.take(np.array([0])).templates, templates[:1])
    with pytest.raises(UsageError, match="no table 'nothing', but"):
        open_store(filled, table="nothing")
    with pytest.raises(UsageError, match="no column 'nothing'"):
        open_store(filled, table="faces", column="nothing")
    with pytest.raises(InputError, match=r"'id' of .* is int4, which is not read"):
        open_store(filled, table="faces", column="id")
    with pytest.raises(InputError, match=r"no column of .*people.*choose one with --column"):
        open_store(filled, table="people")


def test_nothing_can_be_written_and_a_change_is_noticed(filled: str, templates: np.ndarray) -> None:
    import psycopg

    before = run(filled, "select count(*), sum(id), max(xmin::text::bigint) from lists")
    store = open_store(filled, table="lists")
    list(store.blocks())
    assert run(filled, "select count(*), sum(id), max(xmin::text::bigint) from lists") == before
    with pytest.raises(InputError, match="read-only transaction"), store._transaction() as connection:
        connection.execute("delete from lists")
    with store._transaction() as connection, pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        connection.execute("create table written (a int)")
    run(filled, "delete from lists where id = 3")
    with pytest.raises(InputError, match="changed while it was read: 50 rows, now 49"):
        list(store.blocks())
    with pytest.raises(InputError, match="changed while it was read"):
        store.take(np.array([0, 49]))


def test_an_address_that_answers_nothing_is_one_line_without_its_password(filled: str, tmp_path: Path) -> None:
    for address in (f"postgresql://me:secret@/x?host={tmp_path}", "postgresql://me:secret@127.0.0.1:1/x"):
        with pytest.raises(EnvironmentProblem, match="does not answer") as caught:
            open_store(address)
        assert "secret" not in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="port cannot be read"):
        open_store("postgresql://me@[::1/x")
    name = open_store(filled.replace("postgres:@", "postgres:secret@"), table="json").name
    assert "secret" not in name
    assert "'public.json'" in name


def test_a_view_and_names_of_another_table(filled: str, templates: np.ndarray) -> None:
    run(
        filled, "create schema apart", "create table apart.persons (id serial primary key, name text)",
        "insert into apart.persons (name) values ('Ada'), ('Ben')", "create table apart.vectors (v real[], who int)",
        f"insert into apart.vectors values ('{{{','.join(map(str, templates[0]))}}}', 2), "
        f"('{{{','.join(map(str, templates[1]))}}}', null)",
        "create view apart.joined as "
        "select v.v as embedding, p.name from apart.vectors v join apart.persons p on p.id = v.who",
    )  # fmt: skip
    store = open_store(filled, table="vectors", column="v", identity_table="apart.persons.name=who")
    assert store.take(np.arange(2)).identities == ["Ben", ""]
    assert np.array_equal(np.concatenate([block.templates for block in store.blocks()]), templates[:2])
    view = open_store(filled, table="apart.joined")
    assert np.array_equal(view.take(np.array([0])).templates, templates[:1])
    assert view.take(np.array([0])).identities == ["Ben"]
    with pytest.raises(UsageError, match=r"views, read if --table names one: 'apart.joined'"):
        open_store(filled)


def test_a_table_without_rows(filled: str) -> None:
    run(filled, "create table nobody (embedding vector(4))")
    with pytest.raises(InputError, match="no rows"):
        open_store(filled, table="nobody")
