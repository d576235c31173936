"""Fuzz one target, or all: mutated files by libFuzzer (atheris), guided by the branches of arcinvert that they reach.

    python tests/fuzz/fuzz.py [--runs 100000] [--only NAME]... [--json FILE] [--found FOLDER]

A target runs in processes of its own. Its reader may raise errors of arcinvert and nothing else; it may not crash, take
more than 2 GB, or hang. What breaks this is kept in FOLDER, and the exit code is 1.
"""

import argparse
import contextlib
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MEMORY, SECONDS = 2048, 60
"""MiB that a process may take, and seconds that a file may take, on a busy machine."""
FLUSH = 100
DEATHS = 20
"""After so many deaths of its process a target is given up."""


def fuzz(name: str, runs: int, seed: int, counts: Path, found: Path) -> None:
    """Read ``runs`` mutated files in this process, and end it."""
    import atheris

    hook = atheris.instrument_imports(include=["arcinvert"])
    hook.__enter__()
    from fuzz_targets import TARGETS

    from arcinvert.errors import ArcInvertError

    target = TARGETS[name]
    if target.native:
        from forked import Forked

        from arcinvert.audit.stores import child

        Forked(target.needs).stand_in(child)
    warnings.simplefilter("error")  # a user would see it
    folder = Path(tempfile.mkdtemp(prefix="fuzz.", dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
    place, seeds = target.place(folder)
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, content in enumerate(seeds):
        (corpus / f"seed{number}").write_bytes(content)
    results: Counter[str] = Counter()
    errors: dict[str, dict[str, Any]] = {}
    done, start = 0, time.monotonic()

    def flush() -> None:
        state = {"runs": done, "results": results, "errors": errors, "seconds": time.monotonic() - start}
        state["memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        counts.with_suffix(".new").write_text(json.dumps(state))
        os.replace(counts.with_suffix(".new"), counts)

    def one(content: bytes) -> None:
        nonlocal done
        place.write_bytes(content)
        try:
            target.read(place)
        except ArcInvertError as error:
            results[type(error).__name__] += 1
        except BaseException as error:  # a panic of native code is no Exception
            where = _where(error)
            results["other"] += 1
            if where not in errors:
                kept = found / f"{name.replace(' ', '-')}.{len(errors)}.{os.getpid()}"
                kept.write_bytes(content)
                text = "".join(traceback.format_exception(error))
                kept.with_name(kept.name + ".txt").write_text(text, errors="replace")
                errors[where] = {"count": 0, "file": kept.name}
            errors[where]["count"] += 1
        else:
            results["read"] += 1
        done += 1
        if done >= runs:
            flush()
            shutil.rmtree(folder, ignore_errors=True)
            os._exit(0)
        if done % FLUSH == 0:
            flush()

    longest = max(4096, 2 * max(map(len, seeds)))
    options = [f"-seed={seed}", f"-timeout={SECONDS}", f"-rss_limit_mb={MEMORY}", f"-artifact_prefix={found}/"]
    atheris.Setup([sys.argv[0], *options, f"-max_len={longest}", "-len_control=0", "-verbosity=0", str(corpus)], one)
    atheris.Fuzz()


def _where(error: BaseException) -> str:
    """The kind of an error, and the last line of arcinvert that it passed."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "/arcinvert/" in f.filename]
    last = f"{frames[-1].filename.rpartition('/arcinvert/')[2]}:{frames[-1].lineno}" if frames else "the target"
    return f"{type(error).__name__} at {last}"


def fuzz_target(name: str, runs: int, found: Path) -> dict[str, Any]:
    """Read ``runs`` mutated files in processes that are started again when they die."""
    total: dict[str, Any] = {"runs": 0, "read": 0, "refused": 0, "other_errors": {}, "deaths": [], "seconds": 0.0}
    total |= {"other": 0, "memory_mb": 0}
    for seed in range(1, DEATHS + 1):
        left = runs - total["runs"]
        if left <= 0:
            break
        with _folder() as folder:
            counts = folder / "counts.json"
            before = set(found.iterdir())
            command = [sys.executable, __file__, "--target", name, str(left), str(seed), str(counts), str(found)]
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
            if not counts.exists():
                raise SystemExit(f"{name}: {done.stderr[-3000:]}")
            state = json.loads(counts.read_text())
        results = Counter(state["results"])
        total["runs"] += state["runs"]
        total["read"] += results.pop("read", 0)
        total["other"] += results.pop("other", 0)
        total["refused"] += sum(results.values())
        total["seconds"] = round(total["seconds"] + state["seconds"], 1)
        total["memory_mb"] = max(total["memory_mb"], state["memory_mb"])
        for where, entry in state["errors"].items():
            known = total["other_errors"].setdefault(where, {"count": 0, "file": entry["file"]})
            known["count"] += entry["count"]
        if done.returncode:
            kept = sorted(path.name for path in set(found.iterdir()) - before if "-" in path.name and path.suffix == "")
            said = [line for line in done.stderr.splitlines() if "ERROR" in line or "SUMMARY" in line][:2]
            total["deaths"].append({"code": done.returncode, "kept": kept[-1:], "said": said})
    return total


def table(results: dict[str, Any]) -> str:
    """The counts as a table of Markdown."""
    head = ("file", "mutated files", "read", "refused", "other errors", "crashes, hangs", "peak MB")
    rows = [head, ("---",) * len(head)]
    for name, result in results.items():
        numbers = [result[key] for key in ("runs", "read", "refused", "other")]
        rows.append((name, *(f"{n:,}" for n in (*numbers, len(result["deaths"]), result["memory_mb"]))))
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _kept(result: dict[str, Any] | None, runs: int) -> bool:
    """Whether a target has run so often, and kept its promises."""
    return result is not None and result["runs"] >= runs and not result["other_errors"] and not result["deaths"]


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def main() -> int:
    """Fuzz the targets one after the other; what is known already is written after each."""
    if sys.argv[1:2] == ["--target"]:
        name, runs, seed, counts, found = sys.argv[2:]
        fuzz(name, int(runs), int(seed), Path(counts), Path(found))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100_000, help="Mutated files of each target.")
    parser.add_argument("--only", action="append", help="A target; may be repeated; default: all.")
    parser.add_argument("--json", type=Path, help="Write counts to this file; what it has is not run again.")
    parser.add_argument("--found", type=Path, default=Path("fuzz-found"), help="Folder for what breaks a promise.")
    options = parser.parse_args()
    from fuzz_targets import TARGETS

    options.found.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {}
    if options.json is not None and options.json.exists():
        results = json.loads(options.json.read_text())["targets"]
    for name in options.only or TARGETS:
        if missing := TARGETS[name].missing():
            print(f"{name}: left out, needs {', '.join(missing)}", file=sys.stderr, flush=True)
            continue
        if _kept(results.get(name), options.runs):
            continue
        results[name] = fuzz_target(name, options.runs, options.found)
        print(f"{name}: {json.dumps(results[name])}", file=sys.stderr, flush=True)
        if options.json is not None:
            options.json.write_text(json.dumps({"targets": results}, indent=1) + "\n")
    print(table(results), end="")
    return int(not all(_kept(results[name], options.runs) for name in options.only or TARGETS if name in results))


if __name__ == "__main__":
    sys.exit(main())
