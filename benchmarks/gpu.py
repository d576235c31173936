"""What a GPU gives: parity with the CPU, precisions, CUDA graphs, torch.compile, large networks, training, tests.

    scripts/gpu_check [--device cuda] [--seconds 150] [--only PART] [--quick] [--json benchmarks/results/gpu.json]

Installs nothing. The parts run by worth, until the seconds are spent; each writes what it found at once, and one that
fails leaves the others alone. A table comes last. ``--device cpu --quick`` tries the script itself.

*Step* is a step of ``fast`` as users run it, the auxiliary network's turns in their measure; *own* is one through the
attacked network. *Bare* is the network alone at the same batch and precision: forward, and backward to the pixels.
Faces a second are those of 60 such steps.
"""

import argparse
import json
import os
import platform
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from gpu_graphs import graphs, profiles
from gpu_speed import (
    Bench,
    compiled,
    default_sweep,
    large_networks,
    low_precision_sweep,
    parity,
    precisions,
    variants,
)
from gpu_table import table
from gpu_training import tests, training

from arcinvert.device import choose_device

PARTS: dict[str, Callable[[Bench], Any]] = {
    "parity": parity,
    "default": default_sweep,
    "precisions": precisions,
    "low_precision": low_precision_sweep,
    "large": large_networks,
    "compile_default": partial(compiled, "default"),
    "training": training,
    "graphs": graphs,
    "profiles": profiles,
    "tests": tests,
    "variants": variants,
    "compile_iresnet50": partial(compiled, "iresnet50"),
    "compile_iresnet100": partial(compiled, "iresnet100"),
}
"""By worth: what a time budget leaves out is the end."""

RESULT = Path(__file__).with_name("results") / "gpu.json"


def machine(device: torch.device) -> dict[str, Any]:
    """What the figures were measured on."""
    found: dict[str, Any] = {"torch": torch.__version__, "python": platform.python_version(), "cores": os.cpu_count()}
    if device.type != "cuda":
        return found | {"device": "CPU", "threads": torch.get_num_threads()}
    card = torch.cuda.get_device_properties(device)
    found |= {"device": card.name, "memory_gb": card.total_memory / 1e9, "cuda": torch.version.cuda}
    return found | {"cudnn": torch.backends.cudnn.version(), "cudnn_tf32": torch.backends.cudnn.allow_tf32}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seconds", type=float, default=150.0, help="begin no part after so many")
    parser.add_argument("--only", action="append", choices=list(PARTS), help="these parts alone")
    parser.add_argument("--quick", action="store_true", help="the smallest sizes, to try the script")
    parser.add_argument("--json", type=Path, default=RESULT)
    options = parser.parse_args()
    started = time.perf_counter()
    device = choose_device(options.device)
    report: dict[str, Any] = {"machine": machine(device), "quick": options.quick, "seconds": {}, "failed": {}}
    bench = Bench(device, options.quick, lambda: options.seconds - (time.perf_counter() - started))
    options.json.parent.mkdir(parents=True, exist_ok=True)
    for name, part in PARTS.items():
        if options.only and name not in options.only:
            continue
        if bench.left() <= 0:
            report["failed"][name] = "not begun: the seconds are spent"
            continue
        begun = time.perf_counter()
        try:
            report[name] = part(bench)
        except Exception as error:  # whatever it is, the other parts go on
            traceback.print_exc()
            report["failed"][name] = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            if device.type == "cuda":
                torch.cuda.empty_cache()
        report["seconds"][name] = time.perf_counter() - begun
        options.json.write_text(json.dumps(report, indent=2) + "\n")
        print(f"{name}: {report['failed'].get(name, 'done')}, {report['seconds'][name]:.1f} s", file=sys.stderr)
    options.json.write_text(json.dumps(report, indent=2) + "\n")
    print(table(report))


if __name__ == "__main__":
    main()
