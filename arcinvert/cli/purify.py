"""``arcinvert purify``: a training with sub-centers says which labels it does not believe."""

import json
from pathlib import Path
from typing import Annotated

import typer

from arcinvert.cli.common import Device, Json, ProgressLine, answer, device
from arcinvert.errors import UsageError

NAME = "purify"


def main(
    training: Annotated[Path, typer.Argument(help="The .state of a training with subcenters = 3.")],
    data: Annotated[Path, typer.Option("--data", help="The pictures it was trained on.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The clean list: the pictures to keep, one a line.")],
    angle: Annotated[
        str, typer.Option(help="Drop beyond this many degrees; auto: where about a tenth of the right labels go.")
    ] = "75",
    clean: Annotated[Path | None, typer.Option("--clean-list", help="The clean list of that training.")] = None,
    true_labels: Annotated[
        Path | None, typer.Option("--true-labels", help="Lines of identity/picture, a tab, the true identity.")
    ] = None,
    report_out: Annotated[Path | None, typer.Option("--report", help="Counts and histograms, JSON.")] = None,
    dominant: Annotated[
        Path | None, typer.Option("--dominant", help="Write a checkpoint with the dominant sub-centers only.")
    ] = None,
    device_name: Device = "auto",
    json_out: Json = False,
) -> None:
    """Find pictures with wrong labels by sub-centers, and write a clean list to train on."""
    import torch

    from arcinvert.checkpoint import atomic_write, save_checkpoint
    from arcinvert.training.data.clean_list import read_clean_list, write_clean_list
    from arcinvert.training.data.containers import open_pictures
    from arcinvert.training.purify import purify, read_true_labels, report
    from arcinvert.training.subcenters import keep_dominant, look_at, open_training, training_pictures

    try:
        threshold = None if angle == "auto" else float(angle)
    except ValueError:
        raise UsageError(f"expected degrees or auto as --angle, got {angle!r}") from None
    if threshold is not None and not 0 < threshold <= 180:
        raise UsageError(f"expected an angle in (0, 180] degrees, got {angle}")
    stored = open_training(training)
    keep = None if clean is None else read_clean_list(clean)
    trained = training_pictures(stored, open_pictures(data), keep)
    truth = None
    if true_labels is not None:
        truth = read_true_labels(true_labels, [entry.file for entry in trained.entries])
    seen = look_at(stored, trained, device=device(device_name), progress=ProgressLine("picture"))
    found = purify(seen.cosines, seen.labels, len(seen.identities), threshold=threshold)
    wrong = None
    if truth is not None:
        wrong = [seen.identities[label] != name for label, name in zip(seen.labels.tolist(), truth, strict=True)]
    elif not torch.equal(seen.labels, seen.true):
        wrong = (seen.labels != seen.true).tolist()
    said = report(found, wrong)
    files = [file for file, stays in zip(seen.files, found.kept, strict=True) if stays]
    if not files:
        raise UsageError(f"no picture lies within {angle} degrees; the nearest is at {found.angles.min():.1f}")
    write_clean_list(out, files)
    if report_out is not None:
        with atomic_write(report_out) as temporary:
            temporary.write_text(json.dumps(said, indent=2) + "\n")
    if dominant is not None:
        save_checkpoint(dominant, *keep_dominant(stored, torch.from_numpy(found.dominant)))
    if json_out:
        answer(json.dumps(said))
        return
    answer(f"{out}: {said['kept']} of {said['pictures']} pictures stay, within {found.threshold:.1f} degrees")
    if wrong is not None:
        rates = [said[name] for name in ("wrong_found", "right_dropped")]
        known = ["-" if rate is None else f"{rate:.3f}" for rate in rates]
        answer(f"{said['wrong']} labels are wrong: {known[0]} of them found, {known[1]} of the right ones dropped")
        for name, row in said["categories"].items():
            answer(f"  {name}: {row['pictures']} ({row['share']:.3f}), {row['dropped']} dropped")
