import numpy as np
import pytest

from arcinvert.errors import InputError
from arcinvert.evaluation.intervals import bootstrap_interval


def test_of_pairs_it_is_the_spread_of_a_binomial() -> None:
    accepted = np.repeat([1, 0], [300, 100])
    low, high = bootstrap_interval(accepted=accepted, trials=np.ones_like(accepted), seed=1, draws=20_000)
    spread = 1.96 * np.sqrt(0.75 * 0.25 / 400)
    assert (low, high) == pytest.approx((0.75 - spread, 0.75 + spread), abs=0.004)


def test_of_identities_against_a_plain_loop() -> None:
    generator = np.random.default_rng(3)
    trials = generator.integers(0, 12, 40)
    accepted = generator.binomial(trials, 0.7)
    rates = []
    for _ in range(4000):
        drawn = generator.integers(0, 40, 40)
        rates.append(accepted[drawn].sum() / trials[drawn].sum())
    found = bootstrap_interval(accepted=accepted, trials=trials, seed=0, draws=4000, level=0.9)
    assert found == pytest.approx(tuple(np.quantile(rates, [0.05, 0.95])), abs=0.01)


def test_the_seed_decides() -> None:
    accepted, trials = np.array([1, 0, 2, 5]), np.array([3, 1, 2, 9])
    first, again, other = (bootstrap_interval(accepted=accepted, trials=trials, seed=s, draws=99) for s in (5, 5, 6))
    assert first == again != other


@pytest.mark.parametrize(("accepted", "trials"), [([2], [1]), ([-1], [1]), ([0], [0]), ([1, 1], [1])])
def test_impossible_counts(accepted: list[int], trials: list[int]) -> None:
    with pytest.raises(InputError, match="expected"):
        bootstrap_interval(accepted=np.array(accepted, int), trials=np.array(trials, int), seed=0)
