"""``arcinvert purify``: a clean list of images, by a training with sub-centers."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from arcinvert.cli.common import Device, Json, ProgressLine, Strict, answer, answer_json, device
from arcinvert.errors import UsageError

NAME = "purify"


def main(
    training: Annotated[Path, typer.Argument(help="State file (.state) of a training with subcenters = 3.")],
    data: Annotated[Path, typer.Option("--data", help="Images of that training.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Clean list to write: the images to keep, one a line.")],
    angle: Annotated[
        str, typer.Option(help="Largest angle to keep, in degrees; auto: drop about a tenth of the right labels.")
    ] = "75",
    clean_list: Annotated[Path | None, typer.Option(help="Clean list of that training, if it had one.")] = None,
    true_labels: Annotated[
        Path | None, typer.Option(help="True labels for the report: lines identity/image, a tab, the true identity.")
    ] = None,
    report_out: Annotated[Path | None, typer.Option("--report", help="Write counts and histograms as JSON.")] = None,
    dominant: Annotated[
        Path | None, typer.Option(help="Write a checkpoint with the dominant sub-centers only.")
    ] = None,
    device_name: Device = "auto",
    strict: Strict = False,
    json_out: Json = False,
) -> None:
    """Find images with wrong labels by sub-centers, and write a clean list to train on.

    Examples:
        arcinvert purify net.safetensors.state --data crops/ -o clean.txt
    """
    import torch

    from arcinvert.checkpoint import atomic_write, save_checkpoint
    from arcinvert.faces.listing import report_skipped
    from arcinvert.training.data.clean_list import read_clean_list, write_clean_list
    from arcinvert.training.data.containers import list_images
    from arcinvert.training.purify import purify, read_true_labels, report
    from arcinvert.training.subcenters import dominant_checkpoint, load_subcenters, subcenter_cosines, training_images

    try:
        threshold = None if angle == "auto" else float(angle)
    except ValueError:
        raise UsageError(f"expected degrees or auto as --angle, got {angle!r}") from None
    if threshold is not None and not 0 < threshold <= 180:
        raise UsageError(f"expected an angle in (0, 180] degrees, got {angle}")
    stored = load_subcenters(training)
    keep = None if clean_list is None else read_clean_list(clean_list)
    images = training_images(stored, list_images(data), keep)
    report_skipped(images.skipped, strict=strict)
    truth = None
    if true_labels is not None:
        truth = read_true_labels(true_labels, [entry.file for entry in images.entries])
    measured = subcenter_cosines(stored, images, device=device(device_name), progress=ProgressLine("image"))
    found = purify(measured.cosines, measured.labels, len(measured.identities), threshold=threshold)
    wrong = None
    if truth is not None:
        wrong = [
            measured.identities[label] != name for label, name in zip(measured.labels.tolist(), truth, strict=True)
        ]
    elif not torch.equal(measured.labels, measured.true):
        wrong = (measured.labels != measured.true).tolist()
    result = report(found, wrong)
    files = [file for file, stays in zip(measured.files, found.kept, strict=True) if stays]
    if not files:
        raise UsageError(f"no image lies within {angle} degrees; the nearest is at {found.angles.min():.1f}")
    write_clean_list(out, files)
    if report_out is not None:
        with atomic_write(report_out) as temporary:
            temporary.write_text(json.dumps(result, indent=2) + "\n")
    if dominant is not None:
        save_checkpoint(dominant, *dominant_checkpoint(stored, torch.from_numpy(found.dominant)))
    if json_out:
        answer_json(NAME, result)
    else:
        _print(out, result)
    if images.skipped:
        raise typer.Exit(4)


def _print(out: Path, result: dict[str, Any]) -> None:
    threshold = result["threshold_degrees"]
    answer(f"{out}: {result['kept']} of {result['images']} images kept, within {threshold:.1f} degrees")
    if "wrong" in result:
        rates = [result[name] for name in ("wrong_found", "right_dropped")]
        shown = ["-" if rate is None else f"{rate:.3f}" for rate in rates]
        answer(f"{result['wrong']} labels are wrong: {shown[0]} of them found, {shown[1]} of the right ones dropped")
        for name, row in result["categories"].items():
            answer(f"  {name}: {row['images']} ({row['share']:.3f}), {row['dropped']} dropped")
