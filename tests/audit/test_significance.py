"""Exact tests, against SciPy and against draws."""

import numpy as np
import pytest

from arcinvert.audit.significance import chance_of, holm
from arcinvert.errors import InputError


@pytest.mark.parametrize(("accepted", "tried", "fmr"), [(0, 14, 0.01), (1, 14, 0.01), (7, 50, 0.01), (200, 200, 1e-4)])
def test_the_binomial_tail(accepted: int, tried: int, fmr: float) -> None:
    stats = pytest.importorskip("scipy.stats")
    expected = stats.binomtest(accepted, tried, fmr, alternative="greater").pvalue
    assert chance_of(accepted, tried, fmr) == pytest.approx(expected, rel=1e-9)
    assert chance_of(accepted, tried, fmr, 1e8) == pytest.approx(expected, rel=0.03)


def test_an_uncertain_rate_is_averaged_over_its_distribution() -> None:
    generator = np.random.default_rng(0)
    rates = generator.beta(400 * 0.01 + 1, 400 * 0.99, size=400_000)
    drawn = (generator.binomial(14, rates) >= 2).mean()
    assert chance_of(2, 14, 0.01, 400) == pytest.approx(drawn, rel=0.03)
    assert chance_of(2, 14, 0.01) < chance_of(2, 14, 0.01, 4000) < chance_of(2, 14, 0.01, 400)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1, 1]
    assert holm([]) == []


@pytest.mark.parametrize(("accepted", "tried", "fmr"), [(-1, 4, 0.1), (5, 4, 0.1), (1, 4, 1.1)])
def test_impossible_counts(accepted: int, tried: int, fmr: float) -> None:
    with pytest.raises(InputError, match=f"got {accepted}, {tried}"):
        chance_of(accepted, tried, fmr)
