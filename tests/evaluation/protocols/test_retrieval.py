"""MAP@100 against the definition, spelled out as loops."""

import numpy as np
import pytest

from arcinvert.errors import InputError, UsageError
from arcinvert.evaluation.allpairs import search
from arcinvert.evaluation.protocols.labeled_sets import retrieve_folder
from arcinvert.evaluation.protocols.retrieval import average_precisions, mean_average_precision, split_queries


def people(seed: int, labels: np.ndarray, spread: float = 1.0) -> np.ndarray:
    draw = np.random.default_rng(seed)
    rows = np.random.default_rng(99).normal(size=(100, 8))[labels] + spread * draw.normal(size=(len(labels), 8))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def slow_average_precision(query: np.ndarray, label: int, videos: np.ndarray, labels: np.ndarray, top: int) -> float:
    scores = [float((query.astype(float) * video).sum()) for video in videos]
    ranked = sorted(range(len(videos)), key=lambda v: (-scores[v], labels[v] == label))
    total = 0.0
    for place in range(1, min(top, len(ranked)) + 1):
        if labels[ranked[place - 1]] == label:
            total += sum(labels[v] == label for v in ranked[:place]) / place
    return total / sum(labels == label)


@pytest.mark.parametrize("top", [1, 5, 100, 1000])
@pytest.mark.parametrize("block", [150, 1 << 22])
def test_against_the_definition(top: int, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "BLOCK_SCORES", block)
    video_labels = np.random.default_rng(0).integers(0, 12, 130)
    videos = people(1, video_labels)
    videos[5:9] = videos[4]  # ties, of right and wrong
    query_labels = np.r_[np.arange(12), 50, video_labels[6]]
    queries = people(2, query_labels)
    queries[-1] = videos[6]
    precision, relevant = average_precisions(
        queries, videos, query_labels=query_labels, video_labels=video_labels, top=top
    )
    expected = [
        slow_average_precision(q, n, videos, video_labels, top) if n != 50 else np.nan
        for q, n in zip(queries, query_labels, strict=True)
    ]
    assert precision == pytest.approx(expected, abs=1e-12, nan_ok=True)
    assert relevant.tolist() == [(video_labels == n).sum() for n in query_labels]
    found = mean_average_precision(queries, videos, query_labels=query_labels, video_labels=video_labels, top=top)
    assert found.map == pytest.approx(np.nanmean(expected))
    assert (found.queries, found.without_videos, found.videos) == (13, 1, 130)
    assert found.beyond_top == (relevant > top).sum()


def test_by_hand() -> None:
    """Right videos at places 1 and 3 of three that it has, the third beyond the end: (1 + 2/3) / 3."""
    angle = np.radians([0, 10, 20, 30, 40])
    videos = np.stack([np.cos(angle), np.sin(angle)], 1).astype(np.float32)
    labels = np.array([1, 0, 1, 0, 1])
    query = np.array([[1, 0]], np.float32)
    found = mean_average_precision(query, videos, query_labels=np.array([1]), video_labels=labels, top=4)
    assert found.map == pytest.approx((1 + 2 / 3) / 3)


def test_a_tie_counts_against_the_query() -> None:
    rows = np.array([[1, 0]] * 3, np.float32)
    found = mean_average_precision(rows[:1], rows, query_labels=np.array([1]), video_labels=np.array([1, 0, 2]))
    assert found.map == pytest.approx(1 / 3)


def test_the_split_of_a_folder() -> None:
    labels = np.array([5, 2, 5, 2, 9, 5])
    names, of_query, videos = split_queries(labels)
    assert names.tolist() == [2, 5]
    assert of_query.tolist() == [1, 0, -1, -1, -1, -1]
    assert videos.tolist() == [2, 3, 4, 5]
    found = retrieve_folder(people(0, labels, spread=0.01), labels)
    assert (found.map, found.queries, found.videos) == (1.0, 2, 4)


# --- what the data cannot support, and what does not fit


def test_one_identity_gives_null_and_the_reason() -> None:
    found = retrieve_folder(people(0, np.zeros(4, np.int64)), np.zeros(4, np.int64))
    assert found.map is None
    assert "one identity" in found.note


def test_nothing_to_find_gives_null_and_the_reason() -> None:
    rows = people(0, np.arange(4))
    found = mean_average_precision(rows[:2], rows[2:], query_labels=np.arange(2), video_labels=np.arange(2, 4))
    assert found.map is None
    assert "no video" in found.note


def test_what_does_not_fit_is_refused() -> None:
    rows, labels = people(0, np.arange(4)), np.arange(4)
    with pytest.raises(InputError, match="a label for each of 4 videos, got 3"):
        mean_average_precision(rows, rows, query_labels=labels, video_labels=labels[:3])
    with pytest.raises(InputError, match="NaN or infinity in row 0"):
        mean_average_precision(rows * np.nan, rows, query_labels=labels, video_labels=labels)
    with pytest.raises(InputError, match="identities with two pictures"):
        split_queries(labels)
    with pytest.raises(UsageError, match="at least one video"):
        mean_average_precision(rows, rows, query_labels=labels, video_labels=labels, top=0)
