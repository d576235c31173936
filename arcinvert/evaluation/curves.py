"""The points that a picture of an evaluation shows: arrays, drawn by :mod:`arcinvert.evaluation.plots`."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from arcinvert.errors import InputError
from arcinvert.evaluation.metrics import Scored, wilson_interval

LEAST = 3
SURE = 30
"""False matches below which a rate is not drawn, and below which it is drawn as unsure."""

Doubles = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Curve:
    """Points of a ROC or DET curve, from the strictest threshold to the loosest.

    Attributes:
        thresholds: (P,) descending.
        fmr: (P,) share of the impostor pairs accepted there, at least 3 / M.
        tar: (P,) share of the genuine pairs accepted there.
        low, high: (P,) 95 % Wilson interval of ``tar``, as if the pairs were independent.
        sure_from: the FMR below which fewer than 30 impostor pairs decide.
        genuine, impostor: how many pairs there are.
    """

    thresholds: Doubles
    fmr: Doubles
    tar: Doubles
    low: Doubles
    high: Doubles
    sure_from: float
    genuine: int
    impostor: int


def sample_curve(scored: Scored, count: int = 200) -> Curve:
    """At most ``count`` points of the curve, evenly spread over the logarithm of the FMR.

    Each is exact: the lowest threshold that accepts no more than a given number of impostor pairs.

    Raises:
        InputError: fewer than three impostor pairs, which fix no rate.
    """
    genuine, impostor = np.sort(scored.genuine), np.sort(scored.impostor)
    if len(impostor) <= LEAST:
        raise InputError(f"expected more than {LEAST} impostor pairs for a curve, got {len(impostor)}")
    # 1e-9: 3.0000000000000004 allows three.
    allowed = np.unique(np.floor(np.geomspace(LEAST, len(impostor) - 1, count) + 1e-9).astype(np.int64))
    thresholds = np.nextafter(impostor[len(impostor) - 1 - allowed], np.inf).astype(impostor.dtype)
    thresholds = np.append(thresholds, min(impostor[0], genuine[0]))  # the loosest accepts everything
    false = len(impostor) - np.searchsorted(impostor, thresholds, side="left")
    # Ties may leave fewer than were allowed, and the same threshold twice.
    kept = np.flatnonzero((false >= LEAST) & np.r_[True, thresholds[1:] != thresholds[:-1]])
    true = len(genuine) - np.searchsorted(genuine, thresholds, side="left")
    bounds = np.array([wilson_interval(int(n), len(genuine)) for n in true[kept]])
    return Curve(
        thresholds[kept].astype(np.float64),
        false[kept] / len(impostor),
        true[kept] / len(genuine),
        bounds[:, 0],
        bounds[:, 1],
        SURE / len(impostor),
        len(genuine),
        len(impostor),
    )


def degrees(cosines: NDArray[np.floating]) -> Doubles:
    """Angles of cosines, in degrees; cosines beyond 1 by rounding count as 1."""
    return np.degrees(np.arccos(np.clip(cosines.astype(np.float64), -1, 1)))


def proportion_bounds(rates: Doubles, trials: int) -> tuple[Doubles, Doubles]:
    """95 % Wilson intervals of rates (K,) of one number of trials, as two rows (K,)."""
    bounds = np.array([wilson_interval(round(float(rate) * trials), trials) for rate in rates])
    return bounds[:, 0], bounds[:, 1]
