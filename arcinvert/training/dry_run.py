"""Before a long run: is the data in order, does it fit into memory, and does a step work?"""

import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from arcinvert.backbones import build_backbone
from arcinvert.distributed import ALONE, Ranks
from arcinvert.training.config import TrainConfig
from arcinvert.training.run import Run, Say, unheard
from arcinvert.training.trainer import open_data

TRIED = 4
"""Images that one forward pass is measured with."""


def memory_estimate(config: TrainConfig, classes: int, pictures: int, *, ranks: Ranks = ALONE) -> dict[str, int]:
    """Bytes that one rank will need, by what for.

    ``backbone`` is weights, statistics and gradients, ``activations`` what the forward pass of one of its passes keeps
    for the backward pass (measured on a few images), ``head`` this rank's centers, their gradient and the logits of
    the whole pass, ``optimizer`` the momentum of both, ``data`` the pictures, held as bytes by every rank.
    What the libraries need for themselves comes on top.
    """
    network = build_backbone(config.backbone, **config.backbone_settings()).train()
    weights = 4 * sum(value.numel() for value in network.parameters() if value.requires_grad)
    buffers = sum(value.numel() * value.element_size() for value in network.buffers())
    a_pass = -(-config.batch_size // config.accumulate)
    share = -(-a_pass // ranks.world)
    row = 4 * config.subcenters * config.embedding_size
    own = len(ranks.share(classes))
    drawn = own if config.sampling == 1 else min(own, round(own * config.sampling) + min(own, a_pass))
    logits = 4 * a_pass * drawn * config.subcenters
    return {
        "backbone": 2 * weights + buffers,
        "activations": _kept(network, config.amp) * share // TRIED,
        "head": row * (own + drawn) + (3 if config.subcenters == 1 else 4) * logits,
        "optimizer": weights + row * own,
        "data": pictures * 112 * 112 * 3,
    }


def _kept(network: torch.nn.Module, amp: str) -> int:
    """Bytes that the backward pass of :data:`TRIED` images needs beside the weights."""
    known = {value.data_ptr() for value in [*network.parameters(), *network.buffers()]}
    kept: dict[int, int] = {}

    def keep(value: Tensor) -> Tensor:
        storage = value.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage.nbytes()
        return value

    precision = torch.autocast("cpu", torch.bfloat16, enabled=amp != "none")
    with torch.random.fork_rng([]), torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value), precision:
        features = network(torch.zeros(TRIED, 3, 112, 112))
    del features
    return sum(kept.values())


def preflight(
    data: Path,
    *,
    config: TrainConfig,
    device: torch.device | str = "cpu",
    keep: Collection[str] | None = None,
    stream: bool = False,
    ranks: Ranks = ALONE,
    say: Say = unheard,
) -> dict[str, Any]:
    """Read all pictures, estimate the memory of each rank, and make one step. Nothing is written.

    Args:
        data, config, device, keep, stream, ranks: as of :func:`~arcinvert.training.trainer.train`.
        say: told the estimate before the step is tried.

    Returns:
        Counts, ``memory`` (bytes, of the first rank), ``loss`` and ``angle`` (degrees) of the first batch, and
        ``seconds`` that a step took (the second one; the first warms up).

    Raises:
        As ``train`` does.
    """
    faces, validation, held_out = open_data(data, config, keep=keep, stream=stream)
    held = 0 if stream else len(faces)
    memory = memory_estimate(config, len(faces.identities), held, ranks=ranks)
    each = ", ".join(f"{name} {size / 1e6:,.0f} MB" for name, size in memory.items())
    say(f"memory of each rank: {each}; together {sum(memory.values()) / 1e9:.2f} GB, and what the libraries need")
    run = Run(faces, config, torch.device(device), ranks=ranks, say=say)
    images, labels = run.data.at(0)
    first = run.advance(images, labels)
    started = time.monotonic()
    run.advance(images, labels)
    return {
        "images": len(faces),
        "identities": len(faces.identities),
        "held_out": len(held_out),
        "held_out_images": 0 if validation is None else len(validation),
        "fewest_pictures": int(faces.labels.bincount(minlength=len(faces.identities)).min()),
        "ranks": ranks.world,
        "steps_per_epoch": run.steps_per_epoch,
        "steps": run.total_steps,
        "memory": memory,
        "loss": first.loss,
        "angle": first.angle,
        "seconds": time.monotonic() - started,
    }
