"""Time and memory of the first command of the README, in a process of its own.

    python benchmarks/command.py [--rounds 3] [--json OUT.json]

Measures ``arcinvert synth --embedding examples/target.npy --variations 4`` from start to end, imports and report
included: wall-clock seconds, processor seconds, and peak resident memory. Every round is a new process. The command
runs once before the first round, so that its files are in the cache. This process stays small, because the peak that a
system reports for a new process is at least that of its parent.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SYNTH = ["synth", "--embedding", "examples/target.npy", "--variations", "4"]


def once(words: list[str]) -> dict[str, float]:
    """Run ``arcinvert`` with these words."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "arcinvert", "--quiet", *words]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"command: arcinvert {' '.join(words)} ended with {process.returncode}")
    scale = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss
    return {"seconds": seconds, "cpu_seconds": used.ru_utime + used.ru_stime, "bytes": float(used.ru_maxrss * scale)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    load = os.getloadavg()[0]
    rounds = []
    for _ in range(options.rounds + 1):
        with tempfile.TemporaryDirectory() as folder:
            rounds.append(once([*SYNTH, "-o", folder]))
    del rounds[0]
    middle = {key: statistics.median(found[key] for found in rounds) for key in rounds[0]}
    seconds = [found["seconds"] for found in rounds]
    print("| `arcinvert " + " ".join(SYNTH) + "` | seconds (least to most) | of the processor | peak GB |")
    print("|---|---|---|---|")
    print(
        f"| {options.rounds} rounds | {middle['seconds']:.1f} ({min(seconds):.1f} to {max(seconds):.1f}) "
        f"| {middle['cpu_seconds']:.1f} | {middle['bytes'] / 1e9:.2f} |"
    )
    if options.json:
        report = {"command": SYNTH, "median": middle, "rounds": rounds, "cores": os.cpu_count(), "load": load}
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
