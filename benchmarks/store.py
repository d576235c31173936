"""The cost of reading a large store, compared with a plain numpy scan of the same numbers.

    python benchmarks/store.py [--rows 1000000] [--size 512] [--kind parquet --kind faiss] [--folder DIR]

Writes random unit rows, two per identity, as ``.npy`` and as each kind of store (kept in ``--folder``), and opens each
in a process of its own. The store part of an audit is one pass for hygiene, statistics and the digest (``scan``), the
sample and its rows (``take``), and one pass that compares every probe with every row (``rank1``). The plain scan reads
the ``.npy`` in blocks with numpy: norms, SHA-256 and the product with the probes, once each. Peak memory is that of the
process.
"""

import argparse
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

BLOCK_ROWS = 65536
KINDS = ("npy", "parquet", "faiss")
HEAD = (
    "| | seconds | CPU seconds | peak MB | CPU, times the plain scan's | scan, take, rank 1 (s) | found first "
    "| same digest |\n|---|---|---|---|---|---|---|---|"
)


def write(folder: Path, rows: int, size: int, kinds: list[str]) -> None:
    """Write the same rows as each kind of store; rows of one identity are adjacent."""
    generator = np.random.default_rng(0)
    files = {kind: folder / f"store-{rows}x{size}.{kind}" for kind in {"npy", *kinds}}
    if all(path.is_file() for path in files.values()):
        return
    with tempfile.TemporaryDirectory(dir=folder) as name:
        made = {kind: Path(name) / path.name for kind, path in files.items()}
        array = np.lib.format.open_memmap(made["npy"], "w+", np.float32, (rows, size))
        for start in range(0, rows, BLOCK_ROWS):
            part = generator.normal(size=(min(BLOCK_ROWS, rows - start), size)).astype(np.float32)
            array[start : start + len(part)] = part / np.linalg.norm(part, axis=1, keepdims=True)
        array.flush()
        if "parquet" in kinds:
            import pyarrow as pa
            import pyarrow.parquet as pq

            schema = pa.schema([("id", pa.int64()), ("identity", pa.string()), ("embedding", pa.list_(pa.float32()))])
            with pq.ParquetWriter(made["parquet"], schema, use_dictionary=["identity"]) as writer:
                for start in range(0, rows, BLOCK_ROWS):
                    part = np.asarray(array[start : start + BLOCK_ROWS])
                    offsets = np.arange(0, part.size + 1, size, dtype=np.int32)
                    numbers = np.arange(start, start + len(part))
                    names = [f"person {n // 2}" for n in numbers.tolist()]
                    lists = pa.ListArray.from_arrays(offsets, part.ravel())
                    writer.write_table(pa.table([numbers, names, lists], schema=schema))
        if "faiss" in kinds:
            import faiss

            index = faiss.IndexFlatIP(size)
            for start in range(0, rows, BLOCK_ROWS):
                index.add(np.asarray(array[start : start + BLOCK_ROWS]))
            faiss.write_index(index, str(made["faiss"]))
        for kind, path in files.items():
            os.replace(made[kind], path)


def probes_of(rows: np.ndarray) -> np.ndarray:
    """Rows like embeddings of reconstructions: cosine about 0.7 to the given rows."""
    noise = np.random.default_rng(1).normal(size=rows.shape) / np.sqrt(rows.shape[1])
    probes = rows + noise
    return (probes / np.linalg.norm(probes, axis=1, keepdims=True)).astype(np.float32)


def plain(path: Path, count: int) -> dict[str, Any]:
    """With numpy alone."""
    rows, size = np.load(path, mmap_mode="r").shape
    own = np.sort(np.random.default_rng(0).choice(rows, count, replace=False))
    probes = probes_of(np.load(path, mmap_mode="r")[own])
    started, clock = time.perf_counter(), time.process_time()
    norms, best, digest = 0.0, np.full(count, -np.inf), hashlib.sha256()
    for start in range(0, rows, BLOCK_ROWS):
        part = np.fromfile(path, np.float32, BLOCK_ROWS * size, offset=128 + 4 * start * size).reshape(-1, size)
        norms += float(np.sqrt(np.einsum("nd,nd->n", part, part)).sum())
        digest.update(part.data)
        best = np.maximum(best, (probes @ part.T).max(1))
    return {
        "seconds": time.perf_counter() - started,
        "cpu_seconds": time.process_time() - clock,
        "digest": digest.hexdigest(),
    }


def store_part(path: Path, count: int) -> dict[str, Any]:
    """With arcinvert."""
    from arcinvert.audit.checks import draw_sample, rank1, scan
    from arcinvert.audit.stores import open_store

    found: dict[str, Any] = {}
    total, clock = time.perf_counter(), time.process_time()
    store = open_store(str(path))
    scanned = scan(store)
    found["scan"] = time.perf_counter() - total
    started = time.perf_counter()
    drawn = draw_sample(scanned, count=count, seed=0)
    block = store.take(drawn.positions)
    found["take"] = time.perf_counter() - started
    probes = probes_of(block.templates)
    started = time.perf_counter()
    ranks = rank1(store, probes, drawn.positions, scanned=scanned)
    found["rank1"] = time.perf_counter() - started
    return found | {
        "seconds": time.perf_counter() - total,
        "cpu_seconds": time.process_time() - clock,
        "rows": store.count,
        "identities": scanned.identities,
        "findings": [finding.code for finding in scanned.findings],
        "first": int((ranks == 1).sum()),
        "digest": scanned.digest,
    }


def row_of(name: str, found: dict[str, Any], plain: dict[str, Any], probes: int) -> str:
    """A row of the table; only a store has parts and findings."""
    cells = [name, f"{found['seconds']:.1f}", f"{found['cpu_seconds']:.1f}", f"{found['peak_mb']:.0f}"]
    if found is not plain:
        cells.append(f"{found['cpu_seconds'] / plain['cpu_seconds']:.1f}")
        cells.append(", ".join(f"{found[part]:.1f}" for part in ("scan", "take", "rank1")))
        cells.append(f"{found['first']} of {probes} in {found['rows']:,} rows")
        cells.append(str(found["digest"] == plain["digest"]))
    else:
        cells += ["1", "", "", ""]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--kind", action="append", choices=KINDS, help="default: parquet and faiss")
    parser.add_argument("--probes", type=int, default=60)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "arcinvert-bench-store")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    stem = options.folder / f"store-{options.rows}x{options.size}"
    kinds = options.kind or ["parquet", "faiss"]
    if options.one == "write":  # in a process of its own, so that its memory does not count for the others
        options.folder.mkdir(parents=True, exist_ok=True)
        write(options.folder, options.rows, options.size, kinds)
        return
    if options.one is not None:
        run = plain if options.one == "plain" else store_part
        found = run(stem.with_suffix(".npy" if options.one == "plain" else f".{options.one}"), options.probes)
        found["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        print(json.dumps(found))
        return
    report: dict[str, Any] = {"rows": options.rows, "size": options.size, "probes": options.probes}
    print(HEAD)
    for which in ("write", "plain", *kinds):
        command = [sys.executable, __file__, "--one", which, "--rows", str(options.rows), "--size", str(options.size)]
        command += ["--probes", str(options.probes), "--folder", str(options.folder)]
        command += [part for kind in kinds for part in ("--kind", kind)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        if which == "write":
            continue
        report[which] = found = json.loads(done.stdout)
        print(row_of(which, found, report["plain"], options.probes), flush=True)
    report["load"] = os.getloadavg()[0]
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
