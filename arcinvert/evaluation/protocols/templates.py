"""Templates as in IJB-B and IJB-C: one vector for all images and video frames of a person.

The frames of one medium (a video or a still image) are averaged first, so that a long video does not outweigh the
stills. The template is the sum of its media, scaled to unit norm (Whitelam et al., CVPRW 2017).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from arcinvert.errors import InputError
from arcinvert.evaluation.allpairs.search import Floats, Index, Labels, Rows, check_rows, dot
from arcinvert.evaluation.metrics import FMRS, OperatingPoint, operating_points
from arcinvert.evaluation.protocols.identification import Identification, identify

MAX_COMPARED = 1000
"""Second halves with which a first half is compared at most, in a labeled set."""


@dataclass(frozen=True, eq=False)
class Members:
    """The rows of a set of embeddings that make up each template.

    Attributes:
        templates: (M,) int64, the template of each member; 0 to T - 1 all occur.
        media: (M,) int64; members of one medium of a template are averaged first.
        rows: (M,) int64, rows of the embeddings.
        subjects: (T,) int64, the identity of each template.
        scores: (M,) detector scores by which members are multiplied, or None.
    """

    templates: Labels
    media: Labels
    rows: Index
    subjects: Labels
    scores: Floats | None = None


@dataclass(frozen=True)
class TemplateVerification:
    """TPR at each FPR over listed pairs of templates; ``note`` says why there are none."""

    templates: int
    pairs: int
    points: tuple[OperatingPoint, ...]
    note: str | None


@dataclass(frozen=True)
class TemplateIdentification:
    """1:N identification over several galleries: results of each, and mean rates.

    Attributes:
        rank1, rank5: means over the galleries; None if a gallery has none.
        galleries: the result of each. A probe whose subject is in another gallery is non-mated.
    """

    rank1: float | None
    rank5: float | None
    galleries: tuple[Identification, ...]


def pool(embeddings: Rows, members: Members) -> Rows:
    """Pool members into templates.

    Each member is multiplied by its detector score, if there are scores; the members of a medium are averaged; the
    media of a template are added and scaled to unit norm.

    Args:
        embeddings: (N, D), unit norm.
        members: of the T templates.

    Returns:
        (T, D), unit norm.

    Raises:
        InputError: invalid rows, or a template whose members add up to zero.
    """
    check_rows(embeddings)
    _check_members(members, len(embeddings))
    order = np.lexsort((members.media, members.templates))
    template, medium = members.templates[order], members.media[order]
    new = np.r_[True, (template[1:] != template[:-1]) | (medium[1:] != medium[:-1])]
    starts = np.flatnonzero(new)
    # The weight of each member in its medium, so that one pass makes the sums.
    share = np.repeat(1 / np.diff(np.r_[starts, len(order)]), np.diff(np.r_[starts, len(order)]))
    if members.scores is not None:
        share = share * members.scores[order]
    pooled = np.empty((len(members.subjects), embeddings.shape[1]), np.float32)
    edges = np.searchsorted(template, np.arange(len(pooled) + 1))
    for number, (low, high) in enumerate(pairwise(edges)):
        total = share[low:high] @ embeddings[members.rows[order[low:high]]].astype(np.float64)
        length = np.linalg.norm(total)
        if not length > 1e-9:
            raise InputError(f"expected templates with a direction, the members of template {number} add up to zero")
        pooled[number] = total / length
    return pooled


def verify_templates(
    templates: Rows, pairs: Index, *, subjects: Labels, fprs: Sequence[float] = FMRS
) -> TemplateVerification:
    """1:1 verification over listed pairs of templates.

    Args:
        templates: (T, D), unit norm.
        pairs: (P, 2) templates.
        subjects: (T,).
        fprs: false positive rates; one that the impostor pairs do not support gives None and a reason.

    Raises:
        InputError: invalid rows, subjects or pairs.
    """
    check_rows(templates, subjects, what="templates")
    if pairs.ndim != 2 or pairs.shape[1] != 2 or not len(pairs):
        raise InputError(f"expected pairs (P, 2) of templates, got shape {pairs.shape}")
    if pairs.min() < 0 or pairs.max() >= len(templates):
        raise InputError(f"expected pairs of templates 0 to {len(templates) - 1}, got {pairs.min()} to {pairs.max()}")
    scores = dot(templates, templates, pairs[:, 0], pairs[:, 1])
    same = subjects[pairs[:, 0]] == subjects[pairs[:, 1]]
    genuine, impostor = scores[same], scores[~same]
    if not len(genuine) or not len(impostor):
        reason = f"there are no {'impostor' if len(genuine) else 'genuine'} pairs"
        points = tuple(OperatingPoint(f, None, None, len(impostor), len(genuine), reason=reason) for f in fprs)
        return TemplateVerification(len(templates), len(pairs), points, reason)
    points = operating_points(fprs, genuine=genuine, impostor=impostor)
    return TemplateVerification(len(templates), len(pairs), points, None)


def identify_templates(
    templates: Rows, probes: Index, *, galleries: Sequence[Index], subjects: Labels, engine: str = "auto"
) -> TemplateIdentification:
    """1:N identification of all probes in each gallery (IJB has two, of different people), and mean rates.

    Args:
        templates: (T, D), unit norm.
        probes: (P,) templates.
        galleries: (G_i,) templates each.
        subjects: (T,).
        engine: see :func:`arcinvert.evaluation.allpairs.search.nearest`.

    Raises:
        InputError: invalid rows or subjects, no gallery, or an empty one.
    """
    check_rows(templates, subjects, what="templates")
    if not len(probes) or not galleries or not all(len(gallery) for gallery in galleries):
        raise InputError("expected probes and at least one gallery, each with templates")
    found = tuple(
        identify(
            templates[gallery],
            templates[probes],
            gallery_labels=subjects[gallery],
            probe_labels=subjects[probes],
            engine=engine,
        )
        for gallery in galleries
    )
    return TemplateIdentification(_mean_rate(found, 1), _mean_rate(found, 5), found)


def halves(labels: Labels) -> tuple[Members, Index, Index, tuple[Index, Index]]:
    """The protocol for a labeled set: two templates of each identity, the first and the second half of its images.

    Each image is a medium. Identities with a single image are left out. Every first half is compared
    with the second halves of its own and of the next identities (:data:`MAX_COMPARED` at most, in a circle).
    Second halves are probes; the first halves of every other identity are one gallery, the rest the other.

    Returns:
        Members of templates 2i and 2i + 1 for identity i, pairs (P, 2), probes, and the two galleries.

    Raises:
        InputError: no identity has two images.
    """
    order = np.argsort(labels, kind="stable")
    names, starts, counts = np.unique(labels[order], return_index=True, return_counts=True)
    names, starts, counts = names[counts > 1], starts[counts > 1], counts[counts > 1]
    if not len(names):
        raise InputError("expected identities with two pictures at least, to make two templates of; found none")
    rows = [order[start : start + count] for start, count in zip(starts, counts, strict=True)]
    second = [np.arange(count) >= (count + 1) // 2 for count in counts]
    templates = [2 * i + half.astype(np.int64) for i, half in enumerate(second)]
    chosen = np.concatenate(rows)
    members = Members(np.concatenate(templates), chosen, chosen, np.repeat(names, 2))
    people = np.arange(len(names))
    steps = np.arange(min(len(names), MAX_COMPARED))
    other = (people[:, None] + steps[None]) % len(names)
    pairs = np.stack([np.repeat(2 * people, len(steps)), 2 * other.ravel() + 1], 1)
    galleries = (2 * people[0::2], 2 * people[1::2])
    return members, pairs, 2 * people + 1, galleries


def _check_members(members: Members, available: int) -> None:
    count = len(members.templates)
    if not count or len(members.media) != count or len(members.rows) != count:
        raise InputError("expected a template, a medium and a row for each member, and at least one member")
    if members.rows.min() < 0 or members.rows.max() >= available:
        found = f"{members.rows.min()} to {members.rows.max()}"
        raise InputError(f"expected members out of rows 0 to {available - 1}, got {found}")
    if not np.array_equal(np.unique(members.templates), np.arange(len(members.subjects))):
        raise InputError("expected members of every template, and a subject for each template")
    scores: NDArray[np.float64] | None = members.scores
    if scores is not None and (len(scores) != count or not (np.isfinite(scores) & (scores >= 0)).all()):
        raise InputError("expected a finite detector score of at least 0 for each member")


def _mean_rate(found: Sequence[Identification], rank: int) -> float | None:
    rates = [rate.rate for one in found for rate in one.ranks if rate.at == rank]
    return sum(rates) / len(rates) if len(rates) == len(found) else None
