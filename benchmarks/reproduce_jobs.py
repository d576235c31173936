"""The commands behind the figures of the documents; `reproduce.py` runs them."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Job:
    """One command.

    Attributes:
        command: words, with {data}, {y1}, {v3}, {attacked} (y1, calibrated), {work} (its folder), {json} (of that,
            table.json) and {losses} (the folder of that job).
        quick: words that are added, or replace the same option, with --quick.
        printed: whether it prints the table; otherwise it writes {work}/table.md.
    """

    command: str
    quick: str = ""
    printed: bool = True


CALIBRATION = Job(
    "-m arcinvert calibrate --checkpoint {y1} --faces {data} --held-out 100 -o {attacked}", "--held-out 130"
)
JUDGES = "--judge {y1} --judge {v3}"
JOBS = {
    "inversion": Job(
        f"benchmarks/inversion.py --data {{data}} {JUDGES} --targets 40 --preset fast --preset best --json {{json}}",
        "--targets 2 --steps 2",
    ),
    "inversion-y1": Job(
        "benchmarks/inversion.py --data {data} --judge {v3} --checkpoint {attacked} --targets 40"
        " --preset fast --preset best --poses --json {json}",
        "--targets 2 --steps 2",
    ),
    "ablation": Job(
        f"benchmarks/inversion.py --data {{data}} {JUDGES} --targets 20 --offset 60 --ablate --json {{json}}",
        "--targets 1 --steps 1",
    ),
    "race": Job(
        "benchmarks/inversion.py --data {data} --judge {v3} --checkpoint {attacked} --targets 4 --offset 60"
        " --race 3000 --json {json}",
        "--targets 1 --steps 2 --race 4",
    ),
    "step": Job("benchmarks/step.py --rounds 20 --against 16 --json {json}", "--rounds 1 --against 2"),
    "first": Job("benchmarks/command.py --json {json}", "--rounds 1"),
    "evaluation": Job(
        "benchmarks/eval_table.py --data {data} --distractors --checkpoint {y1} --checkpoint {v3} --checkpoint default"
        " --json {json}",
        "--identities 12",
    ),
    "pairs": Job("benchmarks/pairs.py --json {json}", "--rows 5000 --per-identity 5 --naive-seconds 1"),
    "audit": Job(
        "benchmarks/audit_table.py --data {data} --checkpoint {attacked} --judge {v3} -o {work}",
        "--identities 3 --steps 2",
        printed=False,
    ),
    "stores": Job("benchmarks/store.py --json {json}", "--rows 20000 --folder {work}"),
    "mismatch": Job(
        "benchmarks/mismatch_table.py --data {data} --checkpoint {y1} --checkpoint {v3} --checkpoint default"
        " --json {json}",
        "--own 100 --draws 2 --pictures 1",
    ),
    "losses": Job("benchmarks/loss_table.py --data {data} -o {work}", "--seeds 1 --epochs 1 --part 5/7", printed=False),
    "purification": Job(
        "benchmarks/purify_table.py --data {data} -o {work}", "--epochs 1 --retrain-epochs 1", printed=False
    ),
    "margins": Job(
        "benchmarks/margin_table.py --table margins --data {data} --judge {y1} --judge {v3} --runs {losses} -o {work}",
        "--seeds 1 --epochs 1 --targets 2 --part 4/4",
        printed=False,
    ),
    "variants": Job(
        "benchmarks/margin_table.py --table variants --data {data} --judge {y1} --judge {v3} --runs {losses} -o {work}",
        "--seeds 1 --epochs 1 --targets 2 --part 2/9",
        printed=False,
    ),
    "defenses": Job(
        "benchmarks/defense_table.py --data {data} --checkpoint {attacked} --judge {v3} --out {work} --targets 40",
        "--targets 1 --own 200 --defense int8",
        printed=False,
    ),
    "training": Job("benchmarks/train.py --json {json}", "--width 0.125 --batch 8 --rounds 1 --classes 10000"),
}


def words_of(job: Job, places: Mapping[str, str], *, quick: bool) -> list[str]:
    """The command line of a job."""
    words, extra = job.command.split(), job.quick.split() if quick else []
    for option in (word for word in extra if word.startswith("--")):
        if option in words:  # the quick value takes its place
            del words[words.index(option) : words.index(option) + 2]
    return [sys.executable, *(word.format(**places) for word in [*words, *extra])]
