"""``arcinvert synth``: embeddings become faces."""

import json
from pathlib import Path
from typing import Annotated

import typer

from arcinvert.cli.common import Checkpoint, Device, Json, ProgressLine, answer, device, say

NAME = "synth"


def main(
    embedding: Annotated[str, typer.Option("--embedding", "-e", help="An .npy or .npz of (D,) or (N, D); - is stdin.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the pictures, sheet.png and manifest.json.")],
    variations: Annotated[int, typer.Option(help="Pictures per target.")] = 1,
    steps: Annotated[int | None, typer.Option(help="Optimisation steps; default: the preset's own.")] = None,
    preset: Annotated[str, typer.Option(help="fast, fourier or paper.")] = "fast",
    seed: Annotated[int, typer.Option(help="Same seed, same machine: same bytes.")] = 0,
    batch_size: Annotated[int, typer.Option(help="Pictures optimised together.")] = 8,
    key: Annotated[str | None, typer.Option(help="Which array of an .npz.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace another run's pictures in the folder.")] = False,
    checkpoint: Checkpoint = None,
    device_name: Device = "auto",
    json_out: Json = False,
) -> None:
    """Turn embeddings back into faces."""
    from arcinvert.calibration import calibration_for
    from arcinvert.embeddings import read_embeddings
    from arcinvert.faceprior import default_face_prior
    from arcinvert.inversion.synthesis import SynthConfig, synthesise, targets_tensor
    from arcinvert.recognizer import Recognizer

    config = SynthConfig(variations=variations, preset=preset, steps=steps, seed=seed, batch_size=batch_size)
    recognizer = Recognizer.load(checkpoint, device=device(device_name))
    found = read_embeddings(embedding, size=recognizer.embedding_size, key=key)
    if note := found.note():
        say(note)
    if dropped := recognizer.dropped_channels():
        say(f"{dropped} BatchNorm channels store no usable statistics and are left out")
    prior = default_face_prior().to(recognizer.device)
    manifest = synthesise(
        recognizer,
        targets_tensor(found.rows),
        prior,
        calibration_for(recognizer, prior, say=say, progress=ProgressLine("face")),
        out,
        config=config,
        force=force,
        progress=ProgressLine("step"),
    )
    if json_out:
        answer(json.dumps(manifest))
    else:
        cosine = "none finite" if manifest["mean_cosine"] is None else f"mean cosine {manifest['mean_cosine']:.3f}"
        answer(f"{len(manifest['results'])} faces in {out}, {cosine}")
    if manifest["diverged"]:
        say(f"{manifest['diverged']} reconstructions diverged; the manifest marks them")
        raise typer.Exit(4)
