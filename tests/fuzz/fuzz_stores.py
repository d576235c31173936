"""Files and stores of embeddings."""

import base64
import io
import json
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from fuzz_target import Target, folder_of_tests

from arcinvert.audit.checks.hygiene import scan
from arcinvert.audit.stores import open_store
from arcinvert.audit.stores.points import read_point
from arcinvert.audit.stores.vectors import Reader, matrix, size_of
from arcinvert.embeddings import read_embeddings
from arcinvert.errors import InputError
from arcinvert.evaluation.readers.stored_embeddings import read_stored

with folder_of_tests("audit/stores"):
    from writing import write_store

ROWS = np.random.default_rng(0).normal(size=(12, 16)).astype(np.float32)
ROWS /= np.linalg.norm(ROWS, axis=1, keepdims=True)
NAMES = [f"p{number // 2}" for number in range(12)]
LANCE_DATA, LANCE_LIST = "*.lancedb/*.lance/data/*.lance", "*.lancedb/*.lance/_versions/*.manifest"
QDRANT, QDRANT_LIST = "*.qdrant/collection/*/storage.sqlite", "*.qdrant/meta.json"


def _array(rows: np.ndarray = ROWS) -> bytes:
    file = io.BytesIO()
    np.save(file, rows)
    return file.getvalue()


def _arrays(folder: Path) -> Sequence[bytes]:
    return [
        _array(),
        _array(ROWS.astype(">f8")),
        _array(np.asfortranarray(ROWS)),
        _array(ROWS[0]),
        _array(ROWS[:, None]),
    ]


def _archives(folder: Path) -> Sequence[bytes]:
    seeds = []
    for save in (np.savez, np.savez_compressed):
        file = io.BytesIO()
        save(file, embeddings=ROWS, names=np.array(NAMES))
        seeds.append(file.getvalue())
    file = io.BytesIO()
    np.savez(file, ROWS)
    return [*seeds, file.getvalue()]


def _store(kind: str, file: str = "") -> Callable[[Path], Sequence[bytes]]:
    """Writes a store of a kind into the folder; the seed is its only file, or the one that fits the pattern."""

    def seeds(folder: Path) -> Sequence[bytes]:
        made = write_store(kind, folder, ROWS, NAMES)
        for labels in folder.glob("*.labels.txt"):
            labels.unlink()
        return [next(folder.glob(file) if file else iter([made])).read_bytes()]

    return seeds


def _tables(folder: Path) -> Sequence[bytes]:
    lines = ["name," + ",".join(f"e{n}" for n in range(16))]
    lines += [name + "," + ",".join(f"{x:.6f}" for x in row) for name, row in zip(NAMES, ROWS, strict=True)]
    savetxt = io.StringIO()
    np.savetxt(savetxt, ROWS, header="a table")
    decimal = [";".join(f"{x:.5f}".replace(".", ",") for x in row) for row in ROWS]
    cells = ["id\tembedding", *(f"{n}\t{row.tolist()!r}" for n, row in enumerate(ROWS))]
    texts = ["\n".join(lines), savetxt.getvalue(), "\n".join(decimal), "\n".join(cells)]
    return [*_store("csv")(folder), *(text.encode() for text in texts), texts[0].encode("utf-16")]


def _indexes(folder: Path) -> Sequence[bytes]:
    import faiss

    rows = np.random.default_rng(0).normal(size=(64, 8)).astype(np.float32)
    seeds = []
    for text in ("Flat", "IDMap,Flat", "IVF2,Flat", "IVF2,PQ2x2", "SQ8", "PQ2x4", "HNSW4", "PCA4,Flat", "LSH"):
        index = faiss.index_factory(8, text)
        index.train(rows)
        index.add_with_ids(rows, np.arange(64) // 2) if text.startswith(("IDMap", "IVF")) else index.add(rows)
        seeds.append(faiss.serialize_index(index).tobytes())
    return seeds


def use(path: Path) -> None:
    """Reads a store as an audit does: all of it for the checks, and then a sample."""
    store = open_store(str(path))
    scan(store)
    for block in store.blocks(5):
        assert block.templates.shape == (len(block.positions), store.size)
    store.take(np.array([0, store.count - 1][: store.count], np.int64))


def _use_folder(path: Path) -> None:
    use(next(parent for parent in path.parents if parent.suffix in (".lancedb", ".qdrant")))


def _cells(folder: Path) -> Sequence[bytes]:
    row = ROWS[0]
    texts = [
        repr(row), repr(row.tolist()), json.dumps(row.tolist()), f"tensor({row.tolist()})", "array([1., 2., 3.])",
        " ".join(map(str, row)), "{" + ",".join(map(str, row)) + "}", row.tobytes().hex(), "[np.float32(0.5), 1.0]",
        "0,5;0,25;-1,5", '"[1.0, 2.0]"',
    ]  # fmt: skip
    blobs = [row.tobytes(), row.astype("<f8").tobytes(), row.astype("<f2").tobytes(), _array(row), pickle.dumps([1.0])]
    return [*(text.encode() for text in texts), base64.b64encode(row.tobytes()), *blobs]


def _read_cells(path: Path) -> None:
    """A cell that is text, and one that is bytes."""
    content = path.read_bytes()
    for value in (content.decode(errors="replace"), content):
        try:
            reader = Reader.for_values([value], "the cell")
            matrix([value], size_of([value], reader, "the cell"), reader)
        except InputError:
            continue


def _points(folder: Path) -> Sequence[bytes]:
    from qdrant_client import models

    point = models.PointStruct(id=1, vector=ROWS[0].tolist(), payload={"identity": "a", "more": [1, None]})
    named = models.PointStruct(id="a", vector={"face": [1.0, 2.0]}, payload=None)
    return [pickle.dumps(point), pickle.dumps(named, protocol=2)]


def _read_point(path: Path) -> None:
    """Its errors are ValueErrors, which the store counts as rows that cannot be read."""
    try:
        read_point(path.read_bytes())
    except ValueError:
        return


def _read_stored(path: Path) -> None:
    read_stored(path)


def _targets(path: Path) -> None:
    read_embeddings(str(path), size=16)


def _target_of(path: Path) -> None:
    read_embeddings(str(path), size=16, key="embeddings")


TARGETS = [
    Target("npy as targets", "rows.npy", _arrays, _targets),
    Target("npz as targets", "rows.npz", _archives, _target_of),
    Target("npy of an evaluation", "rows.npy", _arrays, _read_stored),
    Target("npy store", "rows.npy", _arrays, use),
    Target("npz store", "rows.npz", _archives, use),
    Target("csv store", "rows.csv", _tables, use),
    Target("cell of a store", "cell", _cells, _read_cells),
    Target("parquet store", "faces.parquet", _store("parquet"), use, ("pyarrow",)),
    Target("sqlite store", "faces.sqlite", _store("sqlite"), use),
    Target("faiss store", "faces.faiss", _indexes, use, ("faiss",), native=True),
    Target("lance data", LANCE_DATA, _store("lancedb", LANCE_DATA), _use_folder, ("lancedb",), native=True),
    Target("lance manifest", LANCE_LIST, _store("lancedb", LANCE_LIST), _use_folder, ("lancedb",), native=True),
    Target("qdrant points", QDRANT, _store("qdrant", QDRANT), _use_folder, ("qdrant_client",)),
    Target("qdrant list", QDRANT_LIST, _store("qdrant", QDRANT_LIST), _use_folder, ("qdrant_client",)),
    Target("qdrant point", "point", _points, _read_point, ("qdrant_client",)),
]
