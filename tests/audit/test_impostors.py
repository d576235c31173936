"""Thresholds of pairs of people, and how sure they are."""

import numpy as np
import pytest

from arcinvert.audit.impostors import ImpostorScores
from arcinvert.errors import InputError
from arcinvert.evaluation.metrics import threshold_at_fmr


def faces(seed: int, people: int, images: int, size: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings of made-up people, and the person of each."""
    generator = np.random.default_rng(seed)
    rows = generator.normal(size=(people, 1, size)) + 0.7 * generator.normal(size=(people, images, size))
    rows = rows.reshape(-1, size)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True), np.repeat(np.arange(people), images)


def test_counted_thresholds_are_those_of_all_pairs() -> None:
    rows, labels = faces(0, 40, 2)
    found = ImpostorScores.of(rows, labels)
    slow = [float(rows[i] @ rows[j]) for i in range(80) for j in range(i) if labels[i] != labels[j]]
    assert (found.pairs, found.people) == (len(slow), 40)
    wide, narrow, strict = found.thresholds((1e-2, 1e-3, 1e-4))
    assert wide is not None
    assert narrow is not None
    assert wide.value == pytest.approx(threshold_at_fmr(1e-2, impostor=np.array(slow)))
    assert narrow.value == pytest.approx(threshold_at_fmr(1e-3, impostor=np.array(slow)), abs=0.05)
    assert (wide.counted, narrow.counted) == (True, False)  # 31 and 3 false matches are allowed
    for threshold in (wide, narrow):
        assert threshold.low < threshold.value < threshold.high
        assert threshold.effective_pairs < found.pairs  # the pairs of a person are not independent
        assert not threshold.extrapolated
    assert strict is not None
    assert strict.extrapolated
    rate, sure = found.false_match_rate(wide.value)  # type: ignore[union-attr]
    assert rate == sum(score >= wide.value for score in slow) / len(slow)  # type: ignore[union-attr]
    assert sure == pytest.approx(wide.effective_pairs, rel=0.1)  # type: ignore[union-attr]


def test_intervals_and_extrapolated_limits_hold_for_other_people() -> None:
    """At most one interval in ten misses the threshold of many people; a limit is hardly ever too low."""
    true = ImpostorScores.of(*faces(1, 1500, 1)).thresholds((1e-2, 1e-4))
    assert true[0] is not None
    assert true[1] is not None
    inside, above = 0, 0
    for seed in range(30):
        counted, limit = ImpostorScores.of(*faces(100 + seed, 40, 2)).thresholds((1e-2, 1e-4))
        assert counted is not None
        assert limit is not None
        inside += counted.low <= true[0].value <= counted.high
        above += limit.value >= true[1].value
    assert inside >= 26
    assert above >= 28


def test_too_few_pairs_give_nothing() -> None:
    assert ImpostorScores.of(*faces(0, 4, 1)).thresholds((1e-2, 1e-3)) == [None, None]
    with pytest.raises(InputError, match="one person"):
        ImpostorScores.of(*faces(0, 1, 5))
