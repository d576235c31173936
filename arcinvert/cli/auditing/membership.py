"""``arcinvert audit membership``: were these pictures in the training of this recognizer?"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from arcinvert.cli.common import Checkpoint, Device, Json, ProgressLine, Strict, answer, answer_json, device, state

if TYPE_CHECKING:
    from torch import Tensor

    from arcinvert.audit.membership import SignalResult, Signals

NAME = "audit membership"


def main(
    pictures: Annotated[
        Path, typer.Option("--pictures", help="Crops DIR/<identity>/<image> that may have been trained on.")
    ],
    nonmembers: Annotated[
        Path | None,
        typer.Option("--nonmembers", help="Crops of the same kind, DIR/<identity>/<image>, that were not trained on."),
    ] = None,
    sample: Annotated[
        int, typer.Option("--sample", help="Use at most this many pictures of each folder, whole identities.", min=2)
    ] = 2000,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the folds and of the bootstrap.")] = 0,
    checkpoint: Checkpoint = None,
    device_name: Device = "auto",
    strict: Strict = False,
    json_out: Json = False,
) -> None:
    """Measure what a recognizer reveals about who it was trained on: ROC area, and rate at 1 % false positives.

    Without --nonmembers there is nothing to compare with: the signals of each identity are printed, and no rate.

    Examples:
        arcinvert audit membership --pictures crops/ --nonmembers others/ --checkpoint net.safetensors
    """
    from arcinvert.audit.membership import measure, signals_of_folder
    from arcinvert.cli.auditing.command_line import circumstances
    from arcinvert.recognizer import Recognizer

    recognizer = Recognizer.load(checkpoint, device=device(device_name))
    centers = _centers(checkpoint)
    found = [
        signals_of_folder(
            recognizer, folder, centers=centers, most=sample, strict=strict, progress=ProgressLine("picture")
        )
        for folder in (pictures, nonmembers)
        if folder is not None
    ]
    if nonmembers is None:
        _alone(found[0], json_out)
    else:
        measured = measure(*found, seed=seed)
        if json_out:
            run = {**circumstances(state.arguments), "license": recognizer.license}
            answer_json(NAME, {"run": run, "recognizer": recognizer.digest, **measured.to_json()})
        else:
            for line in ["| signal | compared | ROC area (95 %) | TPR at FPR 1 % (95 %) |", "|---|---|---|---|"]:
                answer(line)
            for row in measured.results:
                answer(_row(row))
            for text in measured.cannot_tell:
                answer(f"limitation: {text}")
    if any(one.skipped for one in found):
        raise typer.Exit(4)


def _row(row: "SignalResult") -> str:
    counts = f"{row.members} and {row.nonmembers} {row.unit}"
    rate = "- (too few nonmembers)"
    if row.tpr is not None:
        rate = f"{row.tpr:.3f} ({row.tpr_low:.3f} to {row.tpr_high:.3f})"
    return f"| {row.name} | {counts} | {row.auc:.3f} ({row.auc_low:.3f} to {row.auc_high:.3f}) | {rate} |"


def _alone(found: "Signals", json_out: bool) -> None:
    import numpy as np

    sizes = np.bincount(found.people)
    means = {name: np.bincount(found.people, values) / sizes for name, values in found.named.items()}
    if json_out:
        answer_json(NAME, {name: values.round(6).tolist() for name, values in means.items()})
        return
    for number in range(len(sizes)):
        values = ", ".join(f"{name} {rows[number]:.4f}" for name, rows in means.items())
        answer(f"identity {number}, {sizes[number]} pictures: {values}")
    answer("limitation: values alone do not tell members from others; give --nonmembers of the same kind")


def _centers(checkpoint: Path | None) -> "Tensor | None":
    """The class centers of a checkpoint that keeps one for each class, else None."""
    import torch

    from arcinvert.embeddings import class_centers
    from arcinvert.formats import open_checkpoint
    from arcinvert.recognizer import default_checkpoint

    path = default_checkpoint() if checkpoint is None else checkpoint
    kept = open_checkpoint(path).section("head").get("centers")
    return None if kept is None or kept.ndim != 2 else torch.from_numpy(class_centers(path).rows)
