"""Every kind of store that is written: rows, order, names and other columns stay, the embeddings are mapped."""

import csv
import json
import sqlite3
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from arcinvert.audit import open_store
from arcinvert.errors import InputError, UsageError
from arcinvert.mapping.linear_map import LinearMap
from arcinvert.migration.convert import Converted, convert_store, doubt

N, D, K = 30, 24, 10
ROWS = np.random.default_rng(0).normal(size=(N, D)).astype(np.float32)
NAMES = [f"person {i // 2}, é" for i in range(N)]


@pytest.fixture(scope="module")
def mapping() -> LinearMap:
    draw = np.random.default_rng(1)
    mean = 0.1 * draw.normal(size=D + K).astype(np.float32)
    return LinearMap(draw.normal(size=(D, K)).astype(np.float32), mean[:D], mean[D:])


def parquet(path: Path, columns: dict[str, Any], **settings: Any) -> Path:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table(columns), path, **settings)
    return path


def database(path: Path, *statements: str, values: list[Any] | None = None) -> Path:
    connection = sqlite3.connect(path)
    connection.execute("create table faces (id integer primary key, who text, embedding blob, note text)")
    rows = [(name, row.tobytes(), "n") for name, row in zip(NAMES, ROWS, strict=True)] if values is None else values
    connection.executemany("insert into faces (who, embedding, note) values (?, ?, ?)", rows)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()
    return path


def made(kind: str, folder: Path) -> Path:
    path = folder / f"faces.{kind.partition('-')[0]}"
    lists = [row.tolist() for row in ROWS]
    match kind:
        case "npy":
            np.save(path, ROWS)
            path.with_name("faces.labels.txt").write_text("".join(f"{name}\n" for name in NAMES))
        case "npy-f2":
            np.save(path, ROWS.astype(">f2"))
        case "npy-fortran":
            np.save(path, np.asfortranarray(ROWS.astype(np.float64)))
        case "npz":
            np.savez_compressed(path, embeddings=ROWS, labels=np.array(NAMES), extra=np.arange(7))
        case "csv":
            with open(path, "w", newline="") as file:
                csv.writer(file).writerows(
                    [["n", "embedding", "name"], *([i, json.dumps(lists[i]), NAMES[i]] for i in range(N))]
                )
        case "csv-wide":
            with open(path, "w", newline="") as file:
                writer = csv.writer(file, delimiter=";")
                writer.writerow(["name", *(f"emb_{i}" for i in range(D)), "note"])
                writer.writerows([[NAMES[i], *(f"{x:.9g}".replace(".", ",") for x in ROWS[i]), "n"] for i in range(N)])
        case "csv-savetxt":
            np.savetxt(path, ROWS, header="made by numpy")
        case "parquet":
            parquet(path, {"n": list(range(N)), "embedding": lists, "name": NAMES}, compression="zstd")
        case "parquet-fixed":
            pa = pytest.importorskip("pyarrow")
            fixed = pa.FixedSizeListArray.from_arrays(pa.array(ROWS.astype(np.float64).ravel()), D)
            parquet(path, {"vector": fixed, "name": NAMES})
        case "parquet-wide":
            wide = {f"emb_{i + 1}": ROWS[:, i] for i in range(D)}
            parquet(path, {"name": NAMES, **wide, "note": ["n"] * N})
        case "parquet-blob":
            parquet(path, {"embedding": [row.tobytes() for row in ROWS], "name": NAMES})
        case "sqlite":
            database(path)
        case "sqlite-without-rowid":
            connection = sqlite3.connect(path)
            connection.execute("create table faces (a text, b int, embedding text, primary key (a, b)) without rowid")
            values = [(NAMES[i], -i, json.dumps(lists[i])) for i in range(N)]
            connection.executemany("insert into faces values (?, ?, ?)", values)
            connection.commit()
            connection.close()
    return path


KINDS = [
    *("npy", "npy-f2", "npy-fortran", "npz", "csv", "csv-wide", "csv-savetxt"),
    *("parquet", "parquet-fixed", "parquet-wide", "parquet-blob", "sqlite", "sqlite-without-rowid"),
]


def read(path: Path) -> tuple[np.ndarray, list[str] | None, str]:
    store = open_store(str(path), identity=("who" if path.suffix == ".sqlite" and _has_who(path) else None))
    block = store.take(np.arange(store.count))
    assert block.positions.tolist() == list(range(store.count))
    return block.templates, block.identities, store.kind


def _has_who(path: Path) -> bool:
    connection = sqlite3.connect(path)
    found = "who" in [row[1] for row in connection.execute("pragma table_info(faces)")]
    connection.close()
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_the_new_store_is_of_the_same_kind_with_mapped_rows(kind: str, mapping: LinearMap, tmp_path: Path) -> None:
    source, out = made(kind, tmp_path), tmp_path / "new" / f"other.{kind.partition('-')[0]}"
    before = source.read_bytes()
    templates, names, found = read(source)
    done = convert_store(open_store(str(source)), mapping, out)
    assert done == Converted(found, N, 0)
    assert source.read_bytes() == before
    new, new_names, new_kind = read(out)
    assert (new_kind, new_names) == (found, names)
    np.testing.assert_allclose(new, mapping.apply(templates), atol=2e-3 if kind == "npy-f2" else 1e-6)
    assert sorted(path.name for path in out.parent.iterdir()) in ([out.name], ["other.labels.txt", out.name])


def test_what_stands_beside_the_embeddings_stays(mapping: LinearMap, tmp_path: Path) -> None:
    out = tmp_path / "new"
    convert_store(open_store(str(made("npz", tmp_path))), mapping, out)
    with np.load(out) as archive:
        assert archive["extra"].tolist() == list(range(7))
        assert archive["embeddings"].dtype == np.float32
    with zipfile.ZipFile(out) as archive:
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_DEFLATED}
    convert_store(open_store(str(made("csv-wide", tmp_path))), mapping, tmp_path / "wide.csv")
    with open(tmp_path / "wide.csv", newline="") as file:
        header, first, *_ = csv.reader(file, delimiter=";")
    assert header == ["name", *(f"emb_{i}" for i in range(K)), "note"]
    assert (first[0], first[-1], len(first)) == (NAMES[0], "n", K + 2)
    assert "," in first[1]
    pq = pytest.importorskip("pyarrow.parquet")
    convert_store(open_store(str(made("parquet-wide", tmp_path))), mapping, tmp_path / "wide.parquet")
    assert pq.read_schema(tmp_path / "wide.parquet").names == ["name", *(f"emb_{i + 1}" for i in range(K)), "note"]
    convert_store(open_store(str(made("parquet", tmp_path))), mapping, out)
    assert pq.ParquetFile(out).metadata.row_group(0).column(0).compression == "ZSTD"
    assert pq.read_table(out).column("n").to_pylist() == list(range(N))


def test_rows_without_an_embedding_stay_without_one(mapping: LinearMap, tmp_path: Path) -> None:
    rows = ROWS.copy()
    rows[3], rows[7, 2] = 0, np.nan
    np.save(tmp_path / "faces.npy", rows)
    done = convert_store(open_store(str(tmp_path / "faces.npy")), mapping, tmp_path / "new.npy")
    assert (done.rows, done.empty) == (N, 2)
    assert np.isnan(np.load(tmp_path / "new.npy")).all(1).nonzero()[0].tolist() == [3, 7]
    blobs: list[Any] = [row.tobytes() for row in rows]
    blobs[5], blobs[9] = None, b"\x01\x02\x03"
    values = [(name, blob, "n") for name, blob in zip(NAMES, blobs, strict=True)]
    done = convert_store(open_store(str(database(tmp_path / "a.db", values=values))), mapping, tmp_path / "b.db")
    assert (done.rows, done.empty) == (N, 4)
    connection = sqlite3.connect(tmp_path / "b.db")
    found = connection.execute("select id - 1, note from faces where embedding is null order by id").fetchall()
    connection.close()
    assert found == [(3, "n"), (5, "n"), (7, "n"), (9, "n")]
    lists: list[Any] = [row.tolist() for row in ROWS]
    lists[5], lists[9] = None, [1.0]
    source = parquet(tmp_path / "faces.parquet", {"embedding": lists, "name": NAMES})
    assert convert_store(open_store(str(source)), mapping, tmp_path / "new.parquet").empty == 2
    table = pytest.importorskip("pyarrow.parquet").read_table(tmp_path / "new.parquet")
    assert [i for i, value in enumerate(table["embedding"].to_pylist()) if value is None] == [5, 9]
    assert table["name"].to_pylist() == NAMES
    with open(tmp_path / "ragged.csv", "w", newline="") as file:
        csv.writer(file).writerows(
            [["n", "embedding"], *([i, json.dumps(lists[i]) if i != 5 else ""] for i in range(N))]
        )
    assert convert_store(open_store(str(tmp_path / "ragged.csv")), mapping, tmp_path / "new.csv").empty == 2
    with open(tmp_path / "new.csv", newline="") as file:
        assert [i for i, (_, cell) in enumerate(list(csv.reader(file))[1:]) if not cell] == [5, 9]


def test_nothing_of_the_old_embeddings_is_left_in_a_database(mapping: LinearMap, tmp_path: Path) -> None:
    large = [(name, np.tile(row, 40).tobytes(), "n") for name, row in zip(NAMES, ROWS, strict=True)]
    source = database(tmp_path / "a.db", "create table other as select 7 as x", values=large)
    wide = LinearMap(np.eye(40 * D, 2, dtype=np.float32) + 0.1, np.zeros(40 * D, "f"), np.zeros(2, "f"))
    convert_store(open_store(str(source), table="faces"), wide, tmp_path / "b.db")
    content = (tmp_path / "b.db").read_bytes()
    assert ROWS[4].tobytes() in source.read_bytes()
    assert not any(row.tobytes() in content for row in ROWS)
    connection = sqlite3.connect(tmp_path / "b.db")
    assert connection.execute("select x from other").fetchall() == [(7,)]
    assert connection.execute("pragma integrity_check").fetchone() == ("ok",)
    connection.close()


def test_a_database_with_a_log_is_converted_as_a_reader_sees_it(mapping: LinearMap, tmp_path: Path) -> None:
    source = database(tmp_path / "a.db", "pragma user_version = 3")
    writer = sqlite3.connect(source)
    writer.execute("pragma journal_mode = wal")
    writer.execute("delete from faces where id > 10")
    writer.commit()
    try:
        assert convert_store(open_store(str(source)), mapping, tmp_path / "b.db").rows == 10
    finally:
        writer.close()
    assert not list(tmp_path.glob("b.db-*"))
    assert not list(tmp_path.glob(".*"))
    assert open_store(str(tmp_path / "b.db")).size == K


def test_what_is_refused(mapping: LinearMap, tmp_path: Path) -> None:
    source = made("npy", tmp_path)
    store = open_store(str(source))
    with pytest.raises(UsageError, match="the store itself"):
        convert_store(store, mapping, tmp_path / "." / "faces.npy")
    with pytest.raises(UsageError, match="a new file"):
        convert_store(store, mapping, tmp_path)
    np.save(tmp_path / "small.npy", ROWS[:, 1:])
    with pytest.raises(InputError, match=f"{D} numbers, .* has {D - 1}"):
        convert_store(open_store(str(tmp_path / "small.npy")), mapping, tmp_path / "new")
    trigger = "create trigger t after update on faces begin delete from faces; end"
    hooked = database(tmp_path / "a.db", trigger)
    with pytest.raises(UsageError, match="1 triggers"):
        convert_store(open_store(str(hooked)), mapping, tmp_path / "new")
    viewed = database(tmp_path / "c.db", "create view seen as select * from faces")
    with pytest.raises(UsageError, match="view"):
        convert_store(open_store(str(viewed), table="seen"), mapping, tmp_path / "new")
    faiss = pytest.importorskip("faiss")
    index = faiss.IndexFlatIP(D)
    index.add(ROWS)
    faiss.write_index(index, str(tmp_path / "x.faiss"))
    with pytest.raises(UsageError, match=r"of kind npy, npz, csv, parquet, sqlite to convert, .* is of faiss"):
        convert_store(open_store(str(tmp_path / "x.faiss")), mapping, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_store_of_another_recognizer_is_doubted(tmp_path: Path) -> None:
    draw, size = np.random.default_rng(2), 96
    mean, spread = 2 * np.linspace(1, -1, size), np.geomspace(1, 0.02, size)
    known = mean + draw.normal(size=(600, size)) * spread
    np.save(tmp_path / "own.npy", (mean + draw.normal(size=(200, size)) * spread).astype("f"))
    turned = draw.normal(size=(200, size)) * spread @ np.linalg.qr(draw.normal(size=(size, size)))[0]
    np.save(tmp_path / "other.npy", turned.astype("f"))
    unit = (known / np.linalg.norm(known, axis=1, keepdims=True)).astype(np.float32)
    assert doubt(open_store(str(tmp_path / "own.npy")), unit) is None
    assert doubt(open_store(str(tmp_path / "other.npy")), unit) is not None


def test_a_constraint_that_refuses_the_new_values_is_an_input_error(mapping: LinearMap, tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    connection = sqlite3.connect(path)
    connection.execute(f"create table faces (embedding blob check (length(embedding) = {4 * D}))")
    connection.executemany("insert into faces values (?)", [(row.tobytes(),) for row in ROWS])
    connection.commit()
    connection.close()
    with pytest.raises(InputError, match="CHECK"):
        convert_store(open_store(str(path)), mapping, tmp_path / "new.db")
    assert not (tmp_path / "new.db").exists()
