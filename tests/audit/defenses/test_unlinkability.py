"""D_sys against the published formula written out, and against stores that must or must not be linkable."""

import math

import numpy as np
import pytest
import torch

from arcinvert.audit.defenses import parse_defense
from arcinvert.audit.defenses.unlinkability import d_sys, global_measure, linkability
from arcinvert.errors import InputError


def by_hand(mated: np.ndarray, nonmated: np.ndarray, omega: float) -> float:
    """Bin by bin: LR, then D, then its mean under the mated density."""
    total = 0.0
    for number in range(100):
        low, high = -1 + number / 50, -1 + (number + 1) / 50
        last = number == 99

        def density(scores: np.ndarray) -> float:
            inside = [s for s in scores if low <= s < high or (last and s == high)]  # noqa: B023
            return len(inside) / len(scores) / 0.02

        p, q = density(mated), density(nonmated)
        if p == 0:
            continue
        ratio = math.inf if q == 0 else p / q
        local = 1.0 if math.isinf(ratio) else 2 * omega * ratio / (1 + omega * ratio) - 1
        total += max(0.0, local) * p * 0.02
    return total


@pytest.mark.parametrize("omega", [1.0, 0.2])
def test_the_measure_is_the_published_one(omega: float) -> None:
    draw = np.random.default_rng(0)
    mated, nonmated = draw.normal(0.213, 0.2, 300).clip(-1, 1), draw.normal(0, 0.15, 900).clip(-1, 1)
    assert global_measure(mated, nonmated, omega) == pytest.approx(by_hand(mated, nonmated, omega), abs=1e-9)


def test_its_ends() -> None:
    apart, other = np.full(50, 0.505), np.full(70, -0.305)
    assert global_measure(apart, other) == 1
    assert global_measure(apart, apart) == 0


def people(spread: float) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(1)
    rows = torch.randn(50, 64, generator=draw).repeat_interleave(4, 0)
    rows = rows + spread * torch.randn(rows.shape, generator=draw)
    return torch.nn.functional.normalize(rows), torch.arange(50).repeat_interleave(4)


@pytest.mark.parametrize("spec", ["none", "int8", "sign", "truncate:32"])
def test_without_a_key_one_person_is_linked(spec: str) -> None:
    defense = parse_defense(spec)
    found = d_sys(defense, defense.without_key(0), *people(0.3))
    assert found.d_sys > 0.95
    assert (found.mated, found.nonmated) == (50 * 4 * 3, 200 * 196)
    assert found.chance < 0.1


@pytest.mark.parametrize("spec", ["rotate:a", "biohash:a", "mlphash:a"])
def test_two_keys_are_not_linked_beyond_chance(spec: str) -> None:
    defense = parse_defense(spec)
    found = d_sys(defense, defense.without_key(0), *people(0.3))
    # Pictures of one person differ little, so scores come in fours, and so does their error.
    assert found.d_sys < 0.25
    same = d_sys(defense, defense, *people(0.3))
    assert same.d_sys > 0.9
    assert found.highest == found.d_sys
    assert (found.mated, found.nonmated) == (600, 39200)


def test_a_key_is_held_against_five_others() -> None:
    """PolyProtect keeps one linear element of three: a key is linked to another only if that is the same one."""
    defense = parse_defense("polyprotect:a")
    embeddings, labels = people(0.3)
    each = [d_sys(defense, defense.without_key(number), embeddings, labels) for number in range(5)]
    found = linkability(defense, embeddings, labels)
    assert found.d_sys == pytest.approx(sum(one.d_sys for one in each) / 5)
    assert found.chance == pytest.approx(sum(one.chance for one in each) / 5)
    assert found.highest == max(one.d_sys for one in each)
    open_store = parse_defense("none")
    assert linkability(open_store, embeddings, labels) == d_sys(open_store, open_store, embeddings, labels)


def test_one_identity_is_refused() -> None:
    rows, _ = people(0.3)
    defense = parse_defense("none")
    with pytest.raises(InputError, match="several identities"):
        d_sys(defense, defense, rows, torch.zeros(200, dtype=torch.int64))
