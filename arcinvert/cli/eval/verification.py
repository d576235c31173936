"""``arcinvert eval verification``: 1:1 verification, over all pairs or those of a list."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from arcinvert.cli.common import Checkpoint, Device, Json, ProgressLine, Strict, answer, answer_json, device, log, state
from arcinvert.cli.eval.common import BatchSize, Data, Embeddings, Flip, LabelFile, exit_if_skipped
from arcinvert.errors import UsageError

if TYPE_CHECKING:
    import torch

    from arcinvert.evaluation.protocols.verification import Verified

NAME = "verification"


def main(
    embeddings: Embeddings = None,
    labels: LabelFile = None,
    data: Data = None,
    pairs: Annotated[
        Path | None,
        typer.Option(
            "--pairs", help="Verify the pairs of this list in --data: LFW's pairs.txt, or `path_a path_b 0|1`."
        ),
    ] = None,
    bin_file: Annotated[
        Path | None, typer.Option("--bin", help="Read images and pairs from a verification set such as lfw.bin.")
    ] = None,
    fars: Annotated[
        list[float] | None,
        typer.Option("--far", help="Report the TAR at this false accept rate; may be repeated. Default: 1e-1 to 1e-6."),
    ] = None,
    flip: Flip = "none",
    seed: Annotated[int, typer.Option("--seed", help="Seed the bootstrap over identities.")] = 0,
    batch_size: BatchSize = 32,
    checkpoint: Checkpoint = None,
    device_name: Device = "auto",
    strict: Strict = False,
    json_out: Json = False,
) -> None:
    """1:1 verification: AUC, EER, and TAR at each FAR, over all pairs or those of a list.

    Under torchrun, the processes share the pairs.

    Examples:
        arcinvert eval verification --data crops/ --checkpoint net.onnx
        arcinvert eval verification --bin lfw.bin --flip concatenate
        arcinvert eval verification --embeddings e.npy --labels labels.txt --far 1e-3
    """
    given = [name for name, path in (("--embeddings", embeddings), ("--data", data), ("--bin", bin_file)) if path]
    if len(given) != 1:
        raise UsageError(f"expected one of --embeddings, --data and --bin, got {' and '.join(given) or 'none'}")
    if (embeddings is None) != (labels is None):
        raise UsageError("expected --embeddings and --labels together")
    if pairs is not None and data is None:
        raise UsageError("expected --data with --pairs: the folder of the images in the list")
    if embeddings is not None and flip != "none":
        raise UsageError("--flip does not go with --embeddings, which are used as they are")
    if any(not 0 < far < 1 for far in fars or []) or seed < 0:
        raise UsageError("expected each --far between 0 and 1 and a --seed from 0")

    from arcinvert.evaluation.embedding import FLIPS
    from arcinvert.evaluation.metrics import FMRS
    from arcinvert.evaluation.protocols import verification_files as sets

    if flip not in FLIPS:
        raise UsageError(f"expected a --flip of {', '.join(FLIPS)}, got {flip!r}")

    rates = tuple(fars or FMRS)
    with _processes(device(device_name)) as (where, first):
        if embeddings is not None and labels is not None:
            found = sets.verify_stored(
                embeddings, labels, rates, seed=seed, device=where, progress=ProgressLine("block of pairs")
            )
        else:
            from arcinvert.recognizer import Recognizer

            recognizer = Recognizer.load(checkpoint, device=where)
            how: dict[str, Any] = {"flip": flip, "batch_size": batch_size, "progress": ProgressLine("picture")}
            if bin_file is not None:
                found = sets.verify_bin(recognizer, bin_file, rates, **how)
            elif pairs is not None and data is not None:
                found = sets.verify_list(recognizer, pairs, data, rates, **how)
            elif data is not None:
                found = sets.verify_folder(recognizer, data, rates, seed=seed, strict=strict, **how)
    if first:
        _show(found, json_out)
        exit_if_skipped(found.sources)


@contextmanager
def _processes(chosen: "torch.device") -> Iterator[tuple["torch.device", bool]]:
    """Join the processes of a torchrun, if any; yields the device of this one, and whether it prints."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        yield chosen, True
        return
    import torch

    if chosen.type == "cuda":
        chosen = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(chosen)
    torch.distributed.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        first = torch.distributed.get_rank() == 0
        state.quiet = state.quiet or not first
        yield chosen, first
    finally:
        torch.distributed.destroy_process_group()


def _show(found: "Verified", json_out: bool) -> None:
    points = [
        {"far": point.fmr, **asdict(point), "by_identity": spread}
        for point, spread in zip(found.points, found.by_identity, strict=True)
    ]
    for point in points:
        del point["fmr"]
    figures = asdict(found)
    del figures["points"], figures["by_identity"]
    for source in found.sources:
        if "note" in source:
            log.info(source["note"])
    if json_out:
        answer_json("eval verification", {"protocol": "verification", **figures, "tar": points})
        return
    answer("| figure | value |")
    answer("|---|---|")
    answer(f"| AUC | {found.auc:.6f}" + (f" (within {found.auc_error:.1g})" if found.auc_error else "") + " |")
    answer(f"| EER | {found.eer:.4%} at threshold {found.eer_threshold:.6f} |")
    if found.accuracy is not None:
        accuracy = found.accuracy
        answer(f"| accuracy, {len(accuracy.folds)} folds | {accuracy.mean:.4f} +- {accuracy.standard_error:.4f} |")
    people = "" if found.identities is None else f"{found.identities} identities, "
    answer(
        f"| on | {people}{found.embeddings} embeddings, {found.genuine_pairs} genuine and "
        f"{found.impostor_pairs} impostor pairs |"
    )
    for source in found.sources:
        if "sha256" in source:
            name = (source.get("file") or source["checkpoint"]).replace("|", "\\|")
            answer(f"| {name} | {_details(source)} |")
    answer("")
    answer("| FAR | TAR | 95 % (pairs) | 95 % (identities) | threshold | false matches | true matches | remark |")
    answer("|---|---|---|---|---|---|---|---|")
    for point in points:
        remark = point["reason"] or point["warning"] or ""
        if point["tar"] is None:
            answer(f"| {point['far']:g} | - | - | - | - | - | - | {remark} |")
            continue
        answer(
            f"| {point['far']:g} | {point['tar']:.4f} | {_range(point['interval'])} | {_range(point['by_identity'])} "
            f"| {point['threshold']:.6f} | {point['false_matches']} of {point['impostor_pairs']} "
            f"| {point['true_matches']} of {point['genuine_pairs']} | {remark} |"
        )


def _details(source: dict[str, Any]) -> str:
    rest = [f"{key} {value}" for key, value in source.items() if key not in ("file", "sha256", "checkpoint")]
    return ", ".join([*rest, f"sha256 {source['sha256'][:16]}"])


def _range(ends: tuple[float, float] | None) -> str:
    return "-" if ends is None else f"{ends[0]:.4f} to {ends[1]:.4f}"
