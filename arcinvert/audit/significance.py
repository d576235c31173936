"""Exact tests of "no more than chance": of a count at a threshold that is itself uncertain, and of several at once."""

import math
from collections.abc import Sequence

from arcinvert.errors import InputError

ALPHA = 0.05
"""Level of a family of tests: the chance of any claim when there is nothing to find."""


def chance_of(accepted: int, tried: int, fmr: float, effective_pairs: float | None = None) -> float:
    """The probability that chance accepts ``accepted`` of ``tried`` or more: an exact one-sided binomial test.

    The true false match rate at a threshold is only known from impostor pairs. With ``effective_pairs`` m, the binomial
    probability is averaged over Beta(m fmr + 1, m - m fmr), the distribution whose quantiles are the upper limits of
    Clopper and Pearson (1934): a beta-binomial tail. It tends to the binomial one as m grows, and is never below it.

    Args:
        accepted, tried: counts.
        fmr: false match rate of the threshold, in [0, 1].
        effective_pairs: independent impostor pairs that it is known from; None where it is certain.

    Raises:
        InputError: impossible counts or rates.
    """
    if not 0 <= accepted <= tried or not 0 <= fmr <= 1:
        raise InputError(f"expected 0 <= accepted <= tried and a rate in 0 to 1, got {accepted}, {tried}, {fmr}")
    if accepted == 0 or fmr == 1:
        return 1.0
    if effective_pairs is None or math.isinf(effective_pairs):
        return _tail([_binomial(k, tried, fmr) for k in range(accepted, tried + 1)])
    a, b = effective_pairs * fmr + 1, effective_pairs * (1 - fmr)
    return _tail([_beta_binomial(k, tried, a, b) for k in range(accepted, tried + 1)])


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values of a family of tests, each in [0, 1] (Holm 1979): any below a level is significant at it."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, highest = [0.0] * len(p_values), 0.0
    for place, i in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - place) * p_values[i]))
        adjusted[i] = highest
    return adjusted


def _tail(logarithms: Sequence[float]) -> float:
    return min(1.0, math.fsum(math.exp(value) for value in logarithms))


def _choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def _binomial(k: int, n: int, p: float) -> float:
    if p == 0:
        return 0.0 if k == 0 else -math.inf
    return _choose(n, k) + k * math.log(p) + (n - k) * math.log1p(-p)


def _beta_binomial(k: int, n: int, a: float, b: float) -> float:
    return _choose(n, k) + _beta(k + a, n - k + b) - _beta(a, b)


def _beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
