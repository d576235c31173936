"""``arcinvert calibrate``: a checkpoint learns what its network says of synthetic faces."""

import json
from pathlib import Path
from typing import Annotated

import typer

from arcinvert.cli.common import Checkpoint, Device, Json, ProgressLine, answer, device

NAME = "calibrate"


def main(
    out: Annotated[Path, typer.Option("--out", "-o", help="The calibrated copy; may be the checkpoint itself.")],
    faces: Annotated[
        Path | None, typer.Option("--faces", help="DIR/<identity>/<picture>, aligned; default: the shipped faces.")
    ] = None,
    held_out: Annotated[int, typer.Option(help="Of --faces, leave out this many identities, as in training.")] = 0,
    checkpoint: Checkpoint = None,
    device_name: Device = "auto",
    json_out: Json = False,
) -> None:
    """Show a recognizer synthetic faces, and keep p(face | embedding) and its statistics."""
    from arcinvert.calibration.cache import save_calibration
    from arcinvert.calibration.fit import calibrate
    from arcinvert.faceprior.prior import default_face_prior
    from arcinvert.recognizer import Recognizer, default_checkpoint
    from arcinvert.training.data.faces import identity_folders, load_faces, split_identities

    source = checkpoint or default_checkpoint()
    recognizer = Recognizer.load(source, device=device(device_name))
    images = None if faces is None else load_faces(faces, split_identities(identity_folders(faces), held_out)[0]).images
    found = calibrate(recognizer, default_face_prior(), images, progress=ProgressLine("face"))
    digest = save_calibration(source, out, found)
    if json_out:
        answer(json.dumps({"out": str(out), "digest": digest, "faces": found.faces}))
    else:
        answer(f"{out}: calibrated on {found.faces} faces")
