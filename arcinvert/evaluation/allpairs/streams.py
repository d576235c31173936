"""Accumulators for a stream of scores in bounded memory: the highest scores, their bins, or the distinct ones.

Buffers are reused. Allocating memory for every tile costs as much as the computation in it, and small tensors kept
between large ones fragment the memory by gigabytes.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from arcinvert.evaluation.allpairs.tiles import gathered

PER_UNIT = 1 << 17
BINS = 2 * PER_UNIT
"""Bin b holds scores from ``b / PER_UNIT - 1`` up to, but not including, ``(b + 1) / PER_UNIT - 1``. The outermost bins
also hold scores that rounding puts outside -1 to 1."""
MIN_COLLECTED = 1 << 12
"""Scores that :class:`Tail` collects at least before the cut rises."""
BUFFER = 1 << 20
"""Scores that :class:`Distinct` collects before it counts them."""


class Tail:
    """The ``wanted`` highest of all scores that are added."""

    def __init__(self, wanted: int, device: torch.device) -> None:
        self.wanted, self.cut = wanted, -np.inf
        self.parts = [torch.empty(0, device=device)]
        self.held = 0

    def add(self, scores: Tensor) -> None:
        """(a, b); minus infinity is ignored."""
        passed = scores.amax(1) > self.cut
        rows = int(passed.sum())
        if rows == 0:
            return
        scores = scores[passed] if 4 * rows < len(scores) else scores
        above = scores[scores > self.cut]
        self.parts.append(above)
        self.held += len(above)
        if self.held > max(2 * self.wanted, MIN_COLLECTED):
            self._rise()

    def _rise(self) -> None:
        together = torch.cat(self.parts)
        if len(together) > self.wanted:
            together = together.topk(self.wanted, sorted=False).values
            self.cut = float(together.min())
        self.parts, self.held = [together], len(together)

    def highest(self) -> NDArray[np.float32]:
        """(wanted,) highest scores of all processes, descending."""
        if not self.wanted:
            return np.empty(0, np.float32)
        self._rise()
        self.parts = [gathered(self.parts[0])]
        self._rise()
        return np.sort(self.parts[0].cpu().numpy())[::-1]


class Bins:
    """Bin numbers of scores, in buffers that are reused."""

    def __init__(self, device: torch.device) -> None:
        self.scaled, self.number = torch.empty(0, device=device), torch.empty(0, dtype=torch.int32, device=device)

    def __call__(self, scores: Tensor) -> Tensor:
        """(m,) int32, valid until the next call."""
        count = scores.numel()
        if count > len(self.scaled):
            self.scaled, self.number = self.scaled.new_empty(count), self.number.new_empty(count)
        scaled = torch.mul(scores.reshape(-1), PER_UNIT, out=self.scaled[:count])
        return self.number[:count].copy_(scaled.floor_().clamp_(-PER_UNIT, PER_UNIT - 1)).add_(PER_UNIT)


class Distinct:
    """The distinct scores and their counts."""

    def __init__(self, device: torch.device) -> None:
        self.room, self.held = torch.empty(BUFFER, device=device), 0
        self.values = torch.empty(0, device=device)
        self.times = torch.empty(0, dtype=torch.int64, device=device)

    def add(self, scores: Tensor) -> None:
        """(m,)."""
        for part in torch.split(scores, len(self.room)):
            if self.held + len(part) > len(self.room):
                self._count()
            self.room[self.held : self.held + len(part)] = part
            self.held += len(part)

    def _count(self) -> None:
        values, times = torch.unique(self.room[: self.held], return_counts=True)
        self.values, self.times = self._merge(torch.cat([self.values, values]), torch.cat([self.times, times]))
        self.held = 0

    @staticmethod
    def _merge(values: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
        distinct, position = torch.unique(values, return_inverse=True)
        return distinct, torch.zeros_like(distinct, dtype=torch.int64).index_add_(0, position, times)

    def all(self) -> tuple[Tensor, Tensor]:
        """(n,) distinct scores of all processes, ascending, and (n,) int64 counts."""
        self._count()
        return self._merge(gathered(self.values), gathered(self.times))
