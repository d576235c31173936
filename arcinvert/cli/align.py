"""``arcinvert align``: aligned crops of photos, as training and evaluation expect them."""

import json
from pathlib import Path
from typing import Annotated

import typer

from arcinvert.cli.common import Detector, Json, ProgressLine, Strict, answer

NAME = "align"


def main(
    photos: Annotated[Path, typer.Argument(help="Folder of photos, such as DIR/<identity>/<photo>.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Write the crops to this folder, laid out as the photos.")],
    detector: Detector = "retinaface",
    strict: Strict = False,
    json_out: Json = False,
) -> None:
    """Detect and align the largest face of each photo to 112x112."""
    from arcinvert.faces.photos import align_folder

    found = align_folder(photos, out, detector=detector, strict=strict, progress=ProgressLine("photo"))
    if json_out:
        skipped = [{"file": path, "reason": reason} for path, reason in found.skipped]
        answer(json.dumps({"out": str(out), "files": [str(path) for path in found.files], "skipped": skipped}))
    else:
        answer(f"{len(found.files)} crops in {out}")
    if found.skipped:
        raise typer.Exit(4)
