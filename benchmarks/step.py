"""What does one optimization step cost beyond the network's own forward and backward pass?

    python benchmarks/step.py [--network default] [--batch 4] [--preset fast] [--against 16] [--json OUT.json]
    python benchmarks/step.py --network iresnet50 --network vit-s --network y1.onnx --batch 1 --batch 16 --seconds 20

A network is ``default``, a file, or with random weights, which cost the same, ``vit-s`` or a backbone such as
``iresnet100``. *Bare* is the network as its checkpoint describes it, frozen, in eval mode and channels-last memory:
forward to the features and backward to the pixels. *Step* is a whole step of the preset: parameterization, view, trace,
terms, backward, Adam; a view that takes every fifth step counts a fifth. *Own* are the steps that go through the
attacked network. Both run in turn in one process; a ratio is the median over the rounds, with its range, by time and by
the processor's time, which other jobs disturb less.

``--against N`` also times whole steps of N images and of one, in turn: what a batch gains per image.
``--seconds S`` makes as many rounds of as many steps as fit into S seconds, and leaves out a batch of which not even
two steps fit; several networks run in a process each. Tables give the processor's time of all threads on a CPU.
``--device cuda`` measures a GPU, and the memory of its tensors.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from stepping import StepSeconds, bare_pass, inverter_of, peak_bytes, seconds_of, step_seconds, synchronize

from arcinvert.device import choose_device
from arcinvert.faceprior import prior
from arcinvert.inversion.presets import PRESETS, preset_of
from arcinvert.inversion.reconstruct import PRECISIONS
from arcinvert.inversion.tracer import Tracer
from arcinvert.inverter import Inverter

Row = dict[str, Any]

MOST_STEPS = 20
HEAD = (
    "| network | batch | precision | bare, ms an image | step, ms an image | step / bare | own step / bare | s a face "
    "| peak GB: bare, step |\n|---|---|---|---|---|---|---|---|---|"
)


def label(name: str) -> str:
    """What a table calls a network: a file without its folder and ending."""
    return Path(name).stem if Path(name).is_file() else name


def busy_seconds(work: Callable[[], object], device: torch.device) -> float:
    """Seconds of one call; on a CPU the processor's, which other jobs disturb less."""
    clock = time.process_time()
    spent = seconds_of(work, 1, device, warm=0)
    return time.process_time() - clock if device.type == "cpu" else spent


def measure(options: argparse.Namespace, name: str, inverter: Inverter, batch: int, precision: str) -> Row:
    """One row: bare passes and steps in turn."""
    device, kind = inverter.recognizer.device, PRECISIONS[precision]
    row: Row = {"network": label(name), "batch": batch, "precision": precision, "preset": options.preset}
    row |= {"device": str(device), "threads": torch.get_num_threads()}
    bare, tracer = bare_pass(name, batch, device, kind), Tracer(kind)

    def steps(count: int) -> StepSeconds:
        return step_seconds(inverter, batch, count, preset=options.preset, tracer=tracer)

    rounds, count = options.rounds, options.steps
    if options.seconds:
        once = busy_seconds(bare, device)
        if 6 * once > options.seconds:
            return row | {"left_out": f"two steps take more than {options.seconds:g} s"}
        once = busy_seconds(bare, device)
        count = max(2, min(MOST_STEPS, int(options.seconds / once / 8)))
        rounds = max(1, min(options.rounds, int(options.seconds / once / (2 * count + 1)) - 1))
    else:
        bare()
        steps(count)
    plain: list[tuple[float, float]] = []
    whole: list[StepSeconds] = []
    for _ in range(rounds):
        with peak_bytes(device) as bare_peak:
            synchronize(device)
            started, clock = time.perf_counter(), time.process_time()
            for _ in range(count):
                bare()
            synchronize(device)
            plain.append(((time.perf_counter() - started) / count, (time.process_time() - clock) / count))
        with peak_bytes(device) as peak:
            whole.append(steps(count))
    cpu = device.type == "cpu"
    wall = [(step.whole / one[0], step.own / one[0]) for one, step in zip(plain, whole, strict=True)]
    busy = [(step.cpu_whole / one[1], step.cpu_own / one[1]) for one, step in zip(plain, whole, strict=True)]
    for suffix, pairs in (("", wall), *([("_cpu", busy)] if cpu else [])):
        for key, ratios in (("ratio", [one for one, _ in pairs]), ("ratio_attacked", [own for _, own in pairs])):
            row |= {f"{key}{suffix}": statistics.median(ratios), f"{key}{suffix}_range": [min(ratios), max(ratios)]}
    step = statistics.median([one.cpu_whole if cpu else one.whole for one in whole])
    return row | {
        "rounds": rounds,
        "steps": count,
        "bare_ms": statistics.median([one for one, _ in plain]) * 1e3,
        "step_ms": statistics.median([one.whole for one in whole]) * 1e3,
        "bare_cpu_ms": statistics.median([one for _, one in plain]) * 1e3,
        "step_cpu_ms": statistics.median([one.cpu_whole for one in whole]) * 1e3,
        "seconds_a_face": step * preset_of(options.preset).steps / batch,
        "bare_peak_bytes": max(bare_peak, default=None),
        "peak_bytes": max(peak, default=None),
    }


def in_a_process(options: argparse.Namespace, name: str) -> list[Row]:
    """The rows of one network, measured in a process of its own."""
    words = ["--network", name, "--preset", options.preset, "--device", options.device, "--rows"]
    words += [word for batch in options.batch for word in ("--batch", str(batch))]
    words += [word for precision in options.precision for word in ("--precision", precision)]
    words += ["--exact"] * options.exact
    words += ["--rounds", str(options.rounds), "--steps", str(options.steps), "--seconds", str(options.seconds)]
    done = subprocess.run([sys.executable, __file__, *words], check=True, stdout=subprocess.PIPE, text=True)
    rows: list[Row] = json.loads(done.stdout)
    return rows


def rows_of(options: argparse.Namespace, name: str) -> list[Row]:
    """The rows of one network, smaller batches first; those after one that takes too long are left out too."""
    inverter, found = inverter_of(name, choose_device(options.device)), []
    for precision in options.precision:
        late = ""
        for batch in sorted(options.batch):
            if late:
                found.append({"network": label(name), "batch": batch, "precision": precision, "left_out": late})
                continue
            found.append(measure(options, name, inverter, batch, precision))
            late = found[-1].get("left_out", "")
    return found


def gain(options: argparse.Namespace, inverter: Inverter) -> Row:
    """Seconds of a step per image: alone, and in a batch of ``--against``."""
    alone, together = [], []
    for number in range(options.rounds + 1):
        one = step_seconds(inverter, 1, options.steps, preset=options.preset).whole
        many = step_seconds(inverter, options.against, options.steps, preset=options.preset).whole
        if number:  # the first round warms up
            alone.append(one)
            together.append(many / options.against)
    by = statistics.median(one / many for one, many in zip(alone, together, strict=True))
    print(
        f"per image and step: {statistics.median(alone) * 1e3:.1f} ms alone, {statistics.median(together) * 1e3:.1f} "
        f"ms among {options.against}, {by:.2f} times as fast"
    )
    return {"against": options.against, "one_ms": statistics.median(alone) * 1e3, "gain": by}


def sentence(row: Row) -> str:
    """A single row in words."""
    least, most = row["ratio_range"]
    low, high = row["ratio_attacked_range"]
    return (
        f"{row['preset']}, batch {row['batch']}, {row['threads']} threads: bare {row['bare_ms']:.1f} ms, "
        f"step {row['step_ms']:.1f} ms, ratio {row['ratio']:.3f} ({least:.3f} to {most:.3f} over {row['rounds']} "
        f"rounds); through the attacked network alone {row['ratio_attacked']:.3f} ({low:.3f} to {high:.3f})"
    )


def line(row: Row) -> str:
    """A row of the table; on a CPU by the processor's time."""
    cells = [row["network"], str(row["batch"]), row["precision"]]
    if "left_out" in row:
        return "| " + " | ".join([*cells, row["left_out"], "", "", "", "", ""]) + " |"
    by = "_cpu" if "ratio_cpu" in row else ""
    for key in ("bare", "step"):
        cells.append(f"{row[f'{key}{by}_ms'] / row['batch']:.1f}")
    for key in ("ratio", "ratio_attacked"):
        least, most = row[f"{key}{by}_range"]
        cells.append(f"{row[f'{key}{by}']:.2f} ({least:.2f} to {most:.2f})")
    cells.append(f"{row['seconds_a_face']:.2f}")
    peaks = [row["bare_peak_bytes"], row["peak_bytes"]]
    cells.append("" if None in peaks else ", ".join(f"{peak / 1e9:.2f}" for peak in peaks))
    return "| " + " | ".join(cells) + " |"


def table(options: argparse.Namespace) -> Row:
    """Measure and print every network; what is there so far is written after each."""
    report: Row = {"threads": torch.get_num_threads(), "device": options.device, "rows": []}
    print(HEAD, flush=True)
    for name in options.network:
        rows = in_a_process(options, name)
        report["rows"] += rows
        print("\n".join(map(line, rows)), flush=True)
        report["load"] = os.getloadavg()[0]
        if options.json:
            options.json.write_text(json.dumps(report, indent=2) + "\n")
    return report


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", action="append", help="may be repeated; default: default")
    parser.add_argument("--batch", type=int, action="append", help="images at once; may be repeated; default: 4")
    parser.add_argument("--precision", action="append", choices=list(PRECISIONS), help="default: float32")
    parser.add_argument("--preset", default="fast", choices=list(PRESETS))
    parser.add_argument("--rounds", type=int, default=8, help="at most, with --seconds")
    parser.add_argument("--steps", type=int, default=20, help="per round; chosen by --seconds, if that is given")
    parser.add_argument("--seconds", type=float, default=0.0, help="about so long for each row; 0: no limit")
    parser.add_argument("--against", type=int, help="a second size of batch, to be compared with single images")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--exact", action="store_true", help="the decoder as where bfloat16 does not run in hardware")
    parser.add_argument("--rows", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(words)
    options.network, options.batch = options.network or ["default"], options.batch or [4]
    options.precision = options.precision or ["float32"]

    torch.set_flush_denormal(True)
    if options.exact:
        prior.has_bfloat16 = lambda device: False
    if options.rows:
        print(json.dumps([row for name in options.network for row in rows_of(options, name)]))
        return
    if len(options.network) * len(options.batch) * len(options.precision) > 1:
        report = table(options)
    else:
        name, (batch,), (precision,) = options.network[0], options.batch, options.precision
        inverter = inverter_of(name, choose_device(options.device))
        report = measure(options, name, inverter, batch, precision)
        print(sentence(report))
        if options.against:
            report |= gain(options, inverter)
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
