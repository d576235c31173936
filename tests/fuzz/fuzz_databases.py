"""Vector databases without their clients: folders as Chroma and Milvus Lite write them, made by hand; and maps."""

import json
import pickle
import sqlite3
import struct
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from fuzz_stores import NAMES, ROWS, use
from fuzz_target import Target

from arcinvert.mapping.linear_map import LinearMap
from arcinvert.mapping.quality import MapQuality, Verification

SEGMENT = "12345678-1234-1234-1234-123456789abc"
CHROMA, INDEX = "db/chroma.sqlite3", f"db/{SEGMENT}"
CHROMA_TABLES = """
create table collections (id text primary key, name text, config_json_str text);
create table collection_metadata (collection_id text, key text, str_value text);
create table segments (id text primary key, scope text, collection text);
create table embeddings (id integer primary key, segment_id text, embedding_id text);
create table embedding_metadata (id integer, key text, string_value text, int_value integer, float_value real);
create table embeddings_queue (seq_id integer primary key, operation integer, topic text, id text, vector blob,
                               encoding text);
insert into collections values ('c', 'faces', '{"hnsw": {"space": "cosine"}}');
insert into segments values ('m', 'METADATA', 'c'), ('SEGMENT', 'VECTOR', 'c');
"""


def _chroma(path: str) -> Callable[[Path], Sequence[bytes]]:
    """Writes a folder whose last four vectors are in the queue; the seed is the file at ``path``."""

    def seeds(folder: Path) -> Sequence[bytes]:
        (folder / INDEX).mkdir(parents=True)
        with closing(sqlite3.connect(folder / CHROMA)) as database:
            database.executescript(CHROMA_TABLES.replace("SEGMENT", SEGMENT))
            for number, (row, name) in enumerate(zip(ROWS, NAMES, strict=True)):
                database.execute("insert into embeddings values (?, 'm', ?)", (number, f"id{number}"))
                database.execute("insert into embedding_metadata values (?, 'person', ?, null, null)", (number, name))
                if number >= 8:
                    values = (number, 0, "persistent://default/default/c", f"id{number}", row.tobytes(), "FLOAT32")
                    database.execute("insert into embeddings_queue values (?, ?, ?, ?, ?, ?)", values)
            database.commit()
        width = 4 * ROWS.shape[1]
        (folder / INDEX / "header.bin").write_bytes(struct.pack("<i6Q", 1, 0, 100, 8, width + 12, width + 4, 4))
        rows = b"".join(struct.pack("<i", 0) + row.tobytes() + struct.pack("<Q", n) for n, row in enumerate(ROWS[:8]))
        (folder / INDEX / "data_level0.bin").write_bytes(rows)
        known = {"id_to_label": {f"id{number}": number for number in range(8)}}
        (folder / INDEX / "index_metadata.pickle").write_bytes(pickle.dumps(known))
        content = (folder / path).read_bytes()
        other = [(b"METADATAc", b"METODATAc"), (ROWS[9, :4].tobytes(), b"\xff\xff\x7f\x7f" * 4)]
        return [content, *(content.replace(*pair) for pair in other)]  # a segment of another kind; huge numbers

    return seeds


def _use_chroma(path: Path) -> None:
    use(path.parent if path.name == "chroma.sqlite3" else path.parents[1])


COLLECTION = "m.db/collections/faces"
SCHEMA = {
    "fields": [
        {"name": "id", "dtype": "int64", "is_primary": True},
        {"name": "embedding", "dtype": "float_vector", "is_primary": False},
        {"name": "city", "dtype": "varchar", "is_primary": False},
    ]
}
FILES = {"data_files": ["data/data_0.parquet"], "delta_files": ["delta/delta_0.parquet"]}


def _milvus(path: str) -> Callable[[Path], Sequence[bytes]]:
    """Writes a folder with a file, a deletion and a log; the seed is the file at ``path``."""

    def seeds(folder: Path) -> Sequence[bytes]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        place = folder / COLLECTION
        part = place / "partitions" / "_default"
        for home in (part / "data", part / "delta", place / "wal"):
            home.mkdir(parents=True)
        (folder / "m.db" / "LOCK").touch()
        (place / "schema.json").write_text(json.dumps(SCHEMA))
        (place / "manifest.json").write_text(json.dumps({"partitions": {"_default": FILES}}))

        def table(start: int, end: int) -> Any:
            flat = pa.array(ROWS[start:end].ravel())
            return pa.table(
                {
                    "_seq": pa.array(range(start, end), pa.uint64()),
                    "id": pa.array(range(start, end), pa.int64()),
                    "embedding": pa.FixedSizeListArray.from_arrays(flat, ROWS.shape[1]),
                    "city": ["x"] * (end - start),
                    "$meta": [json.dumps({"person": name}) for name in NAMES[start:end]],
                }
            )

        pq.write_table(table(0, 8), part / FILES["data_files"][0])
        pq.write_table(pa.table({"_seq": pa.array([9], pa.uint64()), "id": [3]}), part / FILES["delta_files"][0])
        log = table(8, 12)
        with pa.ipc.new_stream(str(place / "wal" / "wal_data_1.arrow"), log.schema) as stream:
            stream.write_table(log)
        content = (folder / path).read_bytes()
        return [content, content.replace(b"_seq", b"_s\xffq")]  # a name that is no UTF-8

    return seeds


def _use_milvus(path: Path) -> None:
    use(next(parent for parent in path.parents if parent.name == "m.db"))


def _maps(folder: Path) -> Sequence[bytes]:
    draw, seeds = np.random.default_rng(0), []
    points = Verification("mapped", 0.1, (1e-2, 1e-3), (0.5, None), 10, 1000)
    quality = MapQuality(100, 50, 0.1, 0.5, 0.25, 9, 10, 0.6, 1.0, (points,)).to_json()
    for header in ({"quality": quality}, {"to": "0" * 64, "ridge": 0.1, "quality": quality | {"verification": []}}):
        means = draw.normal(size=8).astype(np.float32), draw.normal(size=4).astype(np.float32)
        LinearMap(draw.normal(size=(8, 4)).astype(np.float32), *means, header).save(folder / "seed")
        seeds.append((folder / "seed").read_bytes())
    (folder / "seed").unlink()
    return seeds


def _use_map(path: Path) -> None:
    """As ``arcinvert convert --map`` does."""
    found = LinearMap.load(path)
    MapQuality.from_json(found.header.get("quality")).lines()
    found.apply(np.ones((2, found.sizes[0]), np.float32))


PARQUET = f"{COLLECTION}/partitions/_default/{FILES['data_files'][0]}"
MILVUS = {
    "list": f"{COLLECTION}/manifest.json",
    "schema": f"{COLLECTION}/schema.json",
    "data": PARQUET,
    "deletions": f"{COLLECTION}/partitions/_default/{FILES['delta_files'][0]}",
    "log": f"{COLLECTION}/wal/wal_data_1.arrow",
}
CHROMA_FILES = {
    "database": CHROMA,
    "index": f"{INDEX}/header.bin",
    "rows": f"{INDEX}/data_level0.bin",
    "ids": f"{INDEX}/index_metadata.pickle",
}
TARGETS = [
    *(Target(f"chroma {name}", path, _chroma(path), _use_chroma) for name, path in CHROMA_FILES.items()),
    *(Target(f"milvus {name}", path, _milvus(path), _use_milvus, ("pyarrow",)) for name, path in MILVUS.items()),
    Target("map", "net.map", _maps, _use_map),
]
