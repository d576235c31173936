"""``arcinvert train``: train a checkpoint on a folder of identities."""

import json
import tomllib
from pathlib import Path
from typing import Annotated, Any

import typer

from arcinvert.cli.common import Device, Json, ProgressLine, Strict, answer, device, log_to_stderr, state
from arcinvert.errors import UsageError

NAME = "train"


def main(
    data: Annotated[
        Path,
        typer.Option(
            "--data",
            help="Aligned images DIR/<identity>/<image>, a .rec file, or tar shards.",
        ),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Checkpoint to write; its state is kept beside it as OUT.state.")
    ] = None,
    config: Annotated[Path | None, typer.Option("--config", help="TOML file with the settings of the run.")] = None,
    clean_list: Annotated[
        Path | None, typer.Option(help="Train only on the images that this file names: lines identity/image.")
    ] = None,
    label_noise: Annotated[
        float | None, typer.Option(help="Make this share of the labels wrong on purpose, for experiments.")
    ] = None,
    stream: Annotated[
        bool, typer.Option("--stream", help="Read the images at every step, for sets that do not fit into memory.")
    ] = False,
    tensorboard: Annotated[Path | None, typer.Option(help="Write scalars for TensorBoard to this folder.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the data, estimate the memory, make one step; write nothing.")
    ] = False,
    save_every: Annotated[float, typer.Option(help="Save the state every N seconds within an epoch.")] = 120.0,
    force: Annotated[bool, typer.Option("--force", help="Start again even if there is a state to resume.")] = False,
    device_name: Device = "auto",
    strict: Strict = False,
    json_out: Json = False,
) -> None:
    """Train a recognizer with a margin loss; a run resumes after a kill.

    Under torchrun, the processes share the images and the class centers.
    """
    import torch

    from arcinvert.distributed import process_group
    from arcinvert.training.config import TrainConfig
    from arcinvert.training.data.clean_list import read_clean_list

    if out is None and not dry_run:
        raise UsageError("expected --out, the checkpoint to write, or --dry-run")
    try:
        settings = tomllib.loads(config.read_text()) if config else {}
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read the settings {str(config)!r}: {error}") from None
    if label_noise is not None:
        settings["label_noise"] = label_noise
    chosen = TrainConfig.from_mapping(settings)
    keep = None if clean_list is None else read_clean_list(clean_list)
    where = device(device_name)
    with process_group("cpu:gloo,cuda:nccl" if where.type == "cuda" else "gloo") as processes:
        if processes.rank:
            state.quiet = True  # only the first process reports
            log_to_stderr(quiet=True)
        if processes.world_size > 1 and where == torch.device("cuda"):
            where = torch.device("cuda", processes.local_rank % torch.cuda.device_count())
            torch.cuda.set_device(where)
        common: dict[str, Any] = {
            "config": chosen, "device": where, "keep": keep, "stream": stream, "strict": strict, "processes": processes,
        }  # fmt: skip
        if dry_run or out is None:
            from arcinvert.training.dry_run import dry_run as try_one_step

            found = try_one_step(data, **common)
            skipped = found["skipped"]
            if not processes.rank:
                _print_dry_run(found, chosen.batch_size, json_out)
        else:
            from arcinvert.training.trainer import train as run

            progress = ProgressLine("step", every=30.0)
            more: dict[str, Any] = {
                "force": force,
                "save_every": save_every,
                "tensorboard": tensorboard,
                "progress": progress,
            }
            header = run(data, out, **common, **more)
            skipped = header["data"]["skipped"] if header else 0
            if not processes.rank:
                _print_result(out, header, json_out)
    if skipped and not processes.rank:
        raise typer.Exit(4)


def _print_result(out: Path, header: dict[str, Any], json_out: bool) -> None:
    validation = header["validation"]
    if json_out:
        answer(json.dumps(header))
    elif validation:
        points = [p for p in validation["thresholds"] if p["threshold"] is not None]
        reached = ", ".join(f"TAR {p['tar']:.3f} at FMR {p['fmr']:g}" for p in points)
        answer(f"{out}: AUC {validation['auc']:.4f} on {validation['identities']} held-out identities; {reached}")
    else:
        answer(f"{out}: trained, no identities held out")


def _print_dry_run(found: dict[str, Any], batch_size: int, json_out: bool) -> None:
    if json_out:
        answer(json.dumps(found))
        return
    speed = batch_size / found["seconds"]
    hours = found["steps"] * found["seconds"] / 3600
    answer(
        f"{found['images']} images of {found['identities']} identities, {found['held_out']} held out; "
        f"one step works: loss {found['loss']:.3f}, angle {found['angle']:.1f} degrees, {speed:.1f} images/s, "
        f"so {found['steps']} steps take about {hours:.1f} h"
    )
