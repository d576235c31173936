"""``arcinvert train``: train a checkpoint on a folder of identities."""

import tomllib
from pathlib import Path
from typing import Annotated, Any

import typer

from arcinvert.cli.common import Device, Json, ProgressLine, Strict, answer, answer_json, device, log_to_stderr, state
from arcinvert.cli.eval.common import LabelFile, refuse, stored
from arcinvert.errors import UsageError
from arcinvert.file_bytes import read_bytes

NAME = "train"
MAX_CONFIG = 1 << 24
"""Largest size of a configuration, in bytes."""


def main(
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            help="Aligned images DIR/<identity>/<image>, a .rec file, or tar shards.",
        ),
    ] = None,
    embeddings: Annotated[
        Path | None,
        typer.Option(
            "--embeddings",
            help="Train an adapter on the stored embeddings (N, D) of this .npy, not a recognizer; needs --labels.",
        ),
    ] = None,
    labels: LabelFile = None,
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
    seed: Annotated[
        int | None,
        typer.Option("--seed", min=0, help="Seed of weights, order and augmentation; default: of --config, else 0."),
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
    license: Annotated[
        str, typer.Option(help="License of the trained weights, one line for the header of the checkpoint.")
    ] = "not stated",
    device_name: Device = "auto",
    strict: Strict = False,
    json_out: Json = False,
) -> None:
    """Train a recognizer with a margin loss; a run resumes after a kill.

    Under torchrun, the processes share the images and the class centers. With --embeddings and --labels, train an
    adapter: a perceptron of three layers on stored embeddings.

    Examples:
        arcinvert train --data crops/ --config default.toml -o net.safetensors --seed 7
        arcinvert train --data crops/ --dry-run
        arcinvert train --embeddings crops.npy --labels people.txt -o adapter.safetensors
    """
    import torch

    from arcinvert.distributed import process_group
    from arcinvert.training.config import TrainConfig
    from arcinvert.training.data.clean_list import read_clean_list

    adapter = embeddings is not None or labels is not None
    if out is None and not dry_run and not adapter:
        raise UsageError("expected --out, the checkpoint to write, or --dry-run")
    try:
        settings = tomllib.loads(read_bytes(config, MAX_CONFIG).decode()) if config else {}
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read the settings {str(config)!r}: {error}") from None
    if adapter:
        if embeddings is None or labels is None or out is None:
            raise UsageError("expected --embeddings, --labels and --out together")
        others: dict[str, object] = {"--data": data, "--clean-list": clean_list, "--label-noise": label_noise}
        others |= {"--tensorboard": tensorboard, "--stream": stream or None, "--dry-run": dry_run or None}
        refuse(others, without="--embeddings")
        _train_adapter(embeddings, labels, out, settings, license, json_out)
        return
    if data is None:
        raise UsageError("expected --data, or --embeddings with --labels")
    if label_noise is not None:
        settings["label_noise"] = label_noise
    if seed is not None:
        settings["seed"] = seed
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
                "license": license,
                "progress": progress,
            }
            header = run(data, out, **common, **more)
            skipped = header["data"]["skipped"] if header else 0
            if not processes.rank:
                _print_result(out, header, json_out)
    if skipped and not processes.rank:
        raise typer.Exit(4)


def _train_adapter(
    embeddings: Path, labels: Path, out: Path, settings: dict[str, Any], license: str, json_out: bool
) -> None:
    from arcinvert.checkpoint import save_checkpoint
    from arcinvert.training.adapter import AdapterConfig, train_adapter

    config = AdapterConfig.from_mapping(settings)
    found = stored(embeddings, labels)
    header, tensors = train_adapter(found.rows, found.labels, config=config, progress=ProgressLine("step"))
    header |= {"license": license, "data": {**header["data"], "files": [file["sha256"] for file in found.files]}}
    digest = save_checkpoint(out, header, tensors)
    measured = header["validation"]
    if json_out:
        answer_json(NAME, {"out": str(out), "digest": digest, **header})
        return
    answer(
        f"{out}: adapter {header['size']}-d to {header['embedding_size']}-d, {header['data']['identities']} identities"
    )
    if measured:
        before, after = (
            "unknown" if measured[key] is None else f"{measured[key]:.4f}" for key in ("map_before", "map_after")
        )
        answer(f"MAP@100 of {measured['identities']} held-out identities: {before} before, {after} after")


def _print_result(out: Path, header: dict[str, Any], json_out: bool) -> None:
    validation = header["validation"]
    if json_out:
        answer_json(NAME, header)
    elif validation:
        points = [p for p in validation["thresholds"] if p["threshold"] is not None]
        reached = ", ".join(f"TAR {p['tar']:.3f} at FMR {p['fmr']:g}" for p in points)
        answer(f"{out}: AUC {validation['auc']:.4f} on {validation['identities']} held-out identities; {reached}")
    else:
        answer(f"{out}: trained, no identities held out")


def _print_dry_run(found: dict[str, Any], batch_size: int, json_out: bool) -> None:
    if json_out:
        answer_json(NAME, found)
        return
    speed = batch_size / found["seconds"]
    hours = found["steps"] * found["seconds"] / 3600
    answer(
        f"{found['images']} images of {found['identities']} identities, {found['held_out']} held out; "
        f"one step works: loss {found['loss']:.3f}, angle {found['angle']:.1f} degrees, {speed:.1f} images/s, "
        f"so {found['steps']} steps take about {hours:.1f} h"
    )
