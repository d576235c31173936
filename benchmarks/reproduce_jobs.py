"""The commands behind the figures of the documents; `reproduce.py` runs them."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Job:
    """One command.

    Attributes:
        command: words, with {data}, {photos}, {y1}, {v3}, {edge}, {attacked} (y1, calibrated), {work} (its folder),
            {json} (of that, table.json) and {losses} (the folder of that job).
        quick: words that are added, or replace the same option wherever it stands, with --quick.
        printed: whether it prints the table; otherwise it writes {work}/table.md.
    """

    command: str
    quick: str = ""
    printed: bool = True


CALIBRATION = Job("-m arcinvert calibrate --checkpoint {y1} -o {attacked}")
JUDGES = "--judge {y1} --judge {v3}"
JOBS = {
    "inversion": Job(
        f"benchmarks/inversion.py --data {{data}} {JUDGES} --targets 40 --preset fast --preset best --preset pixels"
        " --json {json}",
        "--targets 2 --steps 2",
    ),
    "inversion-y1": Job(
        "benchmarks/inversion.py --data {data} --judge {v3} --checkpoint {attacked} --targets 40"
        " --preset fast --preset best --preset pixels --poses --json {json}",
        "--targets 2 --steps 2",
    ),
    "variations": Job(
        f"benchmarks/inversion.py --data {{data}} {JUDGES} --targets 40 --variations 3 --json {{json}}",
        "--targets 2 --steps 2 --variations 1",
    ),
    "variations-y1": Job(
        "benchmarks/inversion.py --data {data} --judge {v3} --checkpoint {attacked} --targets 40 --variations 3"
        " --json {json}",
        "--targets 2 --steps 2 --variations 1",
    ),
    "ages": Job(
        f"benchmarks/inversion.py --data {{data}} {JUDGES} --targets 40 --variations 2 --vary age --json {{json}}",
        "--targets 2 --steps 2 --variations 1 --vary pose",  # age takes a package that not everybody has
    ),
    "ages-y1": Job(
        "benchmarks/inversion.py --data {data} --judge {v3} --checkpoint {attacked} --targets 40 --variations 2"
        " --vary age --json {json}",
        "--targets 2 --steps 2 --variations 1 --vary pose",
    ),
    "inversion-edgeface": Job(
        f"benchmarks/inversion.py --data {{data}} {JUDGES} --checkpoint {{edge}} --targets 40 --json {{json}}",
        "--targets 2 --steps 2",
    ),
    "people": Job(
        f"benchmarks/inversion.py --people --data {{photos}} {JUDGES} --targets 60 --offset 60 --preset fast"
        " --preset best --json {json}",
        "--targets 2 --steps 2",
    ),
    "people-y1": Job(
        "benchmarks/inversion.py --people --data {photos} --judge {v3} --checkpoint {attacked} --targets 60 --offset 60"
        " --preset fast --preset best --json {json}",
        "--targets 2 --steps 2",
    ),
    "attributes": Job(
        "benchmarks/attributes.py --data {photos} --checkpoint default --checkpoint {y1} --checkpoint {v3}"
        " --checkpoint {edge} --json {json}",
        "--people 12",
    ),
    "ablation": Job(
        f"benchmarks/inversion.py --data {{data}} {JUDGES} --targets 20 --offset 60 --ablate --json {{json}}",
        "--targets 1 --steps 1",
    ),
    "ablation-y1": Job(
        "benchmarks/inversion.py --data {data} --judge {v3} --checkpoint {attacked} --targets 20 --offset 60 --ablate"
        " --json {json}",
        "--targets 1 --steps 1",
    ),
    "ablation-edgeface": Job(
        f"benchmarks/inversion.py --data {{data}} {JUDGES} --checkpoint {{edge}} --targets 20 --offset 60 --ablate"
        " --json {json}",
        "--targets 1 --steps 1",
    ),
    "texture": Job(
        f"benchmarks/texture.py --data {{data}} {JUDGES} --targets 40 --json {{json}}", "--targets 4 --steps 2"
    ),
    "texture-best": Job(
        f"benchmarks/texture.py --data {{data}} {JUDGES} --targets 40 --preset best --json {{json}}",
        "--targets 4 --steps 2",
    ),
    "int8": Job("benchmarks/int8.py --data {data} --model {y1} --json {json}", "--faces 2"),
    "race": Job(
        "benchmarks/inversion.py --data {data} --judge {v3} --checkpoint {attacked} --targets 4 --offset 60"
        " --race 3000 --json {json}",
        "--targets 1 --steps 2 --race 4",
    ),
    "step": Job("benchmarks/step.py --rounds 20 --against 16 --json {json}", "--rounds 1 --against 2"),
    "step-exact": Job("benchmarks/step.py --exact --rounds 20 --against 16 --json {json}", "--rounds 1 --against 2"),
    "first": Job("benchmarks/command.py --json {json}", "--rounds 1"),
    "calibration-faces": Job(
        "benchmarks/calibration_faces.py --data {data} --checkpoint {y1} --judge {v3} --json {json}",
        "--faces 160 --targets 1 --portions 8",
    ),
    "networks": Job(
        "benchmarks/step.py --network default --network {y1} --network {edge} --network vit-s --network iresnet50"
        " --network iresnet100 --batch 1 --batch 4 --batch 16 --batch 64 --seconds 60 --json {json}",
        "--network iresnet18:0.25 --batch 1 --seconds 0 --rounds 1 --steps 2",
    ),
    "large": Job(
        "benchmarks/step.py --network iresnet50 --network iresnet100 --batch 4 --precision float32 --precision bf16"
        " --seconds 6 --json {json}",
        "--network iresnet18:0.25 --batch 1 --seconds 0 --rounds 1 --steps 2",
    ),
    "many": Job(
        "benchmarks/many.py --targets 100 --targets 1000 --targets 10000 --plot docs/images/many.png --json {json}",
        "--targets 16 --whole 2 --plot {work}/many.png",
    ),
    "loops": Job(
        "benchmarks/train.py --only step --batch 32 --rounds 8 --steps 2 --json {json}",
        "--width 0.05 --batch 4 --identities 10 --rounds 1 --steps 1",
    ),
    "adapter": Job(
        "benchmarks/adapter_table.py --data {data} --checkpoint {y1} --json {json}",
        "--seeds 1 --set batch_size=64",
    ),
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
    "black_box": Job(
        "benchmarks/black_box_table.py --data {data} --through {y1} --unknown {v3} --unknown {edge}:127.5 --judge {v3}"
        " -o {work}",
        "--identities 2 --steps 1 --pairs 100",
        printed=False,
    ),
    "migration": Job(
        "benchmarks/migration_table.py --data {data} --model {y1} --model {v3} --model {edge}:127.5 --model default"
        " -o {work}",
        "--identities 5 --others 30",
        printed=False,
    ),
    "migration-real": Job(
        "benchmarks/migration_table.py --data {data} --judged {photos} --identities 150 --model {y1} --model {v3}"
        " --model {edge}:127.5 --model default -o {work}",
        "--identities 5 --others 30",
        printed=False,
    ),
    "convert": Job("benchmarks/convert.py --folder {work} --json {json}", "--rows 20000"),
    "stores": Job("benchmarks/store.py --json {json}", "--rows 20000 --folder {work}"),
    "readers": Job("benchmarks/readers.py --json {json}", "--rows 300 --rounds 1"),
    "mismatch": Job(
        "benchmarks/mismatch_table.py --data {data} --checkpoint {y1} --checkpoint {v3} --checkpoint {edge}"
        " --checkpoint default --json {json}",
        "--own 100 --draws 2 --pictures 1",
    ),
    "membership": Job("benchmarks/membership_table.py --data {data} --json {json}", "--pictures 80 --draws 5"),
    "mismatch-real": Job(
        "benchmarks/mismatch_table.py --data {photos} --all --checkpoint {y1} --checkpoint {v3} --checkpoint {edge}"
        " --checkpoint default --draws 100 --pictures 1 --json {json}",
        "--own 100 --draws 2",
    ),
    "real-audit": Job(
        "benchmarks/real_store.py --crops {photos} --checkpoint {y1} --judge {v3} -o {work}",
        "--people 3 --apart 5 --steps 2",
        printed=False,
    ),
    "real-calibration": Job(
        "benchmarks/real_calibration.py --crops {photos} --checkpoint {y1} --judge {v3} --json {json}",
        "--people 3 --calibration 20 --faces 160 --steps 2",
    ),
    "verdict": Job("benchmarks/verdict_table.py --draws 200 --json {json}", "--draws 1"),
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
    "fuzz": Job("tests/fuzz/fuzz.py --json {json} --found {work}/found", "--runs 100 --only labels"),
    "training": Job("benchmarks/train.py --json {json}", "--width 0.125 --batch 8 --rounds 1 --classes 10000"),
}
BY_HAND = ("architectures",)
"""Tables whose command needs packages that arcinvert does not, such as timm."""


def words_of(job: Job, places: Mapping[str, str], *, quick: bool) -> list[str]:
    """The command line of a job."""
    words, extra = job.command.split(), job.quick.split() if quick else []
    for option in (word for word in extra if word.startswith("--")):
        while option in words:  # the quick value takes the place of all of its values
            del words[words.index(option) : words.index(option) + 2]
    return [sys.executable, *(word.format(**places) for word in [*words, *extra])]
