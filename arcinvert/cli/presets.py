"""``arcinvert presets``: what there is, and what it costs."""

import json
from typing import Annotated, Any

import typer

from arcinvert.cli.common import Checkpoint, Device, Json, answer, device

NAME = "presets"
MEASURED = 3  # steps


def main(
    measure: Annotated[bool, typer.Option("--measure", help="Time a few steps of each on this machine.")] = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures optimized together while measuring.")] = 4,
    checkpoint: Checkpoint = None,
    device_name: Device = "auto",
    json_out: Json = False,
) -> None:
    """List the presets of `synth` with what they cost."""
    from arcinvert.calibration.cache import load_calibration
    from arcinvert.faceprior.prior import default_face_prior
    from arcinvert.inversion.presets import PRESETS
    from arcinvert.recognizer import Recognizer
    from arcinvert.synthesis.cost import cost_of

    recognizer = Recognizer.load(checkpoint, device=device(device_name))
    prior = default_face_prior().to(recognizer.device)
    calibration = load_calibration(recognizer, prior)
    rows: list[dict[str, Any]] = []
    for name, preset in PRESETS.items():
        about = (preset.__doc__ or "").strip().splitlines()[:1]
        cost = cost_of(
            recognizer, prior, calibration, preset, batch_size=batch_size, steps=MEASURED if measure else None
        )
        rows.append({"preset": name, "about": "".join(about), **vars(cost)})
    if json_out:
        answer(json.dumps(rows))
        return
    for row in rows:
        seconds = "" if row["seconds"] is None else f", about {row['seconds']:.3g} s a face here"
        answer(f"{row['preset']:<10}{row['steps']} steps, {row['passes']} network passes a face{seconds}")
        answer(f"{'':<10}{row['about']}")
