"""Defenses without a key: noise, fewer numbers, fewer bits."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from arcinvert.audit.defenses.base import Defense, sign, straight_through
from arcinvert.errors import UsageError


@dataclass(frozen=True)
class Undefended(Defense):
    """The embeddings themselves, the baseline of every comparison."""

    @property
    def spec(self) -> str:
        return "none"

    def soft(self, embeddings: Tensor) -> Tensor:
        return embeddings

    def estimate(self, templates: Tensor, own: Tensor) -> Tensor:
        return normalize(templates)


@dataclass(frozen=True)
class Noise(Defense):
    """Gaussian noise, sampled once for every record; the sum is normalized again.

    Attributes:
        sigma: standard deviation of the noise in each element of the unit embedding. With D elements the
            expected cosine to the embedding is about ``1 / sqrt(1 + D sigma^2)``.
        seed: of the noise.
    """

    sigma: float
    seed: int = 0

    def __post_init__(self) -> None:
        if not (np.isfinite(self.sigma) and self.sigma > 0):
            raise UsageError(f"expected noise of a positive standard deviation, got {self.sigma:g}")

    @property
    def spec(self) -> str:
        return f"noise:{self.sigma:g}"

    def soft(self, embeddings: Tensor) -> Tensor:
        return embeddings

    def protect(self, embeddings: Tensor, ids: Sequence[int]) -> Tensor:
        size = embeddings.shape[1]
        drawn = [np.random.default_rng([self.seed, int(i)]).standard_normal(size, np.float32) for i in ids]
        noise = torch.from_numpy(np.stack(drawn)).to(embeddings)
        return normalize(embeddings.detach() + self.sigma * noise)


@dataclass(frozen=True)
class Truncate(Defense):
    """The first elements only.

    Attributes:
        keep: how many.
    """

    keep: int

    def __post_init__(self) -> None:
        if self.keep < 1:
            raise UsageError(f"expected to keep at least 1 element, got {self.keep}")

    @property
    def spec(self) -> str:
        return f"truncate:{self.keep}"

    def fitted(self, own: Tensor) -> Defense:
        if self.keep > own.shape[1]:
            raise UsageError(f"expected to keep at most {own.shape[1]} elements, got {self.spec}")
        return self

    def soft(self, embeddings: Tensor) -> Tensor:
        return embeddings[:, : self.keep]


@dataclass(frozen=True)
class Int8(Defense):
    """Each element as a whole number in -127 to 127; the largest of a row gets 127 or -127.

    The factor of a row is not stored: a cosine does not need it.
    """

    @property
    def spec(self) -> str:
        return "int8"

    def soft(self, embeddings: Tensor) -> Tensor:
        largest = embeddings.detach().abs().amax(1, keepdim=True).clamp_min(1e-30)
        scaled = embeddings * (127 / largest)
        return straight_through(scaled, scaled.round())

    def estimate(self, templates: Tensor, own: Tensor) -> Tensor:
        return normalize(templates)


@dataclass(frozen=True)
class Sign(Defense):
    """The sign of each element, -1 or 1; the score is linear in the Hamming distance."""

    @property
    def spec(self) -> str:
        return "sign"

    def soft(self, embeddings: Tensor) -> Tensor:
        return sign(embeddings)
