"""``arcinvert train``: a folder of identities becomes a checkpoint."""

import json
import tomllib
from pathlib import Path
from typing import Annotated

import typer

from arcinvert.cli.common import Device, Json, ProgressLine, answer, device
from arcinvert.errors import UsageError

NAME = "train"


def main(
    data: Annotated[Path, typer.Option("--data", help="DIR/<identity>/<picture>, aligned 112x112.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The checkpoint; its resumable state lies beside it.")],
    config: Annotated[Path | None, typer.Option("--config", help="Settings of the run, TOML.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Start anew even if there is a state to resume.")] = False,
    device_name: Device = "auto",
    json_out: Json = False,
) -> None:
    """Train a recognizer with a margin loss; a run that was killed goes on where it was."""
    from arcinvert.training.trainer import TrainConfig
    from arcinvert.training.trainer import train as run

    try:
        settings = tomllib.loads(config.read_text()) if config else {}
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read the settings {str(config)!r}: {error}") from None
    header = run(
        data,
        out,
        config=TrainConfig.from_mapping(settings),
        device=device(device_name),
        force=force,
        progress=ProgressLine("step", every=30.0),
    )
    validation = header["validation"]
    if json_out:
        answer(json.dumps(header))
    elif validation:
        points = [p for p in validation["thresholds"] if p["threshold"] is not None]
        reached = ", ".join(f"TAR {p['tar']:.3f} at FMR {p['fmr']:g}" for p in points)
        answer(f"{out}: AUC {validation['auc']:.4f} on {validation['identities']} held-out identities; {reached}")
    else:
        answer(f"{out}: trained, no identities held out")
