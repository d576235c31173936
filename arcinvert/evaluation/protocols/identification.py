"""1:N identification: who of a gallery is it, and is it anybody of it.

A gallery holds one row or several of each identity, an identity scores with its best row. A tie
counts against the probe: another identity that scores the same stands before the right one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from arcinvert.errors import InputError, UsageError
from arcinvert.evaluation.allpairs.ranks import mate_scores, ranks
from arcinvert.evaluation.allpairs.search import Floats, Index, Labels, Rows, best, check_rows, check_sizes, engine_used
from arcinvert.evaluation.metrics import allowed_false_matches, operating_point, wilson_interval

FARS = (1e-1, 1e-2, 1e-3)
NAMED_RANKS = (1, 5, 10, 20)


@dataclass(frozen=True)
class Rate:
    """A share of ``trials`` with its 95 % Wilson interval, as if the trials were independent.

    Attributes:
        at: what it is counted at: a rank, or a number of distractors.
    """

    at: int
    rate: float
    trials: int
    interval: tuple[float, float]


@dataclass(frozen=True)
class OpenSetPoint:
    """DIR@FAR at rank 1 (Grother et al., NISTIR 8009; TPIR at FPIR).

    Attributes:
        far: of the non-mated probes, at most this share may find anybody at the threshold.
        threshold: the lowest that keeps to it, None if they are too few.
        dir: share of the mated probes that find their identity first, and at the threshold.
        unmated, mated: numbers of probes.
        note: why there is no figure, or how far it can be trusted.
    """

    far: float
    threshold: float | None
    dir: float | None
    unmated: int
    mated: int
    note: str | None


@dataclass(frozen=True)
class Identification:
    """The answer of :func:`identify`.

    Attributes:
        gallery, identities, distractors, mated, unmated: counts.
        cmc: share of mated probes whose identity is among the first 1, 2, ...; None where that says nothing.
        ranks: of the CMC, the ranks people quote.
        open_set: DIR at each FAR.
        note: why there is no CMC.
        engine: ``numpy`` or ``faiss``; it makes no difference to the figures.
    """

    gallery: int
    identities: int
    distractors: int
    mated: int
    unmated: int
    cmc: tuple[float, ...] | None
    ranks: tuple[Rate, ...]
    open_set: tuple[OpenSetPoint, ...]
    note: str | None
    engine: str


def identify(
    gallery: Rows,
    probes: Rows,
    *,
    gallery_labels: Labels,
    probe_labels: Labels,
    distractors: Rows | None = None,
    max_rank: int = 20,
    fars: Sequence[float] = FARS,
    engine: str = "auto",
) -> Identification:
    """CMC of the mated probes, and DIR@FAR with the non-mated ones: those whose label is not in the gallery.

    Args:
        gallery, probes: (G, D) and (P, D), unit norm.
        gallery_labels, probe_labels: (G,) and (P,).
        distractors: (N, D), unit norm; each is a gallery entry of an identity of its own.
        max_rank: where the CMC ends.
        fars: false alarm rates.
        engine: see :func:`arcinvert.evaluation.allpairs.search.nearest`.

    Raises:
        InputError: rows or labels that do not fit.
    """
    check_rows(gallery, gallery_labels, what="gallery embeddings")
    check_rows(probes, probe_labels, what="probes")
    check_sizes(gallery=gallery, probes=probes)
    engine = engine_used(engine)
    entries, labels, extra = gallery, gallery_labels, 0
    if distractors is not None:
        check_rows(distractors, what="distractors")
        check_sizes(gallery=gallery, distractors=distractors)
        extra = len(distractors)
        least = min(gallery_labels.min(), probe_labels.min())
        labels = np.concatenate([gallery_labels, least - 1 - np.arange(extra)])
        entries = np.concatenate([gallery, distractors])
    order = np.argsort(labels, kind="stable")
    entries, labels = entries[order], labels[order]
    identities = len(np.unique(labels))
    known = np.isin(probe_labels, gallery_labels)
    mated, wanted, strangers = probes[known], probe_labels[known], probes[~known]
    max_rank = min(max_rank, identities)
    if max_rank < 1:
        raise UsageError(f"expected to look at rank 1 at least, got {max_rank}")
    note = None
    if not len(mated):
        note = "no probe shows anybody of the gallery"
    elif identities < 2:
        note = "a gallery of one identity: whoever is looked for is found first"
    mate, rank = np.empty(0), np.empty(0, np.int64)
    if len(mated):
        mate = mate_scores(mated, entries, wanted, labels)
        rank = ranks(mated, entries, mate, wanted, labels, max_rank, engine)
    found = np.bincount(rank, minlength=max_rank + 2)[1 : max_rank + 1].cumsum()
    top = best(strangers, entries) if len(strangers) else np.empty(0)
    # A probe that does not find its identity first is no detection, at whatever threshold.
    detected = np.where(rank == 1, mate, -2.0)
    return Identification(
        gallery=len(gallery),
        identities=identities - extra,
        distractors=extra,
        mated=len(mated),
        unmated=len(strangers),
        cmc=None if note else tuple(float(n) / len(mated) for n in found),
        ranks=() if note else tuple(rate_at(k, found[k - 1], len(mated)) for k in NAMED_RANKS if k <= max_rank),
        open_set=tuple(_open_set(far, detected, top) for far in fars),
        note=note,
        engine=engine,
    )


def folder_split(labels: Labels) -> tuple[Index, Index, Index]:
    """Rows of a labeled set as (gallery, mated probes, non-mated probes).

    Of the first two thirds of the identities (in the order of the labels) the first picture is
    enrolled and the others are probes; of the last third all pictures are non-mated probes.

    Raises:
        InputError: no labels.
    """
    if not len(labels):
        raise InputError("expected labels to split, got none")
    identities, first = np.unique(labels, return_index=True)
    kept = len(identities) - len(identities) // 3
    gallery = first[:kept]
    inside = np.isin(labels, identities[:kept])
    probe = inside.copy()
    probe[gallery] = False
    return gallery, np.flatnonzero(probe), np.flatnonzero(~inside)


def rate_at(at: int, accepted: int, trials: int) -> Rate:
    """The share ``accepted / trials`` with its interval."""
    return Rate(at, float(accepted) / trials, trials, wilson_interval(int(accepted), trials))


def _open_set(far: float, detected: Floats, top: Floats) -> OpenSetPoint:
    if not len(detected) or not len(top):
        missing = "non-mated" if len(detected) else "mated"
        return OpenSetPoint(far, None, None, len(top), len(detected), f"there are no {missing} probes")
    point = operating_point(far, genuine=detected, impostor=top)
    note, allowed = None, allowed_false_matches(far, len(top))
    if allowed < 30:
        found = f"{allowed} of {len(top)} non-mated probes may be taken for somebody"
        note = f"{found}; fewer than {'3 fix no' if allowed < 3 else '30 hardly fix a'} threshold"
    return OpenSetPoint(far, point.threshold, point.tar, len(top), len(detected), note)
