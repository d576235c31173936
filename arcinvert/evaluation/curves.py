"""Points of the curves that :mod:`arcinvert.evaluation.plots` draws."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from arcinvert.errors import InputError
from arcinvert.evaluation.allpairs.search import Floats
from arcinvert.evaluation.metrics import MIN_FALSE_MATCHES, SURE_FALSE_MATCHES, Scored, wilson_interval


@dataclass(frozen=True, eq=False)
class SampledCurve:
    """Some points of a ROC or DET curve with intervals, from the strictest threshold to the loosest.

    Attributes:
        thresholds: (P,) descending.
        fmr: (P,) share of the impostor pairs accepted there, at least 3 / M.
        tar: (P,) share of the genuine pairs accepted there.
        low, high: (P,) 95 % Wilson interval of ``tar``, as if the pairs were independent.
        sure_from: the FMR below which fewer than 30 accepted impostor pairs fix the threshold.
        genuine, impostor: number of pairs.
    """

    thresholds: Floats
    fmr: Floats
    tar: Floats
    low: Floats
    high: Floats
    sure_from: float
    genuine: int
    impostor: int


def sample_curve(scored: Scored, count: int = 200) -> SampledCurve:
    """At most ``count`` exact points of the curve, evenly spread over the logarithm of the FMR.

    Each point is the lowest threshold that accepts at most a given number of impostor pairs.

    Raises:
        InputError: three impostor pairs or fewer, which fix no rate.
    """
    genuine, impostor = np.sort(scored.genuine), np.sort(scored.impostor)
    if len(impostor) <= MIN_FALSE_MATCHES:
        raise InputError(f"expected more than {MIN_FALSE_MATCHES} impostor pairs for a curve, got {len(impostor)}")
    # 1e-9: 3.0000000000000004 allows three.
    allowed = np.unique(np.floor(np.geomspace(MIN_FALSE_MATCHES, len(impostor) - 1, count) + 1e-9).astype(np.int64))
    thresholds = np.nextafter(impostor[len(impostor) - 1 - allowed], np.inf).astype(impostor.dtype)
    thresholds = np.append(thresholds, min(impostor[0], genuine[0]))  # accepts everything
    false = len(impostor) - np.searchsorted(impostor, thresholds, side="left")
    # Ties may give fewer false matches than allowed, or the same threshold twice.
    kept = np.flatnonzero((false >= MIN_FALSE_MATCHES) & np.r_[True, thresholds[1:] != thresholds[:-1]])
    true = len(genuine) - np.searchsorted(genuine, thresholds, side="left")
    bounds = np.array([wilson_interval(int(n), len(genuine)) for n in true[kept]])
    return SampledCurve(
        thresholds[kept].astype(np.float64),
        false[kept] / len(impostor),
        true[kept] / len(genuine),
        bounds[:, 0],
        bounds[:, 1],
        SURE_FALSE_MATCHES / len(impostor),
        len(genuine),
        len(impostor),
    )


def degrees(cosines: NDArray[np.floating]) -> Floats:
    """Angles of cosines, in degrees; cosines that rounding puts outside -1 to 1 are clipped."""
    return np.degrees(np.arccos(np.clip(cosines.astype(np.float64), -1, 1)))


def proportion_bounds(rates: Floats, trials: int) -> tuple[Floats, Floats]:
    """95 % Wilson intervals of rates (K,) that share one number of trials: lower and upper bounds (K,)."""
    bounds = np.array([wilson_interval(round(float(rate) * trials), trials) for rate in rates])
    return bounds[:, 0], bounds[:, 1]
