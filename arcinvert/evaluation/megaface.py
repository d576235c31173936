"""Identification among growing numbers of strangers, as the MegaFace challenge does it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from arcinvert.errors import UsageError
from arcinvert.evaluation.identification import Rate, rate_at
from arcinvert.evaluation.ranks import same_label
from arcinvert.evaluation.search import Labels, Rows, best, check_rows, check_sizes, dot


@dataclass(frozen=True)
class MegaFace:
    """Rank-1 rates against growing numbers of distractors, over ``pairs`` of a probe and a gallery picture."""

    pairs: int
    identities: int
    distractors: int
    rank1: tuple[Rate, ...]
    note: str | None


def megaface(
    rows: Rows,
    distractors: Rows,
    *,
    labels: Labels,
    counts: Sequence[int] | None = None,
    seed: int = 0,
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
        return MegaFace(0, 0, total, (), "no identity has two pictures")
    mate = dot(rows, rows, i, j)
    shuffled = distractors[np.random.default_rng(seed).permutation(total)]
    top, points, start = np.full(len(rows), -np.inf), [], 0
    for count in wanted:
        top = np.maximum(top, best(rows, shuffled[start:count]))
        points.append(rate_at(count, int((mate > top[i]).sum()), len(i)))
        start = count
    return MegaFace(len(i), identities, total, tuple(points), None)
