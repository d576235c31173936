"""How is a store counted that no machine holds? In parts, by any number of workers; the counts of the parts add up.

python examples/09_a_store_in_parts.py --out parts
python examples/09_a_store_in_parts.py --out parts --store 0.npy --store 1.parquet --probes probes.npy --workers 16
RAY_ADDRESS=auto python examples/09_a_store_in_parts.py --out parts --ray --store ...  # pip install 'arcinvert[ray]'

It asks what an audit asks of every row: can it be used, is it of unit norm, and how many rows does each probe (such as
the embedding of a reconstruction) match? A part is a range of rows of a .npy file, or any other store as a whole. It
leaves one small file of integers in --out; after a kill the same command counts the parts that are missing.
"""

import argparse
import json
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from arcinvert import audit

BLOCK = 65536


@dataclass(frozen=True)
class Part:
    """Rows ``start`` up to ``stop`` of a store."""

    store: str
    start: int
    stop: int


@dataclass(frozen=True)
class Counts:
    """Integers alone, so that the sum does not depend on the parts or their order."""

    rows: int = 0
    unusable: int = 0
    unit_norm: int = 0
    matched: tuple[int, ...] = ()

    def __add__(self, other: "Counts") -> "Counts":
        matched = tuple(map(sum, zip(self.matched, other.matched, strict=True))) if self.matched else other.matched
        return Counts(self.rows + other.rows, self.unusable + other.unusable, self.unit_norm + other.unit_norm, matched)


def parts_of(stores: Iterable[str], rows: int) -> Iterator[Part]:
    """Ranges of ``rows`` rows of each array, and every other store as it is."""
    for name in stores:
        store = audit.open_store(name)
        step = rows if store.kind == "npy" else store.count
        yield from (Part(name, start, min(start + step, store.count)) for start in range(0, store.count, step))


def count(part: Part, probes: np.ndarray, threshold: float) -> Counts:
    """What a worker does; memory is that of one block, whatever the part."""
    store = audit.open_store(part.store)
    if (part.start, part.stop) == (0, store.count):
        blocks = store.blocks(BLOCK)
    else:
        starts = range(part.start, part.stop, BLOCK)
        blocks = (store.take(np.arange(start, min(start + BLOCK, part.stop))) for start in starts)
    usable, unit, matched = 0, 0, np.zeros(len(probes), np.int64)
    for block in blocks:
        rows = block.templates.astype(np.float64)  # rounding depends on the shape of a block; here it moves no count
        norms = np.sqrt(np.einsum("nd,nd->n", rows, rows))
        good = np.isfinite(norms) & (norms > 0)
        usable += int(good.sum())
        unit += int((np.abs(norms[good] - 1) <= 0.01).sum())
        matched += (rows[good] @ probes.T >= threshold * norms[good, None]).sum(0)
    size = part.stop - part.start
    return Counts(size, size - usable, unit, tuple(matched.tolist()))


def counted(part: Part, folder: Path, work: Callable[[Part], Counts]) -> Counts:
    """The counts of a part, from its file if it is there."""
    path = folder / f"{Path(part.store).stem}-{part.start:012d}.json"
    if path.exists():
        there = json.loads(path.read_text())
        return Counts(**{**there, "matched": tuple(there["matched"])})
    found = work(part)
    temporary = path.with_suffix(f".{os.getpid()}.part")
    temporary.write_text(json.dumps(asdict(found)))
    temporary.replace(path)
    return found


def by_ray(work: Callable[[Part], Counts], parts: Iterable[Part]) -> Iterator[Counts]:
    """One task for each part, on this machine or on the cluster at RAY_ADDRESS."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray reports its use unless it is told not to
    import ray

    ray.init(include_dashboard=False, log_to_driver=False)
    try:
        task: Any = ray.remote(lambda part: work(part))
        yield from ray.get([task.remote(part) for part in parts])
    finally:
        ray.shutdown()


def made_store(folder: Path, files: int, rows: int) -> list[str]:
    """Random unit rows as .npy files, a few of them unusable."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(files):
        drawn = np.random.default_rng(number).normal(size=(rows, 128)).astype(np.float32)
        drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
        drawn[number :: rows // 3] = np.nan
        np.save(folder / f"{number}.npy", drawn)
    return [str(folder / f"{number}.npy") for number in range(files)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", action="append", help="may be repeated; without it a random one is made")
    parser.add_argument("--probes", type=Path, help="an .npy file of (P, D) embeddings; the default is a few rows")
    parser.add_argument("--threshold", type=float, default=0.3, help="cosine from which on a row matches a probe")
    parser.add_argument("--part", type=int, default=10_000_000, help="rows of a part of an .npy file")
    parser.add_argument("--workers", type=int, default=2, help="processes on this machine")
    parser.add_argument("--ray", action="store_true", help="let Ray distribute the parts")
    parser.add_argument("--out", type=Path, default=Path("parts"))
    parser.add_argument("--quick", action="store_true", help="a small store: shows that it runs")
    options = parser.parse_args()
    stores = options.store or made_store(options.out / "store", 3, 1000 if options.quick else 100_000)
    size = min(options.part, 300) if options.quick else options.part
    probes = audit.open_store(stores[0]).take(np.arange(1, 4)).templates
    probes = np.load(options.probes) if options.probes else probes
    probes = probes.astype(np.float64) / np.linalg.norm(probes, axis=1, keepdims=True)

    options.out.mkdir(parents=True, exist_ok=True)
    parts = list(parts_of(stores, size))
    work = partial(counted, folder=options.out, work=partial(count, probes=probes, threshold=options.threshold))
    if options.ray:
        total = sum(by_ray(work, parts), Counts())
    else:
        with ProcessPoolExecutor(options.workers) as pool:
            total = sum(pool.map(work, parts), Counts())
    print(f"{total.rows:,} rows in {len(parts)} parts: {total.unusable:,} unusable, {total.unit_norm:,} of unit norm")
    print(f"rows that each probe matches at {options.threshold:g}: {', '.join(map(str, total.matched))}")
    (options.out / "counts.json").write_text(json.dumps(asdict(total), indent=2) + "\n")


if __name__ == "__main__":
    main()
