"""``arcinvert embed``: embeddings of photos."""

from pathlib import Path
from typing import Annotated

import typer

from arcinvert.cli.common import (
    Checkpoint,
    Detector,
    Device,
    Face,
    GrayBits,
    Json,
    ProgressLine,
    Strict,
    answer,
    answer_json,
    device,
    skipped_entries,
)
from arcinvert.cli.eval.common import AdapterFile
from arcinvert.errors import UsageError

NAME = "embed"


def main(
    photos: Annotated[list[Path], typer.Argument(help="Photos, and folders of photos, taken in sorted order.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Write (N, D) float32 of unit norm to this .npy file.")],
    aligned: Annotated[bool, typer.Option("--aligned", help="Take the photos as aligned 112x112 crops.")] = False,
    detector: Detector = "retinaface",
    face: Face = "main",
    gray_bits: GrayBits = None,
    checkpoint: Checkpoint = None,
    adapter: AdapterFile = None,
    device_name: Device = "auto",
    strict: Strict = False,
    json_out: Json = False,
) -> None:
    """Detect, align and embed a face of each photo, in the order of the arguments.

    Examples:
        arcinvert embed photo.jpg -o target.npy
        arcinvert embed crops/ --aligned -o crops.npy --checkpoint net.onnx
    """
    from arcinvert.adapter import Adapter
    from arcinvert.faces.photos import RETINAFACE, embed_photos, save_embeddings
    from arcinvert.recognizer import Recognizer

    if aligned and detector != RETINAFACE:
        raise UsageError("expected --aligned or --detector, got both: aligned crops need no detector")
    recognizer = Recognizer.load(checkpoint, device=device(device_name))
    mapped = None if adapter is None else Adapter.load(adapter)
    if mapped is not None and mapped.size != recognizer.embedding_size:
        raise UsageError(
            f"the adapter takes {mapped.size}-d embeddings, the recognizer's are {recognizer.embedding_size}-d"
        )
    rows, found = embed_photos(
        recognizer,
        photos,
        aligned=aligned,
        detector=detector,
        face=face,
        gray_bits=gray_bits,
        strict=strict,
        progress=ProgressLine("photo"),
    )
    save_embeddings(out, rows if mapped is None else mapped(rows))
    if json_out:
        answer_json(
            NAME, {"out": str(out), "rows": [str(f) for f in found.files], "skipped": skipped_entries(found.skipped)}
        )
    else:
        answer(f"{len(found.files)} embeddings in {out}")
    if found.skipped:
        raise typer.Exit(4)
