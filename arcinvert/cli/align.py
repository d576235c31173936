"""``arcinvert align``: aligned crops of photos, as training and evaluation expect them."""

from pathlib import Path
from typing import Annotated

import typer

from arcinvert.cli.common import (
    Detector,
    Face,
    GrayBits,
    Json,
    ProgressLine,
    Strict,
    answer,
    answer_json,
    skipped_entries,
)

NAME = "align"


def main(
    photos: Annotated[Path, typer.Argument(help="Folder of photos, such as DIR/<identity>/<photo>.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Write the crops to this folder, laid out as the photos.")],
    detector: Detector = "retinaface",
    face: Face = "main",
    gray_bits: GrayBits = None,
    strict: Strict = False,
    json_out: Json = False,
) -> None:
    """Detect and align a face of each photo to 112x112.

    Examples:
        arcinvert align photos/ -o crops
    """
    from arcinvert.faces.photos import align_folder

    found = align_folder(
        photos, out, detector=detector, face=face, gray_bits=gray_bits, strict=strict, progress=ProgressLine("photo")
    )
    if json_out:
        answer_json(
            NAME,
            {"out": str(out), "files": [str(path) for path in found.files], "skipped": skipped_entries(found.skipped)},
        )
    else:
        answer(f"{len(found.files)} crops in {out}")
    if found.skipped:
        raise typer.Exit(4)
