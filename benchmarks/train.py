"""The cost of a training step beyond the network itself, and of the head for up to a million identities.

    python benchmarks/train.py [--only step|head|ranks] [--threads 2] [--json OUT.json]

*step*: images/s of three loops over the same network and batch, in turn in one process, with ratios per round. *bare*
is forward, backward and SGD step on one fixed batch, without data, augmentation and head; *trainer* is a step of
``arcinvert train``; *plain* is a straightforward loop (contiguous memory, mirror images, a linear layer of unit rows
with the ArcFace margin, one SGD over everything). *timm* and *lightning*, where these packages are installed (``pip
install timm lightning``), are the same network and loss in their parts: timm's loader, optimizer and schedule; a
LightningModule under Lightning's Trainer. On a busy machine the ratio by processor time is the reliable one.

*head*: one step (forward, backward, update) for embeddings of size 512 and a batch of 64, with all classes and with a
tenth of them; peak memory is that of the whole process, and each measurement has its own process.

*ranks*: the same head on one process and shared by two (gloo), with the same total number of threads.
"""

import argparse
import itertools
import json
import logging
import multiprocessing
import resource
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from arcinvert.backbones import build_backbone
from arcinvert.distributed import SINGLE_PROCESS, Processes
from arcinvert.training.class_centers import sgd_step_
from arcinvert.training.config import TrainConfig
from arcinvert.training.data.faces import FaceDataset
from arcinvert.training.heads import MarginHead
from arcinvert.training.margins import MARGINS
from arcinvert.training.run import Run

EMBEDDING_SIZE, BATCH = 512, 64
SGD: dict[str, float] = {"lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4}


def noise(identities: int, pictures: int) -> FaceDataset:
    images = torch.randint(0, 256, (pictures, 112, 112, 3), dtype=torch.uint8)
    labels = torch.randint(identities, (pictures,))
    names = tuple(f"{i:07d}" for i in range(identities))
    return FaceDataset(tuple(map(str, range(pictures))), images, labels, names, "")


Timed = Callable[[int], tuple[float, float]]
"""Takes so many steps; seconds, and the processor's, of them all."""


def timed(step: Callable[[], None]) -> Timed:
    def steps(count: int) -> tuple[float, float]:
        started, busy = time.perf_counter(), time.process_time()
        for _ in range(count):
            step()
        return time.perf_counter() - started, time.process_time() - busy

    return steps


def network_of(run: Run) -> nn.Module:
    return build_backbone(run.config.backbone, **run.config.backbone_settings()).train()


class Plain(nn.Module):
    """Network, unit class centers and the ArcFace margin, without anything of the package but the network."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.network = network_of(run)
        self.centers = nn.Parameter(0.01 * torch.randn(len(run.faces.identities), run.config.embedding_size))

    def forward(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        cosine = nn.functional.normalize(self.network(images)) @ nn.functional.normalize(self.centers).T
        own = torch.arange(len(labels)), labels
        angle = torch.acos(cosine[own].clamp(-1 + 1e-7, 1 - 1e-7))
        return nn.functional.cross_entropy(64 * cosine.index_put(own, torch.cos(angle + 0.5)), labels)


class Pictures(torch.utils.data.Dataset[tuple[torch.Tensor, int]]):
    """The same faces one by one, as a DataLoader takes them: (3, 112, 112) in -1..1, mirrored half of the time."""

    def __init__(self, run: Run) -> None:
        self.faces = run.faces

    def __len__(self) -> int:
        return len(self.faces)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        image = self.faces.images[row].permute(2, 0, 1).float().div(127.5).sub(1)
        return (image.flip(2) if torch.rand(()) < 0.5 else image), int(self.faces.labels[row])


def bare_loop(run: Run) -> Timed:
    network = network_of(run)
    network.to(memory_format=run.layout)  # type: ignore[call-overload]
    images, _ = run.data.at(0)
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], **SGD)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        network(images).square().mean().backward()
        optimizer.step()

    return timed(step)


def plain_loop(run: Run) -> Timed:
    model = Plain(run)
    optimizer = torch.optim.SGD(model.parameters(), **SGD)

    def step() -> None:
        rows = torch.randint(len(run.faces), (run.config.batch_size,))
        images = run.faces.images[rows].permute(0, 3, 1, 2).contiguous().float().div(127.5).sub(1)
        images = torch.where(torch.rand(len(rows), 1, 1, 1) < 0.5, images.flip(3), images)
        loss = model(images, run.faces.labels[rows])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return timed(step)


def timm_loop(run: Run) -> Timed:
    """What timm's training script does in a step, on the CPU, in the memory layout that the trainer chooses."""
    from timm.optim import create_optimizer_v2
    from timm.scheduler import CosineLRScheduler
    from timm.utils import AverageMeter

    model = Plain(run)
    model.network.to(memory_format=run.layout)  # type: ignore[call-overload]
    optimizer = create_optimizer_v2(model, opt="sgd", lr=SGD["lr"], momentum=0.9, weight_decay=SGD["weight_decay"])
    schedule, meter = CosineLRScheduler(optimizer, t_initial=10**6, t_in_epochs=False), AverageMeter()
    loader = torch.utils.data.DataLoader(Pictures(run), run.config.batch_size, shuffle=True, drop_last=True)
    batches: Iterator[Any] = itertools.chain.from_iterable(itertools.repeat(loader))
    count = itertools.count(1)

    def step() -> None:
        images, labels = next(batches)
        loss = model(images.contiguous(memory_format=run.layout), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        meter.update(loss.item(), len(images))
        schedule.step_update(num_updates=next(count), metric=meter.avg)

    return timed(step)


def lightning_loop(run: Run) -> Timed:
    """A LightningModule under a Trainer; its start and the first step are not counted."""
    import lightning

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = Plain(run)
            self.model.network.to(memory_format=run.layout)  # type: ignore[call-overload]
            self.times: list[tuple[float, float]] = []

        def training_step(self, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
            images, labels = batch
            loss = self.model(images.contiguous(memory_format=run.layout), labels)
            self.log("loss", loss)
            return loss

        def on_train_batch_end(self, *_: object) -> None:
            self.times.append((time.perf_counter(), time.process_time()))

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.model.parameters(), **SGD)

    module = Module()
    loader = torch.utils.data.DataLoader(Pictures(run), run.config.batch_size, shuffle=True, drop_last=True)

    def steps(count: int) -> tuple[float, float]:
        module.times.clear()
        off: dict[str, Any] = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar"), False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trainer = lightning.Trainer(
                accelerator="cpu", max_steps=count + 1, max_epochs=-1, enable_model_summary=False, **off
            )
            trainer.fit(module, loader)
        (first, first_busy), (last, last_busy) = module.times[0], module.times[-1]
        return last - first, last_busy - first_busy

    return steps


OTHERS = {"timm": timm_loop, "lightning": lightning_loop}
"""Loops in the parts of other packages, where these are installed."""


def measure_step(options: argparse.Namespace) -> dict[str, Any]:
    config = TrainConfig(backbone=options.backbone, width=options.width, batch_size=options.batch)
    run = Run(noise(options.identities, 2 * options.batch), replace(config, epochs=10**6), torch.device("cpu"))

    def trainer() -> None:
        run.advance(*run.data.at(run.step))

    loops = {"bare": bare_loop(run), "trainer": timed(trainer), "plain": plain_loop(run)}
    loops |= {name: loop(run) for name, loop in OTHERS.items() if find_spec(name) is not None}
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    work: dict[str, list[float]] = {name: [] for name in loops}
    for number in range(options.rounds + 1):
        for name, loop in loops.items():
            spent, busy = loop(options.steps)
            if number:  # the first round warms up
                seconds[name].append(spent / options.steps)
                work[name].append(busy / options.steps)
    ratios = [bare / whole for bare, whole in zip(seconds["bare"], seconds["trainer"], strict=True)]
    by_work = [bare / whole for bare, whole in zip(work["bare"], work["trainer"], strict=True)]
    return {
        "backbone": options.backbone,
        "width": options.width,
        "batch": options.batch,
        "identities": options.identities,
        "images_per_second": {name: options.batch / statistics.median(found) for name, found in seconds.items()},
        "trainer_to_bare": statistics.median(ratios),
        "range": [min(ratios), max(ratios)],
        "images_per_cpu_second": {name: options.batch / statistics.median(found) for name, found in work.items()},
        "trainer_to_bare_cpu": statistics.median(by_work),
        "range_cpu": [min(by_work), max(by_work)],
    }


def head_steps(ranks: Processes, classes: int, sampling: float, steps: int) -> dict[str, float]:
    torch.manual_seed(0)
    head = MarginHead(EMBEDDING_SIZE, classes, margin=MARGINS["arcface"], sampling=sampling, processes=ranks)
    velocity = torch.zeros_like(head.centers)
    share = ranks.share(BATCH)
    seconds, work = [], []
    for number in range(steps + 1):
        features = torch.randn(BATCH, EMBEDDING_SIZE)[share.start : share.stop].requires_grad_()
        labels = torch.randint(classes, (BATCH,))[share.start : share.stop]
        ranks.wait()
        started, busy = time.perf_counter(), time.process_time()
        torch.autograd.backward(head(features, labels, torch.Generator().manual_seed(number)).loss.sum() / BATCH)
        sgd_step_(head.centers, velocity, **SGD)
        head.zero_grad(set_to_none=True)
        ranks.wait()
        seconds.append(time.perf_counter() - started)
        work.append(time.process_time() - busy)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds": statistics.median(seconds[1:]), "cpu_seconds": statistics.median(work[1:]), "bytes": memory}


def one_process(rank: int, world: int, folder: str, threads: int, arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    if world > 1:
        dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world)
    found = head_steps(Processes(rank, world, rank) if world > 1 else SINGLE_PROCESS, *arguments)
    Path(folder, f"{rank}.json").write_text(json.dumps(found))
    if world > 1:
        dist.destroy_process_group()


def measure_head(world: int, classes: int, sampling: float, options: argparse.Namespace) -> dict[str, float]:
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        arguments = (world, folder, max(1, options.threads // world), (classes, sampling, options.steps))
        each = [context.Process(target=one_process, args=(rank, *arguments)) for rank in range(world)]
        for process in each:
            process.start()
        for process in each:
            process.join()
        if any(process.exitcode for process in each):
            raise SystemExit("a process has failed; see above")
        found = [json.loads(Path(folder, f"{rank}.json").read_text()) for rank in range(world)]
    row = {key: max(part[key] for part in found) for key in ("seconds", "bytes")}
    return {
        "ranks": world,
        "classes": classes,
        "sampling": sampling,
        **row,
        "cpu_seconds": sum(f["cpu_seconds"] for f in found),
    }


def tell(row: dict[str, float]) -> None:
    print(
        f"| {row['ranks']} | {row['classes']:,} | {row['sampling']:g} | {row['seconds']:.3f} | "
        f"{row['cpu_seconds']:.3f} | {row['bytes'] / 1e9:.2f} |",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["step", "head", "ranks"])
    parser.add_argument("--backbone", default="iresnet18")
    parser.add_argument("--width", type=float, default=0.5)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--identities", type=int, default=1000, help="of the step")
    parser.add_argument("--classes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000], help="of the head")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3, help="per round, and of the head")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)
    report: dict[str, Any] = {"threads": options.threads}
    if options.only in (None, "step"):
        report["step"] = found = measure_step(options)
        each = ", ".join(f"{name} {speed:.1f}" for name, speed in found["images_per_second"].items())
        print(
            f"{found['backbone']} x {found['width']}, batch {found['batch']}, {options.threads} threads, "
            f"images/s: {each}; "
            f"trainer / bare {found['trainer_to_bare']:.3f} ({found['range'][0]:.3f} to {found['range'][1]:.3f}); "
            f"by processor time {found['trainer_to_bare_cpu']:.3f} "
            f"({found['range_cpu'][0]:.3f} to {found['range_cpu'][1]:.3f})",
            flush=True,
        )
    header = "| ranks | identities | sampling | s a step | CPU s | peak GB |\n|---|---|---|---|---|---|"
    if options.only in (None, "head"):
        print(header)
        report["head"] = []
        for classes in options.classes:
            for sampling in (1.0, 0.1):
                report["head"].append(measure_head(1, classes, sampling, options))
                tell(report["head"][-1])
    if options.only in (None, "ranks"):
        print(header)
        report["ranks"] = []
        for sampling in (1.0, 0.1):
            for world in (1, 2):
                report["ranks"].append(measure_head(world, sorted(options.classes)[-2:][0], sampling, options))
                tell(report["ranks"][-1])
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
