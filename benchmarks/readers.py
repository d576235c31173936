"""Rows a second of every reader of stores, beside a scan with the vendor's own library.

    python benchmarks/readers.py [--rows 20000] [--size 512] [--kind parquet ...] [--json OUT.json]

Writes the same random unit rows, two of each identity, as each kind of file, opens it and reads it once from start to
end: by arcinvert (``open_store(...).blocks()``, identities included, rows checked), and as the vendor's manual reads a
table of vectors into numpy, whole or in batches, without identities. The best of ``--rounds`` for each, in turn;
processor seconds, of child processes too (FAISS and Lance are read in one). Both must find the same numbers. Databases
with a server, and those whose client is not installed, are left out.
"""

import argparse
import csv
import importlib.util
import json
import os
import resource
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "audit" / "stores"))

from writing import FILES, NEEDS, write_store

from arcinvert.audit.stores import open_store

BATCH = 8192
HEAD = (
    "| kind | rows a CPU second | the vendor's scan | by | times the vendor's rate | s from start to end, with opening "
    "| the vendor's |\n|---|---|---|---|---|---|---|"
)


def _npy(path: Path) -> Iterator[np.ndarray]:
    rows = np.load(path, mmap_mode="r")
    for start in range(0, len(rows), BATCH):
        yield np.array(rows[start : start + BATCH])


def _npz(path: Path) -> Iterator[np.ndarray]:
    yield np.load(path)["embeddings"]


def _parquet(path: Path) -> Iterator[np.ndarray]:
    import pyarrow.parquet as pq

    for batch in pq.ParquetFile(path).iter_batches(BATCH, columns=["embedding"]):
        yield batch.column(0).flatten().to_numpy().reshape(batch.num_rows, -1)


def _csv(path: Path) -> Iterator[np.ndarray]:
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            yield np.array(json.loads(row["embedding"]), np.float32)[None]


def _faiss(path: Path) -> Iterator[np.ndarray]:
    import faiss

    index = faiss.read_index(str(path))
    for start in range(0, index.ntotal, BATCH):
        yield index.reconstruct_n(start, min(BATCH, index.ntotal - start))


def _sqlite(path: Path) -> Iterator[np.ndarray]:
    cursor = sqlite3.connect(path).execute("select embedding from faces")
    while part := cursor.fetchmany(BATCH):
        yield np.stack([np.frombuffer(blob, np.float32) for (blob,) in part])


def _lancedb(path: Path) -> Iterator[np.ndarray]:
    import lancedb

    table = lancedb.connect(str(path)).open_table("faces").to_arrow()
    yield table["vector"].combine_chunks().flatten().to_numpy().reshape(len(table), -1)


def _qdrant(path: Path) -> Iterator[np.ndarray]:
    from qdrant_client import QdrantClient

    client, offset = QdrantClient(path=str(path)), None
    while True:
        points, offset = client.scroll("faces", limit=BATCH, offset=offset, with_vectors=True, with_payload=False)
        yield np.array([point.vector for point in points], np.float32)
        if offset is None:
            client.close()
            return


VENDORS: dict[str, tuple[str, Callable[[Path], Iterator[np.ndarray]]]] = {
    "npy": ("numpy, memory map", _npy),
    "npz": ("numpy", _npz),
    "parquet": ("pyarrow, batches", _parquet),
    "csv": ("csv and json of Python", _csv),
    "faiss": ("faiss, reconstruct_n", _faiss),
    "sqlite": ("sqlite3, fetchmany", _sqlite),
    "lancedb": ("lancedb, to_arrow", _lancedb),
    "qdrant": ("qdrant_client, scroll", _qdrant),
}


def ours(path: Path) -> Iterator[np.ndarray]:
    for block in open_store(str(path)).blocks():
        yield block.templates


def busy() -> float:
    """Processor seconds of this process, and of the child processes that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def spent(read: Callable[[Path], Iterator[np.ndarray]], path: Path) -> tuple[float, float, int, float]:
    """Processor seconds and seconds of one scan, its rows, and a sum of its numbers."""
    started, clock = time.perf_counter(), busy()
    rows, total = 0, 0.0
    for part in read(path):
        rows, total = rows + len(part), total + float(part[:, 0].sum(dtype=np.float64))
    return busy() - clock, time.perf_counter() - started, rows, total


def measure(kind: str, path: Path, rows: int, rounds: int) -> dict[str, Any]:
    """One row of the table.

    Raises:
        SystemExit: the two scans find different numbers.
    """
    by, vendor = VENDORS[kind]
    pairs = [(spent(ours, path), spent(vendor, path)) for _ in range(rounds)]
    for mine, theirs in pairs:
        if mine[2] != rows or theirs[2] != rows or abs(mine[3] - theirs[3]) > 1e-3 * rows**0.5:
            raise SystemExit(f"{kind}: expected {rows} rows, got {mine[2:]} and {theirs[2:]}")
    (cpu, wall), (vendor_cpu, vendor_wall) = (
        (min(pair[side][0] for pair in pairs), min(pair[side][1] for pair in pairs)) for side in (0, 1)
    )
    return {
        "kind": kind,
        "rows": rows,
        "by": by,
        "rows_per_cpu_second": rows / cpu,
        "vendor_rows_per_cpu_second": rows / vendor_cpu,
        "ratio": vendor_cpu / cpu,
        "seconds": wall,
        "vendor_seconds": vendor_wall,
    }


def line(row: dict[str, Any]) -> str:
    cells = [row["kind"], f"{row['rows_per_cpu_second']:,.0f}", f"{row['vendor_rows_per_cpu_second']:,.0f}", row["by"]]
    cells += [f"{row['ratio']:.2f}", f"{row['seconds']:.2f}", f"{row['vendor_seconds']:.2f}"]
    return "| " + " | ".join(cells) + " |"


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kind", action="append", choices=FILES, help="may be repeated; default: all")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(words)
    templates = np.random.default_rng(0).normal(size=(options.rows, options.size)).astype(np.float32)
    templates /= np.linalg.norm(templates, axis=1, keepdims=True)
    names = [f"person {number // 2}" for number in range(options.rows)]
    report: dict[str, Any] = {"rows": options.rows, "size": options.size, "stores": []}
    print(f"{options.rows:,} rows of {options.size}, best of {options.rounds}.\n\n{HEAD}", flush=True)
    for kind in options.kind or FILES:
        if kind in NEEDS and importlib.util.find_spec(NEEDS[kind]) is None:
            print(f"{kind}: {NEEDS[kind]} is not installed", file=sys.stderr)
            continue
        with tempfile.TemporaryDirectory() as folder:
            path = write_store(kind, Path(folder), templates, names)
            report["stores"].append(measure(kind, path, options.rows, options.rounds))
        print(line(report["stores"][-1]), flush=True)
        report["load"] = os.getloadavg()[0]
        if options.json:
            options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
