"""Identification among growing numbers of strangers, and verification against them, as MegaFace does it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from arcinvert.errors import UsageError
from arcinvert.evaluation.allpairs.ranks import same_label
from arcinvert.evaluation.allpairs.search import Labels, Rows, best, blocks, check_rows, check_sizes, dot
from arcinvert.evaluation.metrics import OperatingPoint, allowed_false_matches, point_of_counts
from arcinvert.evaluation.protocols.identification import Rate, rate_at

FMRS = (1e-3, 1e-4, 1e-5, 1e-6)


@dataclass(frozen=True)
class MegaFace:
    """Rank-1 rates against growing numbers of distractors, over ``pairs`` of a probe and a gallery picture.

    ``tpr`` are the operating points of verification: genuine are the unordered pairs of an identity,
    impostor are all pairs of a probe and a distractor.
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
    fmrs: Sequence[float] = FMRS,
) -> MegaFace:
    """MegaFace challenge 1: each picture of an identity in turn hides, alone, among N distractors.

    For every ordered pair (probe, gallery picture) of an identity the gallery is that picture and N
    distractors; the pair counts if the picture scores above all of them (a tie loses). The N are the
    first of one random order, so they are nested (Kemelmacher-Shlizerman et al., CVPR 2016).

    Args:
        rows: (P, D), unit norm.
        distractors: (M, D), unit norm, of nobody in ``rows``.
        labels: (P,).
        counts: the N; default 10, 100, ... and M.
        seed: of the order.
        fmrs: false match rates of the verification; where P x M pairs cannot support one, its point says so.

    Raises:
        InputError: rows or labels that do not fit.
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
    """Operating points against all distractors; of the impostor scores only the highest are kept."""
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
        threshold = None if allowed < 3 else float(np.nextafter(highest[allowed], np.inf))
        false, true = (0, 0) if threshold is None else (int((x >= threshold).sum()) for x in (highest, genuine))
        points.append(point_of_counts(fmr, threshold, (false, pairs), (true, len(genuine))))
    return tuple(points)
