"""Does a job of many targets grow in anything but its number of images?

    python benchmarks/many.py [--targets 100 --targets 1000 --targets 10000] [--json OUT.json] [--plot OUT.png]

What ``synth`` does around the loop, with a stand-in for the loop that hands out ready faces: images, journal, resume,
sheet and manifest, for each number of targets. *First* and *last* are a target's share of the first and the last tenth
of the run, *end* the sheet and the manifest, *again* the same command on the complete folder, which checks every image
by its digest: processor seconds, kernel included, which other jobs disturb less. Memory is the peak of this process.

Then the parts that such a run adds for each image, on ``--whole`` targets: the report (robustness, of the default
network), and one step of the loop (``--steps 1``) with its start and its last picture.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from stepping import peak_bytes
from torch import Tensor
from torch.nn.functional import interpolate, normalize

from arcinvert.inversion.invert import reduced, to_bytes
from arcinvert.inversion.reconstruct import Job, Reconstruction, Settings, batches_of
from arcinvert.inverter import Inverter
from arcinvert.synthesis.job import synthesize

HEAD = (
    "| targets | ms a target: first tenth | last tenth | end, s | again, s | elapsed, s | peak MB "
    "| journal, bytes a target | folder MB |\n|---|---|---|---|---|---|---|---|---|"
)


@dataclass(frozen=True, eq=False)
class Ready(Inverter):
    """An inverter whose loop hands out faces of the prior, a few over and over."""

    out: Path = Path()
    ticks: list[float] = field(default_factory=list)
    journal: list[int] = field(default_factory=list)

    def reconstruct_batches(  # type: ignore[override]
        self, targets: Tensor, settings: Settings, *, batches: Sequence[Sequence[Job]] | None = None, **others: Any
    ) -> Iterator[list[Reconstruction]]:
        """Batches of ready faces; the time before each one, and the journal's size after the last."""
        small = self.prior.pictures(range(16)).permute(0, 3, 1, 2).float() / 255
        large = to_bytes(interpolate(small, scale_factor=2, mode="bilinear"))
        crops = reduced(large)
        for jobs in batches_of(len(targets), settings) if batches is None else batches:
            self.ticks.append(time.process_time())
            yield [
                Reconstruction(target, variation, crops[target % 16], large[target % 16], 0.9, 1, 0.0, False)
                for target, variation in jobs
            ]
        self.ticks.append(time.process_time())
        self.journal.append(sum(path.stat().st_size for path in self.out.glob("journal.*")))


def targets_of(count: int, size: int) -> Tensor:
    return normalize(torch.randn(count, size, generator=torch.Generator().manual_seed(0)))


def around(inverter: Inverter, count: int, out: Path) -> dict[str, Any]:
    """A job of ``count`` targets without its loop and report; then the same again."""
    device = torch.device("cpu")
    targets, settings = targets_of(count, inverter.recognizer.embedding_size), Settings()
    ready = Ready(inverter.recognizer, inverter.prior, inverter.calibration, out=out)
    with peak_bytes(device) as peak:
        started = time.perf_counter()
        manifest = synthesize(ready, targets, out, settings=settings, report=False)
        ended, seconds = time.process_time(), time.perf_counter() - started
    again = synthesize(ready, targets, out, settings=settings, report=False)
    again_seconds = time.process_time() - ended
    if again["results"] != manifest["results"] or len(manifest["results"]) != count:
        raise SystemExit("the second run made other images than the first")
    ticks = ready.ticks[:-1]  # the second run adds one
    tenth = max(1, (len(ticks) - 1) // 10)
    images = tenth * settings.batch_size
    return {
        "targets": count,
        "elapsed": seconds,
        "first": (ticks[tenth] - ticks[0]) / images,
        "last": (ticks[-2] - ticks[-2 - tenth]) / images if len(ticks) > tenth + 2 else (ticks[-1] - ticks[0]) / count,
        "end": ended - ticks[-1],
        "again": again_seconds,
        "peak_mb": peak[0] / 1e6 if peak else None,
        "journal_bytes_a_target": ready.journal[0] / count,
        "folder_mb": sum(path.stat().st_size for path in out.iterdir()) / 1e6,
    }


def whole(inverter: Inverter, count: int, folder: Path) -> dict[str, float]:
    """Processor seconds that the report and one step of the loop add to a target."""
    targets, settings = targets_of(count, inverter.recognizer.embedding_size), Settings(steps=1)
    spent: dict[str, float] = {}
    for name, report, loop in (("job", False, False), ("report", True, False), ("one_step", False, True)):
        out = folder / name
        ready = Ready(inverter.recognizer, inverter.prior, inverter.calibration, out=out)
        clock = time.process_time()
        synthesize(inverter if loop else ready, targets, out, settings=settings, report=report)
        spent[name] = (time.process_time() - clock) / count
    return {"job": spent["job"], **{name: spent[name] - spent["job"] for name in ("report", "one_step")}}


def line(row: dict[str, Any]) -> str:
    cells = [f"{row['targets']:,}", f"{row['first'] * 1e3:.1f}", f"{row['last'] * 1e3:.1f}", f"{row['end']:.1f}"]
    cells += [f"{row['again']:.1f}", f"{row['elapsed']:.0f}", "" if row["peak_mb"] is None else f"{row['peak_mb']:.0f}"]
    cells += [f"{row['journal_bytes_a_target']:.0f}", f"{row['folder_mb']:.0f}"]
    return "| " + " | ".join(cells) + " |"


def plot(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Seconds a target, and the peak of memory, against the number of targets."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(8, 3), layout="constrained")
    counts = [row["targets"] for row in rows]
    for key, text in (("first", "first tenth"), ("last", "last tenth")):
        left.plot(counts, [1e3 * row[key] for row in rows], marker="o", label=text)
    left.plot(counts, [1e3 * row["end"] / row["targets"] for row in rows], marker="o", label="sheet and manifest")
    left.set(xscale="log", xlabel="targets", ylabel="processor ms a target", ylim=(0, None))
    left.legend()
    right.plot(counts, [row["peak_mb"] or 0 for row in rows], marker="o")
    right.set(xscale="log", xlabel="targets", ylabel="peak MB", ylim=(0, None))
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", type=int, action="append", help="default: 100, 1,000 and 10,000")
    parser.add_argument("--whole", type=int, default=32, help="targets with report and loop; 0 for none")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path, help="growth curves as an image; needs matplotlib")
    options = parser.parse_args(words)
    torch.set_flush_denormal(True)
    inverter = Inverter.load(device="cpu")
    report: dict[str, Any] = {"threads": torch.get_num_threads(), "rows": []}
    print(HEAD)
    for count in sorted(options.targets or [100, 1000, 10_000]):
        with tempfile.TemporaryDirectory() as folder:
            report["rows"].append(around(inverter, count, Path(folder) / "out"))
        print(line(report["rows"][-1]), flush=True)
        report["load"] = os.getloadavg()[0]
        if options.json:
            options.json.write_text(json.dumps(report, indent=2) + "\n")
    if options.whole:
        with tempfile.TemporaryDirectory() as folder:
            report["whole"] = {"targets": options.whole, **whole(inverter, options.whole, Path(folder))}
        found = report["whole"]
        print(
            f"\nProcessor seconds a target ({options.whole} targets): files {found['job']:.3f}, the report "
            f"{found['report']:.3f} more, one step of the loop with start and last picture {found['one_step']:.3f} more"
        )
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")
    if options.plot:
        plot(report["rows"], options.plot)


if __name__ == "__main__":
    main()
