"""Parts of `gpu.py`: training with NCCL and its loaders, and the tests marked ``gpu``."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from gpu_speed import Bench
from stepping import seconds_of
from torch import Tensor, nn
from train import noise

from arcinvert.training.config import TrainConfig
from arcinvert.training.data.batches import GROUP, Batches, generator_for
from arcinvert.training.data.faces import to_float
from arcinvert.training.run import Run
from arcinvert.training.wrappers import _sum

ROOT = Path(__file__).resolve().parents[1]


class Pinned(Batches):
    """Batches whose bytes reach the device from pinned memory, without waiting."""

    def _group(self, step: int, number: int, rows: Tensor) -> Tensor:
        chosen = rows[number * GROUP : (number + 1) * GROUP]
        images = torch.empty(len(chosen), *self.faces.images.shape[1:], dtype=torch.uint8, pin_memory=True)
        torch.index_select(self.faces.images, 0, chosen, out=images)
        generator = generator_for(self.config.seed, step, 1 + number)
        return self.config.augmentation(to_float(images.to(self.device, non_blocking=True)), generator)


class Whole(Batches):
    """Batches that are augmented as one group."""

    def _make(self, step: int) -> tuple[Tensor, Tensor]:
        rows = self.rows(step)
        images = to_float(self.faces.images[rows].to(self.device))
        images = self.config.augmentation(images, generator_for(self.config.seed, step, 1))
        return images.mul_(2).sub_(1).contiguous(memory_format=self.layout), self.faces.labels[rows].to(self.device)


def training(bench: Bench) -> dict[str, Any]:
    """Images/s of a training step: one fixed batch, DDP on one process, with the loader, and the loader alone."""
    backbone, width, batch, steps = ("iresnet18", 0.25, 4, 1) if bench.quick else ("iresnet50", 1.0, 256, 10)
    cuda = bench.device.type == "cuda"
    amp = "bf16" if cuda else "none"
    config = TrainConfig(
        backbone=backbone, width=width, batch_size=batch, embedding_size=512, amp=amp, epochs=100, lr=1e-3
    )
    faces = noise(100, batch * (2 if bench.quick else 16))
    run = Run(faces, config, bench.device)
    fixed = run.data.at(0)
    found: dict[str, Any] = {"backbone": backbone, "batch": batch, "amp": amp}

    def rate(work: Callable[[], object]) -> float:
        return batch / seconds_of(work, steps, bench.device, warm=1 if bench.quick else 4)

    found["fixed_batch"] = rate(lambda: run.advance(*fixed))
    batches = run.batches()
    found["with_loader"] = rate(lambda: run.advance(*next(batches)))
    numbers = iter(range(1, 10_000))
    found["loader_alone"] = rate(lambda: run.data._make(next(numbers)))
    if cuda:
        pinned = Pinned(faces, config, bench.device, run.layout)
        found["loader_pinned"] = rate(lambda: pinned._make(next(numbers)))
        whole = Whole(faces, config, bench.device, run.layout)
        found["loader_one_group"] = rate(lambda: whole._make(next(numbers)))
        on_device = Batches(replace(faces, images=faces.images.to(bench.device)), config, bench.device, run.layout)
        found["loader_on_device"] = rate(lambda: on_device._make(next(numbers)))
    backend = "nccl" if cuda else "gloo"
    dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    try:
        devices = [bench.device] if cuda else None
        before = run.advance(*fixed).loss
        parallel = nn.parallel.DistributedDataParallel(run.network, device_ids=devices, gradient_as_bucket_view=True)
        parallel.register_comm_hook(None, _sum)
        run.forward = parallel
        found[f"ddp_{backend}"] = rate(lambda: run.advance(*fixed))
        found["loss"] = [before, run.advance(*fixed).loss]
        del parallel
        run.forward = run.network
    finally:
        dist.destroy_process_group()
    return found


def tests(bench: Bench) -> dict[str, Any]:
    """The tests marked ``gpu``, in a process of their own."""
    if bench.device.type == "cuda":
        torch.cuda.empty_cache()
    # Another torch than the newest may warn of other things.
    words = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-W", "default", "-rs", "tests/gpu"]
    try:
        done = subprocess.run(
            words, cwd=ROOT, capture_output=True, text=True, timeout=max(20.0, min(120.0, bench.left()))
        )
    except subprocess.TimeoutExpired:
        return {"passed": None, "summary": "not ended in time"}
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    return {"passed": done.returncode == 0, "summary": (lines or ["nothing"])[-1], "output": lines[-40:]}
