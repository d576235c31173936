"""1:N identification: closed set (CMC) and open set (DIR at FAR).

A gallery holds one or more rows of each identity; the score of an identity is that of its best row. A tie counts
against the probe: another identity with the same score ranks before the right one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from arcinvert.errors import InputError, UsageError
from arcinvert.evaluation.allpairs.ranks import mate_scores, ranks
from arcinvert.evaluation.allpairs.search import Floats, Index, Labels, Rows, best, check_rows, check_sizes, engine_used
from arcinvert.evaluation.metrics import (
    FMRS,
    MIN_FALSE_MATCHES,
    SURE_FALSE_MATCHES,
    allowed_false_matches,
    operating_point,
    wilson_interval,
)

FARS = FMRS[:3]
NAMED_RANKS = (1, 5, 10, 20)


@dataclass(frozen=True)
class Rate:
    """A rate over ``trials`` with its 95 % Wilson interval, which takes the trials as independent.

    Attributes:
        at: the rank, or the number of distractors.
    """

    at: int
    rate: float
    trials: int
    interval: tuple[float, float]


@dataclass(frozen=True)
class OpenSetPoint:
    """DIR@FAR at rank 1 (Grother et al., NISTIR 8009; TPIR at FPIR).

    Attributes:
        far: false alarm rate: share of the non-mated probes that may reach the threshold.
        threshold: the lowest one that keeps the FAR; None if there are too few non-mated probes.
        dir: share of the mated probes whose own identity ranks first and reaches the threshold.
        unmated, mated: number of probes.
        note: why there is no rate, or why it is unsure.
    """

    far: float
    threshold: float | None
    dir: float | None
    unmated: int
    mated: int
    note: str | None


@dataclass(frozen=True)
class Identification:
    """Result of :func:`identify`.

    Attributes:
        gallery, identities, distractors, mated, unmated: counts.
        cmc: share of the mated probes whose identity is among the first 1, 2, ...; None if that has no meaning.
        ranks: the CMC at the ranks of :data:`NAMED_RANKS`.
        open_set: DIR at each FAR.
        note: why there is no CMC.
        engine: ``numpy`` or ``faiss``; the rates do not depend on it.
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
    """CMC of the mated probes, and DIR@FAR with the non-mated probes, whose label is not in the gallery.

    Args:
        gallery, probes: (G, D) and (P, D), unit norm.
        gallery_labels, probe_labels: (G,) and (P,).
        distractors: (N, D), unit norm; each is a further gallery entry with its own identity.
        max_rank: last rank of the CMC.
        fars: false alarm rates.
        engine: see :func:`arcinvert.evaluation.allpairs.search.nearest`.

    Raises:
        InputError: invalid rows or labels.
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
        raise UsageError(f"expected a largest rank of at least 1, got {max_rank}")
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
    # A probe whose identity does not rank first is not detected at any threshold.
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

    For the first two thirds of the identities, in the order of the labels, the first image is enrolled and the others
    are mated probes. All images of the last third are non-mated probes.

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
    """The rate ``accepted / trials`` with its interval."""
    return Rate(at, float(accepted) / trials, trials, wilson_interval(int(accepted), trials))


def _open_set(far: float, detected: Floats, top: Floats) -> OpenSetPoint:
    if not len(detected) or not len(top):
        missing = "non-mated" if len(detected) else "mated"
        return OpenSetPoint(far, None, None, len(top), len(detected), f"there are no {missing} probes")
    point = operating_point(far, genuine=detected, impostor=top)
    note, allowed = None, allowed_false_matches(far, len(top))
    if allowed < SURE_FALSE_MATCHES:
        found = f"{allowed} of {len(top)} non-mated probes may be taken for somebody"
        note = f"{found}; fewer than {'3 fix no' if allowed < MIN_FALSE_MATCHES else '30 hardly fix a'} threshold"
    return OpenSetPoint(far, point.threshold, point.tar, len(top), len(detected), note)
