"""Measure again what the documents claim: figures into results/*.json, tables into results/*.md and the documents.

    python scripts/reproduce.py --data FACES --models MODELS [--work DIR] [--only NAME]... [--quick] [--tables]

FACES is DIR/<identity>/<picture> (the 980 identities behind the default checkpoint), MODELS holds
``insightface-mobilefacenet-y1.onnx`` and ``mobileface-v3.onnx``. What is there already is not measured again (remove
results/NAME.md to have it done), and a job that was killed goes on where its script can. ``--quick`` shrinks every job
to a few minutes in all and writes into the work folder instead: it shows that the commands run, not what they give.
``--tables`` only puts results/*.md into the documents, between ``<!-- results/NAME.md -->`` and ``<!-- end -->``.
"""

import argparse
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = (
    "README.md",
    "checkpoints/MODEL_CARD.md",
    *(f"docs/{n}.md" for n in ("measured", "training", "defences", "evaluation")),
)
BLOCK = re.compile(r"(<!-- results/([\w-]+)\.md -->\n).*?(<!-- end -->)", re.DOTALL)


@dataclass(frozen=True)
class Job:
    """One command.

    Attributes:
        command: words, with {data}, {y1}, {v3}, {attacked} (y1, calibrated), {work} (a folder of its own) and {json}.
        quick: words that are added, or take the place of the same option, when it need only be seen to run.
        table: the file in {work} with the table; None takes the lines of stdout.
    """

    command: str
    quick: str = ""
    table: str | None = None


JUDGES = "--judge {y1} --judge {v3}"
JOBS = {
    "inversion": Job(
        f"scripts/bench_inversion.py --data {{data}} {JUDGES} --targets 40 --preset fast --preset best --json {{json}}",
        "--targets 8 --steps 5",
    ),
    "inversion-y1": Job(
        "scripts/bench_inversion.py --data {data} --judge {v3} --checkpoint {attacked} --targets 40"
        " --preset fast --preset best --poses --json {json}",
        "--targets 8 --steps 5",
    ),
    "ablation": Job(
        f"scripts/bench_inversion.py --data {{data}} {JUDGES} --targets 20 --offset 60 --ablate --json {{json}}",
        "--targets 4 --steps 3",
    ),
    "race": Job(
        "scripts/bench_inversion.py --data {data} --judge {v3} --checkpoint {attacked} --targets 8 --offset 60"
        " --race 3000 --json {json}",
        "--race 80",
    ),
    "step": Job("scripts/bench_step.py --rounds 20 --against 16 --json {json}", "--rounds 2"),
    "evaluation": Job(
        "scripts/eval_table.py --data {data} --checkpoint {y1} --checkpoint {v3} --checkpoint default --json {json}"
    ),
    "pairs": Job("scripts/bench_pairs.py --json {json}", "--rows 5000 --per-identity 5"),
    "losses": Job("scripts/loss_table.py --data {data} -o {work}", "--seeds 1 --epochs 1", "table.md"),
    "purification": Job("scripts/purify_table.py --data {data} -o {work}", "--epochs 1 --retrain-epochs 1", "table.md"),
    "defences": Job(
        "scripts/defence_table.py --data {data} --checkpoint {attacked} --judge {v3} --out {work} --targets 24",
        "--targets 2 --own 600 --defence int8",
        "table.md",
    ),
    "training": Job("scripts/bench_train.py --json {json}", "--width 0.125 --batch 8 --rounds 2 --classes 10000"),
    "stores": Job("scripts/bench_store.py --json {json}", "--rows 20000"),
}


def words_of(job: Job, places: dict[str, str], *, quick: bool) -> list[str]:
    """The command line of a job."""
    words, extra = job.command.split(), job.quick.split() if quick else []
    for option in (word for word in extra if word.startswith("--")):
        if option in words:  # the quick value takes its place
            del words[words.index(option) : words.index(option) + 2]
    return [sys.executable, *(word.format(**places) for word in [*words, *extra])]


def measured(name: str, job: Job, places: dict[str, str], results: Path, *, quick: bool) -> None:
    """Run a job, and keep its table and its JSON."""
    table = results / f"{name}.md"
    if table.exists():
        print(f"{name}: there", flush=True)
        return
    command, started = words_of(job, places, quick=quick), time.monotonic()
    print(f"{name}: {' '.join(command[1:])}", flush=True)
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} ended with {done.returncode}")
    text = done.stdout
    if job.table is not None:
        work = Path(places["work"])
        text = (work / job.table).read_text()
        shutil.copy((work / job.table).with_suffix(".json"), results / f"{name}.json")
    temporary = table.with_suffix(".tmp")
    temporary.write_text(text.strip() + "\n")
    temporary.replace(table)
    print(f"{name}: {time.monotonic() - started:.0f} s", flush=True)


def fill(text: str, results: Path) -> str:
    """A document with the tables that are there."""

    def block(match: re.Match[str]) -> str:
        table = results / f"{match[2]}.md"
        return f"{match[1]}{table.read_text()}{match[3]}" if table.exists() else match[0]

    return BLOCK.sub(block, text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="DIR/<identity>/<picture>")
    parser.add_argument("--models", type=Path, help="folder of the two ONNX files")
    parser.add_argument(
        "--work", type=Path, default=ROOT / "out" / "reproduce", help="for what the jobs keep of their own"
    )
    parser.add_argument("--only", action="append", choices=JOBS, default=[])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--tables", action="store_true")
    options = parser.parse_args()

    results = options.work / "quick" if options.quick else ROOT / "results"
    if not options.tables:
        if options.data is None or options.models is None:
            parser.error("expected --data and --models")
        results.mkdir(parents=True, exist_ok=True)
        y1, v3 = (options.models / f"{name}.onnx" for name in ("insightface-mobilefacenet-y1", "mobileface-v3"))
        attacked = options.work / "y1.safetensors"
        if not attacked.exists():
            faces = ["--faces", options.data, "--held-out", "100"]
            command = [sys.executable, "-m", "arcinvert", "calibrate", "--checkpoint", y1, *faces, "-o", attacked]
            subprocess.run(command, cwd=ROOT, check=True)
        for name in options.only or JOBS:
            work = options.work / ("quick" if options.quick else "runs") / name
            work.mkdir(parents=True, exist_ok=True)
            places = {"data": options.data, "y1": y1, "v3": v3, "attacked": attacked, "work": work}
            found = {key: str(Path(value).resolve()) for key, value in places.items()}
            measured(name, JOBS[name], found | {"json": str(results / f"{name}.json")}, results, quick=options.quick)
    if not options.quick:
        for document in DOCUMENTS:
            path = ROOT / document
            path.write_text(fill(path.read_text(), results))


if __name__ == "__main__":
    main()
