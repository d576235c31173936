"""Copies of stores with rows added: the old rows stay as they are, the new ones look like them."""

import csv
import json
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from arcinvert.audit.stores import Store, open_store
from arcinvert.errors import InputError, UsageError
from arcinvert.migration.added import Added, add_rows

N, D, K = 30, 24, 2
ROWS = np.random.default_rng(0).normal(size=(N, D)).astype(np.float32)
NEW = 1.5 * np.random.default_rng(1).normal(size=(K, D)).astype(np.float32)
NAMES, ADDED = [f"person {n}, é" for n in range(N)], ["a longer name than theirs, ü", "b"]
WHOLE = np.rint(40 * ROWS).astype(np.int8)


def database(path: Path, schema: str, values: list[Any], *more: str) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute(f"create table faces (id integer primary key, name text, embedding blob, {schema})")
        connection.executemany("insert into faces (name, embedding) values (?, ?)", zip(NAMES, values, strict=True))
        for statement in more:
            connection.execute(statement)
    connection.close()


def parquet(path: Path, columns: dict[str, Any], schema: Any = None) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table(columns, schema=schema), path, compression="zstd")


def made(form: str, folder: Path) -> Path:
    path = folder / f"store.{form.partition('-')[0]}"
    lists = [row.tolist() for row in ROWS]
    match form:
        case "npy":
            np.save(path, ROWS)
            path.with_name("store.labels.txt").write_text("".join(f"{name}\n" for name in NAMES))
        case "npy-fortran":
            np.save(path, np.asfortranarray(ROWS.astype(">f8")))
        case "npy-int8":
            np.save(path, WHOLE[:, None])
        case "npz":
            np.savez_compressed(path, embeddings=ROWS, labels=np.array(NAMES), age=np.arange(N), at=np.float32(ROWS[0]))
        case "npz-fortran":
            np.savez(path, embeddings=np.asfortranarray(ROWS), labels=np.arange(N))
        case "csv":
            with open(path, "w", newline="", encoding="utf-8-sig") as file:
                csv.writer(file).writerows([["name", "age", "embedding"], *zip(NAMES, range(N), lists, strict=True)])
        case "csv-wide":
            lines = [";".join([*(f"{x:.6f}".replace(".", ",") for x in row), "x"]) for row in ROWS]
            path.write_text("\n".join([";".join([*(f"e{n}" for n in range(D)), "note"]), *lines]), encoding="utf-16")
        case "csv-savetxt":
            np.savetxt(path, ROWS, header="numbers")
        case "parquet":
            parquet(path, {"name": NAMES, "embedding": lists, "age": [*range(N)]})
        case "parquet-wide":
            parquet(path, {"name": [*range(N)], **{f"e{n}": ROWS[:, n].astype(np.float64) for n in range(D)}})
        case "parquet-int8":
            pa = pytest.importorskip("pyarrow")
            kind = pa.schema({"name": pa.dictionary(pa.int32(), pa.string()), "embedding": pa.list_(pa.int8(), D)})
            parquet(path, {"name": pa.array(NAMES).dictionary_encode(), "embedding": WHOLE.tolist()}, kind)
        case "parquet-bytes":
            parquet(path, {"name": NAMES, "embedding": [None, *(row.tobytes() for row in ROWS[1:])]})
        case "sqlite":
            blobs = [None, b"short", *(row.tobytes() for row in ROWS[2:])]
            database(path, "note text, added text default 'now'", blobs)
        case "sqlite-whole":
            database(path, "note text", [json.dumps(row.tolist()) for row in WHOLE])
        case "sqlite-half":
            database(path, "note text", [row.astype("<f2").tobytes() for row in ROWS])
    return path


FORMS = {
    "npy": (),
    "npy-fortran": (),
    "npy-int8": (),
    "npz": ("age",),
    "npz-fortran": (),
    "csv": ("age",),
    "csv-wide": ("note",),
    "csv-savetxt": (),
    "parquet": ("age",),
    "parquet-wide": (),
    "parquet-int8": (),
    "parquet-bytes": (),
    "sqlite": ("note",),
    "sqlite-whole": ("note",),
    "sqlite-half": ("note",),
}


def rows_of(store: Store) -> tuple[np.ndarray, list[str] | None]:
    blocks = list(store.blocks())
    names = None if blocks[0].identities is None else [name for block in blocks for name in block.identities or ()]
    return np.concatenate([block.templates for block in blocks]), names


@pytest.mark.parametrize("form", FORMS)
def test_old_rows_stay_and_new_ones_look_like_them(form: str, tmp_path: Path) -> None:
    path = made(form, tmp_path)
    before, store = path.read_bytes(), open_store(str(path))
    numbered = form in ("npz-fortran", "parquet-wide")
    names = ["40", "41"] if numbered else ADDED
    out = tmp_path / f"new{path.suffix}"
    new = 40 * NEW if form.endswith(("int8", "whole")) else NEW
    assert add_rows(store, new, names, out) == Added(store.kind, N + K, FORMS[form])
    old, people = rows_of(store)
    found, found_people = rows_of(open_store(str(out)))
    assert np.array_equal(found[:-K], old)
    expected = np.rint(new) if new is not NEW else new
    expected = expected.clip(-128, 127) if "int8" in form else expected
    assert np.allclose(found[-K:], expected, atol=2e-3 if "half" in form else 1e-6)
    assert found_people == (None if people is None else [*people, *names])
    assert path.read_bytes() == before


def test_a_csv_keeps_its_bytes(tmp_path: Path) -> None:
    for form in ("csv", "csv-wide"):
        path = made(form, tmp_path)
        add_rows(open_store(str(path)), NEW, ADDED, tmp_path / f"{form}.csv")
        assert (tmp_path / f"{form}.csv").read_bytes().startswith(path.read_bytes())
        path.unlink()


def test_npz_keeps_what_has_no_row_for_each_person(tmp_path: Path) -> None:
    add_rows(open_store(str(made("npz", tmp_path))), NEW, ADDED, tmp_path / "new.npz")
    with np.load(tmp_path / "new.npz") as arrays:
        assert arrays["age"].tolist() == [*range(N), 0, 0]
        assert np.array_equal(arrays["at"], ROWS[0])


def test_a_database_that_needs_more_is_refused(tmp_path: Path) -> None:
    blobs = [row.tobytes() for row in ROWS]
    database(tmp_path / "a.sqlite", "age integer not null default 3 check (age > 2), note text", blobs)
    add_rows(open_store(str(tmp_path / "a.sqlite")), NEW, ADDED, tmp_path / "fine.sqlite")
    unique = "create unique index u on faces (ifnull(note, 0)) where id > 29"
    database(tmp_path / "b.sqlite", "note text", blobs, unique)
    with pytest.raises(UsageError, match=r"UNIQUE.*by hand"):
        add_rows(open_store(str(tmp_path / "b.sqlite")), NEW, ADDED, tmp_path / "x.sqlite")
    trigger = "create trigger t after insert on faces begin delete from faces; end"
    database(tmp_path / "c.sqlite", "note text", blobs, trigger)
    with pytest.raises(UsageError, match="1 triggers"):
        add_rows(open_store(str(tmp_path / "c.sqlite")), NEW, ADDED, tmp_path / "x.sqlite")
    people = "create table people (id integer primary key, name text)"
    database(tmp_path / "d.sqlite", "note text references people (id)", blobs, people, "update faces set name = 1")
    elsewhere = open_store(str(tmp_path / "d.sqlite"), identity_table="people.name=name")
    with pytest.raises(UsageError, match=r"people\.name"):
        add_rows(elsewhere, NEW, ADDED, tmp_path / "x.sqlite")
    assert not (tmp_path / "x.sqlite").exists()


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    store = open_store(str(made("npy", tmp_path)))
    with pytest.raises(UsageError, match="is there already"):
        add_rows(store, NEW, ADDED, tmp_path / "store.npy")
    with pytest.raises(InputError, match=r"got \(2, 23\) and 2 names"):
        add_rows(store, NEW[:, 1:], ADDED, tmp_path / "new.npy")
    numbers = open_store(str(made("npz-fortran", tmp_path)))
    with pytest.raises(UsageError, match="got 'a longer name"):
        add_rows(numbers, NEW, ADDED, tmp_path / "new.npz")
    assert not (tmp_path / "new.npz").exists()
