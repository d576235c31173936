"""Confidence intervals of a rate."""

import numpy as np
from numpy.typing import NDArray

from arcinvert.errors import InputError


def wilson_interval(accepted: int, trials: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson score interval of a rate (Wilson 1927); 95 % for the default z."""
    if not 0 <= accepted <= trials or trials == 0:
        raise InputError(f"expected 0 <= accepted <= trials and at least one trial, got {accepted} of {trials}")
    rate = accepted / trials
    center = rate + z * z / (2 * trials)
    spread = z * np.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return float(max(0.0, (center - spread) / scale)), float(min(1.0, (center + spread) / scale))


def bootstrap_interval(
    *, accepted: NDArray[np.integer], trials: NDArray[np.integer], seed: int, draws: int = 2000, level: float = 0.95
) -> tuple[float, float]:
    """Percentile bootstrap of ``accepted.sum() / trials.sum()`` over units drawn with replacement.

    Pairs of one person are not independent, so the units should be identities; if all ``trials`` are 1, the units are
    pairs. Units with equal counts are drawn together, which saves time and does not change the result.

    Args:
        accepted, trials: (U,) counts of each unit, ``0 <= accepted <= trials``.
        seed: of the random generator.
        draws: number of samples of U units.
        level: coverage of the interval.

    Raises:
        InputError: other shapes, no trials, or impossible counts.
    """
    if accepted.ndim != 1 or accepted.shape != trials.shape or not trials.sum():
        raise InputError(f"expected the counts of some units, got shapes {accepted.shape} and {trials.shape}")
    if (accepted < 0).any() or (accepted > trials).any():
        raise InputError("expected 0 <= accepted <= trials of every unit")
    kinds, number = np.unique(np.stack([accepted, trials], 1), axis=0, return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(len(accepted), number / len(accepted), size=draws)
    sums = drawn @ kinds
    rates = sums[sums[:, 1] > 0, 0] / sums[sums[:, 1] > 0, 1]
    low, high = np.quantile(rates, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
