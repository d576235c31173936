"""The rank of the right identity in a gallery: counted exactly block by block, or taken from a FAISS search."""

import numpy as np

from arcinvert.evaluation.allpairs.search import Floats, Index, Labels, Rows, blocks, dot, error_bound, nearest


def same_label(first: Labels, second: Labels) -> tuple[Index, Index]:
    """All (i, j) with ``first[i] == second[j]``; ``second`` is sorted."""
    low, high = np.searchsorted(second, first, side="left"), np.searchsorted(second, first, side="right")
    count = high - low
    i = np.repeat(np.arange(len(first)), count)
    within = np.arange(len(i)) - np.repeat(count.cumsum() - count, count)
    return i, np.repeat(low, count) + within


def mate_scores(probes: Rows, entries: Rows, wanted: Labels, labels: Labels) -> Floats:
    """(P,) float64: best score of each probe (P, D) with an entry (E, D) of its identity; ``labels`` are sorted."""
    i, j = same_label(wanted, labels)
    found = np.full(len(probes), -np.inf)
    np.maximum.at(found, i, dot(probes, entries, i, j))
    return found


def ranks(
    probes: Rows, entries: Rows, mate: Floats, wanted: Labels, labels: Labels, max_rank: int, engine: str
) -> Index:
    """(P,): 1 + number of other identities that score at least ``mate``, at most ``max_rank + 1``."""
    if engine == "numpy":
        return np.minimum(1 + _rivals(probes, entries, mate, wanted, labels), max_rank + 1)
    largest = int(np.unique(labels, return_counts=True)[1].max())
    scores, found = nearest(probes, entries, k=max_rank + largest, engine=engine)
    names = labels[found]
    rival = (scores >= mate[:, None]) & (names != wanted[:, None])
    # Count each identity once: sort the names, after the probe's own name has replaced those that are no rivals.
    names = np.sort(np.where(rival, names, wanted[:, None]), axis=1)
    rank: Index = 1 + (names[:, 1:] != names[:, :-1]).sum(1)
    # If every listed entry is a rival, the rank is one too low; the list is then too short as well.
    unsure = (scores[:, -1] >= mate) & (rank <= max_rank) & (scores.shape[1] < len(entries))
    if unsure.any():
        rank[unsure] = 1 + _rivals(probes[unsure], entries, mate[unsure], wanted[unsure], labels)
    return np.minimum(rank, max_rank + 1)


def _rivals(probes: Rows, entries: Rows, mate: Floats, wanted: Labels, labels: Labels) -> Index:
    """(P,): number of other identities with an entry that scores at least ``mate``; ``labels`` are sorted."""
    bound = error_bound(probes.shape[1])
    starts = np.flatnonzero(np.r_[True, labels[1:] != labels[:-1]])
    found = np.zeros(len(probes), np.int64)
    for top, left, scores in blocks(probes, entries, starts=starts):
        rows, columns = slice(top, top + len(scores)), slice(left, left + scores.shape[1])
        other = labels[None, columns] != wanted[rows, None]
        level = mate[rows, None]
        hit = (scores > level + bound) & other
        i, j = np.nonzero((np.abs(scores - level) <= bound) & other)
        hit[i, j] = dot(probes, entries, top + i, left + j) >= mate[top + i]
        inside = starts[(starts >= left) & (starts < columns.stop)] - left
        if len(inside) < hit.shape[1]:
            hit = np.logical_or.reduceat(hit, inside, axis=1)
        found[rows] += hit.sum(1)
    return found
