"""Which pictures a step sees, and how they are changed: drawn from (seed, epoch) and (seed, step) alone.

A run that was killed therefore goes on as if nothing had happened, on any number of ranks: every rank makes its
own part of the one batch.
"""

from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from arcinvert.distributed import ALONE, Ranks
from arcinvert.training.config import TrainConfig
from arcinvert.training.data.faces import Faces, to_float

GROUP = 16
"""Pictures that are augmented together. A rank augments the groups its share touches, whole."""


def drawn_from(seed: int, number: int, purpose: int) -> torch.Generator:
    """A generator for one purpose at one step or epoch, independent of all others."""
    mixed = np.random.SeedSequence([seed, number, purpose]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(mixed) & (2**63 - 1))


class Batches:
    """The batches of a run.

    Attributes:
        steps_per_epoch, total_steps: how many there are.

    Args:
        faces: what is learned.
        config: batch size, seed, augmentations.
        device, layout: where the images go, and in what memory format.
        ranks: each makes its :meth:`~arcinvert.distributed.Ranks.share` of a batch.
    """

    def __init__(
        self,
        faces: Faces,
        config: TrainConfig,
        device: torch.device,
        layout: torch.memory_format,
        ranks: Ranks = ALONE,
    ) -> None:
        self.faces, self.config, self.device, self.layout, self.ranks = faces, config, device, layout, ranks
        whole, rest = divmod(len(faces), config.batch_size)
        self.steps_per_epoch = max(1, whole + (1 if config.keep_last and rest else 0))
        self.total_steps = self.steps_per_epoch * config.epochs
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.int64)
        # Beside a GPU, or where pictures must be read first, the next batch is made while this one is learned.
        beside = device.type != "cpu" or not isinstance(faces.images, Tensor)
        self._maker = ThreadPoolExecutor(1) if beside else None
        self._next: tuple[int, Future[tuple[Tensor, Tensor]]] | None = None

    def smallest(self) -> int:
        """How many pictures the smallest batch has."""
        rest = len(self.faces) % self.config.batch_size
        return rest if self.config.keep_last and rest else min(len(self.faces), self.config.batch_size)

    def rows(self, step: int) -> Tensor:
        """Which pictures the batch of a step is made of, on all ranks together."""
        epoch, position = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = torch.randperm(len(self.faces), generator=drawn_from(self.config.seed, epoch, 0))
        return self._order[position * self.config.batch_size : (position + 1) * self.config.batch_size]

    def at(self, step: int) -> tuple[Tensor, Tensor]:
        """This rank's share of the batch, at least one picture: (b, 3, 112, 112) in [-1, 1], and (b,) labels."""
        if self._maker is None:
            return self._made(step)
        due = self._next[1] if self._next and self._next[0] == step else self._maker.submit(self._made, step)
        batch = due.result()
        self._next = (step + 1, self._maker.submit(self._made, step + 1)) if step + 1 < self.total_steps else None
        return batch

    def _made(self, step: int) -> tuple[Tensor, Tensor]:
        rows = self.rows(step)
        share = self.ranks.share(len(rows))
        first = share.start // GROUP
        parts = [self._group(step, number, rows) for number in range(first, -(-share.stop // GROUP))]
        images = torch.cat(parts)[share.start - first * GROUP :][: len(share)]
        images = images.mul_(2).sub_(1).contiguous(memory_format=self.layout)
        return images, self.faces.labels[rows[share.start : share.stop]].to(self.device)

    def _group(self, step: int, number: int, rows: Tensor) -> Tensor:
        """(g, 3, 112, 112) in [0, 1], augmented."""
        chosen = self.faces.images[rows[number * GROUP : (number + 1) * GROUP]]
        early, late = self.config.augmentation, self.config.late
        has_come = step >= round(self.config.late_from * self.steps_per_epoch)
        augmentation = late if late is not None and has_come else early
        return augmentation(to_float(chosen.to(self.device)), drawn_from(self.config.seed, step, 1 + number))
