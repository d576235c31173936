"""``arcinvert align``: photos become the aligned crops that training and evaluation want."""

import json
from pathlib import Path
from typing import Annotated

import typer

from arcinvert.cli.common import Json, ProgressLine, answer, say

NAME = "align"


def main(
    photos: Annotated[Path, typer.Argument(help="A folder of photos, such as DIR/<identity>/<photo>.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the crops, laid out alike.")],
    detector: Annotated[
        str,
        typer.Option(
            "--detector", metavar="retinaface|FILE", help="retinaface, or the ONNX file of an SCRFD with five points."
        ),
    ] = "retinaface",
    json_out: Json = False,
) -> None:
    """Detect and align the largest face of each photo to 112x112."""
    from arcinvert.faces.photos import align_folder

    found = align_folder(photos, out, detector=detector, progress=ProgressLine("photo"))
    for remark in found.remarks:
        say(remark)
    if json_out:
        skipped = [{"file": str(path), "reason": reason} for path, reason in found.skipped]
        answer(json.dumps({"out": str(out), "files": [str(path) for path in found.files], "skipped": skipped}))
    else:
        answer(f"{len(found.files)} crops in {out}")
    for path, reason in found.skipped:
        say(f"arcinvert: skipped {str(path)!r}: {reason}")
    if found.skipped:
        raise typer.Exit(4)
