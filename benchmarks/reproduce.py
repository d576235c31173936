"""Measure what the documents claim: figures and tables go into benchmarks/results, tables into the documents too.

    python benchmarks/reproduce.py --data FACES --models MODELS [--photos CROPS] [--work DIR] [--only NAME]...
    python benchmarks/reproduce.py --quick [--data FACES --models MODELS] [--work DIR]
    python benchmarks/reproduce.py --tables

FACES is DIR/<identity>/<image> (the 980 identities behind the default checkpoint), MODELS holds
``insightface-mobilefacenet-y1.onnx``, ``mobileface-v3.onnx`` and ``edgeface-xxs.onnx``, CROPS
aligned photographs of real people (for measuring only; without them their jobs are left out). An existing table is not
measured again (remove NAME.md in benchmarks/results to repeat it). A job resumes after a kill if its script can. If a
job fails, the others still run, and the exit code is 1. ``runs.json`` holds the command of each table and the machine.

``--quick`` shrinks every job and writes into DIR/quick instead. It shows that the commands run; its figures mean
nothing. Without FACES and MODELS it uses stand-ins (``benchmarks/stand_ins.py``). ``--tables`` only puts the tables
into the documents, between ``<!-- results/NAME.md -->`` and ``<!-- end -->``.
"""

import argparse
import json
import os
import re
import resource
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from reproduce_jobs import CALIBRATION, JOBS, Job, words_of
from summary_table import tables

ROOT = Path(__file__).resolve().parents[1]
PAGES = (
    "audit",
    "audit-commands",
    "black_box",
    "defenses",
    "evaluation",
    "measured",
    "recognizers",
    "security",
    "speed",
    "stores",
    "training",
)
DOCUMENTS = ("README.md", "checkpoints/MODEL_CARD.md", *(f"docs/{name}.md" for name in PAGES))
TABLE_BLOCK = re.compile(r"(<!-- results/([\w-]+)\.md -->\n).*?(<!-- end -->)", re.DOTALL)
NETWORKS = {"y1": "insightface-mobilefacenet-y1.onnx", "v3": "mobileface-v3.onnx", "edge": "edgeface-xxs.onnx"}
QUICK_IDENTITIES, QUICK_PICTURES = 160, 4
THERE, FAILED = "there", "failed"


class Failed(Exception):  # noqa: N818
    """A command failed."""


def run(name: str, words: list[str]) -> str:
    """The standard output of a command; its messages go to stderr.

    Raises:
        Failed: another exit code than 0.
    """
    said = shlex.join(["python", *words[1:]])
    print(f"{name}: {said}", flush=True)
    done = subprocess.run(words, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise Failed(f"{name} ended with {done.returncode}: {said}")
    return done.stdout


def written(path: Path, text: str) -> None:
    """Write a file atomically."""
    temporary = path.with_suffix(".part")
    temporary.write_text(text.strip() + "\n")
    temporary.replace(path)


def measured(name: str, job: Job, places: Mapping[str, str], results: Path, *, quick: bool) -> None:
    """Run a job; keep its JSON, then its table.

    Raises:
        Failed: the job, or the calibration of the network that it attacks; or it left no table.
    """
    work, started, busy = Path(places["work"]), time.monotonic(), processor()
    work.mkdir(parents=True, exist_ok=True)
    if "{attacked}" in job.command and not Path(places["attacked"]).exists():
        run(f"{name}, calibration", words_of(CALIBRATION, places, quick=quick))
    for left in ("table.json", "table.md"):  # of an earlier run; its intermediate files stay
        (work / left).unlink(missing_ok=True)
    text = run(name, words_of(job, places, quick=quick))
    try:
        figures = (work / "table.json").read_text()
        text = text if job.printed else (work / "table.md").read_text()
    except FileNotFoundError as error:
        raise Failed(f"{name} left no {error.filename}") from None
    written(results / f"{name}.json", figures)
    took = {"seconds": round(time.monotonic() - started), "cpu_seconds": round(processor() - busy)}
    note(results / "runs.json", name, words_of(job, {key: f"{{{key}}}" for key in places}, quick=quick), took)
    written(results / f"{name}.md", text)


def note(path: Path, name: str, words: list[str], took: Mapping[str, int]) -> None:
    """Store the command of a table, without its paths, and the machine."""
    there = json.loads(path.read_text()) if path.exists() else {}
    machine = {"cores": os.cpu_count(), "threads": os.environ.get("OMP_NUM_THREADS"), "load": os.getloadavg()[2]}
    there[name] = {"command": " ".join(["python", *words[1:]]), **took, **machine}
    written(path, json.dumps(dict(sorted(there.items())), indent=2))


def fill(text: str, results: Path) -> str:
    """A document with the existing tables filled in."""

    def block(match: re.Match[str]) -> str:
        table = results / f"{match[2]}.md"
        return f"{match[1]}{table.read_text()}{match[3]}" if table.exists() else match[0]

    return TABLE_BLOCK.sub(block, text)


def few(data: Path, folder: Path) -> Path:
    """Links to the first pictures of the last identities of ``data``."""
    for identity in sorted(path for path in data.iterdir() if path.is_dir())[-QUICK_IDENTITIES:]:
        (folder / identity.name).mkdir(parents=True, exist_ok=True)
        for picture in sorted(identity.iterdir())[:QUICK_PICTURES]:
            if not (link := folder / identity.name / picture.name).is_symlink():
                link.symlink_to(picture.resolve())
    return folder


def prepared(options: argparse.Namespace, work: Path) -> tuple[Path, Path]:
    """Faces and networks; a quick run takes few faces, or stand-ins for both.

    Raises:
        Failed: stand-ins could not be made.
    """
    if options.data is not None:
        return (few(options.data, work / "faces") if options.quick else options.data), options.models
    if not (work / "models" / NETWORKS["edge"]).exists():
        print(run("stand-ins", [sys.executable, "benchmarks/stand_ins.py", "-o", str(work)]), end="")
    return work / "faces", work / "models"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="DIR/<identity>/<picture>")
    parser.add_argument("--models", type=Path, help="folder of the ONNX files")
    parser.add_argument("--photos", type=Path, help="aligned photographs DIR/<identity>/<image>, for measuring only")
    parser.add_argument(
        "--work", type=Path, default=ROOT / "out" / "reproduce", help="for what the jobs keep of their own"
    )
    parser.add_argument("--only", action="append", choices=JOBS, default=[])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--tables", action="store_true")
    options, started = parser.parse_args(), time.monotonic()
    given = [path for path in (options.data, options.models) if path is not None]
    if len(given) == 1 or (not given and not (options.quick or options.tables)):
        parser.error("expected --data and --models")
    for path in [*given, *([options.photos] if options.photos else [])]:
        if not path.is_dir():
            parser.error(f"expected a folder, got {str(path)!r}")

    work = (options.work / "quick" if options.quick else options.work).resolve()
    results = work / "results" if options.quick else ROOT / "benchmarks" / "results"
    found: dict[str, str] = {}
    if not options.tables:
        results.mkdir(parents=True, exist_ok=True)
        signal.signal(signal.SIGTERM, stopped)
        try:
            found = measure(options, work, results)
        except KeyboardInterrupt:
            print("interrupted; the same command goes on", file=sys.stderr)
            raise SystemExit(130) from None
        except Failed as error:
            raise SystemExit(str(error)) from None
        print("\n| job | | seconds | of the processor |\n|---|---|---|---|")
        print("".join(f"| {name} | {row} |\n" for name, row in found.items()), end="")
        print(f"\nin all {time.monotonic() - started:.0f} s, {processor():.0f} s of the processor; see {results}")
    texts = {ROOT / document: (ROOT / document).read_text() for document in DOCUMENTS}
    shown = {match[2] for text in texts.values() for match in TABLE_BLOCK.finditer(text)}
    for name, table in tables(results).items():
        if name in shown:
            written(results / f"{name}.md", table)
    if not options.quick:
        for path, text in texts.items():
            if (new := fill(text, results)) != text:
                path.write_text(new)
    if any(row.startswith(FAILED) for row in found.values()):
        raise SystemExit(1)


def stopped(number: int, frame: object) -> None:
    """Behave as at Ctrl-C, so that the running command ends too."""
    raise KeyboardInterrupt


def measure(options: argparse.Namespace, work: Path, results: Path) -> dict[str, str]:
    """Run the jobs; returns the state and the seconds of each."""
    data, models = prepared(options, work)
    places = {"data": data, "attacked": work / "y1.safetensors", "losses": work / "runs" / "losses"}
    places |= {key: models / file for key, file in NETWORKS.items()}
    places["photos"] = options.photos or data
    found: dict[str, str] = {}
    for name in options.only or JOBS:
        if (results / f"{name}.md").exists():
            found[name] = f"{THERE} | |"
            continue
        if "{photos}" in JOBS[name].command and not (options.photos or options.quick):
            found[name] = "needs --photos | |"
            continue
        folder = work / "runs" / name
        here = {key: str(path.resolve()) for key, path in {**places, "work": folder}.items()}
        here["json"] = str(folder / "table.json")
        started, busy = time.monotonic(), processor()
        try:
            measured(name, JOBS[name], here, results, quick=options.quick)
            word = "done"
        except Failed as error:
            print(error, file=sys.stderr, flush=True)
            word = FAILED
        found[name] = f"{word} | {time.monotonic() - started:.0f} | {processor() - busy:.0f}"
        print(f"{name}: {word}", flush=True)
    return found


def processor() -> float:
    """Processor seconds of all commands so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
