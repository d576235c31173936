"""Retrieval of a person's videos, measured by mean average precision as in iQIYI-VID."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from arcinvert.errors import InputError, UsageError
from arcinvert.evaluation.allpairs.search import Index, Labels, Rows, check_rows, check_sizes, leading

TOP = 100
"""Videos of a ranked list that count in iQIYI-VID."""


@dataclass(frozen=True)
class Retrieval:
    """Result of :func:`mean_average_precision`.

    Attributes:
        map: mean average precision; None if it has no meaning.
        top: number of videos of a ranked list that count.
        queries: number of queries with a video; the mean is taken over them.
        without_videos: number of queries without a video, which are left out.
        videos: number of videos that are searched.
        beyond_top: number of queries with more videos than ``top``, whose average precision cannot reach 1.
        note: why there is no value.
    """

    map: float | None
    top: int
    queries: int
    without_videos: int
    videos: int
    beyond_top: int
    note: str | None


def mean_average_precision(
    queries: Rows, videos: Rows, *, query_labels: Labels, video_labels: Labels, top: int = TOP
) -> Retrieval:
    """MAP@top of iQIYI-VID (Liu et al. 2018): ``1/|Q| sum_i 1/m_i sum_{j=1..n_i} P(i, j)``.

    Query i, an identity, ranks all videos by cosine, and the first ``top`` count. n_i of them show the identity; P(i,
    j) is the precision at the j-th of these: j / its rank. m_i is the number of *all* videos that show the identity, in
    the list or not. A tie counts against the query: the wrong video ranks first.

    Args:
        queries: (Q, D), unit norm, one per identity, usually the center of its enrolled images.
        videos: (V, D), unit norm, one per video, usually the mean of its frames.
        query_labels, video_labels: (Q,) and (V,).
        top: number of videos of a ranked list that count.

    Raises:
        InputError: invalid rows or labels.
    """
    precision, relevant = average_precisions(
        queries, videos, query_labels=query_labels, video_labels=video_labels, top=top
    )
    counted = relevant > 0
    note = None
    if not counted.any():
        note = "no video shows anybody who is looked for"
    elif len(np.unique(np.concatenate([query_labels, video_labels]))) < 2:
        note = "one identity only: every video is the right one"
    return Retrieval(
        map=None if note else float(precision[counted].mean()),
        top=top,
        queries=int(counted.sum()),
        without_videos=int((~counted).sum()),
        videos=len(videos),
        beyond_top=int((relevant > top).sum()),
        note=note,
    )


def average_precisions(
    queries: Rows, videos: Rows, *, query_labels: Labels, video_labels: Labels, top: int = TOP
) -> tuple[NDArray[np.float64], Index]:
    """Average precision of each query (Q,), NaN without videos, and its number of videos (Q,).

    See :func:`mean_average_precision`.
    """
    check_rows(queries, query_labels, what="queries")
    check_rows(videos, video_labels, what="videos")
    check_sizes(queries=queries, videos=videos)
    if top < 1:
        raise UsageError(f"expected to rank at least one video, got {top}")
    ordered = np.sort(video_labels)
    relevant = np.searchsorted(ordered, query_labels, "right") - np.searchsorted(ordered, query_labels, "left")
    sums = np.zeros(len(queries))
    for first, i, j, cosine in leading(queries, videos, min(top, len(videos))):
        right = video_labels[j] == query_labels[first + i]
        order = np.lexsort((right, -cosine, i))
        i, right = i[order], right[order]
        starts = np.searchsorted(i, np.arange(i[-1] + 1))
        place = np.arange(len(i)) - starts[i]
        hits = right.cumsum()
        hits -= (hits - right)[starts][i]
        chosen = right & (place < top)
        np.add.at(sums, first + i[chosen], hits[chosen] / (place[chosen] + 1))
    with np.errstate(invalid="ignore"):
        return np.where(relevant > 0, sums / np.maximum(relevant, 1), np.nan), relevant


def split_queries(labels: Labels) -> tuple[Labels, Index, Index]:
    """The protocol for a labeled set: the first half of an identity's images is its query, the others are its videos.

    The image of an identity with a single one is a video, and that identity is no query.

    Returns:
        (Q,) identities of the queries; (N,) position of the query to which a row belongs, or -1; (V,) rows that are
        videos.

    Raises:
        InputError: no identity has two images.
    """
    order = np.argsort(labels, kind="stable")
    names, starts, counts = np.unique(labels[order], return_index=True, return_counts=True)
    place = np.arange(len(labels)) - np.repeat(starts, counts)
    enrolled = place < np.repeat(counts // 2, counts)
    if not enrolled.any():
        raise InputError("expected identities with two pictures at least, to look for one by the other; found none")
    looked_for = names[counts > 1]
    of_query = np.full(len(labels), -1)
    of_query[order[enrolled]] = np.searchsorted(looked_for, labels[order[enrolled]])
    return looked_for, of_query, np.flatnonzero(of_query < 0)
