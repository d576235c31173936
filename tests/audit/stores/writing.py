"""Writes the same embeddings into every kind of store that is read; of the package only ``convert`` writes some."""

import csv
import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

FILES = ("npy", "npz", "parquet", "csv", "faiss", "sqlite", "lancedb", "qdrant")
NEEDS = {"parquet": "pyarrow", "faiss": "faiss", "lancedb": "lancedb", "qdrant": "qdrant_client"}


def write_store(kind: str, folder: Path, templates: np.ndarray, identities: Sequence[str] | None) -> Path:
    """Rows (N, D) and who they are, as ``kind`` has them; returns what to open. Skips without the client."""
    if kind in NEEDS:
        pytest.importorskip(NEEDS[kind])
    path = folder / f"faces.{kind}"
    globals()[f"_write_{kind}"](path, np.asarray(templates, np.float32), identities)
    return path


def _labels(path: Path, identities: Sequence[str] | None) -> None:
    if identities is not None:
        path.with_name(path.stem + ".labels.txt").write_text("\n".join(identities) + "\n")


def _write_npy(path: Path, templates: np.ndarray, identities: Sequence[str] | None) -> None:
    np.save(path, templates)
    _labels(path, identities)


def _write_npz(path: Path, templates: np.ndarray, identities: Sequence[str] | None) -> None:
    named: dict[str, Any] = {} if identities is None else {"labels": np.array(identities)}
    np.savez_compressed(path, embeddings=templates, **named)


def _table(templates: np.ndarray, identities: Sequence[str] | None, vector: str) -> Any:
    import pyarrow as pa

    flat = pa.array(templates.ravel())
    offsets = np.arange(0, templates.size + 1, templates.shape[1], dtype=np.int32)
    rows = pa.ListArray.from_arrays(offsets, flat)
    if vector == "vector":
        rows = pa.FixedSizeListArray.from_arrays(flat, templates.shape[1])
    columns: dict[str, Any] = {"id": np.arange(len(templates)), vector: rows}
    return pa.table(columns if identities is None else {**columns, "identity": list(identities)})


def _write_parquet(path: Path, templates: np.ndarray, identities: Sequence[str] | None) -> None:
    import pyarrow.parquet as pq

    pq.write_table(_table(templates, identities, "embedding"), path, row_group_size=max(1, len(templates) // 3))


def _write_csv(path: Path, templates: np.ndarray, identities: Sequence[str] | None) -> None:
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "embedding"] + ([] if identities is None else ["identity"]))
        for number, row in enumerate(templates):
            cells = [number, json.dumps([float(x) for x in row])]
            writer.writerow(cells if identities is None else [*cells, identities[number]])


def _write_faiss(path: Path, templates: np.ndarray, identities: Sequence[str] | None) -> None:
    import faiss

    index = faiss.IndexFlatIP(templates.shape[1])
    index.add(np.ascontiguousarray(templates))
    faiss.write_index(index, str(path))
    _labels(path, identities)


def _write_sqlite(path: Path, templates: np.ndarray, identities: Sequence[str] | None) -> None:
    connection = sqlite3.connect(path)
    connection.execute("create table faces (id integer primary key, embedding blob, identity text)")
    names = [None] * len(templates) if identities is None else identities
    rows = [(row.tobytes(), name) for row, name in zip(templates, names, strict=True)]
    connection.executemany("insert into faces (embedding, identity) values (?, ?)", rows)
    connection.commit()
    connection.close()


def _write_lancedb(path: Path, templates: np.ndarray, identities: Sequence[str] | None) -> None:
    import lancedb

    lancedb.connect(str(path)).create_table("faces", _table(templates, identities, "vector"))


def _write_qdrant(path: Path, templates: np.ndarray, identities: Sequence[str] | None) -> None:
    from qdrant_client import QdrantClient, models

    client = QdrantClient(path=str(path))
    client.create_collection(
        "faces", vectors_config=models.VectorParams(size=templates.shape[1], distance=models.Distance.COSINE)
    )
    names = [None] * len(templates) if identities is None else identities
    client.upsert(
        "faces",
        [
            models.PointStruct(id=number, vector=row.tolist(), payload=None if name is None else {"identity": name})
            for number, (row, name) in enumerate(zip(templates, names, strict=True))
        ],
    )
    client.close()
