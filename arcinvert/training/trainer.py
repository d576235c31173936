"""Training: aligned faces -> backbone -> margin head -> checkpoint, resumable at any step, in any number of processes.

SGD with linear warm-up, then cosine decay or milestones. Where several processes train (``torchrun``), the backbone
runs under DistributedDataParallel, and each process holds its part of the class centers
(:mod:`arcinvert.training.heads`).
"""

import json
import logging
import time
import zlib
from collections.abc import Collection
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from arcinvert.checkpoint import UNSTATED, Checkpoint, atomic_write, quantized, save_checkpoint
from arcinvert.distributed import SINGLE_PROCESS, Processes, lost_process_errors
from arcinvert.errors import DivergedError, EnvironmentProblem, InputError, UsageError
from arcinvert.evaluation.metrics import auc, operating_point, score_pairs
from arcinvert.faces.listing import Skipped, report_skipped
from arcinvert.locking import locked_file
from arcinvert.progress import Progress, silent
from arcinvert.training.collectives import all_sum, sizes
from arcinvert.training.config import PREPROCESSING, TrainConfig
from arcinvert.training.data.clean_list import permute_labels
from arcinvert.training.data.containers import list_images
from arcinvert.training.data.faces import FaceDataset, open_faces, split_identities, to_float
from arcinvert.training.data.streaming import stream_faces
from arcinvert.training.run import Run
from arcinvert.training.tensorboard import Scalars, open_scalars

log = logging.getLogger(__name__)

FMRS = (1e-2, 1e-3)
"""The false match rates of a validation's operating points."""


def train(
    data: Path,
    out: Path,
    *,
    config: TrainConfig,
    device: torch.device | str = "cpu",
    force: bool = False,
    save_every: float = 120.0,
    keep: Collection[str] | None = None,
    stream: bool = False,
    strict: bool = False,
    tensorboard: Path | None = None,
    processes: Processes = SINGLE_PROCESS,
    license: str = UNSTATED,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Train on a folder of identities and write a checkpoint.

    The state is written to ``<out>.state`` after every epoch and every ``save_every`` seconds, and a run whose state
    exists resumes from it; the file stays when the run has ended. With ``label_noise``, ``<out>.labels`` names the
    identity that each image was trained as.

    Args:
        data: ``data/<identity>/<image>``, 112x112 aligned; or a .rec file or tar shards of them.
        out: the checkpoint to write (safetensors).
        config: all settings.
        device: where to train.
        force: start again even if there is a state.
        save_every: seconds.
        keep: only these of the training images, ``identity/image`` (a clean list).
        strict: raise InputError if a file cannot be read as an image, instead of leaving it out.
        stream: read the training images at every step; otherwise every process holds all of them in memory.
        tensorboard: a folder for scalars.
        processes: those that train together; all call this with the same arguments and see the same files. The first
            one writes and reports.
        license: of the weights, for the header of the checkpoint.
        progress: called with (step, steps, text) after every step.

    Returns:
        The header of the checkpoint; empty in all processes but the first.

    Raises:
        InputError: images that are not 112x112, or too few identities.
        CheckpointError: the state belongs to another run.
        DivergedError: the loss is no longer finite.
        EnvironmentProblem: another process has ended or sees other files, or another run writes this checkpoint, or
            TensorBoard is not installed.
    """
    if out.is_dir():
        raise UsageError(f"expected a file to write the checkpoint to, got the folder {str(out)!r}")
    state = out.with_name(out.name + ".state")
    with locked_file(out, wanted=processes.rank == 0), lost_process_errors():
        faces, validation, held_out = open_data(data, config, keep=keep, stream=stream, strict=strict)
        run = Run(faces, config, torch.device(device), processes=processes)
        if state.is_file() and not force:
            run.resume(state)
        else:
            run.initialize()
        for what, mine in (("state", run.step), ("images", zlib.crc32(faces.digest.encode()))):
            if len(set(sizes(mine, processes, run.device))) > 1:  # no process writes before all have read
                raise EnvironmentProblem(
                    f"the processes do not see the same {what}; expected files that all of them can read"
                )
        if config.label_noise and processes.rank == 0:
            _write_labels(out.with_name(out.name + ".labels"), faces)
        with open_scalars(tensorboard if processes.rank == 0 else None, after=run.step) as scalars:
            _steps(run, validation, state, save_every, scalars, progress)
        return _finish(run, validation, out, held_out, license)


def open_data(
    data: Path,
    config: TrainConfig,
    *,
    keep: Collection[str] | None = None,
    stream: bool = False,
    strict: bool = False,
) -> tuple[FaceDataset, FaceDataset | None, list[str]]:
    """The training set, the validation set, and the names of the held-out identities.

    Files that cannot be read as an image are left out, which is logged.

    Raises:
        InputError, UsageError: images that cannot be trained on, or too few of them; with ``strict``, a file that
            cannot be read.
    """
    images = list_images(data)
    names, held_out = split_identities(images.identities, config.held_out)
    faces = (stream_faces if stream else open_faces)(images, names, keep=keep)
    validation = open_faces(images, held_out) if held_out else None
    report_skipped(skipped_files(faces, validation), strict=strict)
    if validation is not None and int(validation.labels.bincount().max()) < 2:
        raise InputError("expected a held-out identity with two images or more; each has one")
    if len(faces) < config.batch_size:
        raise UsageError(f"expected at least one batch of {config.batch_size} images, got {len(faces)}")
    if config.label_noise:
        noisy, _ = permute_labels(faces.labels, config.label_noise, seed=config.seed)
        faces = replace(faces, labels=noisy)
    return faces, validation, held_out


def skipped_files(faces: FaceDataset, validation: FaceDataset | None) -> tuple[Skipped, ...]:
    """The files of both sets that are left out, each once."""
    return tuple(dict.fromkeys((*faces.skipped, *(() if validation is None else validation.skipped))))


def _steps(
    run: Run, validation: FaceDataset | None, state: Path, save_every: float, scalars: Scalars, progress: Progress
) -> None:
    first_step, started, saved = run.step, time.monotonic(), time.monotonic()
    report = ""
    for images, labels in run.batches():
        rate = run.learning_rate()
        try:
            step = run.advance(images, labels)
        except DivergedError as error:
            raise DivergedError(f"{error}; {_advice(run, state)}") from None
        average = run.update_average(step)
        speed = (run.step - first_step) * run.config.batch_size / max(time.monotonic() - started, 1e-9)
        scalars(run.step, {"loss": step.loss, "angle": step.angle, "lr": rate, "images/s": speed})
        epoch = (run.step - 1) // run.steps_per_epoch + 1
        if run.step % run.steps_per_epoch == 0:
            due = epoch % run.config.validate_every == 0 or run.step == run.total_steps
            if validation is not None and due and run.processes.rank == 0:
                figures = validate(run.network, validation, run.device)
                found = _summary(figures)
                run.history.append({"epoch": epoch, "loss": average.loss, **found})
                report = f" | AUC {figures['auc']:.4f}"
                report += "" if found["tar"] is None else f" TAR@1e-3 {found['tar']:.3f}"
                scalars(run.step, {name: value for name, value in found.items() if value is not None})
            run.save(state)
            saved = time.monotonic()
            if run.step < run.total_steps:
                run.head.reset_hits()
        elif _all_agree(time.monotonic() - saved > save_every, run):
            run.save(state)
            saved = time.monotonic()
        text = f"loss {average.loss:.3f} angle {average.angle:.1f} {speed:.1f} images/s{report}"
        progress(run.step, run.total_steps, f"epoch {epoch}/{run.config.epochs} {text}")


def _write_labels(path: Path, faces: FaceDataset) -> None:
    """Write the identity that each image was trained as: lines ``identity/image``, a tab, the label."""
    lines = [f"{file}\t{faces.identities[label]}\n" for file, label in zip(faces.files, faces.labels, strict=True)]
    with atomic_write(path) as temporary:
        temporary.write_bytes("".join(lines).encode(errors="surrogateescape"))


def _all_agree(wanted: bool, run: Run) -> bool:
    """The decision of the first process, whose clock may differ from the others'."""
    mine = torch.tensor(float(wanted and run.processes.rank == 0), device=run.device)
    return bool(all_sum(mine, run.processes))


def _advice(run: Run, state: Path) -> str:
    """What the user can do about a loss that is no longer finite."""
    tips = [f"a lower lr (it was {run.learning_rate():.3g})", "a longer warmup", "a smaller clip"]
    if run.config.amp == "fp16":
        tips.insert(0, 'amp = "bf16"')
    last = f"the last good state is kept in {str(state)!r}" if state.is_file() else "no state was saved yet"
    return f"try {', or '.join(tips)}; {last}"


def _finish(run: Run, validation: FaceDataset | None, out: Path, held_out: list[str], license: str) -> dict[str, Any]:
    """Write the checkpoint, with the validation of the weights as they are stored."""
    config, faces = run.config, run.faces
    head = run.head_state() if config.keep_head else {}
    if run.processes.rank:
        return {}
    tensors = _to_stored(run.network, config.weight_bits)
    run.network.load_state_dict(Checkpoint({}, tensors, "").network())
    figures = validate(run.network, validation, run.device) if validation is not None else {}
    header = {
        "backbone": config.backbone,
        "backbone_settings": {"width": config.width, "embedding_size": config.embedding_size},
        "embedding_size": config.embedding_size,
        "preprocessing": PREPROCESSING,
        "training": json.loads(json.dumps(asdict(config))),
        "history": run.history,
        "data": {
            "digest": faces.digest,
            "identities": len(faces.identities),
            "images": len(faces),
            "skipped": len(skipped_files(faces, validation)),
            "held_out": held_out,
        },
        "validation": figures,
        "license": license,
    }
    if config.keep_head:
        tensors["head.centers"] = nn.functional.normalize(released_centers(head), dim=-1).half()
    save_checkpoint(out, header, tensors)
    return header


def released_centers(head: dict[str, Tensor]) -> Tensor:
    """One center for each class, (N, D): of several the dominant one, if it is known; else all of them, (N, K, D).

    The dominant sub-center is the one that most images of the class were nearest to in the last epoch. It is not known
    for a class without an image in that epoch.
    """
    centers = head["centers"]
    if centers.ndim == 2:
        return centers
    unseen = int((head["hits"].sum(1) == 0).sum())
    if unseen:
        log.warning(
            "all %d sub-centers are kept, not the dominant one: %d identities had no image in the last epoch",
            centers.shape[1],
            unseen,
        )
        return centers
    return centers[torch.arange(len(centers)), head["hits"].argmax(1)]


@torch.no_grad()
def validate(network: nn.Module, faces: FaceDataset, device: torch.device) -> dict[str, Any]:
    """Verification over all pairs of ``faces``: AUC, and an operating point at each of 1e-2 and 1e-3."""
    network.eval()
    parts = []
    for start in range(0, len(faces), 64):
        images = to_float(faces.images[start : start + 64]).to(device).mul_(2).sub_(1)
        parts.append(nn.functional.normalize(network(images.contiguous(memory_format=torch.channels_last))).cpu())
    scored = score_pairs(torch.cat(parts).numpy(), np.asarray(faces.labels))
    points = [operating_point(fmr, genuine=scored.genuine, impostor=scored.impostor) for fmr in FMRS]
    return {
        "auc": auc(genuine=scored.genuine, impostor=scored.impostor),
        "thresholds": [asdict(point) for point in points],
        "identities": len(faces.identities),
        "images": len(faces),
    }


def _summary(figures: dict[str, Any]) -> dict[str, float | None]:
    return {"auc": figures["auc"], "tar": figures["thresholds"][-1]["tar"]}


def _to_stored(network: nn.Module, bits: int) -> dict[str, Tensor]:
    """The tensors of a checkpoint: float16, and weights of more than one dimension in ``bits``."""
    state = network.state_dict()
    tensors = {f"network.{key}": value.half() if value.is_floating_point() else value for key, value in state.items()}
    if bits < 16:
        tensors |= quantized({name: value for name, value in network.named_parameters() if value.ndim > 1}, bits=bits)
    return tensors
