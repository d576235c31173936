"""A real MariaDB server, started for the test; PhotoPrism's tables and others."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from arcinvert.audit.checks import scan
from arcinvert.audit.stores import open_store
from arcinvert.cli import run
from arcinvert.errors import EnvironmentProblem, InputError, UsageError

pytestmark = pytest.mark.slow
COUNT, SIZE = 5000, 24


@pytest.fixture(scope="module")
def templates() -> np.ndarray:
    rows = np.random.default_rng(2).normal(size=(COUNT, SIZE))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def execute(owner: dict[str, Any], *statements: str, rows: list[Any] | None = None) -> None:
    import pymysql

    with pymysql.connect(**owner, charset="utf8mb4") as connection, connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement) if rows is None else cursor.executemany(statement, rows)
        connection.commit()


@pytest.fixture(scope="module")
def filled(mariadb: dict[str, Any], templates: np.ndarray) -> str:
    """Tables of several shapes in ``faces``, and a user who may only read."""
    execute(
        mariadb,
        "create table blobs (id bigint auto_increment primary key, embedding mediumblob, identity text, face longblob)",
        "create table texts (name varchar(50), embedding longtext, primary key (name))",
        "create table odd (a int, b int, embedding json, primary key (a, b))",
        "create table bare (vector text)",
        "create table `odd ``%s name` (id int primary key, vector text)",
        "create view seen as select embedding, identity from blobs",
        "create user 'reader'@'localhost' identified by 'S3CRET%@'",
        "grant select on faces.* to 'reader'@'localhost'",
    )
    listed = [json.dumps(row.tolist()) for row in templates[:60]]
    blobs = [(row.tobytes(), f"p{n // 2}") for n, row in enumerate(templates)]
    execute(mariadb, "insert into blobs (embedding, identity) values (%s, %s)", rows=blobs)
    execute(mariadb, "insert into texts values (%s, %s)", rows=[(f"n{n:03}", text) for n, text in enumerate(listed)])
    execute(mariadb, "insert into odd values (%s, %s, %s)", rows=[(n // 7, n % 7, t) for n, t in enumerate(listed)])
    execute(mariadb, "insert into bare values (%s)", rows=[(text,) for text in listed])
    execute(mariadb, f"insert into `odd ``%s name` values (1, '{listed[0]}')")
    return f"mysql://reader:S3CRET%25%40@localhost/faces?unix_socket={mariadb['unix_socket']}"


@pytest.mark.parametrize("table", ["blobs", "texts", "odd", "bare", "seen", "odd `%s name"])
def test_every_shape_of_table(filled: str, templates: np.ndarray, table: str) -> None:
    count = {"blobs": COUNT, "seen": COUNT, "odd `%s name": 1}.get(table, 60)
    store = open_store(filled, table=table)
    assert (store.kind, store.count, store.size) == ("mysql", count, SIZE)
    blocks = list(store.blocks(1000))
    assert np.array_equal(np.concatenate([block.templates for block in blocks]), templates[:count])
    assert np.array_equal(np.concatenate([block.positions for block in blocks]), np.arange(count))
    names = [name for block in blocks for name in block.identities or ()]
    named = {"blobs": "p{}", "seen": "p{}", "texts": "n{:03}"}.get(table)
    assert names == ([] if named is None else [named.format(n if table == "texts" else n // 2) for n in range(count)])
    wanted = np.unique([0, count // 2, count - 1])
    assert np.array_equal(store.take(wanted).templates, templates[wanted])
    assert "S3CRET" not in store.name


def test_the_database_cannot_be_written(filled: str) -> None:
    store = open_store(filled.replace("reader:S3CRET%25%40", "root:"), table="blobs")
    with pytest.raises((InputError, EnvironmentProblem), match="READ ONLY"), store._transaction() as connection:
        connection.cursor().execute("delete from blobs")


def test_what_is_beside_is_found(filled: str) -> None:
    codes = {finding.code: finding.text for finding in scan(open_store(filled, table="blobs")).findings}
    assert "'face'" in codes["faces"]
    assert "'identity'" in codes["names"]


def test_wrong_tables_columns_and_passwords(filled: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match=r"several tables that fit: 'bare', 'blobs', .*--table"):
        open_store(filled)
    with pytest.raises(UsageError, match="no table 'nothing'"):
        open_store(filled, table="nothing")
    with pytest.raises(UsageError, match="no column 'nothing'"):
        open_store(filled, table="blobs", identity="nothing")
    with pytest.raises(EnvironmentProblem, match="Access denied"):
        open_store(filled.replace("S3CRET%25%40", "WR0NG"), table="blobs")
    with pytest.raises(UsageError, match="without a database"):
        open_store("mysql://u:S3CRET@localhost")
    with pytest.raises(UsageError, match="no store of kind npy"):
        open_store(filled, kind="npy")


@pytest.mark.usefixtures("as_found")
@pytest.mark.parametrize("address", ["mysql://u:S3CRET@127.0.0.1:1/db", "MariaDB+pymysql://u:S3CRET@127.0.0.1:x/db"])
def test_no_message_shows_the_password(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pymysql")
    assert run(["audit", address]) in (2, 5)
    assert "S3CRET" not in capsys.readouterr().err


@pytest.fixture
def photoprism(mariadb: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A second database of this server."""
    execute(mariadb, "create database photoprism character set utf8mb4")
    yield mariadb | {"database": "photoprism"}
    execute(mariadb, "drop database photoprism")


def test_photoprism_needs_nothing_but_its_address(photoprism: dict[str, Any], templates: np.ndarray) -> None:
    execute(
        photoprism,
        "create table subjects (subj_uid varbinary(42) primary key, subj_type varbinary(8), subj_name varchar(160))",
        """create table markers (marker_uid varbinary(42) primary key, file_uid varbinary(42), marker_type varbinary(8),
        marker_name varchar(160), subj_uid varbinary(42), face_id varbinary(64), embeddings_json mediumblob,
        landmarks_json mediumblob, x float, y float)""",
        "create table faces (id varbinary(64) primary key, subj_uid varbinary(42), embedding_json mediumblob)",
        "insert into subjects values ('js0', 'person', 'Ann <b>'), ('js1', 'person', 'Bé')",
    )
    rows = [
        (f"ms{n:03}", "face", f"js{n % 3}" if n % 3 < 2 else "", json.dumps([row.tolist()]).encode())
        for n, row in enumerate(templates[:30])
    ]
    rows.append(("ms030", "label", "", b""))
    insert = "insert into markers (marker_uid, marker_type, subj_uid, embeddings_json) values (%s, %s, %s, %s)"
    execute(photoprism, insert, rows=rows)
    store = open_store(f"mariadb://root@localhost/photoprism?unix_socket={photoprism['unix_socket']}")
    (block,) = store.blocks()
    assert np.array_equal(block.templates, templates[:30])
    assert block.identities == ["Ann <b>", "Bé", ""] * 10
    assert block.skipped == {"null": 1}
    grouped = open_store(
        f"mariadb://root@localhost/photoprism?unix_socket={photoprism['unix_socket']}", identity="marker_type"
    )
    assert set(next(grouped.blocks()).identities or ()) == {"face"}
