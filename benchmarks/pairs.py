"""The rate of exact verification over all pairs, compared with the bare matrix product.

    python benchmarks/pairs.py [--rows 100000] [--size 512] [--per-identity 10] [--fmr 1e-6] [--whole]

The embeddings are synthetic: a random center per identity plus noise, unit norm. The *bare* rate is the best that
``torch.mm`` reaches in float32 among several shapes of the same inner size and among square matrices, measured before
and after in the same process. Rates are by the processor's time of all threads, times their number, which other jobs
disturb less than the clock. *All pairs* counts one product of D multiplications and D additions for each of the
N (N - 1) / 2 pairs; everything else is overhead. The *naive* row passes a list of scores to scikit-learn's
``roc_curve``, for the largest number of rows whose list fits into ``--naive-memory`` and whose time, predicted from
smaller numbers, fits into ``--naive-seconds``. *FAISS* (where it is installed) searches all rows for those above the
threshold (``range_search`` of a flat index), for a part of the rows; it scores each pair twice.
"""

import argparse
import json
import math
import os
import resource
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from arcinvert.evaluation.allpairs.pairs import all_pairs

SHAPES = [(512, 2048), (1024, 1024), (1024, 4096), (2048, 2048), (4096, 4096)]
SQUARES = [1024, 2048, 4096]
HEAD = (
    "| | rows | pairs | seconds | pairs a second | GFLOP/s (of the bare product) | peak MB | TAR at FAR |\n"
    "|---|---|---|---|---|---|---|---|"
)
NAIVE_BYTES_A_PAIR = 70
"""Measured peak memory of the list of scores and scikit-learn's copies of it."""


def synthetic(rows: int, size: int, per_identity: int, noise: float) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(rows) // per_identity
    labels = labels[torch.randperm(rows, generator=generator)]
    embeddings = torch.randn(rows, size, generator=generator).mul_(noise)
    embeddings += torch.randn(int(labels.max()) + 1, size, generator=generator)[labels]
    return torch.nn.functional.normalize(embeddings, out=embeddings), labels


def clock() -> float:
    """Processor seconds, of all threads together, by their number."""
    return time.process_time() / torch.get_num_threads()


def bare_rate(size: int, seconds: float = 2.0) -> tuple[float, str]:
    """The best rate in FLOP/s, and its shape."""
    best, where = 0.0, ""
    for a, b, inner in [(a, b, size) for a, b in SHAPES] + [(n, n, n) for n in SQUARES]:
        one, other, out = torch.randn(a, inner), torch.randn(b, inner), torch.empty(a, b)
        torch.mm(one, other.T, out=out)
        until = time.perf_counter() + seconds / len(SHAPES)
        while time.perf_counter() < until:
            started = clock()
            torch.mm(one, other.T, out=out)
            rate = 2 * a * b * inner / (clock() - started)
            if rate > best:
                best, where = rate, f"({a}, {inner}) x ({inner}, {b})"
    return best, where


class Memory:
    """A context that records the peak of the resident memory, in bytes."""

    def __enter__(self) -> "Memory":
        self.peak, self.stop = 0, threading.Event()
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()
        return self

    def _watch(self) -> None:
        page = os.sysconf("SC_PAGE_SIZE")
        while not self.stop.wait(0.02):
            self.peak = max(self.peak, int(Path("/proc/self/statm").read_text().split()[1]) * page)

    def __exit__(self, *error: object) -> None:
        self.stop.set()
        self.thread.join()


def timed(run: Callable[[], Any]) -> tuple[float, Any, int]:
    with Memory() as memory:
        started = clock()
        answer = run()
        seconds = clock() - started
    return seconds, answer, memory.peak


def naive(embeddings: Tensor, labels: Tensor, fmr: float) -> float | None:
    from sklearn.metrics import roc_curve

    rows = embeddings.numpy()
    first, second = np.triu_indices(len(rows), k=1)
    scores = (rows @ rows.T)[first, second]
    same = labels.numpy()
    same = same[first] == same[second]
    false, true, _ = roc_curve(same, scores, drop_intermediate=False)
    return float(true[false <= fmr].max()) if fmr * (~same).sum() >= 3 else None


def faiss_rate(embeddings: Tensor, threshold: float, part: int) -> dict[str, float] | None:
    """FLOP/s of FAISS where it finds, for ``part`` of the rows, all rows above the threshold; None without it."""
    try:
        import faiss
    except ImportError:
        return None
    faiss.omp_set_num_threads(torch.get_num_threads())
    index = faiss.IndexFlatIP(embeddings.shape[1])
    index.add(embeddings.numpy())
    seconds, found, _ = timed(lambda: index.range_search(embeddings.numpy()[:part], threshold))
    scores = part * len(embeddings)
    return {"rows": part, "seconds": seconds, "above": len(found[1]), "gflops": 2e-9 * scores * index.d / seconds}


def tell(what: str, rows: int, seconds: float, peak: int, fmr: float, tar: float | None, *, rate: str = "") -> None:
    """A row of the table."""
    pairs = rows * (rows - 1) // 2
    accepted = "null" if tar is None else f"{tar:.6f}"
    cells = [what, f"{rows:,}", f"{pairs:.3g}", f"{seconds:.1f}", f"{pairs / seconds:.2g}", rate, f"{peak / 1e6:.0f}"]
    print("| " + " | ".join([*cells, f"{accepted} at {fmr:.2g}"]) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--per-identity", type=int, default=10)
    parser.add_argument("--noise", type=float, default=1.7, help="of a sample, in units of the centers' spread")
    parser.add_argument("--fmr", type=float, default=1e-6)
    parser.add_argument("--whole", action="store_true", help="also AUC, EER and the histograms")
    parser.add_argument("--naive-memory", type=float, default=4.0, help="GB for the list of scores")
    parser.add_argument("--naive-seconds", type=float, default=60.0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()

    embeddings, labels = synthetic(options.rows, options.size, options.per_identity, options.noise)
    pairs = options.rows * (options.rows - 1) // 2
    before, _ = bare_rate(options.size)
    seconds, found, peak = timed(lambda: all_pairs(embeddings, labels, [options.fmr], whole=options.whole))
    after, shape = bare_rate(options.size)
    bare, rate, point = max(before, after), 2 * options.size * pairs / seconds, found.points[0]
    report: dict[str, Any] = {
        "rows": options.rows,
        "size": options.size,
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0],
        "pairs": pairs,
        "fmr": options.fmr,
        "threshold": point.threshold,
        "tar": point.tar,
        "seconds": seconds,
        "gflops": rate / 1e9,
        "bare_gflops": {"before": before / 1e9, "after": after / 1e9, "at": shape},
        "ratio": rate / bare,
        "peak_mb": peak / 1e6,
        "whole": options.whole,
    }
    print(
        f"{options.rows:,} rows of {options.size}, {report['threads']} threads, load {report['load']:.1f}; "
        f"the bare matrix product reaches {before / 1e9:.1f} GFLOP/s before and {after / 1e9:.1f} after, "
        f"best at {shape}.\n\n{HEAD}"
    )
    tell("all pairs", options.rows, seconds, peak, options.fmr, point.tar, rate=f"{rate / 1e9:.1f} ({rate / bare:.3f})")

    if point.threshold is not None and (found := faiss_rate(embeddings, point.threshold, min(4096, options.rows))):
        report["faiss"] = found | {"ratio": found["gflops"] * 1e9 / bare}
        print(
            f"| FAISS, {found['rows']:,} rows against all, above the threshold | {options.rows:,} "
            f"| {found['rows'] * options.rows / 2:.3g} | {found['seconds']:.1f} "
            f"| {found['rows'] * options.rows / 2 / found['seconds']:.2g} "
            f"| {found['gflops']:.1f} ({report['faiss']['ratio']:.3f}) |  |  |",
            flush=True,
        )

    # The list of scores: smaller sizes first, to predict the time of the next one.
    report["naive"] = []
    largest = int(math.sqrt(2 * options.naive_memory * 1e9 / NAIVE_BYTES_A_PAIR))
    sizes = [n for n in (1000, 2000, 4000, 8000, 16000, 32000) if n < largest] + [largest]
    spent = 0.0
    for rows in (n for n in sizes if n <= options.rows):
        if report["naive"] and spent * (rows / report["naive"][-1]["rows"]) ** 2 > options.naive_seconds:
            break
        few = labels < -(-rows // options.per_identity)
        part, whose = embeddings[few][:rows], labels[few][:rows]
        fmr = max(options.fmr, 10 / (rows * (rows - 1) / 2))
        spent, tar, peak = timed(lambda part=part, whose=whose, fmr=fmr: naive(part, whose, fmr))  # type: ignore[misc]
        ours, found, ours_peak = timed(lambda part=part, whose=whose, fmr=fmr: all_pairs(part, whose, [fmr]))  # type: ignore[misc]
        count = rows * (rows - 1) // 2
        line = {"rows": rows, "pairs": count, "fmr": fmr, "seconds": spent, "peak_mb": peak / 1e6, "tar": tar}
        report["naive"].append({**line, "ours_seconds": ours, "ours_tar": found.points[0].tar})
        tell("a list of scores, scikit-learn", rows, spent, peak, fmr, tar)
        tell("all pairs, on the same", rows, ours, ours_peak, fmr, found.points[0].tar)
    report["highest_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
