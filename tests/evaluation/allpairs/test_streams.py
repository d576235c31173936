import numpy as np
import pytest
import torch

from arcinvert.evaluation.allpairs import streams
from arcinvert.evaluation.allpairs.streams import BINS, PER_UNIT, Bins, Distinct, Tail


@pytest.mark.parametrize(("wanted", "decimals"), [(1, 8), (37, 2), (400, 8)])
def test_the_tail_of_a_stream(monkeypatch: pytest.MonkeyPatch, wanted: int, decimals: int) -> None:
    """In an order that rises, so that every tile moves the cut, and in one that does not."""
    monkeypatch.setattr(streams, "MIN_COLLECTED", 50)
    stream = np.random.default_rng(wanted).uniform(size=(60, 9, 11)).round(decimals).astype(np.float32)
    for order in (stream, np.sort(stream.ravel()).reshape(stream.shape)):
        tail = Tail(wanted, torch.device("cpu"))
        for tile in order:
            tail.add(torch.from_numpy(tile))
        assert tail.highest().tolist() == np.sort(stream.ravel())[::-1][:wanted].tolist()


def test_memory_is_bounded_when_all_scores_are_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "MIN_COLLECTED", 100)
    monkeypatch.setattr(streams, "BUFFER", 100)
    tail = Tail(30, torch.device("cpu"))
    for _ in range(50):
        tail.add(torch.full((10, 10), 0.5))
        assert tail.held <= 200
    assert tail.highest().tolist() == [0.5] * 30
    distinct = Distinct(torch.device("cpu"))
    for _ in range(50):
        distinct.add(torch.full((70,), 0.5))
        assert distinct.held <= 100
    values, times = distinct.all()
    assert (values.tolist(), times.tolist()) == ([0.5], [3500])


def test_bins_have_sharp_edges() -> None:
    edges = torch.arange(-PER_UNIT, PER_UNIT) / PER_UNIT
    bins = Bins(torch.device("cpu"))
    assert torch.equal(bins(edges), torch.arange(BINS, dtype=torch.int32))
    below = torch.nextafter(edges, torch.tensor(-torch.inf))
    assert torch.equal(bins(below), torch.arange(-1, BINS - 1, dtype=torch.int32).clamp_min(0))
    assert bins(torch.tensor([1.0, 1.0000001, -1.0000001, -torch.inf])).tolist() == [BINS - 1, BINS - 1, 0, 0]


def test_distinct_scores_of_a_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "BUFFER", 100)
    stream = np.random.default_rng(0).integers(0, 40, 3000).astype(np.float32)
    distinct = Distinct(torch.device("cpu"))
    for size in (1, 99, 100, 101, 0, 1000):
        distinct.add(torch.from_numpy(stream[:size]))
        stream = np.roll(stream, -size)
    values, times = distinct.all()
    expected = np.unique(np.random.default_rng(0).integers(0, 40, 3000)[:1301], return_counts=True)
    assert values.tolist() == expected[0].tolist()
    assert times.tolist() == expected[1].tolist()
