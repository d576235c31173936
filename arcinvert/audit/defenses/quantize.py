"""Product quantization (Jegou et al. 2011, "Product quantization for nearest neighbor search")."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from arcinvert.audit.defenses.base import Defense, straight_through
from arcinvert.errors import UsageError

CODEWORDS = 256
"""Codewords of each part: a code is one byte."""
LEARN_FROM = 32 * CODEWORDS
ROUNDS = 12


@dataclass(frozen=True, eq=False)
class ProductQuantization(Defense):
    """Cuts an embedding into ``parts`` of equal length, and stores the number of the nearest codeword of each.

    k-means learns the codewords from faces that are not in the store. They are no secret: whoever compares templates
    needs them. Both templates of a comparison are codes (symmetric distance).

    Attributes:
        parts: how many.
        codewords: (parts, C, D / parts), C at most 256; None before :meth:`fitted`.
        seed: of k-means.
    """

    parts: int
    codewords: Tensor | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.parts < 1:
            raise UsageError(f"expected at least 1 part, got {self.parts}")

    @property
    def spec(self) -> str:
        return f"pq:{self.parts}"

    def fitted(self, own: Tensor) -> Defense:
        size = own.shape[1]
        if size % self.parts:
            raise UsageError(f"expected a number of parts that divides {size}, got {self.spec}")
        rows = own.detach().float().cpu()
        draw = np.random.default_rng(self.seed)
        if len(rows) > LEARN_FROM:
            rows = rows[torch.from_numpy(draw.choice(len(rows), LEARN_FROM, replace=False))]
        starts = torch.from_numpy(draw.permutation(len(rows))[:CODEWORDS])
        parts = rows.view(len(rows), self.parts, -1).transpose(0, 1)
        words = torch.stack([lloyd(part, part[starts]) for part in parts])
        return ProductQuantization(self.parts, words.to(own.device), self.seed)

    def protect(self, embeddings: Tensor, ids: Sequence[int]) -> Tensor:
        return self._codes(embeddings.detach()).to(embeddings.dtype)

    def values(self, templates: Tensor) -> Tensor:
        words = self._words(templates)
        parts = torch.arange(self.parts, device=templates.device)
        return words[parts, templates.round().long()].flatten(1)

    def soft(self, embeddings: Tensor) -> Tensor:
        return straight_through(embeddings, self.values(self._codes(embeddings.detach())))

    def _codes(self, embeddings: Tensor) -> Tensor:
        """(N, D) -> (N, parts) int64, the nearest codewords."""
        words = self._words(embeddings)
        parts = embeddings.view(len(embeddings), self.parts, -1).to(words.dtype)
        return torch.stack([nearest(parts[:, i], words[i]) for i in range(self.parts)], 1)

    def _words(self, like: Tensor) -> Tensor:
        if self.codewords is None:
            raise UsageError(f"{self.spec} has not learned its codewords: use what fitted() returns")
        return self.codewords.to(like.device)


def nearest(rows: Tensor, words: Tensor) -> Tensor:
    """(N, d) and (C, d) -> (N,) the row of ``words`` at the smallest Euclidean distance."""
    return (words.square().sum(1) - 2 * rows @ words.T).argmin(1)


def lloyd(rows: Tensor, words: Tensor) -> Tensor:
    """k-means from the start ``words`` (C, d) on ``rows`` (N, d), 12 rounds; a word without rows does not move."""
    words = words.clone()
    for _ in range(ROUNDS):
        owner = nearest(rows, words)
        count = torch.bincount(owner, minlength=len(words))
        sums = torch.zeros_like(words).index_add_(0, owner, rows)
        there = count > 0
        words[there] = sums[there] / count[there, None]
    return words
