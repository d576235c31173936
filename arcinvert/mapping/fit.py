"""Ridge regression from one recognizer's embeddings to another's, its weight chosen by cross-validation over people."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from arcinvert.calibration.regression import Accumulators
from arcinvert.errors import InputError
from arcinvert.mapping.linear_map import LinearMap, Rows

RIDGES = tuple(float(f"{10**power:.3g}") for power in np.arange(-3, 2.5, 0.5))
"""Weights of the squared norm to choose from, for rows of unit norm."""
FOLDS = 5
FEWEST_PAIRS, ENOUGH_PAIRS = 20, 1000
"""Fewer pairs than the first fit no map; fewer than the second fit a rough one."""


@dataclass(frozen=True, eq=False)
class FittedMap:
    """A map, and its predictions of people it had not seen.

    Attributes:
        map: fitted to all pairs.
        ridge: the chosen weight of the squared norm.
        predicted: (N, K) unit norm: each pair's prediction by the map of a fold in which none of its person's pictures
            had a part, with the same ridge.
    """

    map: LinearMap
    ridge: float
    predicted: Rows


def fit_map(source: Rows, target: Rows, labels: NDArray[np.int64]) -> FittedMap:
    """Fit a map to the embeddings of the same pictures by two recognizers.

    The ridge is the one with the highest mean cosine between predictions and targets over :data:`FOLDS` folds of
    people. It is one number chosen out of eleven, so the predictions remain a fair sample of unseen people.

    Args:
        source: (N, D), unit norm.
        target: (N, K), unit norm.
        labels: (N,) the person of each pair.

    Raises:
        InputError: other shapes, fewer than :data:`FEWEST_PAIRS` pairs, or one person alone.
    """
    if source.ndim != 2 or target.ndim != 2 or not len(source) == len(target) == len(labels):
        raise InputError(f"expected embeddings of the same pictures, got {source.shape} and {target.shape}")
    people, number = np.unique(labels, return_inverse=True)
    if len(source) < FEWEST_PAIRS or len(people) < 2:
        raise InputError(
            f"expected at least {FEWEST_PAIRS} pairs of several people to fit a map, got {len(source)} of {len(people)}"
        )
    fold = torch.from_numpy((np.random.default_rng(0).permutation(len(people)) % FOLDS)[number])
    # Centered first: the numbers of the accumulators are then of one magnitude, and the bias is the mean.
    mean_from, mean_to = source.mean(0, dtype=np.float64), target.mean(0, dtype=np.float64)
    x, y = torch.from_numpy(source - mean_from), torch.from_numpy(target - mean_to)
    parts = [Accumulators.of(x[fold == n], y[fold == n]) for n in range(min(FOLDS, len(people)))]
    others = [_sum([part for n, part in enumerate(parts) if n != own]) for own in range(len(parts))]
    best, ridge, chosen = -np.inf, RIDGES[0], y
    for candidate in RIDGES:
        predicted = torch.empty_like(y)
        for own, rest in enumerate(others):
            solution = rest.solve(candidate)
            predicted[fold == own] = x[fold == own] @ solution[:-1] + solution[-1]
        predicted = torch.nn.functional.normalize(predicted + torch.from_numpy(mean_to))
        cosine = float((predicted * torch.from_numpy(target)).sum(1).mean())
        if cosine > best:
            best, ridge, chosen = cosine, candidate, predicted
    weight = _sum(parts).solve(ridge)[:-1]
    found = LinearMap(_float32(weight), mean_from.astype(np.float32), mean_to.astype(np.float32))
    return FittedMap(found, ridge, _float32(chosen))


def _sum(parts: list[Accumulators]) -> Accumulators:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def _float32(values: Tensor) -> Rows:
    return np.ascontiguousarray(values.numpy(), np.float32)
