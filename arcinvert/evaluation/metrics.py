"""Verification metrics: pure functions of genuine and impostor scores.

A score is a similarity. It is accepted if ``score >= threshold``, so a tie is accepted. A rate that too few scores
support is None, with a reason.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from arcinvert.errors import InputError
from arcinvert.evaluation.intervals import bootstrap_interval as bootstrap_interval
from arcinvert.evaluation.intervals import wilson_interval as wilson_interval

FMRS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
"""False match rates at which a protocol reports by default, or a part of them."""
MIN_FALSE_MATCHES = 3
"""Fewer accepted impostor pairs fix no threshold."""
SURE_FALSE_MATCHES = 30
"""Fewer accepted impostor pairs give a threshold with a warning."""

Scores = NDArray[np.floating]
Counts = NDArray[np.int64]


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


def allowed_false_matches(fmr: float, impostor_pairs: int) -> int:
    """Number of ``impostor_pairs`` that may be accepted at ``fmr``; 2.9999999999 counts as 3.

    Raises:
        InputError: a rate that is not between 0 and 1.
    """
    if not 0 < fmr < 1:
        raise InputError(f"expected a false match rate between 0 and 1, got {fmr}")
    return min(math.floor(fmr * impostor_pairs * (1 + 1e-15) + 1e-9), impostor_pairs - 1)


def threshold_at_fmr(fmr: float, *, impostor: Scores) -> float | None:
    """The lowest threshold whose false match rate on ``impostor`` (M,) is at most ``fmr``.

    None if ``fmr`` is below 3 / M, see :data:`MIN_FALSE_MATCHES`.
    """
    return _threshold(fmr, _checked(impostor))


def _threshold(fmr: float, ordered: Scores) -> float | None:
    allowed = allowed_false_matches(fmr, len(ordered))
    return None if allowed < MIN_FALSE_MATCHES else float(np.nextafter(ordered[len(ordered) - allowed - 1], np.inf))


@dataclass(frozen=True, eq=False)
class RocCurve:
    """An exact ROC curve: every distinct threshold, from the strictest to the loosest.

    Attributes:
        thresholds: (P,) descending: one above all scores, then every distinct score.
        false_matches, true_matches: (P,) impostor and genuine scores accepted there.
        impostor_pairs, genuine_pairs: number of scores.
    """

    thresholds: Scores
    false_matches: Counts
    true_matches: Counts
    impostor_pairs: int
    genuine_pairs: int

    @property
    def fmr(self) -> Scores:
        """(P,) false match rates."""
        return self.false_matches / self.impostor_pairs

    @property
    def tar(self) -> Scores:
        """(P,) true accept rates."""
        return self.true_matches / self.genuine_pairs

    @property
    def fnmr(self) -> Scores:
        """(P,) false non-match rates."""
        return (self.genuine_pairs - self.true_matches) / self.genuine_pairs


def roc(*, genuine: Scores, impostor: Scores) -> RocCurve:
    """The exact ROC curve of genuine (G,) and impostor (M,) scores."""
    genuine, impostor = _checked(genuine), _checked(impostor)
    distinct = np.unique(np.concatenate([genuine, impostor]))[::-1]
    thresholds = np.concatenate([np.nextafter(distinct[:1], np.inf), distinct])
    false = len(impostor) - np.searchsorted(impostor, thresholds, side="left")
    true = len(genuine) - np.searchsorted(genuine, thresholds, side="left")
    return RocCurve(thresholds, false.astype(np.int64), true.astype(np.int64), len(impostor), len(genuine))


def eer(*, genuine: Scores, impostor: Scores) -> tuple[float, float]:
    """Equal error rate and its threshold; see :func:`crossing`."""
    return crossing(roc(genuine=genuine, impostor=impostor))


def crossing(curve: RocCurve) -> tuple[float, float]:
    """The rate at which FMR equals FNMR, on the straight line between two neighboring points of a curve.

    Returns:
        The rate, and the lowest threshold whose FMR is at most its FNMR.
    """
    error, miss = curve.fmr, curve.fnmr
    after = int(np.argmax(error > miss))
    if after == 0:
        raise InputError("expected a curve on which FMR exceeds FNMR after its first point, found none")
    gap = miss - error
    share = gap[after - 1] / (gap[after - 1] - gap[after])
    rate = error[after - 1] + share * (error[after] - error[after - 1])
    return float(rate), float(np.nextafter(curve.thresholds[after], np.inf))


@dataclass(frozen=True, eq=False)
class FoldAccuracy:
    """Accuracy under the LFW protocol; see :func:`fold_accuracy`.

    Attributes:
        mean: over the folds.
        standard_error: of that mean, ``std(ddof=1) / sqrt(F)`` (Huang et al. 2007).
        folds, thresholds: (F,) accuracy of each fold, and the threshold used on it.
    """

    mean: float
    standard_error: float
    folds: tuple[float, ...]
    thresholds: tuple[float, ...]


def folds_in_order(pairs: int, folds: int = 10) -> Counts:
    """(P,) fold of each pair: consecutive runs, of which the first are one longer where needed."""
    return np.repeat(np.arange(folds), [len(part) for part in np.array_split(np.empty(pairs), folds)])


def fold_accuracy(*, scores: Scores, same: NDArray[np.bool_], folds: NDArray[np.integer]) -> FoldAccuracy:
    """Accuracy of each fold at the threshold that is best on the other folds (LFW, Huang et al. 2007).

    Candidate thresholds are the scores of the other folds and one above all of them. Among equally good ones the
    strictest is taken.

    Args:
        scores, same, folds: (P,) of each pair.

    Raises:
        InputError: other shapes, fewer than two folds, or others without genuine or impostor pairs.
    """
    if not scores.shape == same.shape == folds.shape or scores.ndim != 1:
        raise InputError(f"expected scores, same and folds of equal length, got {scores.shape}, {same.shape}")
    names = np.unique(folds)
    if len(names) < 2:
        raise InputError(f"expected pairs in at least two folds, got {len(names)}")
    accuracies, thresholds = [], []
    for name in names:
        inside = folds == name
        if same[~inside].all() or not same[~inside].any():
            raise InputError("expected genuine and impostor pairs outside of every fold")
        curve = roc(genuine=scores[~inside & same], impostor=scores[~inside & ~same])
        right = curve.true_matches + curve.impostor_pairs - curve.false_matches
        threshold = curve.thresholds[int(np.argmax(right))]
        accuracies.append(float(((scores[inside] >= threshold) == same[inside]).mean()))
        thresholds.append(float(threshold))
    error = float(np.std(accuracies, ddof=1) / np.sqrt(len(names)))
    return FoldAccuracy(float(np.mean(accuracies)), error, tuple(accuracies), tuple(thresholds))


@dataclass(frozen=True)
class Scored:
    """All pairs among labeled embeddings: genuine (G,) and impostor (M,) cosines, both sorted."""

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
    """A threshold fixed at a false match rate, and the true accept rate there.

    Attributes:
        fmr: the requested rate.
        threshold, tar: None if there are too few impostor pairs; ``reason`` then says so.
        impostor_pairs, genuine_pairs: number of pairs.
        false_matches, true_matches: how many of them are accepted.
        interval: 95 % Wilson interval of ``tar`` over the genuine pairs.
        reason: why there is no threshold.
        warning: set if fewer than 30 false matches fix the threshold.
    """

    fmr: float
    threshold: float | None
    tar: float | None
    impostor_pairs: int
    genuine_pairs: int
    false_matches: int | None = None
    true_matches: int | None = None
    interval: tuple[float, float] | None = None
    reason: str | None = None
    warning: str | None = None


def operating_point(fmr: float, *, genuine: Scores, impostor: Scores) -> OperatingPoint:
    """Threshold and true accept rate at ``fmr``; both None where :func:`threshold_at_fmr` is."""
    return operating_points([fmr], genuine=genuine, impostor=impostor)[0]


def operating_points(fmrs: Sequence[float], *, genuine: Scores, impostor: Scores) -> tuple[OperatingPoint, ...]:
    """:func:`operating_point` at each rate."""
    genuine, impostor = _checked(genuine), _checked(impostor)
    points = []
    for rate in fmrs:
        threshold = _threshold(rate, impostor)
        edge = np.inf if threshold is None else threshold
        false = len(impostor) - int(np.searchsorted(impostor, edge, side="left"))
        true = len(genuine) - int(np.searchsorted(genuine, edge, side="left"))
        points.append(point_of_counts(rate, threshold, (false, len(impostor)), (true, len(genuine))))
    return tuple(points)


def point_of_counts(
    fmr: float, threshold: float | None, false: tuple[int, int], true: tuple[int, int]
) -> OperatingPoint:
    """An operating point from (accepted, all) impostor and genuine pairs; None for the threshold sets the reason."""
    expected = f"{fmr * false[1]:.3g} of {false[1]} impostor pairs make an FMR of {fmr:g}"
    if threshold is None:
        return OperatingPoint(fmr, None, None, false[1], true[1], reason=f"{expected}; fewer than 3 fix no threshold")
    few = allowed_false_matches(fmr, false[1]) < SURE_FALSE_MATCHES
    return OperatingPoint(
        fmr,
        threshold,
        true[0] / true[1],
        impostor_pairs=false[1],
        genuine_pairs=true[1],
        false_matches=false[0],
        true_matches=true[0],
        interval=wilson_interval(*true),
        warning=f"{expected}; fewer than 30 fix the threshold badly" if few else None,
    )


def _checked(scores: Scores) -> Scores:
    if scores.ndim != 1 or len(scores) == 0 or not np.isfinite(scores).all():
        raise InputError(f"expected a non-empty row of finite scores, got shape {scores.shape}")
    return np.sort(scores)
