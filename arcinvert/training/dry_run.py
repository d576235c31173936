"""The dry run before a long one: it reads the data, estimates the memory, and makes a step."""

import logging
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch

from arcinvert.backbones import build_backbone
from arcinvert.device import bytes_kept
from arcinvert.distributed import SINGLE_PROCESS, Processes
from arcinvert.training.config import TrainConfig
from arcinvert.training.run import Run
from arcinvert.training.trainer import open_data, skipped_files

log = logging.getLogger(__name__)

MEASURED = 4
"""Images of the forward pass whose memory is measured."""


def memory_estimate(
    config: TrainConfig, classes: int, images: int, *, processes: Processes = SINGLE_PROCESS
) -> dict[str, int]:
    """Bytes that one process will need, by purpose.

    ``backbone`` is weights, statistics and gradients, ``activations`` what the forward pass of one of its passes keeps
    for the backward pass (measured on a few images), ``head`` this process's centers, their gradient and the logits of
    the whole pass, ``optimizer`` the momentum of both, ``data`` the images, held as bytes by every process.
    The libraries' own memory is not included.
    """
    network = build_backbone(config.backbone, **config.backbone_settings()).train()
    weights = 4 * sum(value.numel() for value in network.parameters() if value.requires_grad)
    buffers = sum(value.numel() * value.element_size() for value in network.buffers())
    a_pass = -(-config.batch_size // config.accumulate)
    share = -(-a_pass // processes.world_size)
    row = 4 * config.subcenters * config.embedding_size
    own = len(processes.share(classes))
    drawn = own if config.sampling == 1 else min(own, round(own * config.sampling) + min(own, a_pass))
    logits = 4 * a_pass * drawn * config.subcenters
    return {
        "backbone": 2 * weights + buffers,
        "activations": _kept(network, config.amp) * share // MEASURED,
        "head": row * (own + drawn) + (3 if config.subcenters == 1 else 4) * logits,
        "optimizer": weights + row * own,
        "data": images * 112 * 112 * 3,
    }


def _kept(network: torch.nn.Module, amp: str) -> int:
    """Bytes that the backward pass of :data:`MEASURED` images needs in addition to the weights."""
    with torch.random.fork_rng([]), torch.autocast("cpu", torch.bfloat16, enabled=amp != "none"):
        return bytes_kept(network, network, torch.zeros(MEASURED, 3, 112, 112))


def dry_run(
    data: Path,
    *,
    config: TrainConfig,
    device: torch.device | str = "cpu",
    keep: Collection[str] | None = None,
    stream: bool = False,
    strict: bool = False,
    processes: Processes = SINGLE_PROCESS,
) -> dict[str, Any]:
    """Read all images, estimate the memory of each process, and make one step. Nothing is written.

    The arguments are those of :func:`~arcinvert.training.trainer.train`.

    Returns:
        Counts, ``memory`` (bytes, of the first process), ``loss`` and ``angle`` (degrees) of the first batch, and
        ``seconds`` of a step (the second one; the first warms up).

    Raises:
        As ``train`` does.
    """
    faces, validation, held_out = open_data(data, config, keep=keep, stream=stream, strict=strict)
    held = 0 if stream else len(faces)
    memory = memory_estimate(config, len(faces.identities), held, processes=processes)
    each = ", ".join(f"{name} {size / 1e6:,.0f} MB" for name, size in memory.items())
    log.info("memory of each process: %s; together %.2f GB without the libraries", each, sum(memory.values()) / 1e9)
    run = Run(faces, config, torch.device(device), processes=processes)
    images, labels = run.data.at(0)
    first = run.advance(images, labels)
    started = time.monotonic()
    run.advance(images, labels)
    return {
        "images": len(faces),
        "identities": len(faces.identities),
        "skipped": len(skipped_files(faces, validation)),
        "held_out": len(held_out),
        "held_out_images": 0 if validation is None else len(validation),
        "fewest_images": int(faces.labels.bincount(minlength=len(faces.identities)).min()),
        "processes": processes.world_size,
        "steps_per_epoch": run.steps_per_epoch,
        "steps": run.total_steps,
        "memory": memory,
        "loss": first.loss,
        "angle": first.angle,
        "seconds": time.monotonic() - started,
    }
