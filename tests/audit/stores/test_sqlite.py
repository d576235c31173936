import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from digests import digests
from writing import write_store

from arcinvert.audit.checks import scan
from arcinvert.audit.checks.contents import contents_findings
from arcinvert.audit.stores import open_store
from arcinvert.audit.stores.sqlite import read_only
from arcinvert.errors import InputError, UsageError

ROWS = np.random.default_rng(0).normal(size=(80, 64)).astype(np.float32)


def write(path: Path, *statements: str, rows: list | None = None, into: str = "insert into t (v) values (?)") -> str:
    connection = sqlite3.connect(path)
    for statement in statements:
        connection.execute(statement)
    if rows:
        connection.executemany(into, [(row,) for row in rows])
    connection.commit()
    connection.close()
    return str(path)


@pytest.mark.parametrize("kind", ["<f4", "<f8", "<f2", "text"])
def test_blobs_and_text_under_any_name(kind: str, tmp_path: Path) -> None:
    values = [str(row.tolist()) if kind == "text" else row.astype(kind).tobytes() for row in ROWS]
    path = write(tmp_path / "a.db", "create table t (id integer primary key, v, z)", rows=values)
    store = open_store(path)
    read = np.concatenate([block.templates for block in store.blocks(9)])
    assert np.abs(read - ROWS).max() <= (2e-3 if kind == "<f2" else 0)


def test_tables_are_chosen_or_asked_for(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.db", "create table users (id int, email text)",
        "create table odd_faces (embedding blob, name text)", "create table t (v blob)", rows=[ROWS[0].tobytes()],
    )  # fmt: skip
    with pytest.raises(InputError, match="no rows"):
        open_store(path)
    store = open_store(path, table="t")
    assert len(store.contents.tables) == 2
    assert open_store(path, column="v").table == "t"
    with pytest.raises(UsageError, match="no table 'x', but 'odd_faces'"):
        open_store(path, table="x")
    with pytest.raises(InputError, match="choose one with --column"):
        open_store(path, table="users")
    write(tmp_path / "a.db", "create table more (embedding blob)")
    with pytest.raises(UsageError, match="'more', 'odd_faces'; use --table"):
        open_store(path)


def test_names_of_columns_and_tables_are_quoted(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a b?#%.db", 'create table "a""; drop table t; --" ("x y" blob, "wh""o" text)',
        rows=[ROWS[0].tobytes()], into='insert into "a""; drop table t; --" ("x y") values (?)',
    )  # fmt: skip
    store = open_store(path, column="x y", identity='wh"o')
    assert np.array_equal(store.take(np.array([0])).templates, ROWS[:1])


def test_order_is_that_of_the_key(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    connection = sqlite3.connect(path)
    connection.execute("create table t (k text primary key, embedding blob) without rowid")
    connection.executemany("insert into t values (?, ?)", [(f"{n:03}", ROWS[n].tobytes()) for n in range(79, -1, -1)])
    connection.commit()
    connection.close()
    assert np.array_equal(open_store(str(path)).take(np.arange(80)).templates, ROWS)


def test_rows_may_be_missing_between(tmp_path: Path) -> None:
    path = write(tmp_path / "a.db", "create table t (v)", rows=[row.tobytes() for row in ROWS])
    write(tmp_path / "a.db", "delete from t where rowid in (1, 5, 6)")
    left = np.delete(np.arange(80), [0, 4, 5])
    store = open_store(path)
    assert np.array_equal(store.take(np.array([0, 3, 76])).templates, ROWS[left[[0, 3, 76]]])
    write(tmp_path / "a.db", "delete from t where rowid = 9")
    for read in (lambda: store.take(np.array([0])), lambda: list(store.blocks())):
        with pytest.raises(InputError, match="77 rows, now 76"):
            read()


def test_a_deepface_table_with_the_crop_beside(tmp_path: Path) -> None:
    path = write(tmp_path / "a.db", "create table embeddings (id int, img_name text, face blob, embedding blob)")
    connection = sqlite3.connect(path)
    connection.execute("insert into embeddings values (1, 'me.jpg', ?, ?)", (b"\xff\xd8\xff\xe0", ROWS[0].tobytes()))
    connection.commit()
    connection.close()
    assert [f.code for f in contents_findings(open_store(path))] == ["faces", "paths"]


def test_rows_that_hold_no_embedding_are_counted(tmp_path: Path) -> None:
    values = [row.tobytes() for row in ROWS]
    values[1], values[2], values[3], values[4] = None, values[2][:-4], "<b>none</b>", 7
    values[5] = b"\x80\x04\x95garbage that would run."
    found = scan(open_store(write(tmp_path / "a.db", "create table t (v)", rows=values)))
    counts = {finding.code: finding.count for finding in found.findings if finding.severity != "info"}
    assert counts == {"null": 1, "ragged": 1, "unreadable": 2, "pickle": 1}
    assert found.skipped_rows == 5


def test_a_log_that_is_not_merged_yet_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.db", "pragma journal_mode = wal", "create table t (v)", rows=[ROWS[0].tobytes()])
    writer = sqlite3.connect(path)
    writer.execute("insert into t values (?)", (ROWS[1].tobytes(),))
    writer.commit()
    before = [(tmp_path / name).read_bytes() for name in ("a.db", "a.db-wal")]
    assert np.array_equal(open_store(path).take(np.arange(2)).templates, ROWS[:2])
    assert [(tmp_path / name).read_bytes() for name in ("a.db", "a.db-wal")] == before
    writer.close()


def test_a_log_that_a_killed_writer_left_is_read_and_nothing_is_added(tmp_path: Path) -> None:
    path = write(tmp_path / "w.db", "pragma journal_mode = wal", "create table t (v)", rows=[ROWS[0].tobytes()])
    writer = sqlite3.connect(path)
    writer.execute("insert into t values (?)", (ROWS[1].tobytes(),))
    writer.commit()
    (tmp_path / "copy").mkdir()
    for name in ("w.db", "w.db-wal"):
        shutil.copy(tmp_path / name, tmp_path / "copy" / name)
    writer.close()
    before = digests(tmp_path / "copy")
    store = open_store(str(tmp_path / "copy" / "w.db"))
    assert np.array_equal(store.take(np.arange(2)).templates, ROWS[:2])
    assert digests(tmp_path / "copy") == before
    with read_only(tmp_path / "copy" / "w.db") as connection:
        assert connection.execute("select count(*) from t").fetchone() == (2,)
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            connection.execute("delete from t")
    with pytest.raises(InputError, match="another process"), read_only(tmp_path / "copy" / "w.db"):
        (tmp_path / "copy" / "w.db-shm").touch()


def test_a_connection_cannot_write(tmp_path: Path) -> None:
    path = write_store("sqlite", tmp_path, ROWS, None)
    with pytest.raises(InputError, match="readonly"), read_only(path) as connection:
        connection.execute("delete from faces")


def test_damage_is_one_line(tmp_path: Path) -> None:
    path = write_store("sqlite", tmp_path, ROWS, None)
    whole = path.read_bytes()
    garbled = bytearray(whole)
    garbled[4096:12000] = bytes(7904)
    contents = (b"", b"SQLite format 3\0" + bytes(400), whole[:5000], bytes(garbled), b"not a database" * 99)
    for content in contents:
        path.write_bytes(content)
        with pytest.raises(InputError) as caught:
            list(open_store(str(path), kind="sqlite").blocks())
        assert "\n" not in str(caught.value)


def test_a_view_is_read_if_it_is_named_and_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.db", "create table t (k int, v)", rows=[row.tobytes() for row in ROWS])
    write(
        tmp_path / "a.db",
        "create view faces as select v as embedding, 'p' || (rowid / 2) as name from t where rowid > 1",
    )
    assert open_store(path).table == "t"
    store = open_store(path, table="faces")
    assert np.array_equal(store.take(np.array([0, 78])).templates, ROWS[[1, 79]])
    assert store.take(np.array([0])).identities == ["p1"]

    endless = "with recursive n(x) as (select 1 union all select x + 1 from n) select x as embedding from n"
    path = write(tmp_path / "b.db", f"create view v as {endless}")
    with pytest.raises(InputError, match="has no tables; the views 'v' are read if --table"):
        open_store(path)
    monkeypatch.setattr("arcinvert.audit.stores.sqlite.TICKS", 5)
    with pytest.raises(InputError, match="interrupted"):
        open_store(path, table="v")


def test_names_of_another_table(tmp_path: Path) -> None:
    path = write(tmp_path / "a.db", "create table t (v, who int)", rows=[row.tobytes() for row in ROWS])
    write(
        tmp_path / "a.db", "update t set who = rowid / 2", 'create table people (id integer primary key, "full name")',
        "insert into people values (1, 'Ada'), (2, '=cmd()')", "create table loose (who int, name text)",
        "insert into loose values (1, 'x'), (1, 'y')",
    )  # fmt: skip
    store = open_store(path, table="t", identity_table="people.full name=who")
    assert store.take(np.arange(5)).identities == ["", "Ada", "Ada", "=cmd()", "=cmd()"]
    assert [name for block in store.blocks(9) for name in block.identities][:4] == ["", "Ada", "Ada", "=cmd()"]
    assert open_store(path, table="t", identity_table="loose.name=who").take(np.arange(3)).identities == ["", "x", "x"]
    for wrong, message in (
        ("people.name=who", "no column 'name', but 'id'"), ("nobody.name=who", "no table 'nobody'"),
        ("people.id=whom", "no column 'whom'"), ("people", "got 'people'"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=message):
            open_store(path, table="t", identity_table=wrong)


def test_the_format_of_blobs_can_be_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "a.db", "create table t (v)", rows=[row.astype("<f8").tobytes() for row in ROWS])
    with caplog.at_level("INFO", "arcinvert"):
        assert open_store(path).size == 64
    assert "512 bytes a row are read as 64 numbers, float64" in caplog.text
    assert open_store(path, numbers="float32").size == 128
    with pytest.raises(InputError, match=r"expected embeddings of 128 numbers, .* has 64"):
        open_store(path, size=128)
    with pytest.raises(UsageError, match="got 'float'"):
        open_store(path, numbers="float")


def test_a_column_whose_name_is_no_utf8(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("create table faces (embedding blob)")
        connection.executemany("insert into faces values (?)", [(row.tobytes(),) for row in np.ones((4, 16), "<f4")])
    path.write_bytes(path.read_bytes().replace(b"embedding blob", b"embed\xff\xfeng blob"))
    with pytest.raises(InputError, match=r"a\.db"):
        open_store(str(path))
