"""Blocked products against all products at once, with ties that float32 cannot see."""

import importlib.util

import numpy as np
import pytest

from arcinvert.errors import EnvironmentProblem, InputError, UsageError
from arcinvert.evaluation.allpairs import search
from arcinvert.evaluation.allpairs.search import best, blocks, dot, error_bound, nearest

with_faiss = pytest.param(
    "faiss", marks=pytest.mark.skipif(importlib.util.find_spec("faiss") is None, reason="FAISS is not installed")
)


def unit(seed: int, count: int, size: int = 24) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(count, size))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def slow_cosines(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """A loop over pairs: equal rows give equal sums."""
    return np.array([[float((a.astype(float) * b).sum()) for b in second] for a in first])


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "BLOCK_SCORES", 60)
    monkeypatch.setattr(search, "BLOCK_ROWS", 7)
    monkeypatch.setattr(search, "BLOCK_PAIRS", 5)


def test_blocks_cover_everything_once_and_stay_small(small_blocks: None) -> None:
    first, second = unit(0, 30), unit(1, 41)
    found = np.full((30, 41), np.nan)
    for top, left, scores in blocks(first, second):
        assert scores.size <= 60
        part = found[top : top + scores.shape[0], left : left + scores.shape[1]]
        assert np.isnan(part).all()
        part[:] = scores
    assert np.allclose(found, slow_cosines(first, second), atol=1e-6)


def test_blocks_begin_where_they_may(small_blocks: None) -> None:
    starts = np.array([0, 3, 4, 17, 30])  # a run longer than a block stays whole
    seen = {(left, left + s.shape[1]) for top, left, s in blocks(unit(0, 9), unit(1, 41), starts=starts)}
    assert {left for left, _ in seen} <= set(starts)
    assert sorted(right for _, right in seen) == sorted({left for left, _ in seen if left} | {41})


def test_the_bound_holds() -> None:
    first, second = unit(0, 200, 512), unit(1, 200, 512)
    exact = first.astype(np.float64) @ second.T.astype(np.float64)
    assert np.abs(first @ second.T - exact).max() < error_bound(512) < 1e-4


def test_dot_is_exact_for_equal_rows(small_blocks: None) -> None:
    rows = unit(0, 50, 37)
    i = np.zeros(50, np.int64)
    same = np.repeat(rows[:1], 50, axis=0)
    assert len(set(dot(rows, same, i, np.arange(50)))) == 1


def test_best_against_a_loop(small_blocks: None) -> None:
    first, second = unit(0, 33), unit(1, 29)
    expected = slow_cosines(first, second)
    assert np.allclose(best(first, second), expected.max(1), atol=1e-12)
    labels = np.random.default_rng(2).integers(0, 4, 33), np.random.default_rng(3).integers(0, 4, 29)
    expected[labels[0][:, None] == labels[1][None]] = -np.inf
    assert np.allclose(best(first, second, apart=labels), expected.max(1), atol=1e-12)
    nobody = np.zeros(33, np.int64), np.zeros(29, np.int64)
    assert (best(first, second, apart=nobody) == -np.inf).all()


@pytest.mark.parametrize("engine", ["numpy", with_faiss])
@pytest.mark.parametrize("k", [1, 5, 99])
def test_nearest_against_a_full_sort(engine: str, k: int, small_blocks: None) -> None:
    probes = unit(0, 20)
    gallery = unit(1, 40)[np.random.default_rng(2).integers(0, 25, 40)]  # copies: ties
    cosine = slow_cosines(probes, gallery)
    order = np.array([sorted(range(40), key=lambda j, row=row: (-row[j], j))[:k] for row in cosine])
    scores, found = nearest(probes, gallery, k=k, engine=engine)
    assert np.array_equal(found, order)
    assert np.allclose(scores, np.take_along_axis(cosine, order, 1), atol=1e-12)


@pytest.mark.parametrize("engine", ["numpy", with_faiss])
def test_more_ties_than_faiss_lists(engine: str) -> None:
    gallery = np.repeat(unit(0, 2), 200, axis=0)
    _, found = nearest(gallery[:1], gallery, k=3, engine=engine)
    assert found.tolist() == [[0, 1, 2]]


@pytest.mark.parametrize("engine", ["numpy", with_faiss])
def test_rows_that_float32_cannot_tell_apart(engine: str) -> None:
    probe = unit(0, 1, 64)
    near = probe + 1e-4 * unit(1, 400, 64)
    gallery = (near / np.linalg.norm(near, axis=1, keepdims=True)).astype(np.float32)
    cosine = slow_cosines(probe, gallery)[0]
    _, found = nearest(probe, gallery, k=5, engine=engine)
    assert found[0].tolist() == np.argsort(-cosine)[:5].tolist()


@pytest.mark.parametrize("engine", ["numpy", with_faiss])
def test_both_engines_at_full_size(engine: str) -> None:
    probes, gallery = unit(0, 300, 128), unit(1, 5000, 128)
    scores, found = nearest(probes, gallery, k=10, engine=engine)
    exact = probes.astype(np.float64) @ gallery.T.astype(np.float64)
    assert np.array_equal(found, np.argsort(-exact, axis=1)[:, :10])
    assert np.allclose(scores, np.sort(exact, axis=1)[:, ::-1][:, :10], atol=1e-12)


def test_auto_takes_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "find_spec", lambda name: None)
    assert search.engine_used("auto") == search.engine_used("numpy") == "numpy"
    with pytest.raises(EnvironmentProblem, match="pip install faiss-cpu"):
        nearest(unit(0, 2), unit(1, 2), k=1, engine="faiss")
    monkeypatch.setattr(search, "find_spec", lambda name: object())
    assert search.engine_used("auto") == "faiss"
    assert search.engine_used("numpy") == "numpy"


@pytest.mark.parametrize(
    ("probes", "gallery", "message"),
    [
        (unit(0, 2)[0], unit(1, 2), r"expected probes \(N, D\), got shape \(24,\)"),
        (unit(0, 2), unit(1, 2)[:0], r"expected gallery embeddings \(N, D\), got shape \(0, 24\)"),
        (unit(0, 2), unit(1, 2, 8), "of one size, got probes 24-d, gallery 8-d"),
        (np.where(np.eye(4, 24) > 0, np.nan, unit(0, 4)), unit(1, 2), "NaN or infinity in row 0"),
        (unit(0, 2) * np.array([[1], [3]], np.float32), unit(1, 2), "unit norm, row 1 is not"),
    ],
)
def test_rows_that_do_not_fit_are_refused(probes: np.ndarray, gallery: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        nearest(probes, gallery, k=1)


def test_a_search_for_nothing_and_an_unknown_engine() -> None:
    with pytest.raises(UsageError, match="at least one row"):
        nearest(unit(0, 2), unit(1, 2), k=0)
    with pytest.raises(UsageError, match="got 'annoy'"):
        nearest(unit(0, 2), unit(1, 2), k=1, engine="annoy")
