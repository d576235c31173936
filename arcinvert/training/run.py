"""A training run in progress: network, head, optimizer, and its position."""

import contextlib
import logging
import math
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from arcinvert.backbones import build_backbone, memory_format
from arcinvert.distributed import SINGLE_PROCESS, Processes
from arcinvert.errors import CheckpointError, DivergedError, UsageError
from arcinvert.training.class_centers import sgd_step_
from arcinvert.training.collectives import all_max, all_sum, collect, sizes
from arcinvert.training.config import TrainConfig, differences
from arcinvert.training.data.batches import Batches, generator_for
from arcinvert.training.data.faces import FaceDataset
from arcinvert.training.distillation import Distillation
from arcinvert.training.heads import MarginHead
from arcinvert.training.initialization import initialize_from
from arcinvert.training.margins import angle
from arcinvert.training.state import load_state, save_state
from arcinvert.training.wrappers import compile_network, data_parallel

log = logging.getLogger(__name__)

CLASS_SAMPLING = 1_000_000
"""First purpose number of the generators that draw classes; those of images are smaller."""
INITIAL_LOSS_SCALE, GROWTH_INTERVAL = 2.0**16, 2000
"""The fp16 loss scale at the start, and the number of good steps after which it is doubled."""


class StepResult(NamedTuple):
    """The mean loss of a step's batch, and the mean angle to the own class center in degrees."""

    loss: float
    angle: float


class Run:
    """A training run in progress: network, head, optimizer, and its position.

    Args:
        faces: the training set.
        config: all settings.
        device: where this process trains.
        processes: those that train together.

    Raises:
        UsageError: settings that this device or this number of processes cannot serve.
    """

    def __init__(
        self, faces: FaceDataset, config: TrainConfig, device: torch.device, *, processes: Processes = SINGLE_PROCESS
    ) -> None:
        torch.manual_seed(config.seed)
        self.config, self.faces, self.device, self.processes = config, faces, device, processes
        self.network = build_backbone(config.backbone, **config.backbone_settings())
        self.layout = memory_format(self.network)
        self.network.to(device, memory_format=self.layout)  # type: ignore[call-overload]
        self.head = MarginHead(
            config.embedding_size,
            len(faces.identities),
            margin=config.resolve_margin(),
            scale=config.scale,
            subcenters=config.subcenters,
            past_pi=config.past_pi,
            extra_losses=asdict(config.extra_losses),
            sampling=config.sampling,
            processes=processes,
        ).to(device)
        self.data = Batches(faces, config, device, self.layout, processes)
        self._check()
        if processes.rank:  # torch's own draws (dropout) differ between processes
            torch.manual_seed(generator_for(config.seed, processes.rank, CLASS_SAMPLING).initial_seed())
        if config.sync_batchnorm and processes.world_size > 1:
            self.network = nn.SyncBatchNorm.convert_sync_batchnorm(self.network)  # type: ignore[no-untyped-call]
        self.forward: nn.Module = self.network
        if config.compile:
            share = -(-len(processes.share(config.batch_size)) // config.accumulate)
            images = torch.zeros(share, 3, 112, 112, device=device).contiguous(memory_format=self.layout)
            with self._precision():
                self.forward, reason = compile_network(self.network, images)
            if reason is not None:
                log.warning("torch.compile does not work here, training continues without it: %s", reason)
        self.forward = data_parallel(self.forward, processes, device)
        self.distillation = Distillation.of(config, faces, device, processes)
        self.projection_head = None if self.distillation is None else self.distillation.projection_head
        self.parameters = [p for p in self.network.parameters() if p.requires_grad]
        self.parameters += [] if self.projection_head is None else [*self.projection_head.parameters()]
        self.sgd: dict[str, Any] = {"momentum": config.momentum, "weight_decay": config.weight_decay}
        self.optimizer = torch.optim.SGD(self.parameters, lr=config.lr, **self.sgd)
        self.velocities = {name: torch.zeros_like(value) for name, value in self.head.named_parameters()}
        self.step = 0
        self.steps_per_epoch, self.total_steps = self.data.steps_per_epoch, self.data.total_steps
        self.history: list[dict[str, float | None]] = []
        self.average: StepResult | None = None
        self.loss_scale = INITIAL_LOSS_SCALE if config.amp == "fp16" else 1.0
        self.good_steps = 0

    def initialize(self) -> None:
        """Load the weights that ``init_from`` of the configuration names, if it names any.

        Raises:
            CheckpointError: see :func:`~arcinvert.training.initialization.initialize_from`.
        """
        if self.config.init_from:
            initialize_from(self.config.init_from, self.network, self.head, self.distillation, self.faces, self.device)

    def _check(self) -> None:
        config, world_size = self.config, self.processes.world_size
        if config.amp == "fp16" and self.device.type != "cuda":
            raise UsageError(f"fp16 needs a GPU, got {self.device.type}; bf16 works on both")
        if config.sync_batchnorm and world_size > 1 and self.device.type != "cuda":
            raise UsageError(f"sync_batchnorm over several processes needs GPUs, got {self.device.type}")
        if len(self.faces.identities) < world_size:
            raise UsageError(f"expected an identity for each of {world_size} processes")
        passes = world_size * config.accumulate
        if (smallest := self.data.smallest()) // passes < 2 and passes > 1:
            raise UsageError(
                f"expected two images for each of {passes} processes and passes, got a batch of {smallest} "
                "(a larger batch_size, fewer processes, or drop_last = true)"
            )
        if smallest < 2:
            raise UsageError(
                "the last batch would be one image, which BatchNorm cannot normalize; set drop_last = true"
            )

    def _precision(self) -> torch.autocast:
        kind = torch.bfloat16 if self.config.amp == "bf16" else torch.float16
        return torch.autocast(self.device.type, kind, enabled=self.config.amp != "none")

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """From the present step to the end, this process's (b, 3, 112, 112) normalized images and (b,) labels."""
        while self.step < self.total_steps:
            yield self.data.at(self.step)

    def learning_rate(self) -> float:
        """The learning rate of the present step."""
        return self.config.learning_rate(self.step, self.steps_per_epoch)

    def advance(self, images: Tensor, labels: Tensor) -> StepResult:
        """One step of SGD on this process's share of a batch; loss and angle are means over all processes.

        Raises:
            DivergedError: they are no longer finite. The weights are as they were before.
        """
        self.network.train()
        self.head.train()
        self.optimizer.zero_grad(set_to_none=True)
        self.head.zero_grad(set_to_none=True)
        count = sum(sizes(len(images), self.processes, self.device))
        sums = torch.zeros(2, device=self.device)
        passes = list(
            zip(images.tensor_split(self.config.accumulate), labels.tensor_split(self.config.accumulate), strict=True)
        )
        for number, (part, own) in enumerate(passes):
            part = self._perturbed(part, own) if self.config.adversarial else part
            last = number == len(passes) - 1  # it sums the gradients over the processes
            parallel = self.forward if isinstance(self.forward, nn.parallel.DistributedDataParallel) else None
            with contextlib.nullcontext() if last or parallel is None else parallel.no_sync():
                with self._precision():
                    features = self.forward(part)
                generator = generator_for(self.config.seed, self.step, CLASS_SAMPLING + number)
                each, cosine = self.head(features, own, generator)
                if self.distillation is not None:
                    each = each + self.distillation.loss(part, features, self.head.centers)
                loss = each.sum() / count
                torch.autograd.backward(loss * self.loss_scale)
            sums += torch.stack([loss.detach(), angle(cosine).rad2deg().sum() / count])
        mean_loss, mean_angle = all_sum(sums, self.processes).tolist()
        if not math.isfinite(mean_loss):
            raise DivergedError(f"the loss is {mean_loss} at step {self.step + 1}")
        scale = self.loss_scale
        if self._gradients_are_finite():
            self._move(scale)
        self.step += 1
        return StepResult(mean_loss, mean_angle)

    def _perturbed(self, images: Tensor, labels: Tensor) -> Tensor:
        """The images of ``adversarial`` training; computed in eval mode, so that no statistic changes."""
        self.network.eval()
        self.head.eval()
        images = images.detach().requires_grad_()
        with self._precision():
            features = self.network(images)
        (gradient,) = torch.autograd.grad(self.head(features, labels).loss.sum(), images)
        self.network.train()
        self.head.train()
        size = 2 * self.config.adversarial  # the images have a range of 2
        return (images.detach() + size * gradient.sign()).clamp(-1, 1)

    def _gradients_are_finite(self) -> bool:
        """Unscale and clip the gradients; if the fp16 scale was too large, halve it and skip the step."""
        if self.loss_scale != 1:
            torch._foreach_div_([p.grad for p in self.parameters if p.grad is not None], self.loss_scale)
        norm = nn.utils.clip_grad_norm_(self.parameters, self.config.clip)
        finite = bool(norm.isfinite())
        if self.config.amp == "fp16":
            grads = [p.grad for p in self.head.parameters() if p.grad is not None]
            values = [grad.coalesce().values() if grad.is_sparse else grad for grad in grads]
            bad = torch.tensor([not finite or not all(bool(g.isfinite().all()) for g in values)], device=self.device)
            finite = not bool(all_max(bad.float(), self.processes))
            self.good_steps = self.good_steps + 1 if finite else 0
            if not finite:
                self.loss_scale /= 2
            elif self.good_steps % GROWTH_INTERVAL == 0:
                self.loss_scale *= 2
        if not finite and self.loss_scale <= 1:
            raise DivergedError(f"the gradient is no longer finite at step {self.step + 1}")
        return finite

    def _move(self, scale: float) -> None:
        rate = self.learning_rate()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        for name, value in self.head.named_parameters():
            sgd_step_(value, self.velocities[name], lr=rate, scale=scale, **self.sgd)

    def update_average(self, result: StepResult) -> StepResult:
        """The running averages of the results of :meth:`advance`, after this one."""
        old = self.average
        pairs = () if old is None else zip(old, result, strict=True)
        self.average = result if old is None else StepResult(*(0.98 * was + 0.02 * now for was, now in pairs))
        return self.average

    def head_state(self) -> dict[str, Tensor]:
        """The head's state with the rows of all processes, on the CPU of the first one; empty in the others."""
        state = self.head.state_dict()
        rows = {key: collect(value, self.processes) for key, value in state.items() if key in self.head.SHARDED}
        whole = {key: value.cpu() if key not in rows else rows[key] for key, value in state.items()}
        return {key: value for key, value in whole.items() if value is not None and not self.processes.rank}

    def state_dict(self) -> dict[str, Any]:
        """Everything that :meth:`load_state_dict` needs; all processes call it, the first one receives it.

        ``config``, ``data`` (digest), ``step``, ``history``, ``average``, ``network``, ``head`` (one matrix of class
        centers, whatever the number of processes), ``projection_head``, ``optimizer`` (as :class:`torch.optim.SGD` over
        the parameters of network, projection head and head would write it), ``loss_scale``, and ``rng`` with a row for
        each process.

        Raises:
            DivergedError: a weight is not finite.
        """
        weights = [*self.parameters, *self.head.parameters()]
        bad = torch.stack([~value.detach().isfinite().all() for value in weights]).any()
        if bool(all_max(bad.float(), self.processes)):
            raise DivergedError(f"a weight is no longer finite at step {self.step}")
        head, momenta = self.head_state(), [collect(value, self.processes) for value in self.velocities.values()]
        rng, rng_cuda = collect(torch.get_rng_state()[None], self.processes), None
        if self.device.type == "cuda":
            rng_cuda = collect(torch.cuda.get_rng_state(self.device)[None], self.processes)
        if self.processes.rank:
            return {}
        optimizer = self.optimizer.state_dict()
        first = len(self.parameters)
        for number, momentum in enumerate(momenta, first):
            optimizer["state"][number] = {"momentum_buffer": momentum}
        optimizer["param_groups"][0]["params"] = list(range(first + len(momenta)))
        return {
            "config": asdict(self.config),
            "data": self.faces.digest,
            "step": self.step,
            "history": self.history,
            "average": None if self.average is None else list(self.average),
            "network": self.network.state_dict(),
            "head": head,
            "optimizer": optimizer,
            "projection_head": {} if self.projection_head is None else self.projection_head.state_dict(),
            "loss_scale": [self.loss_scale, self.good_steps],
            "rng": rng,
            "rng_cuda": rng_cuda,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where :meth:`state_dict` was called, in any number of processes.

        Raises:
            KeyError, RuntimeError, ValueError, IndexError: a part is missing or does not fit.
        """
        part, sharded = self.head.part, self.head.SHARDED

        def own(rows: Tensor) -> Tensor:
            """This process's part of a matrix with a row for each class."""
            if len(rows) != self.head.classes:
                raise ValueError(f"it has {len(rows)} classes, expected {self.head.classes}")
            return rows[part.start : part.stop].clone()

        self.network.load_state_dict(state["network"])
        # A state from before hits were counted starts at 0.
        zeros = {key: torch.zeros_like(value) for key, value in self.head.state_dict().items() if key == "hits"}
        stored = {key: own(value) if key in sharded else value for key, value in state["head"].items()}
        self.head.load_state_dict(zeros | stored)
        if self.projection_head is not None:
            self.projection_head.load_state_dict(state["projection_head"])
        optimizer, first = state["optimizer"], len(self.parameters)
        groups = [dict(group, params=list(range(first))) for group in optimizer["param_groups"]]
        momenta = {number: value for number, value in optimizer["state"].items() if number < first}
        self.optimizer.load_state_dict({"state": momenta, "param_groups": groups})
        for number, velocity in enumerate(self.velocities.values(), first):
            if number in optimizer["state"]:
                velocity.copy_(own(optimizer["state"][number]["momentum_buffer"]))
        self.step, self.history = state["step"], state["history"]
        if state.get("average") is not None:
            self.average = StepResult(*state["average"])
        self.loss_scale, self.good_steps = state.get("loss_scale", (self.loss_scale, self.good_steps))
        rng = state["rng"].reshape(-1, state["rng"].shape[-1])  # a state of the first version has one row
        if (rank := self.processes.rank) < len(rng):
            torch.set_rng_state(rng[rank].clone())
            if self.device.type == "cuda" and state.get("rng_cuda") is not None:
                torch.cuda.set_rng_state(state["rng_cuda"][rank].clone(), self.device)

    def save(self, path: Path) -> None:
        """Write the state, completely or not at all; all processes call it, the first one writes.

        Raises:
            DivergedError: a weight is not finite; nothing is written.
        """
        state = self.state_dict()
        if not self.processes.rank:
            save_state(path, state)

    def resume(self, path: Path) -> None:
        """Continue from the state in ``path``, in any number of processes.

        Raises:
            CheckpointError: not a training state, or one of another configuration or other data.
        """
        state = load_state(path)
        changed = differences(self.config, state["config"])
        if changed or state.get("data") != self.faces.digest:
            what = ", ".join(changed) or "the data"
            raise CheckpointError(f"{str(path)!r} belongs to another run: {what} differs (--force starts again)")
        try:
            self.load_state_dict(state)
        except (KeyError, RuntimeError, ValueError, IndexError) as error:
            raise CheckpointError(f"{str(path)!r} does not fit this run: {' '.join(str(error).split())}") from None
