"""The ridge map: against the closed form, a leave-out loop, and maps that are known."""

import numpy as np
import pytest

from arcinvert.errors import InputError
from arcinvert.mapping.fit import FOLDS, RIDGES, fit_map
from arcinvert.mapping.linear_map import Rows


def unit(rows: np.ndarray) -> Rows:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def pairs(count: int = 120, noise: float = 0.3) -> tuple[Rows, Rows, np.ndarray]:
    """Two pictures of each person, embedded in 12 and in 9 numbers, neither mean being zero."""
    draw = np.random.default_rng(3)
    labels = np.repeat(np.arange(count // 2), 2)
    hidden = draw.normal(size=(count // 2, 9))[labels] + 0.4 * draw.normal(size=(count, 9))
    source = hidden @ draw.normal(size=(9, 12)) + 1 + noise * draw.normal(size=(count, 12))
    return unit(source), unit(hidden @ draw.normal(size=(9, 9)) - 0.5), labels


def ridge_by_hand(x: np.ndarray, y: np.ndarray, ridge: float) -> tuple[np.ndarray, np.ndarray]:
    """Weight and intercept of a regression whose intercept is not penalized, as one least-squares problem."""
    penalty = np.hstack([np.sqrt(ridge) * np.eye(x.shape[1]), np.zeros((x.shape[1], 1))])
    rows = np.vstack([np.hstack([x, np.ones((len(x), 1))]), penalty])
    found = np.linalg.lstsq(rows, np.vstack([y, np.zeros((x.shape[1], y.shape[1]))]), rcond=None)[0]
    return found[:-1], found[-1]


def test_the_map_is_the_ridge_regression_on_all_pairs() -> None:
    source, target, labels = pairs()
    fitted = fit_map(source, target, labels)
    weight, intercept = ridge_by_hand(source.astype(np.float64), target.astype(np.float64), fitted.ridge)
    np.testing.assert_allclose(fitted.map.weight, weight, atol=1e-4)
    np.testing.assert_allclose(fitted.map.apply(source), unit(source @ weight + intercept), atol=1e-4)


def test_a_person_is_predicted_by_pairs_of_others_alone_and_the_ridge_is_the_best_on_them() -> None:
    source, target, labels = pairs()
    fitted = fit_map(source, target, labels)
    fold = (np.random.default_rng(0).permutation(60) % FOLDS)[labels]
    cosines = {}
    for ridge in RIDGES:
        predicted = np.empty_like(target)
        for n in range(FOLDS):
            weight, intercept = ridge_by_hand(source[fold != n].astype(float), target[fold != n].astype(float), ridge)
            predicted[fold == n] = unit(source[fold == n] @ weight + intercept)
        cosines[ridge] = float((predicted * target).sum(1).mean())
        if ridge == fitted.ridge:
            np.testing.assert_allclose(fitted.predicted, predicted, atol=1e-3)
    assert fitted.ridge == max(cosines, key=lambda ridge: cosines[ridge])
    assert cosines[fitted.ridge] > cosines[RIDGES[-1]] + 0.01


def test_more_noise_needs_a_larger_ridge() -> None:
    assert fit_map(*pairs(noise=3.0)).ridge > fit_map(*pairs(noise=0.01)).ridge


@pytest.mark.parametrize(("count", "people", "message"), [(18, 9, "got 18 of 9"), (40, 1, "got 40 of 1")])
def test_too_few_pairs_are_refused(count: int, people: int, message: str) -> None:
    source, target, _ = pairs()
    with pytest.raises(InputError, match=message):
        fit_map(source[:count], target[:count], np.arange(count) % people)
    with pytest.raises(InputError, match="same pictures"):
        fit_map(source, target[:-1], np.arange(len(source)))
