"""Ridge regression from embeddings to vectors that belong to faces, with its residual on held-out faces.

It is linear, or has a radial basis function around each of many known embeddings beside the linear part: an embedding
need not tell linearly what it knows.

Broomhead and Lowe 1988, "Multivariable Functional Interpolation and Adaptive Networks".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from arcinvert.device import OnDevice

RIDGES = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0, 3.0, 10.0, 30.0)
"""Ridges to choose from: an embedding that determines the fine coefficients needs a small one, a poor one a large."""


@dataclass(frozen=True, eq=False)
class Regression(OnDevice):
    """A map from embeddings, and how far held-out faces deviate from its predictions.

    Attributes:
        weight: (D + C, K), of what :func:`features` tells.
        bias: (K,).
        residual: (K,) standard deviation of held-out faces around their prediction; NaN where it is unknown.
        centers: (C, D), unit norm, of the radial basis functions; C of 0 is a linear map.
        unit_norm: predictions are embeddings themselves, and normalized.
    """

    weight: Tensor
    bias: Tensor
    residual: Tensor
    centers: Tensor
    unit_norm: bool = False

    def predict(self, embeddings: Tensor) -> Tensor:
        """(B, D), unit norm -> (B, K)."""
        predicted = features(embeddings, self.centers) @ self.weight + self.bias
        return normalize(predicted) if self.unit_norm else predicted

    def to_tensors(self, name: str) -> dict[str, Tensor]:
        """As stored: ``NAME.weight`` in half precision, ``NAME.bias`` and ``NAME.residual``; ``NAME.centers``, if any,
        in half precision."""
        found = {
            f"{name}.weight": self.weight.half(),
            f"{name}.bias": self.bias.float(),
            f"{name}.residual": self.residual.float(),
        }
        return found | ({f"{name}.centers": self.centers.half()} if len(self.centers) else {})

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], name: str, *, unit_norm: bool = False) -> "Regression":
        """See :meth:`to_tensors`; a file may lack the residual.

        Raises:
            KeyError: no weight, or no bias.
            ValueError: the parts do not fit each other.
        """
        weight, bias = (tensors[f"{name}.{part}"].float() for part in ("weight", "bias"))
        residual = tensors.get(f"{name}.residual", torch.full_like(bias, torch.nan)).float()
        fits = weight.ndim == 2 and weight.shape[1:] == bias.shape == residual.shape
        centers = tensors.get(f"{name}.centers", weight.T[:0] if fits else weight).float()
        if not fits or centers.ndim != 2 or sum(centers.shape) != len(weight):
            raise ValueError(f"the parts of the regression {name!r} do not fit each other")
        return cls(weight, bias, residual, centers, unit_norm)

    @property
    def embedding_size(self) -> int:
        """D."""
        return self.centers.shape[1]


def features(embeddings: Tensor, centers: Tensor) -> Tensor:
    """(B, D) and (C, D), unit norm -> (B, D + C): an embedding x, and exp(-|x - c|^2 / 2) for every center c."""
    return torch.cat([embeddings, torch.exp(embeddings @ centers.T - 1)], 1)


def fit_regression(
    embeddings: Tensor,
    targets: Tensor,
    held_out: int,
    *,
    ridges: Sequence[float] = RIDGES,
    centers: Tensor | None = None,
    unit_norm: bool = False,
) -> Regression:
    """The regression on all rows, each target with the ridge that predicts held-out rows best.

    Args:
        embeddings: (N, D), unit norm.
        targets: (N, K).
        held_out: so many of the last rows, of other people, choose the ridges and measure the residuals.
        ridges: weights of the squared norm to choose from.
        centers: (C, D), unit norm, of radial basis functions; None for a linear map.
        unit_norm: the targets are embeddings, so predictions are to be normalized.
    """
    cut = len(embeddings) - held_out
    centers = embeddings[:0] if centers is None else centers
    x, y = features(embeddings.double(), centers.double()), targets.double()
    fitted, unseen = Accumulators.of(x[:cut], y[:cut]), Accumulators.of(x[cut:], y[cut:])
    variance, best = torch.stack([unseen.residual_variance(fitted.solve(ridge)) for ridge in ridges]).min(0)
    both = fitted + unseen
    solutions = torch.stack([both.solve(ridge) for ridge in ridges])
    chosen = solutions[best, :, torch.arange(y.shape[1])].T.float()
    residual = variance.sqrt().clamp_min(1e-3).float()
    return Regression(chosen[:-1].contiguous(), chosen[-1].contiguous(), residual, centers.float(), unit_norm)


@dataclass(frozen=True, eq=False)
class Accumulators:
    """Second moments of rows (embedding or its features, 1) and of their targets (M,): all that ridge regression
    needs."""

    gram: Tensor  # (D + 1, D + 1)
    cross: Tensor  # (D + 1, M)
    square: Tensor  # (M,)

    @classmethod
    def of(cls, embeddings: Tensor, targets: Tensor) -> "Accumulators":
        """Those of (N, D) and (N, M)."""
        rows = torch.cat([embeddings, torch.ones_like(embeddings[:, :1])], 1)
        return cls((rows.T @ rows).double(), (rows.T @ targets).double(), targets.double().square().sum(0))

    def __add__(self, other: "Accumulators") -> "Accumulators":
        return Accumulators(self.gram + other.gram, self.cross + other.cross, self.square + other.square)

    def targets(self, chosen: slice) -> "Accumulators":
        """Those of some of the targets."""
        return Accumulators(self.gram, self.cross[:, chosen], self.square[chosen])

    def solve(self, ridge: float) -> Tensor:
        """(D + 1, M): the weight, and in the last row the bias, which the ridge does not penalize."""
        penalty = torch.full_like(self.gram[0], ridge)
        penalty[-1] = 0
        factor = torch.linalg.cholesky(self.gram + penalty.diag())
        return torch.cholesky_solve(self.cross, factor)

    def residual_variance(self, solution: Tensor) -> Tensor:
        """(M,) mean squared deviation of the targets from the predictions of a ``solution``."""
        explained = (solution * (2 * self.cross - self.gram @ solution)).sum(0)
        residual: Tensor = (self.square - explained) / self.gram[-1, -1]
        return residual.clamp_min(0)

    def variance(self) -> Tensor:
        """(M,) of the targets."""
        count = self.gram[-1, -1]
        return (self.square / count - (self.cross[-1] / count).square()).clamp_min(0)

    def mean(self) -> Tensor:
        """(D,) of the embeddings."""
        mean: Tensor = self.gram[-1, :-1] / self.gram[-1, -1]
        return mean

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
