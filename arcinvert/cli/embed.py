"""``arcinvert embed``: embeddings of photos."""

import json
from pathlib import Path
from typing import Annotated

import typer

from arcinvert.cli.common import Checkpoint, Detector, Device, Json, ProgressLine, Strict, answer, device
from arcinvert.errors import UsageError

NAME = "embed"


def main(
    photos: Annotated[list[Path], typer.Argument(help="Photos, and folders of photos, taken in sorted order.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Write (N, D) float32 of unit norm to this .npy file.")],
    aligned: Annotated[bool, typer.Option("--aligned", help="Take the photos as aligned 112x112 crops.")] = False,
    detector: Detector = "retinaface",
    checkpoint: Checkpoint = None,
    device_name: Device = "auto",
    strict: Strict = False,
    json_out: Json = False,
) -> None:
    """Detect, align and embed the largest face of each photo, in the order of the arguments."""
    from arcinvert.faces.photos import RETINAFACE, embed_photos, save_embeddings
    from arcinvert.recognizer import Recognizer

    if aligned and detector != RETINAFACE:
        raise UsageError("expected --aligned or --detector, got both: aligned crops need no detector")
    recognizer = Recognizer.load(checkpoint, device=device(device_name))
    rows, found = embed_photos(
        recognizer, photos, aligned=aligned, detector=detector, strict=strict, progress=ProgressLine("photo")
    )
    if found.files:
        save_embeddings(out, rows)
    if json_out:
        skipped = [{"file": path, "reason": reason} for path, reason in found.skipped]
        answer(json.dumps({"out": str(out), "rows": [str(f) for f in found.files], "skipped": skipped}))
    else:
        answer(f"{len(found.files)} embeddings in {out}" if found.files else "no embeddings, nothing written")
    if found.skipped:
        raise typer.Exit(4)
