"""The MegaFace protocol: identification among growing numbers of distractors, and verification against them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from arcinvert.errors import UsageError
from arcinvert.evaluation.allpairs.ranks import same_label
from arcinvert.evaluation.allpairs.search import Labels, Rows, best, blocks, check_rows, check_sizes, dot
from arcinvert.evaluation.metrics import (
    FMRS,
    MIN_FALSE_MATCHES,
    OperatingPoint,
    allowed_false_matches,
    point_of_counts,
)
from arcinvert.evaluation.protocols.identification import Rate, rate_at


@dataclass(frozen=True)
class MegaFace:
    """Rank-1 rates against growing numbers of distractors, over ``pairs`` of a probe and a gallery image.

    ``tpr`` holds the operating points of verification. Genuine pairs are the unordered pairs of an identity, impostor
    pairs are all pairs of a probe and a distractor.
    """

    pairs: int
    identities: int
    distractors: int
    rank1: tuple[Rate, ...]
    tpr: tuple[OperatingPoint, ...]
    note: str | None


def megaface(
    rows: Rows,
    distractors: Rows,
    *,
    labels: Labels,
    counts: Sequence[int] | None = None,
    seed: int = 0,
    fmrs: Sequence[float] = FMRS[2:],
) -> MegaFace:
    """MegaFace challenge 1: each image of an identity in turn is the only right entry among N distractors.

    For every ordered pair (probe, gallery image) of an identity, the gallery is that image and N distractors. The pair
    counts if the image scores above all of them; a tie does not count. The N distractors are the first of one random
    order, so the galleries are nested (Kemelmacher-Shlizerman et al., CVPR 2016).

    Args:
        rows: (P, D), unit norm.
        distractors: (M, D), unit norm, of identities outside ``rows``.
        labels: (P,).
        counts: the values of N; default: 10, 100, ... and M.
        seed: of the random order.
        fmrs: false match rates of the verification; one that P x M pairs cannot support has no threshold.

    Raises:
        InputError: invalid rows or labels.
        UsageError: an N below 1 or above M.
    """
    check_rows(rows, labels, what="probes")
    check_rows(distractors, what="distractors")
    check_sizes(probes=rows, distractors=distractors)
    total = len(distractors)
    wanted = [*(10**n for n in range(1, 7) if 10**n < total), total] if counts is None else sorted(set(counts))
    if wanted and not 1 <= wanted[0] <= wanted[-1] <= total:
        raise UsageError(f"expected numbers of distractors from 1 to {total}, got {wanted}")
    order = np.argsort(labels, kind="stable")
    rows, labels = rows[order], labels[order]
    i, j = same_label(labels, labels)
    i, j = i[i != j], j[i != j]
    identities = len(np.unique(labels[i]))
    if not len(i):
        return MegaFace(0, 0, total, (), (), "no identity has two pictures")
    mate = dot(rows, rows, i, j)
    shuffled = distractors[np.random.default_rng(seed).permutation(total)]
    top, points, start = np.full(len(rows), -np.inf), [], 0
    for count in wanted:
        top = np.maximum(top, best(rows, shuffled[start:count]))
        points.append(rate_at(count, int((mate > top[i]).sum()), len(i)))
        start = count
    tpr = _verification(rows, distractors, mate[i < j], fmrs)
    return MegaFace(len(i), identities, total, tuple(points), tpr, None)


def _verification(
    rows: Rows, distractors: Rows, genuine: NDArray[np.float64], fmrs: Sequence[float]
) -> tuple[OperatingPoint, ...]:
    """Operating points against all distractors; only the highest impostor scores are kept."""
    pairs = len(rows) * len(distractors)
    keep = max((allowed_false_matches(fmr, pairs) for fmr in fmrs), default=0) + 1
    highest, floor = np.empty(0), -np.inf
    for _, _, scores in blocks(rows, distractors):
        highest = np.concatenate([highest, scores[scores > floor]])
        if len(highest) > 2 * keep:
            highest = np.partition(highest, -keep)[-keep:]
            floor = highest.min()
    highest = np.sort(highest)[::-1].astype(np.float64)
    points = []
    for fmr in fmrs:
        allowed = allowed_false_matches(fmr, pairs)
        threshold = None if allowed < MIN_FALSE_MATCHES else float(np.nextafter(highest[allowed], np.inf))
        false, true = (0, 0) if threshold is None else (int((x >= threshold).sum()) for x in (highest, genuine))
        points.append(point_of_counts(fmr, threshold, (false, pairs), (true, len(genuine))))
    return tuple(points)
