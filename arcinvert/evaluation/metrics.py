"""Verification figures, as pure functions of genuine and impostor scores.

A score is a similarity: accepted means ``score >= threshold``, so a tie is accepted. A rate that
the number of scores cannot support is None, never a guess.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from arcinvert.errors import InputError

Scores = NDArray[np.floating]


def auc(*, genuine: Scores, impostor: Scores) -> float:
    """Probability that a genuine score beats an impostor score, a tie counting half.

    Args:
        genuine: (G,), same person.
        impostor: (M,), different people.
    """
    genuine, impostor = _checked(genuine), _checked(impostor)
    below = np.searchsorted(impostor, genuine, side="left")
    not_above = np.searchsorted(impostor, genuine, side="right")
    return float((below + not_above).sum() / (2 * len(genuine) * len(impostor)))


def threshold_at_fmr(fmr: float, *, impostor: Scores) -> float | None:
    """The lowest threshold whose false match rate on ``impostor`` (M,) is at most ``fmr``.

    None if ``fmr`` is below 3 / M: fewer than three false matches fix no rate.
    """
    ordered = _checked(impostor)
    if not 0 < fmr < 1:
        raise InputError(f"expected a false match rate between 0 and 1, got {fmr}")
    allowed = int(np.floor(fmr * len(ordered) + 1e-9))
    if allowed < 3:
        return None
    return float(np.nextafter(ordered[len(ordered) - allowed - 1], np.inf))


def acceptance_rate(threshold: float, scores: Scores) -> float:
    """Share of ``scores`` (N,) that a system with this threshold accepts."""
    return float((_checked(scores) >= threshold).mean())


def wilson_interval(accepted: int, trials: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson score interval of a rate (Wilson 1927); 95 % for the default z."""
    if not 0 <= accepted <= trials or trials == 0:
        raise InputError(f"expected 0 <= accepted <= trials and at least one trial, got {accepted} of {trials}")
    rate = accepted / trials
    centre = rate + z * z / (2 * trials)
    spread = z * np.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return float(max(0.0, (centre - spread) / scale)), float(min(1.0, (centre + spread) / scale))


@dataclass(frozen=True)
class Scored:
    """All pairs among labelled embeddings: genuine (G,) and impostor (M,) cosines, both sorted."""

    genuine: Scores
    impostor: Scores


def score_pairs(embeddings: NDArray[np.floating], labels: NDArray[np.integer]) -> Scored:
    """Cosine of every unordered pair.

    Args:
        embeddings: (N, D), unit norm.
        labels: (N,), the identity of each row.

    Raises:
        InputError: no pair of one identity, or only one identity.
    """
    first, second = np.triu_indices(len(embeddings), k=1)
    cosine = (embeddings @ embeddings.T)[first, second]
    same = labels[first] == labels[second]
    if not same.any() or same.all():
        raise InputError("expected genuine and impostor pairs; the labels give only one kind")
    return Scored(np.sort(cosine[same]), np.sort(cosine[~same]))


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold fixed at a false match rate, and what the genuine scores reach there."""

    fmr: float
    threshold: float | None
    tar: float | None
    impostor_pairs: int
    genuine_pairs: int


def operating_point(fmr: float, *, genuine: Scores, impostor: Scores) -> OperatingPoint:
    """Threshold and true accept rate at ``fmr``; both None where :func:`threshold_at_fmr` is."""
    threshold = threshold_at_fmr(fmr, impostor=impostor)
    tar = None if threshold is None else acceptance_rate(threshold, genuine)
    return OperatingPoint(fmr, threshold, tar, len(impostor), len(genuine))


def _checked(scores: Scores) -> Scores:
    if scores.ndim != 1 or len(scores) == 0 or not np.isfinite(scores).all():
        raise InputError(f"expected a non-empty row of finite scores, got shape {scores.shape}")
    return np.sort(scores)
