"""``arcinvert calibrate``: a copy of a checkpoint with its calibration."""

from pathlib import Path
from typing import Annotated

import typer

from arcinvert.cli.common import Checkpoint, Device, Json, ProgressLine, Strict, answer, answer_json, device

NAME = "calibrate"


def main(
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="Write the calibrated copy here; may be the checkpoint itself."),
    ],
    faces: Annotated[
        Path | None,
        typer.Option("--faces", help="Aligned crops of the people's own domain to show too: DIR/<identity>/<image>."),
    ] = None,
    held_out: Annotated[int, typer.Option(help="Leave out this many identities of --faces, as training does.")] = 0,
    all_faces: Annotated[
        bool, typer.Option("--all-faces", help="Use all faces, even if more no longer improve the prediction.")
    ] = False,
    checkpoint: Checkpoint = None,
    device_name: Device = "auto",
    strict: Strict = False,
    json_out: Json = False,
) -> None:
    """Fit what a recognizer's embeddings predict of a face, and the statistics of its layers, on synthetic faces.

    Examples:
        arcinvert calibrate --checkpoint net.onnx -o net.safetensors
        arcinvert calibrate --checkpoint net.safetensors --faces crops/ --held-out 100 -o net.safetensors
    """
    from arcinvert.calibration.cache import save_calibration
    from arcinvert.calibration.fit import ENOUGH, calibrate
    from arcinvert.faceprior.prior import default_face_prior
    from arcinvert.faces.listing import report_skipped
    from arcinvert.recognizer import Recognizer, default_checkpoint
    from arcinvert.training.data.containers import list_images
    from arcinvert.training.data.faces import open_faces, split_identities

    source = checkpoint or default_checkpoint()
    recognizer = Recognizer.load(source, device=device(device_name))
    used = None
    if faces is not None:
        listed = list_images(faces)
        used = open_faces(listed, split_identities(listed.identities, held_out)[0])
        report_skipped(used.skipped, strict=strict)
    images = None if used is None else used.images
    enough = 0.0 if all_faces else ENOUGH
    found = calibrate(recognizer, default_face_prior(), images, enough=enough, progress=ProgressLine("face"))
    digest = save_calibration(source, out, found)
    if json_out:
        answer_json(NAME, {"out": str(out), "digest": digest, "faces": found.faces})
    else:
        answer(f"{out}: calibrated on {found.faces} faces")
    if used is not None and used.skipped:
        raise typer.Exit(4)
