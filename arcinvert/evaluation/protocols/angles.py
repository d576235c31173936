"""Angle statistics of the ArcFace paper: angles within and between classes, and to class centers."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from arcinvert.errors import InputError
from arcinvert.evaluation.allpairs.search import Floats, Index, Labels, Rows, best, check_rows, dot

NEEDS_TWO = "there is one identity only"


@dataclass(frozen=True)
class AngleStatistics:
    """Means in degrees (Deng et al., arXiv 1801.07698v4, the table of angle statistics under different losses).

    A class has an *embedding center*, the direction of the sum of its unit embeddings, and, if the network was trained
    on it, a *class center* W_y. A statistic without data is None; ``notes`` says why.

    Attributes:
        classes, samples: counts.
        w_ec: W_y to the embedding center of its class, mean over classes.
        intra: a sample to the embedding center of its class, mean over the samples of classes with at least two (a
            single sample is its own center).
        intra_samples: number of those samples.
        intra_w: a sample to W_y, mean over samples.
        inter: an embedding center to the nearest one of another class, mean over classes.
        inter_least: the smallest of them.
        w_inter, w_inter_least: the same between the W.
        notes: why a statistic is missing.
    """

    classes: int
    samples: int
    w_ec: float | None
    intra: float | None
    intra_samples: int
    intra_w: float | None
    inter: float | None
    inter_least: float | None
    w_inter: float | None
    w_inter_least: float | None
    notes: tuple[str, ...]


def angle_statistics(rows: Rows, labels: Labels, *, centers: Rows | None = None) -> AngleStatistics:
    """The statistics of a labeled set.

    Args:
        rows: (N, D), unit norm.
        labels: (N,).
        centers: (C, D), unit norm: W of the classes, in the order of the sorted labels.

    Raises:
        InputError: invalid rows, labels or centers, or a class whose embeddings add up to zero.
    """
    check_rows(rows, labels)
    names, classes = np.unique(labels, return_inverse=True)
    if centers is not None:
        check_rows(centers, what="class centers")
        if centers.shape != (len(names), rows.shape[1]):
            expected = f"({len(names)}, {rows.shape[1]}), one for each identity"
            raise InputError(f"expected class centers {expected}, got {centers.shape}")
    middle = embedding_centers(rows, classes, len(names))
    every, each = np.arange(len(rows)), np.arange(len(names))
    shared = np.flatnonzero(np.bincount(classes)[classes] > 1)
    nearest = nearest_angles(middle)
    between = None if centers is None else nearest_angles(centers)
    notes = []
    if nearest is None:
        notes.append(f"no angle between classes: {NEEDS_TWO}")
    if not len(shared):
        notes.append("no angle within classes: each has a single sample")
    if centers is None:
        notes.append("no angle to class centers: none are given")
    return AngleStatistics(
        classes=len(names),
        samples=len(rows),
        w_ec=None if centers is None else _mean(_angle(centers, middle, each, each)),
        intra=_mean(_angle(rows, middle, shared, classes[shared])),
        intra_samples=len(shared),
        intra_w=None if centers is None else _mean(_angle(rows, centers, every, classes)),
        inter=_mean(nearest),
        inter_least=None if nearest is None else float(nearest.min()),
        w_inter=_mean(between),
        w_inter_least=None if between is None else float(between.min()),
        notes=tuple(notes),
    )


def embedding_centers(rows: Rows, classes: Labels, count: int) -> Rows:
    """(count, D), unit norm: the direction of the sum of each class's rows; ``classes`` count from 0.

    Raises:
        InputError: a class whose rows add up to zero.
    """
    order = np.argsort(classes, kind="stable")
    edges = np.searchsorted(classes[order], np.arange(count + 1))
    middle = np.empty((count, rows.shape[1]), np.float32)
    for number, (low, high) in enumerate(pairwise(edges)):
        total = rows[order[low:high]].sum(0, dtype=np.float64)
        length = np.linalg.norm(total)
        if not length > 1e-9:
            raise InputError(f"expected classes with a direction, the embeddings of class {number} add up to zero")
        middle[number] = total / length
    return middle


def nearest_angles(centers: Rows) -> Floats | None:
    """(C,) degrees from each center (C, D) to the nearest other one; None for a single center."""
    if len(centers) < 2:
        return None
    names = np.arange(len(centers))
    return _degrees(best(centers, centers, apart=(names, names)))


def _angle(first: Rows, second: Rows, i: Index, j: Index) -> Floats:
    """Degrees. The cosine is divided by the norms, whose float32 rounding would cost 0.03 degrees near 0."""
    norms = [dot(rows, rows, number, number) for rows, number in ((first, i), (second, j))]
    return _degrees(dot(first, second, i, j) / np.sqrt(norms[0] * norms[1]))


def _degrees(cosine: Floats) -> Floats:
    angles: Floats = np.degrees(np.arccos(cosine.clip(-1, 1)))
    return angles


def _mean(angles: Floats | None) -> float | None:
    return None if angles is None or not len(angles) else float(angles.mean())
