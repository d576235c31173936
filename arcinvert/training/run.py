"""A training run in progress: network, head, optimizer, and where it is."""

import contextlib
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from arcinvert.backbones import build_backbone, memory_format
from arcinvert.distributed import ALONE, Ranks
from arcinvert.errors import DivergedError, UsageError
from arcinvert.training.class_centers import sgd_
from arcinvert.training.collectives import all_max, all_sum, sizes
from arcinvert.training.config import TrainConfig
from arcinvert.training.data.batches import Batches, drawn_from
from arcinvert.training.data.faces import Faces
from arcinvert.training.heads import MarginHead
from arcinvert.training.initialization import begin_from, open_lesson
from arcinvert.training.losses import LOSSES
from arcinvert.training.margins import angle
from arcinvert.training.state import Step, read_state, write_state
from arcinvert.training.wrappers import compiled, share_batchnorm, shared

Say = Callable[[str], None]
SAMPLES = 1_000_000
"""Where the purposes of the generators that draw classes begin; those of pictures are smaller."""
LARGEST_SCALE, PATIENCE = 2.0**16, 2000
"""Of the fp16 loss scale: where it begins, and after how many good steps it is doubled."""


def unheard(line: str) -> None:
    """Says nothing."""


class Run:
    """A training run in progress: network, head, optimizer, and where it is.

    Args:
        faces: what is learned.
        config: all settings.
        device: where this rank trains.
        ranks: who else does.
        say: told what cannot be had.

    Raises:
        UsageError: settings that this device or this number of ranks cannot serve.
    """

    def __init__(
        self,
        faces: Faces,
        config: TrainConfig,
        device: torch.device,
        *,
        ranks: Ranks = ALONE,
        say: Say = unheard,
    ) -> None:
        torch.manual_seed(config.seed)
        self.config, self.faces, self.device, self.ranks = config, faces, device, ranks
        self.network = build_backbone(config.backbone, **config.backbone_settings())
        self.layout = memory_format(self.network)
        self.network.to(device, memory_format=self.layout)  # type: ignore[call-overload]
        self.head = MarginHead(
            config.embedding_size,
            len(faces.identities),
            margin=config.resolve_margin(),
            scale=config.scale,
            subcenters=config.subcenters,
            beyond=config.beyond,
            exact=config.exact,
            extras={name: getattr(config, name) for name in LOSSES},
            sampling=config.sampling,
            ranks=ranks,
        ).to(device)
        self.data = Batches(faces, config, device, self.layout, ranks)
        self._check()
        if ranks.rank:  # what torch itself draws (dropout) is each rank's own
            torch.manual_seed(drawn_from(config.seed, ranks.rank, SAMPLES).initial_seed())
        if config.sync_batchnorm and ranks.world > 1:
            share_batchnorm(self.network, ranks)
        self.forward: nn.Module = self.network
        if config.compile:
            share = -(-len(ranks.share(config.batch_size)) // config.accumulate)
            images = torch.zeros(share, 3, 112, 112, device=device).contiguous(memory_format=self.layout)
            with self._precision():
                self.forward, reason = compiled(self.network, images)
            if reason is not None:
                say(f"torch.compile cannot be had here, training goes on without it: {reason}")
        self.forward = shared(self.forward, ranks, device)
        self.lesson = open_lesson(config, faces, device, ranks)
        self.parameters = [p for p in self.network.parameters() if p.requires_grad]
        self.readout = None if self.lesson is None else self.lesson.readout
        self.parameters += [] if self.readout is None else [*self.readout.parameters()]
        self.optimizer = torch.optim.SGD(
            self.parameters, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay
        )
        self.velocities = {name: torch.zeros_like(value) for name, value in self.head.named_parameters()}
        self.step = 0
        self.steps_per_epoch, self.total_steps = self.data.steps_per_epoch, self.data.total_steps
        self.history: list[dict[str, float | None]] = []
        self.average: Step | None = None
        self.loss_scale = LARGEST_SCALE if config.amp == "fp16" else 1.0
        self.good_steps = 0

    def begin(self) -> None:
        """Begin where ``start`` of the configuration says; from random weights if it says nothing.

        Raises:
            CheckpointError: see :func:`~arcinvert.training.initialization.begin_from`.
        """
        if self.config.start:
            begin_from(self.config.start, self.network, self.head, self.lesson, self.faces, self.device)

    def _check(self) -> None:
        if self.config.amp == "fp16" and self.device.type != "cuda":
            raise UsageError(f"fp16 needs a GPU, got {self.device.type}; bf16 works on both")
        if len(self.faces.identities) < self.ranks.world:
            raise UsageError(f"expected an identity for each of {self.ranks.world} ranks")
        passes = self.ranks.world * self.config.accumulate
        if (smallest := self.data.smallest()) // passes < 2 and passes > 1:
            raise UsageError(
                f"expected two pictures for each of {passes} ranks and passes, got a batch of {smallest} "
                "(a larger batch_size, fewer ranks, or keep_last = false)"
            )
        if self.config.keep_last and smallest < 2:
            raise UsageError("the last batch would be one picture, which BatchNorm cannot take; set keep_last = false")

    def _precision(self) -> torch.autocast:
        kind = torch.bfloat16 if self.config.amp == "bf16" else torch.float16
        return torch.autocast(self.device.type, kind, enabled=self.config.amp != "none")

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """From the present step to the end, this rank's (b, 3, 112, 112) normalized images and (b,) labels."""
        while self.step < self.total_steps:
            yield self.data.at(self.step)

    def learning_rate(self) -> float:
        """That of the present step."""
        return self.config.learning_rate(self.step, self.steps_per_epoch)

    def advance(self, images: Tensor, labels: Tensor) -> Step:
        """One step of SGD on this rank's share of a batch; loss and angle are those of all ranks.

        Raises:
            DivergedError: they are no longer finite. The weights are as they were before.
        """
        self.network.train()
        self.head.train()
        self.optimizer.zero_grad(set_to_none=True)
        self.head.zero_grad(set_to_none=True)
        count = sum(sizes(len(images), self.ranks, self.device))
        told = torch.zeros(2, device=self.device)
        passes = list(
            zip(images.tensor_split(self.config.accumulate), labels.tensor_split(self.config.accumulate), strict=True)
        )
        for number, (part, own) in enumerate(passes):
            part = self._disturbed(part, own) if self.config.adversarial else part
            with self._alone(number < len(passes) - 1):
                with self._precision():
                    features = self.forward(part)
                draw = drawn_from(self.config.seed, self.step, SAMPLES + number)
                judged = self.head.judge(features, own, draw)
                each = judged.loss
                if self.lesson is not None:
                    each = each + self.lesson.loss(part, features, self.head.centers)
                loss = each.sum() / count
                torch.autograd.backward(loss * self.loss_scale)
            told += torch.stack([loss.detach(), angle(judged.cosine).rad2deg().sum() / count])
        mean_loss, mean_angle = all_sum(told, self.ranks).tolist()
        if not math.isfinite(mean_loss):
            raise DivergedError(f"the loss is {mean_loss} at step {self.step + 1}")
        scale = self.loss_scale
        if self._gradients_are_finite():
            self._move(scale)
        self.step += 1
        return Step(mean_loss, mean_angle)

    def _disturbed(self, images: Tensor, labels: Tensor) -> Tensor:
        """See ``adversarial`` of the configuration; in eval mode, so that no statistic changes."""
        self.network.eval()
        self.head.eval()
        images = images.detach().requires_grad_()
        with self._precision():
            features = self.network(images)
        (gradient,) = torch.autograd.grad(self.head.judge(features, labels).loss.sum(), images)
        self.network.train()
        self.head.train()
        reach = 2 * self.config.adversarial  # the images have a range of 2
        return (images.detach() + reach * gradient.sign()).clamp(-1, 1)

    def _alone(self, alone: bool) -> contextlib.AbstractContextManager[None]:
        """Within it, gradients stay on their rank: all but the last pass only add to them."""
        if alone and isinstance(self.forward, nn.parallel.DistributedDataParallel):
            return self.forward.no_sync()
        return contextlib.nullcontext()

    def _gradients_are_finite(self) -> bool:
        """Unscales and clips; where the scale of fp16 was too large, it is halved and the step left out."""
        if self.loss_scale != 1:
            torch._foreach_div_([p.grad for p in self.parameters if p.grad is not None], self.loss_scale)
        norm = nn.utils.clip_grad_norm_(self.parameters, self.config.clip)
        finite = bool(norm.isfinite())
        if self.config.amp == "fp16":
            heads = [
                p.grad.coalesce().values() if p.grad.is_sparse else p.grad
                for p in self.head.parameters()
                if p.grad is not None
            ]
            bad = torch.tensor([not finite or not all(bool(g.isfinite().all()) for g in heads)], device=self.device)
            finite = not bool(all_max(bad.float(), self.ranks))
            self.good_steps = self.good_steps + 1 if finite else 0
            if not finite:
                self.loss_scale /= 2
            elif self.good_steps % PATIENCE == 0:
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
            sgd_(
                value,
                self.velocities[name],
                lr=rate,
                momentum=self.config.momentum,
                weight_decay=self.config.weight_decay,
                scale=scale,
            )

    def remember(self, step: Step) -> Step:
        """The running averages of what :meth:`advance` told, after this step."""
        old = self.average
        kept = step if old is None else Step(*(0.98 * was + 0.02 * now for was, now in zip(old, step, strict=True)))
        self.average = kept
        return kept

    def save(self, path: Path) -> None:
        """Write the resumable state, whole or not at all; all ranks call it, the first one writes.

        Raises:
            DivergedError: a weight is not finite; nothing is written.
        """
        write_state(self, path)

    def resume(self, path: Path) -> None:
        """Take up the state in ``path``, whatever the number of ranks that wrote it.

        Raises:
            CheckpointError: not a state of ours, or of another configuration or other data.
        """
        read_state(self, path)
