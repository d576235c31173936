"""The batches of a run, drawn from (seed, epoch) and augmented from (seed, step) alone.

A run that was killed therefore resumes with the same batches, in any number of processes: every process makes its own
part of the one batch.
"""

from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from arcinvert.distributed import SINGLE_PROCESS, Processes
from arcinvert.training.config import TrainConfig
from arcinvert.training.data.faces import FaceDataset, to_float

GROUP = 16
"""Images that are augmented together. A process augments every group that overlaps its share as a whole."""


def generator_for(seed: int, number: int, purpose: int) -> torch.Generator:
    """A generator for one purpose at one step or epoch, independent of all others."""
    mixed = np.random.SeedSequence([seed, number, purpose]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(mixed) & (2**63 - 1))


class Batches:
    """The batches of a run.

    Attributes:
        steps_per_epoch, total_steps: the number of batches.

    Args:
        faces: the training set.
        config: batch size, seed, augmentations.
        device, layout: device and memory format of the images.
        processes: each makes its :meth:`~arcinvert.distributed.Processes.share` of a batch.
    """

    def __init__(
        self,
        faces: FaceDataset,
        config: TrainConfig,
        device: torch.device,
        layout: torch.memory_format,
        processes: Processes = SINGLE_PROCESS,
    ) -> None:
        self.faces, self.config, self.device, self.layout, self.processes = faces, config, device, layout, processes
        whole, rest = divmod(len(faces), config.batch_size)
        self.steps_per_epoch = max(1, whole + (0 if config.drop_last or not rest else 1))
        self.total_steps = self.steps_per_epoch * config.epochs
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.int64)
        # With a GPU, or if images must be read first, a thread makes the next batch during the step.
        in_thread = device.type != "cpu" or not isinstance(faces.images, Tensor)
        self._maker = ThreadPoolExecutor(1) if in_thread else None
        self._next: tuple[int, Future[tuple[Tensor, Tensor]]] | None = None

    def smallest(self) -> int:
        """The number of images in the smallest batch."""
        rest = len(self.faces) % self.config.batch_size
        return rest if rest and not self.config.drop_last else min(len(self.faces), self.config.batch_size)

    def rows(self, step: int) -> Tensor:
        """The rows of the images in the batch of a step, over all processes."""
        epoch, position = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = torch.randperm(len(self.faces), generator=generator_for(self.config.seed, epoch, 0))
        return self._order[position * self.config.batch_size : (position + 1) * self.config.batch_size]

    def at(self, step: int) -> tuple[Tensor, Tensor]:
        """This process's share of the batch, at least one image: (b, 3, 112, 112) in [-1, 1], and (b,) labels."""
        if self._maker is None:
            return self._make(step)
        due = self._next[1] if self._next and self._next[0] == step else self._maker.submit(self._make, step)
        batch = due.result()
        self._next = (step + 1, self._maker.submit(self._make, step + 1)) if step + 1 < self.total_steps else None
        return batch

    def _make(self, step: int) -> tuple[Tensor, Tensor]:
        rows = self.rows(step)
        share = self.processes.share(len(rows))
        first = share.start // GROUP
        parts = [self._group(step, number, rows) for number in range(first, -(-share.stop // GROUP))]
        images = torch.cat(parts)[share.start - first * GROUP :][: len(share)]
        images = images.mul_(2).sub_(1).contiguous(memory_format=self.layout)
        return images, self.faces.labels[rows[share.start : share.stop]].to(self.device)

    def _group(self, step: int, number: int, rows: Tensor) -> Tensor:
        """(g, 3, 112, 112) in [0, 1], augmented."""
        chosen = self.faces.images[rows[number * GROUP : (number + 1) * GROUP]]
        augmentation, second = self.config.augmentation, self.config.second_stage
        if second is not None and step >= round(self.config.second_stage_from * self.steps_per_epoch):
            augmentation = second
        return augmentation(to_float(chosen.to(self.device)), generator_for(self.config.seed, step, 1 + number))
