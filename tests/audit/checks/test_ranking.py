import numpy as np
import pytest
from test_hygiene import ROWS, Memory

from arcinvert.audit.checks.hygiene import scan
from arcinvert.audit.checks.ranking import rank1
from arcinvert.errors import InputError


def slowly(rows: np.ndarray, probes: np.ndarray, own: np.ndarray, names: list[str] | None) -> list[int]:
    """One comparison after another, in float64."""
    ranks = []
    for probe, position in zip(probes.astype(np.float64), own, strict=True):
        scores = {}
        for n, row in enumerate(rows.astype(np.float64)):
            if np.isfinite(row).all() and row.any():
                scores[n] = float(probe @ row) / float(np.sqrt(row @ row))
        mine = {position} if names is None or not names[position] else {
            n for n in scores if names[n] == names[position]
        }  # fmt: skip
        best = max(scores[n] for n in mine)
        ranks.append(1 + sum(score >= best for n, score in scores.items() if n not in mine))
    return ranks


def near(rows: np.ndarray, noise: float) -> np.ndarray:
    probes = rows + noise * np.random.default_rng(5).normal(size=rows.shape).astype(np.float32)
    return (probes / np.linalg.norm(probes, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("scale", [1.0, 25.0])
def test_ranks_are_those_of_the_slow_way(named: bool, scale: float) -> None:
    rows = ROWS * np.float32(scale)
    rows[100:110] *= 3
    rows[7, 0], rows[8] = np.nan, 0
    names = [f"p{n // 4}" for n in range(196)] + [""] * 4 if named else None
    store = Memory(rows, names)
    own = np.array([0, 9, 50, 105, 150, 198, 199])
    probes = near(ROWS[own], 0.3)
    expected = slowly(rows, probes, own, names)
    assert max(expected) > 1
    assert rank1(store, probes, own).tolist() == expected
    assert rank1(store, probes, own, scanned=scan(store)).tolist() == expected


def test_a_tie_counts_against_the_probe_and_a_namesake_is_no_rival() -> None:
    rows = ROWS.copy()
    rows[1] = rows[0]
    probes = near(rows[:1], 0.05)
    assert rank1(Memory(rows), probes, np.array([0])).tolist() == [2]
    assert rank1(Memory(rows, ["a", "a", *map(str, range(198))]), probes, np.array([0])).tolist() == [1]
    rows[1] *= 7  # a tie but for rounding
    assert rank1(Memory(rows), probes, np.array([0])).tolist() in ([1], [2])


def test_what_does_not_fit() -> None:
    store = Memory(ROWS)
    with pytest.raises(InputError, match="unit norm"):
        rank1(store, ROWS[:1] * 2, np.array([0]))
    with pytest.raises(InputError, match="expected 2 probes of 16 numbers"):
        rank1(store, ROWS[:1], np.array([0, 1]))
    with pytest.raises(InputError, match="expected 1 probes of 16 numbers"):
        rank1(store, near(ROWS[:1, :8], 0), np.array([0]))
    rows = ROWS.copy()
    rows[3] = 0
    with pytest.raises(InputError, match="row 3 of memory cannot be used"):
        rank1(Memory(rows), ROWS[:1], np.array([3]))
