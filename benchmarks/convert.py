"""The speed and the memory of `arcinvert convert`, beside a plain numpy product of the same rows.

    python benchmarks/convert.py --rows 1000000 --folder DIR --json convert.json

Each measurement runs in a process of its own. "plain" reads the rows of a .npy block by block, multiplies them by the
weight and writes them, without means, norms or checks. The product alone, on rows in memory, stands beside both.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from arcinvert.audit import open_store
from arcinvert.checkpoint import atomic_write
from arcinvert.mapping.linear_map import LinearMap
from arcinvert.migration.convert import convert_store

SIZE, BLOCK = 512, 8192


def store(folder: Path, kind: str, rows: int) -> Path:
    """A store of random rows, written once."""
    path = folder / f"faces-{rows}.{kind}"
    if not path.exists():
        draw = np.random.default_rng(0)
        if kind == "npy":
            header = np.lib.format.open_memmap(path, "w+", np.float32, (rows, SIZE))
            for start in range(0, rows, BLOCK):
                header[start : start + BLOCK] = draw.normal(size=(min(BLOCK, rows - start), SIZE))
            header.flush()
        else:
            import pyarrow as pa
            import pyarrow.parquet as pq

            schema = pa.schema({"embedding": pa.list_(pa.float32()), "name": pa.string()})
            with pq.ParquetWriter(path, schema) as writer:
                for start in range(0, rows, BLOCK):
                    some = min(BLOCK, rows - start)
                    flat = pa.array(draw.normal(size=some * SIZE).astype(np.float32))
                    lists = pa.FixedSizeListArray.from_arrays(flat, SIZE).cast(schema.field("embedding").type)
                    names = pa.array([f"p{start + n}" for n in range(some)])
                    writer.write_batch(pa.record_batch([lists, names], schema=schema))
    return path


def mapping() -> LinearMap:
    draw = np.random.default_rng(1)
    mean = 0.1 * draw.normal(size=SIZE).astype(np.float32)
    return LinearMap(draw.normal(size=(SIZE, SIZE)).astype(np.float32), mean, mean)


def measured(what: str, path: Path, out: Path) -> dict[str, float]:
    """One measurement, in this process."""
    weight = mapping().weight
    started, cpu = time.perf_counter(), time.process_time()
    if what == "product":
        rows = np.random.default_rng(0).normal(size=(BLOCK, SIZE)).astype(np.float32)
        count = 16 * BLOCK
        started, cpu = time.perf_counter(), time.process_time()
        for _ in range(16):
            rows @ weight
    elif what == "plain":
        source = np.load(path, mmap_mode="r")
        count = len(source)
        with open(out, "wb") as file:
            for start in range(0, count, BLOCK):
                file.write((np.asarray(source[start : start + BLOCK]) @ weight).tobytes())
    else:
        count = convert_store(open_store(str(path)), mapping(), out).rows
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    out.unlink(missing_ok=True)
    status = Path("/proc/self/status").read_text()  # the peak of rusage would be that of the parent
    peak = int(status.partition("VmHWM:")[2].split()[0]) / 1024
    return {"rows": count, "seconds": seconds, "cpu_seconds": cpu, "rows_per_cpu_second": count / cpu, "peak_mb": peak}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, required=True, help="for stores of 2 KB a row; they are kept")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    kinds = {"product": "npy", "plain": "npy", "npy": "npy", "parquet": "parquet"}
    if options.one:
        path = options.folder / f"faces-{options.rows}.{kinds[options.one]}"
        print(json.dumps(measured(options.one, path, options.folder / f"out.{kinds[options.one]}")))
        return
    options.folder.mkdir(parents=True, exist_ok=True)
    found = {}
    lines = ["| | rows | seconds | CPU seconds | rows a CPU second | peak MB |", "|---" * 6 + "|"]
    for what, kind in kinds.items():
        store(options.folder, kind, options.rows)
        command = [sys.executable, __file__, "--one", what, "--rows", str(options.rows)]
        done = subprocess.run([*command, "--folder", str(options.folder)], check=True, capture_output=True, text=True)
        one = found[what] = json.loads(done.stdout)
        cells = [f"{one['rows']:,}", f"{one['seconds']:.1f}", f"{one['cpu_seconds']:.1f}"]
        cells += [f"{one['rows_per_cpu_second']:,.0f}", f"{one['peak_mb']:.0f}"]
        lines.append(f"| {what} | {' | '.join(cells)} |")
    if options.json:
        with atomic_write(options.json) as temporary:
            temporary.write_text(json.dumps(found, indent=2) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
