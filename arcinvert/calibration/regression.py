"""Ridge regression from embeddings to whatever belongs to a face, and how far unseen faces deviate from it."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

RIDGES = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0, 3.0, 10.0, 30.0)
"""An embedding that says much of the fine coefficients wants a small ridge, a poor one a large."""


def fit_regression(
    embeddings: Tensor, coefficients: Tensor, *, ridges: Sequence[float] = RIDGES
) -> tuple[Tensor, Tensor, Tensor]:
    """Each coefficient with its own best ridge, and what that leaves over on unseen faces.

    Args:
        embeddings: (N, D), unit norm. Neighboring rows may show one person: the fifth of the rows
            that ridges are chosen and residuals measured on is one contiguous block.
        coefficients: (N, K).
        ridges: weights of the squared norm to choose from.

    Returns:
        weight (D, K), bias (K,), residual standard deviation (K,).
    """
    cut = len(embeddings) - len(embeddings) // 5
    x, y = embeddings.double(), coefficients.double()
    seen, unseen = Sums.of(x[:cut], y[:cut]), Sums.of(x[cut:], y[cut:])
    variance, best = torch.stack([unseen.left_over(seen.solved(ridge)) for ridge in ridges]).min(0)
    both = seen + unseen
    fits = torch.stack([both.solved(ridge) for ridge in ridges])
    chosen = fits[best, :, torch.arange(y.shape[1])].T.float()
    return chosen[:-1].contiguous(), chosen[-1].contiguous(), variance.sqrt().clamp_min(1e-3).float()


@dataclass(frozen=True, eq=False)
class Sums:
    """Second moments of rows (embedding, 1) and of maps (M,)."""

    gram: Tensor  # (D + 1, D + 1)
    cross: Tensor  # (D + 1, M)
    square: Tensor  # (M,)

    @classmethod
    def of(cls, embeddings: Tensor, maps: Tensor) -> "Sums":
        rows = torch.cat([embeddings, torch.ones_like(embeddings[:, :1])], 1)
        return cls((rows.T @ rows).double(), (rows.T @ maps).double(), maps.double().square().sum(0))

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(self.gram + other.gram, self.cross + other.cross, self.square + other.square)

    def solved(self, ridge: float) -> Tensor:
        """(D + 1, M): weight, and last the bias, which the ridge spares."""
        penalty = torch.full_like(self.gram[0], ridge)
        penalty[-1] = 0
        found: Tensor = torch.linalg.solve(self.gram + penalty.diag(), self.cross)
        return found

    def left_over(self, weight: Tensor) -> Tensor:
        """(M,) mean squared deviation from what ``weight`` foretells."""
        explained = (weight * (2 * self.cross - self.gram @ weight)).sum(0)
        left: Tensor = (self.square - explained) / self.gram[-1, -1]
        return left.clamp_min(0)

    def variance(self) -> Tensor:
        """(M,) of the maps."""
        count = self.gram[-1, -1]
        return (self.square / count - (self.cross[-1] / count).square()).clamp_min(0)

    def mean(self) -> Tensor:
        """(D,) of the embeddings."""
        found: Tensor = self.gram[-1, :-1] / self.gram[-1, -1]
        return found

    def of_mean(self, weight: Tensor) -> Tensor:
        """(M,) that ``weight`` foretells of the mean embedding."""
        return self.mean() @ weight[:-1] + weight[-1]

    def covariance(self) -> Tensor:
        """(D, D) of the embeddings."""
        return self.gram[:-1, :-1] / self.gram[-1, -1] - torch.outer(self.mean(), self.mean())


def reduced_rank(weight: Tensor, covariance: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """(D, M) -> (D, rank), (rank, M) whose product is nearest to it over embeddings of such a covariance.

    Directions in which the embeddings hardly vary, if at all, count as of a millionth of the greatest variance.
    """
    variance, axes = torch.linalg.eigh(covariance)
    deviation = variance.clamp_min(float(1e-6 * variance[-1]) + 1e-12).sqrt()
    spread = deviation[:, None] * (axes.T @ weight)
    _, directions = torch.linalg.eigh(spread @ spread.T)
    kept = directions.flip(1)[:, :rank]
    return axes @ (kept / deviation[:, None]), kept.T @ spread
