"""What is said of a map, against loops over pairs."""

import numpy as np
import pytest

from arcinvert.errors import InputError
from arcinvert.evaluation.metrics import eer
from arcinvert.mapping import quality
from arcinvert.mapping.quality import MapQuality, measure


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def rows() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    draw = np.random.default_rng(5)
    labels = np.repeat(np.arange(30), 2)
    native = unit(draw.normal(size=(30, 8))[labels] + 0.5 * draw.normal(size=(60, 8)))
    return unit(native + 0.3 * draw.normal(size=(60, 8))), native, labels


def test_the_figures_are_those_of_a_loop(rows: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    predicted, native, labels = rows
    found = measure(predicted, native, labels, ridge=0.1, source=native[:, ::-1].copy())
    own = [float(p @ n) for p, n in zip(predicted, native, strict=True)]
    first = sum(all(predicted[i] @ native[j] < own[i] for j in range(60) if j != i) for i in range(60))
    assert (found.own_first, found.searched, found.pairs, found.identities) == (first, 60, 60, 30)
    assert 0 < first < 60
    assert found.cosine == pytest.approx(np.mean(own), abs=1e-4)
    assert found.cosine_low == pytest.approx(np.quantile(own, 0.05), abs=1e-4)
    genuine, impostor = [], []
    for i in range(60):
        for j in range(60):
            if i != j:
                (genuine if labels[i] == labels[j] else impostor).append(float(predicted[i] @ native[j]))
    mapped, alone, before = found.verification
    assert (mapped.genuine_pairs, mapped.impostor_pairs) == (60, 60 * 58)
    assert mapped.eer == pytest.approx(eer(genuine=np.array(genuine), impostor=np.array(impostor))[0], abs=1e-4)
    threshold = sorted(impostor)[-(len(impostor) // 100) - 1]
    assert mapped.tar[0] == pytest.approx(np.mean(np.array(genuine) > threshold), abs=1e-6)
    assert alone.eer < mapped.eer
    assert (before.eer, before.tar) == (alone.eer, alone.tar)  # the same numbers in another order
    assert any("mapped against native: EER" in line for line in found.lines())


def test_ties_count_against_the_claim() -> None:
    same = unit(np.ones((40, 4)))
    assert measure(same, same, np.arange(40), ridge=1).own_first == 0


def test_without_two_pictures_of_a_person_nothing_is_said_of_verification() -> None:
    one = unit(np.random.default_rng(0).normal(size=(40, 8)))
    assert measure(one, one, np.arange(40), ridge=1).verification == ()


def test_many_pictures_are_compared_in_part(
    rows: tuple[np.ndarray, np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quality, "MOST_PICTURES", 25)
    found = measure(*rows, ridge=1)
    assert (found.pairs, found.searched) == (60, 25)


def test_it_is_read_back(rows: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    found = measure(*rows, ridge=1)
    assert MapQuality.from_json(found.to_json()) == found
    with pytest.raises(InputError, match="how good"):
        MapQuality.from_json({"pairs": 3})
    whole = found.to_json()
    whole["verification"][0]["tar"] = (0.5,)
    with pytest.raises(InputError, match="how good"):
        MapQuality.from_json(whole)
    with pytest.raises(InputError, match="of 59 people"):
        measure(rows[0], rows[1], rows[2][:-1], ridge=1)
