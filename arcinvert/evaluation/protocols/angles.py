"""How the embeddings of people lie to each other: the angle statistics of the ArcFace paper."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from arcinvert.errors import InputError
from arcinvert.evaluation.allpairs.search import Floats, Index, Labels, Rows, best, check_rows, dot

NEEDS_TWO = "there is one identity only"


@dataclass(frozen=True)
class AngleStatistics:
    """Means in degrees (Deng et al., arXiv 1801.07698v4, the table of angle statistics under different losses).

    A class has an *embedding center*, the direction of the sum of its unit embeddings, and, if it was
    trained on, a *class center* W_y. None where there is nothing to take a mean of; ``notes`` says why.

    Attributes:
        classes, samples: counts.
        w_ec: W_y to the embedding center of its class, mean over classes.
        intra: a sample to the embedding center of its class, mean over samples of classes with two or more
            (a single sample is its own center).
        intra_samples: how many those are.
        intra_w: a sample to W_y, mean over samples.
        inter: an embedding center to the nearest one of another class, mean over classes.
        inter_least: the least of them.
        w_inter, w_inter_least: the same between the W.
        notes: why a figure is missing.
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
        InputError: rows, labels or centers that do not fit, or a class whose embeddings add up to nothing.
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
    """(count, D), unit norm: the direction of the sum of each class's rows; ``classes`` are numbers from 0.

    Raises:
        InputError: a class that adds up to nothing.
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
    """Degrees; the norms are divided out, for a float32 rounding of them is 0.03 degrees near 0."""
    norms = [dot(rows, rows, number, number) for rows, number in ((first, i), (second, j))]
    return _degrees(dot(first, second, i, j) / np.sqrt(norms[0] * norms[1]))


def _degrees(cosine: Floats) -> Floats:
    angles: Floats = np.degrees(np.arccos(cosine.clip(-1, 1)))
    return angles


def _mean(angles: Floats | None) -> float | None:
    return None if angles is None or not len(angles) else float(angles.mean())
