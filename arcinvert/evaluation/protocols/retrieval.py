"""Retrieval of a person's videos, judged by mean average precision as in iQIYI-VID."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from arcinvert.errors import InputError, UsageError
from arcinvert.evaluation.allpairs.search import Index, Labels, Rows, check_rows, check_sizes, leading

TOP = 100


@dataclass(frozen=True)
class Retrieval:
    """The answer of :func:`mean_average_precision`.

    Attributes:
        map: mean average precision; None where it says nothing.
        top: how many videos of a ranked list count.
        queries: those with a video to find, over which the mean is taken.
        without_videos: queries left out, because no video shows them.
        videos: among which the search went.
        beyond_top: queries with more videos than ``top``, whose average precision cannot reach 1.
        note: why there is no figure.
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

    Query i, an identity, ranks all videos by cosine, and the first ``top`` count. n_i of them show the
    identity; P(i, j) is the precision at the j-th of these: j / its rank. m_i is the number of *all*
    videos that show it, in the list or not. A tie counts against the query: the wrong video stands first.

    Args:
        queries: (Q, D), unit norm, one of an identity, as a rule the center of its enrolled pictures.
        videos: (V, D), unit norm, one of a video, as a rule the mean of its frames.
        query_labels, video_labels: (Q,) and (V,).
        top: 100 in iQIYI-VID.

    Raises:
        InputError: rows or labels that do not fit.
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
    """Of each query its average precision (Q,), NaN without videos, and the number of videos it has (Q,).

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
    """The protocol for a folder: an identity's first half of pictures is the query, the others are its videos.

    Identities with a single picture have that as a video and are not looked for.

    Returns:
        (Q,) identities looked for; (N,) position of the identity for which a row is averaged, or -1; rows
        that are videos (V,).

    Raises:
        InputError: no identity has two pictures.
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
