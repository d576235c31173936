"""Exact verification metrics over all pairs of embeddings, without a list of their scores.

A false match rate of 1e-6 depends on a millionth of the impostor scores, so the matrix product should take almost all
of the time:

1. *Tail.* The threshold at an FMR is the k-th highest impostor score, k = FMR * M + 1. The highest k scores seen so far
   are kept; the lowest of them is the *cut*. A score at or below the cut cannot change the k-th highest. Of a tile (see
   :mod:`arcinvert.evaluation.allpairs.tiles`) the maximum of each row is compared with the cut, which costs a few
   percent of the product; only rows above it are read again. The cut only rises.
2. *Histogram.* Ranks above :data:`TAIL`, AUC and EER need the whole range: exact counts in bins of 2^-17, about
   7.6e-6. Scaling a float32 by 2^17 and rounding down is exact, so a bin has sharp edges. Together with the second pass
   this runs at about a quarter of the product's rate on one core (``benchmarks/pairs.py --whole``), the tail alone at
   0.87 of it.
3. *Refinement.* The histogram gives the bin of a wanted rank, and the bin in which FMR and FNMR cross. A second pass
   collects the distinct scores in those bins and their counts. Their number is bounded by the float32 numbers in a bin
   of 2^-17, whatever the number of pairs.
4. *Genuine.* Once the thresholds are known, the few tiles with genuine pairs are computed again, counted by identity.

Thresholds, counts and EER are those of a full sort of the scores. AUC comes from the histogram, in which two scores of
one bin count half; its largest possible error is returned with it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from arcinvert.evaluation.allpairs.streams import BINS, Bins, Distinct, Tail
from arcinvert.evaluation.allpairs.tiles import SortedRows, sort_rows, summed, tiles
from arcinvert.evaluation.metrics import (
    MIN_FALSE_MATCHES,
    OperatingPoint,
    RocCurve,
    allowed_false_matches,
    crossing,
    point_of_counts,
)
from arcinvert.progress import Progress, silent

TAIL = 1 << 23
"""Ranks above this are found by histogram and refinement."""


@dataclass(frozen=True, eq=False)
class WholeRange:
    """Metrics that need the whole range of scores.

    Attributes:
        auc: see :func:`arcinvert.evaluation.metrics.auc`.
        auc_error: largest possible error of ``auc``.
        eer, eer_threshold: see :func:`arcinvert.evaluation.metrics.crossing`.
        genuine, impostor: (BINS,) int64 histograms.
    """

    auc: float
    auc_error: float
    eer: float
    eer_threshold: float
    genuine: NDArray[np.int64]
    impostor: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class AllPairs:
    """Result of :func:`all_pairs`.

    Attributes:
        points: an operating point for each FMR.
        pairs_of: (I,) int64 genuine pairs of each identity, in the order of the labels.
        accepted: (F, I) int64 number of them accepted at each point; 0 without a threshold.
        whole: None unless requested.
    """

    points: tuple[OperatingPoint, ...]
    pairs_of: NDArray[np.int64]
    accepted: NDArray[np.int64]
    whole: WholeRange | None


def all_pairs(
    embeddings: Tensor,
    labels: Tensor,
    fmrs: Sequence[float],
    *,
    whole: bool = False,
    side: int | None = None,
    progress: Progress = silent,
) -> AllPairs:
    """TAR at each FMR over every unordered pair; with ``whole`` AUC, EER and the histograms too.

    Runs on the device of the embeddings. If ``torch.distributed`` is initialized, all processes call this with the
    same arguments, share the tiles and get the same result.

    Args:
        embeddings: (N, D), unit norm; their dot product in float32 is the score.
        labels: (N,) integers, the identity of each row.
        fmrs: false match rates; one below 3 / M gives a point without a threshold.
        whole: also compute :class:`WholeRange`, which takes two passes.
        side: of a tile; default: 768, which a core keeps in its own cache, on a GPU 8192.
        progress: called with (done, all, text).

    Raises:
        InputError: see :func:`arcinvert.evaluation.allpairs.tiles.sort_rows`; a rate not between 0 and 1.
    """
    ordered = sort_rows(embeddings, labels)
    side = side or (8192 if embeddings.device.type == "cuda" else 768)
    count = ordered.impostor_pairs
    ranks = [
        allowed + 1 if (allowed := allowed_false_matches(rate, count)) >= MIN_FALSE_MATCHES else None for rate in fmrs
    ]
    known = [rank for rank in ranks if rank is not None]
    tail = Tail(max((rank for rank in known if rank <= TAIL), default=0), ordered.rows.device)
    binned = whole or max(known, default=0) > TAIL
    histogram = torch.zeros(2, BINS, dtype=torch.int64, device=ordered.rows.device)
    bins = Bins(ordered.rows.device)
    if binned or tail.wanted:
        for tile in tiles(ordered, side, text="scoring all pairs", progress=progress):
            if tail.wanted:
                tail.add(tile.impostor)
            if binned:
                for kind, scores in enumerate((tile.genuine, tile.impostor)):
                    histogram[kind] += torch.bincount(bins(scores), minlength=BINS)
                histogram[1, 0] -= tile.none
    top = tail.highest()
    genuine, impostor = (counts.cpu().numpy() for counts in summed(histogram))
    above = [_from_above(counts) for counts in (genuine, impostor)]
    wanted = {rank: int(np.argmax(above[1] >= rank)) for rank in known if rank > TAIL}
    missed = ordered.genuine_pairs - above[0]
    middle = int(np.argmax(above[1] / count > missed / ordered.genuine_pairs)) if whole else None  # as in `crossing`
    inside = _scores_in({*wanted.values()} | ({middle} if middle is not None else set()), ordered, side, progress)

    thresholds: list[float | None] = []
    false: list[int] = []
    for rank in ranks:
        refused = None
        if rank in wanted:
            place = wanted[rank]
            values, number = inside[place][1]
            before = _before(above[1], place)
            at = int(np.argmax(before + np.cumsum(number) >= rank))
            refused, false_here = values[at], before + int(number[:at].sum())
        elif rank is not None:
            refused = top[rank - 1]
            false_here = int((top > refused).sum())
        thresholds.append(None if refused is None else float(np.nextafter(refused, np.float32(np.inf))))
        false.append(0 if refused is None else false_here)
    accepted = _accepted(ordered, thresholds, side, progress)
    points = tuple(
        point_of_counts(rate, threshold, (wrong, count), (int(right), ordered.genuine_pairs))
        for rate, threshold, wrong, right in zip(fmrs, thresholds, false, accepted.sum(1), strict=True)
    )
    pairs_of = ordered.pairs_of.cpu().numpy()
    if middle is None:
        return AllPairs(points, pairs_of, accepted, None)
    rate, threshold = crossing(_curve(above, middle, inside[middle]))
    area, error = _area(genuine / ordered.genuine_pairs, impostor / count)
    return AllPairs(points, pairs_of, accepted, WholeRange(area, error, rate, threshold, genuine, impostor))


def _from_above(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """(BINS,) counts -> number of scores in bin ``BINS - 1 - b`` or above."""
    return np.cumsum(counts[::-1])


def _before(above: NDArray[np.int64], place: int) -> int:
    return int(above[place - 1]) if place else 0


Counted = tuple[NDArray[np.float32], NDArray[np.int64]]


def _scores_in(
    places: set[int], ordered: SortedRows, side: int, progress: Progress
) -> dict[int, tuple[Counted, Counted]]:
    """Distinct scores, descending, and their counts in some bins, for genuine and impostor pairs.

    ``places`` count bins from above.
    """
    if not places:
        return {}
    bins, numbers = Bins(ordered.rows.device), [BINS - 1 - place for place in sorted(places)]
    found = [Distinct(ordered.rows.device), Distinct(ordered.rows.device)]
    for tile in tiles(ordered, side, text="refining", progress=progress):
        for kind, scores in zip(found, (tile.genuine, tile.impostor), strict=True):
            number = bins(scores)
            wanted = number == numbers[0]
            for another in numbers[1:]:
                wanted |= number == another
            chosen = scores.reshape(-1)[wanted]
            kind.add(chosen[chosen > -torch.inf])
    answer: dict[int, tuple[Counted, Counted]] = {}
    both = [kind.all() for kind in found]
    for place in places:
        parts = []
        for values, times in both:
            there = (bins(values) == BINS - 1 - place).cpu().numpy()
            parts.append((values.cpu().numpy()[there][::-1], times.cpu().numpy()[there][::-1]))
        answer[place] = (parts[0], parts[1])
    return answer


def _accepted(ordered: SortedRows, thresholds: list[float | None], side: int, progress: Progress) -> NDArray[np.int64]:
    """(F, I) number of genuine pairs of each identity that each threshold accepts."""
    counts = torch.zeros(len(thresholds), len(ordered.sizes), dtype=torch.int64, device=ordered.rows.device)
    if any(threshold is not None for threshold in thresholds):
        for tile in tiles(ordered, side, genuine_only=True, text="counting genuine pairs", progress=progress):
            for row, threshold in zip(counts, thresholds, strict=True):
                if threshold is not None:
                    row.index_add_(0, tile.owners, (tile.genuine >= threshold).long())
    return summed(counts).cpu().numpy()


def _curve(above: list[NDArray[np.int64]], place: int, inside: tuple[Counted, Counted]) -> RocCurve:
    """The ROC curve inside one bin, from the point at its upper edge."""
    values = np.unique(np.concatenate([inside[0][0], inside[1][0]]))[::-1]
    sums = []
    for (scores, times), counts in zip(inside, above, strict=True):
        at = np.searchsorted(-scores, -values, side="right")
        sums.append(_before(counts, place) + np.concatenate([[0], np.concatenate([[0], np.cumsum(times)])[at]]))
    thresholds = np.concatenate([np.nextafter(values[:1], np.float32(np.inf)), values])
    return RocCurve(thresholds, sums[1], sums[0], int(above[1][-1]), int(above[0][-1]))


def _area(genuine: NDArray[np.float64], impostor: NDArray[np.float64]) -> tuple[float, float]:
    """AUC of two histograms that sum to 1, and half the probability that two scores share a bin."""
    below = np.cumsum(impostor) - impostor
    return float((genuine * (below + impostor / 2)).sum()), float((genuine * impostor).sum() / 2)
