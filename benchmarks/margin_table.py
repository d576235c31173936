"""Whether the loss, or another setting of a training, decides how well a network can be inverted.

    python benchmarks/margin_table.py --data FACES --judge y1.onnx --judge v3.onnx -o DIR
        [--table variants] [--part 1/2]

Small networks (those of loss_table.py) are trained with one setting changed, calibrated on the training images, and
inverted alike: preset ``fast``, from the embedding of the first image of each of the last ``--targets`` identities,
which neither network, calibration nor face prior has seen. ``--table margins`` (Deng et al. 2021, Table 11, in small)
changes the loss; ``variants`` changes one other setting at a time of ``arcface``.

A judge is an ONNX embedder that takes RGB in 0..255. It compares a reconstruction with the enrolled image (type I) at
thresholds that the 60 identities before the targets fix; *against* is the difference of its cosines to those of the
first row, paired by target, with a 95 % bootstrap interval over the targets. *Frechet* is the distance, in the judge's
feature space, from the reconstructions to the targets' other images without the second. With so few images it is
biased, and only comparable with the controls.

RUNS (``--runs``, default DIR) gets <name>-<seed>.safetensors and .json as loss_table.py writes them, so that one folder
serves both, and inverted/<name>-<seed>.json and .png. Existing files are not computed again. DIR/table.json and
DIR/table.md hold what is done so far; ``--sheet`` shows the same five identities for every row.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from inversion import FMRS
from loss_table import AUGMENTATION, HELD_OUT, LOSSES, part_of, run_once, small_config, spread, write_json
from margin_inversion import Bench
from torch.nn.functional import pad

from arcinvert.checkpoint import atomic_write, file_digest
from arcinvert.errors import ArcInvertError, UsageError
from arcinvert.faces.augmentation import Augmentation
from arcinvert.synthesis.sheets import read_png, write_png
from arcinvert.training.config import DistillationConfig
from arcinvert.training.data.containers import list_images
from arcinvert.training.data.faces import split_identities

GAP = 4


@dataclass(frozen=True)
class Training:
    """The training of one row.

    Attributes:
        settings: changes of :func:`small_config`; a ``teacher`` is named by its row.
        share: share of the training identities; the number of epochs grows accordingly.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    share: float = 1.0


HARD = Augmentation(
    shift=0.05, scale=0.08, light=0.35, color=0.25, gray=0.4, cutout=0.3, surroundings=0.6, shade=0.3
)  # as the default checkpoint's, from the third epoch on
POOR = replace(AUGMENTATION, low_resolution=0.2, blurred=0.2, jpeg=0.2)
TABLES: Mapping[str, Mapping[str, Training]] = {
    "margins": {name: Training(LOSSES[name]) for name in ("softmax", "sphereface", "cosface", "arcface")},
    "variants": {
        "arcface": Training(),
        "embedding-512": Training({"embedding_size": 512}),
        "hard-augmentation": Training({"second_stage": HARD, "second_stage_from": 2.0}),
        "poor-pictures": Training({"augmentation": POOR}),
        "half-identities": Training(share=0.5),
        "dropout-0.4": Training({"dropout": 0.4}),
        "width-0.5": Training({"width": 0.5}),
        "taught": Training({"distillation": DistillationConfig("width-0.5", l2=10.0, kl=0.0)}),
        "adversarial": Training({"adversarial": 2 / 255}),
    },
}
SEEDS = {"margins": 2, "variants": 1}


def once(path: Path, asked: Mapping[str, Any]) -> dict[str, Any] | None:
    """The inversion stored in ``path``, if any; it must have the same images, judges and weights."""
    if not path.is_file():
        return None
    kept = dict(json.loads(path.read_text()))
    if other := sorted(key for key, value in asked.items() if kept["asked"].get(key) != value):
        raise UsageError(f"{str(path)!r} was made with other {', '.join(other)}; take another folder, or remove it")
    return kept


def trained(data: Path, runs: Path, name: str, row: Training, *, seed: int, epochs: int) -> dict[str, Any]:
    """Train a row unless it exists, and return its figures."""
    settings = dict(row.settings)
    if "distillation" in settings:
        teacher = str(runs / f"{settings['distillation'].teacher}-{seed}.safetensors")
        settings["distillation"] = replace(settings["distillation"], teacher=teacher)
    keep = None
    if row.share < 1:
        pictures = list_images(data)
        names, _ = split_identities(pictures.identities, HELD_OUT)
        keep = {entry.file for entry in pictures.of(names[: round(row.share * len(names))]).entries}
    config = small_config(**settings, epochs=round(epochs / row.share), seed=seed)
    return run_once(data, runs / f"{name}-{seed}", config, keep=keep)


def against(first: list[Mapping[str, Any]], runs: list[Mapping[str, Any]], judge: str) -> tuple[float, float, float]:
    """Difference of a judge's cosines to those of the first row, paired by target: mean and 95 % interval."""
    of_target = [np.mean([run["judges"][judge]["cosines"] for run in row], axis=0) for row in (runs, first)]
    gap = of_target[0] - of_target[1]
    drawn = np.random.default_rng(0).choice(gap, (2000, len(gap))).mean(1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(gap.mean()), float(low), float(high)


def table(rows: Mapping[str, list[Mapping[str, Any]]], controls: Mapping[str, Any]) -> str:
    """Markdown, a line for each row and judge; a cell is the mean over the seeds, then the smallest and the largest."""
    first = next(iter(rows.values()))
    heads = ["training", "seeds", "AUC", "TAR@FMR=1e-3", "own cosine", "judge", "cosine", f"against {next(iter(rows))}"]
    heads += ["type I at 1e-2", "at 1e-3", "Frechet"]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]

    def judged_cells(runs: list[Mapping[str, Any]], judge: str, gap: str) -> list[str]:
        found = [run["judges"][judge] for run in runs]
        rates = [spread([part[f"type1@{fmr:g}"]["rate"] for part in found]) for fmr in FMRS]
        far = spread([part["frechet"] for part in found], digits=1)
        return [judge, spread([part["cosine"] for part in found]), gap, *rates, far]

    for name, runs in rows.items():
        figures = [spread([run["figures"][key] for run in runs]) for key in ("AUC", "TAR@FMR=1e-3")]
        cells = [name, str(len(runs)), *figures, spread([run["own_cosine"] for run in runs])]
        for judge in runs[0]["judges"]:
            mean, low, high = against(first, runs, judge)
            gap = "" if runs is first else f"{mean:+.3f} ({low:+.3f} to {high:+.3f})"
            lines.append("| " + " | ".join([*cells, *judged_cells(runs, judge, gap)]) + " |")
            cells = [""] * len(cells)
    for name, run in controls.items():
        cells = [f"control: {name}", *[""] * 4]
        for judge in run["judges"]:
            lines.append("| " + " | ".join([*cells, *judged_cells([run], judge, "")]) + " |")
            cells = [""] * len(cells)
    return "\n".join(lines) + "\n"


def done_rows(runs: Path, names: list[tuple[str, int]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The finished rows of a table, training and inversion together."""
    for name, seed in names:
        files = runs / f"{name}-{seed}.json", runs / "inverted" / f"{name}-{seed}.json"
        if all(file.is_file() for file in files):
            run = {key: value for file in files for key, value in json.loads(file.read_text()).items()}
            distillation = run["config"]["distillation"]
            distillation["teacher"] = Path(distillation["teacher"]).name  # without its folder
            yield name, run


def write_table(out: Path, runs: Path, names: list[tuple[str, int]]) -> None:
    """Write DIR/table.json and DIR/table.md of what is done so far."""
    rows: dict[str, list[Mapping[str, Any]]] = {}
    for name, run in done_rows(runs, names):
        rows.setdefault(name, []).append(run)
    judged = json.loads((runs / "inverted" / "controls.json").read_text())
    write_json(out / "table.json", {"rows": rows, **judged})
    with atomic_write(out / "table.md") as temporary:
        temporary.write_text(table(rows, judged["controls"]))


def write_sheet(path: Path, runs: Path, names: list[tuple[str, int]]) -> None:
    """Draw the enrolled images above the reconstructions of the first seed of each training."""
    shown = ["controls", *(f"{name}-{seed}" for name, seed in names if seed == 0)]
    files = [file for name in shown if (file := runs / "inverted" / f"{name}.png").is_file()]
    write_png(path, torch.cat([pad(read_png(file), (0, 0, 0, 0, 0, GAP), value=255) for file in files])[:-GAP])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, required=True, help="DIR/<identity>/<image>, aligned; the last 60 identities are held out"
    )
    parser.add_argument("--judge", type=Path, action="append", required=True, help="ONNX; may be repeated")
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder of the table")
    parser.add_argument("--runs", type=Path, help="folder of trainings and inversions; default: that of -o")
    parser.add_argument("--table", choices=TABLES, default="margins")
    parser.add_argument("--seeds", type=int, help=f"default: {SEEDS['margins']}, of the variants {SEEDS['variants']}")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--targets", type=int, default=40)
    parser.add_argument("--part", default="1/1", help="do part I/N of the networks")
    parser.add_argument("--sheet", type=Path, help="five people for each row, the enrolled pictures above")
    options = parser.parse_args()
    torch.set_flush_denormal(True)
    runs: Path = options.runs or options.out
    names = [(name, seed) for seed in range(options.seeds or SEEDS[options.table]) for name in TABLES[options.table]]
    bench = cache(partial(Bench.open, options.data, options.judge, options.targets))  # slow, and not always needed
    try:
        mine, parts = part_of(options.part)
        if missing := [path for path in options.judge if not path.is_file()]:
            raise UsageError(f"no such judge: {str(missing[0])!r}")
        if mine >= len(names):
            raise UsageError(f"there are {len(names)} networks, so nothing is left for --part {options.part}")
        for folder in (options.out, runs / "inverted"):
            folder.mkdir(parents=True, exist_ok=True)
        asked = {"targets": options.targets, "judges": {path.stem: file_digest(path) for path in options.judge}}
        controls = runs / "inverted" / "controls.json"
        if once(controls, asked) is None:
            write_json(controls, bench().controls(controls.with_suffix(".png")))
        for name, seed in names[mine::parts]:
            row = TABLES[options.table][name]
            trained(options.data, runs, name, row, seed=seed, epochs=options.epochs)
            kept, checkpoint = runs / "inverted" / f"{name}-{seed}.json", runs / f"{name}-{seed}.safetensors"
            if once(kept, asked | {"checkpoint": file_digest(checkpoint)}) is None:
                write_json(kept, bench().inverted(checkpoint, kept.with_suffix(".png")))
                print(f"{name}-{seed} inverted", file=sys.stderr, flush=True)
            write_table(options.out, runs, names)
        if options.sheet:
            write_sheet(options.sheet, runs, names)
    except ArcInvertError as error:
        raise SystemExit(f"margin_table: {error}") from None
    print((options.out / "table.md").read_text(), end="")


if __name__ == "__main__":
    main()
