import math

import numpy as np
import pytest
from scipy.optimize import brentq
from sklearn.metrics import det_curve, roc_auc_score, roc_curve
from sklearn.model_selection import KFold

from arcinvert.errors import InputError
from arcinvert.evaluation.metrics import (
    OperatingPoint,
    allowed_false_matches,
    auc,
    eer,
    fold_accuracy,
    folds_in_order,
    operating_point,
    operating_points,
    roc,
    score_pairs,
    threshold_at_fmr,
    wilson_interval,
)


def scores(seed: int, size: int, *, decimals: int | None = None, shift: float = 0.0) -> np.ndarray:
    """Unsorted; ``decimals`` makes ties."""
    values = np.random.default_rng(seed).normal(shift, 1, size)
    return values if decimals is None else values.round(decimals)


@pytest.mark.parametrize(("decimals", "dtype"), [(None, np.float64), (1, np.float32), (0, np.float64)])
def test_auc_agrees_with_scikit_learn(decimals: int | None, dtype: type) -> None:
    genuine = scores(0, 137, decimals=decimals, shift=1.0).astype(dtype)
    impostor = scores(1, 411, decimals=decimals).astype(dtype)
    truth = np.repeat([1, 0], [len(genuine), len(impostor)])
    expected = roc_auc_score(truth, np.concatenate([genuine, impostor]))
    assert auc(genuine=genuine, impostor=impostor) == pytest.approx(expected, abs=1e-12)


def acceptance_rate(threshold: float, values: np.ndarray) -> float:
    return float((values >= threshold).mean())


def brute_force_threshold(fmr: float, impostor: np.ndarray) -> float:
    """The lowest of all thresholds worth trying: just above each score, and below them all."""
    candidates = [-np.inf, *np.nextafter(np.unique(impostor), np.inf)]
    return min(t for t in candidates if np.count_nonzero(impostor >= t) <= fmr * len(impostor) + 1e-9)


@pytest.mark.parametrize("rate", [0.001, 0.1, 0.9])
@pytest.mark.parametrize(
    ("decimals", "dtype"), [(None, np.float64), (None, np.float32), (2, np.float32), (0, np.float64)]
)
def test_threshold_against_a_scan_of_all_thresholds(rate: float, decimals: int | None, dtype: type) -> None:
    impostor = scores(2, 3000, decimals=decimals).astype(dtype)
    threshold = threshold_at_fmr(rate, impostor=impostor)
    assert threshold == brute_force_threshold(rate, impostor)
    assert acceptance_rate(threshold, impostor) <= rate
    at_most_one_less = np.nextafter(dtype(threshold), dtype(-np.inf))
    assert acceptance_rate(at_most_one_less, impostor) > rate


def test_threshold_by_hand() -> None:
    impostor = np.array([9.0, 1, 2, 3, 4, 5, 6, 7, 8, 10])
    threshold = threshold_at_fmr(0.3, impostor=impostor)
    assert threshold == np.nextafter(7.0, 8.0)  # accepts 8, 9 and 10
    tied = np.array([9.0, 1, 2, 3, 4, 5, 8, 8, 8, 10])
    assert threshold_at_fmr(0.3, impostor=tied) == np.nextafter(8.0, 9.0)  # three of them would make five
    assert threshold_at_fmr(0.5, impostor=tied) == np.nextafter(5.0, 6.0)


@pytest.mark.parametrize(("fmr", "pairs"), [(1e-3, 2999), (0.9, 3)])
def test_no_threshold_below_three_false_matches(fmr: float, pairs: int) -> None:
    assert threshold_at_fmr(fmr, impostor=scores(3, pairs)) is None
    assert threshold_at_fmr(fmr, impostor=scores(3, pairs + 1)) is not None


def test_exactly_three_false_matches_suffice_whatever_the_rounding() -> None:
    """3 / 47 * 47 is a little less than 3 in binary."""
    assert 3 / 47 * 47 < 3
    assert threshold_at_fmr(3 / 47, impostor=np.arange(47.0)) == np.nextafter(43.0, 44.0)


@pytest.mark.parametrize("fmr", [0.0, 1.0, math.nan])
def test_a_rate_outside_0_to_1_is_refused(fmr: float) -> None:
    with pytest.raises(InputError, match="between 0 and 1"):
        threshold_at_fmr(fmr, impostor=np.arange(100.0))


@pytest.mark.parametrize(
    ("accepted", "trials", "low", "high"),
    [
        (10, 10, 0.7225, 1.0),
        (81, 263, 0.2553, 0.3662),  # Newcombe 1998, Table I
        (0, 20, 0.0, 0.1611),
    ],
)
def test_wilson_interval_against_published_values(accepted: int, trials: int, low: float, high: float) -> None:
    assert wilson_interval(accepted, trials) == pytest.approx((low, high), abs=6e-5)


@pytest.mark.parametrize(("accepted", "trials"), [(-1, 5), (6, 5), (0, 0)])
def test_wilson_refuses_impossible_counts(accepted: int, trials: int) -> None:
    with pytest.raises(InputError, match=f"got {accepted} of {trials}"):
        wilson_interval(accepted, trials)


def test_score_pairs_against_a_double_loop() -> None:
    embeddings = np.random.default_rng(4).normal(size=(23, 8))
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    labels = np.random.default_rng(5).integers(0, 5, 23)
    genuine, impostor = [], []
    for i in range(23):
        for j in range(i):
            kind = genuine if labels[i] == labels[j] else impostor
            kind.append(sum(a * b for a, b in zip(embeddings[i], embeddings[j], strict=True)))
    scored = score_pairs(embeddings, labels)
    assert len(genuine) + len(impostor) == 23 * 22 / 2
    np.testing.assert_allclose(scored.genuine, sorted(genuine), atol=1e-12)
    np.testing.assert_allclose(scored.impostor, sorted(impostor), atol=1e-12)


@pytest.mark.parametrize("labels", [[0, 0, 0], [0, 1, 2]])
def test_score_pairs_needs_both_kinds(labels: list[int]) -> None:
    with pytest.raises(InputError, match="genuine and impostor pairs"):
        score_pairs(np.ones((len(labels), 2)), np.array(labels, dtype=np.int64))


def test_operating_point_by_hand() -> None:
    impostor = np.arange(1.0, 11.0)
    genuine = np.array([7.0, 7.5, 8.0, 20.0, 2.0])
    point = operating_point(0.3, genuine=genuine, impostor=impostor)
    assert point == OperatingPoint(
        0.3,
        np.nextafter(7.0, 8.0),
        0.6,
        impostor_pairs=10,
        genuine_pairs=5,
        false_matches=3,
        true_matches=3,
        interval=wilson_interval(3, 5),
        warning="3 of 10 impostor pairs make an FMR of 0.3; fewer than 30 fix the threshold badly",
    )


def test_operating_point_without_enough_impostors_claims_nothing() -> None:
    point = operating_point(0.01, genuine=np.ones(5), impostor=scores(6, 299))
    reason = "2.99 of 299 impostor pairs make an FMR of 0.01; fewer than 3 fix no threshold"
    assert point == OperatingPoint(0.01, None, None, impostor_pairs=299, genuine_pairs=5, reason=reason)


@pytest.mark.parametrize(("pairs", "warned"), [(2999, True), (3000, False)])
def test_a_warning_below_thirty_false_matches(pairs: int, warned: bool) -> None:
    point = operating_point(0.01, genuine=np.ones(5), impostor=scores(6, pairs))
    assert (point.warning is not None) == warned
    assert point.reason is None


def test_a_rate_near_1_still_refuses_one_score() -> None:
    assert allowed_false_matches(0.9999999999, 10) == 9
    assert threshold_at_fmr(0.9999999999, impostor=np.arange(10.0)) == np.nextafter(0.0, 1.0)
    assert allowed_false_matches(1e-6, 5_000_000_000) == 5000
    assert allowed_false_matches(0.1, 10**12) == 10**11


def test_counts_at_tied_scores() -> None:
    genuine, impostor = scores(9, 200, decimals=1, shift=1.0), scores(10, 900, decimals=1)
    for point in operating_points([0.3, 0.05, 0.004], genuine=genuine, impostor=impostor):
        assert point == operating_point(point.fmr, genuine=genuine, impostor=impostor)
        assert point.false_matches == sum(s >= point.threshold for s in impostor) <= point.fmr * 900
        assert point.true_matches == sum(s >= point.threshold for s in genuine)
        assert point.tar == point.true_matches / 200


# --- curves


@pytest.mark.parametrize(("decimals", "dtype"), [(None, np.float64), (1, np.float32), (0, np.float64)])
def test_roc_and_det_agree_with_scikit_learn(decimals: int | None, dtype: type) -> None:
    genuine = scores(11, 150, decimals=decimals, shift=1.0).astype(dtype)
    impostor = scores(12, 700, decimals=decimals).astype(dtype)
    truth, together = np.repeat([1, 0], [150, 700]), np.concatenate([genuine, impostor])
    false, true, thresholds = roc_curve(truth, together, drop_intermediate=False)
    curve = roc(genuine=genuine, impostor=impostor)
    np.testing.assert_array_equal(curve.fmr, false)
    np.testing.assert_array_equal(curve.tar, true)
    np.testing.assert_array_equal(curve.thresholds[1:], thresholds[1:])
    assert np.isfinite(curve.thresholds).all()
    error, miss, _ = det_curve(truth, together)
    expected = {(round(a, 12), round(b, 12)) for a, b in zip(error, miss, strict=True) if 0 < a < 1 and 0 < b < 1}
    inside = (curve.fmr > 0) & (curve.fmr < 1) & (curve.fnmr > 0) & (curve.fnmr < 1)
    found = {(round(a, 12), round(b, 12)) for a, b in zip(curve.fmr[inside], curve.fnmr[inside], strict=True)}
    assert found == expected


@pytest.mark.parametrize(("rate", "decimals"), [(0.005, None), (0.02, 1), (0.5, None)])
def test_tar_is_the_best_that_scikit_learn_has_at_the_rate(rate: float, decimals: int | None) -> None:
    genuine, impostor = scores(13, 150, decimals=decimals, shift=1.0), scores(14, 700, decimals=decimals)
    truth = np.repeat([1, 0], [150, 700])
    false, true, _ = roc_curve(truth, np.concatenate([genuine, impostor]), drop_intermediate=False)
    assert operating_point(rate, genuine=genuine, impostor=impostor).tar == true[false <= rate].max()


@pytest.mark.parametrize(("decimals", "shift"), [(None, 0.2), (1, 1.0), (0, 1.0), (None, 3.0)])
def test_eer_is_where_the_interpolated_roc_meets_the_diagonal(decimals: int | None, shift: float) -> None:
    genuine, impostor = scores(15, 150, decimals=decimals, shift=shift), scores(16, 700, decimals=decimals)
    false, true, _ = roc_curve(np.repeat([1, 0], [150, 700]), np.concatenate([genuine, impostor]))
    expected = brentq(lambda x: 1 - x - np.interp(x, false, true), 0, 1, xtol=1e-14)
    rate, threshold = eer(genuine=genuine, impostor=impostor)
    candidates = np.nextafter(np.unique(np.concatenate([genuine, impostor])), np.inf)
    balanced = [t for t in candidates if acceptance_rate(t, impostor) <= 1 - acceptance_rate(t, genuine) + 1e-12]
    assert rate == pytest.approx(expected, abs=1e-9)
    assert threshold == min(balanced)


def test_eer_by_hand() -> None:
    rate, threshold = eer(genuine=np.array([2.0, 4, 5, 6]), impostor=np.array([0.0, 1, 3, 3.5]))
    assert rate == 0.25
    assert threshold == np.nextafter(3.0, 4.0)
    assert eer(genuine=np.array([2.0, 3]), impostor=np.array([0.0, 1])) == (0.0, np.nextafter(1.0, 2.0))
    assert eer(genuine=np.ones(3), impostor=np.ones(7))[0] == 0.5


# --- folds


def slow_fold_accuracy(values: list[float], same: list[bool], folds: list[int]) -> tuple[list[float], list[float]]:
    """Every threshold is tried on the other folds, from the strictest down; only a better one replaces it."""
    accuracies, chosen = [], []
    for fold in sorted(set(folds)):
        others = [i for i in range(len(values)) if folds[i] != fold]
        own = [i for i in range(len(values)) if folds[i] == fold]
        top = math.nextafter(max(values[i] for i in others), math.inf)
        best, threshold = -1, None
        for candidate in [top, *sorted({values[i] for i in others}, reverse=True)]:
            right = sum((values[i] >= candidate) == same[i] for i in others)
            if right > best:
                best, threshold = right, candidate
        accuracies.append(sum((values[i] >= threshold) == same[i] for i in own) / len(own))
        chosen.append(threshold)
    return accuracies, chosen


@pytest.mark.parametrize("decimals", [None, 1, 0])
def test_fold_accuracy_against_a_slow_reference(decimals: int | None) -> None:
    same = np.tile(np.repeat([True, False], 12), 10)
    values = scores(17, 240, decimals=decimals) + 1.0 * same
    found = fold_accuracy(scores=values, same=same, folds=folds_in_order(240))
    accuracies, thresholds = slow_fold_accuracy(values.tolist(), same.tolist(), [i // 24 for i in range(240)])
    assert list(found.folds) == accuracies
    assert list(found.thresholds) == thresholds
    assert found.mean == pytest.approx(sum(accuracies) / 10)
    spread = sum((a - found.mean) ** 2 for a in accuracies) / 9
    assert found.standard_error == pytest.approx(math.sqrt(spread / 10))


@pytest.mark.parametrize(("pairs", "folds"), [(600, 10), (23, 10), (7, 3)])
def test_folds_in_order_are_those_of_scikit_learn(pairs: int, folds: int) -> None:
    found = folds_in_order(pairs, folds)
    for number, (_, test) in enumerate(KFold(folds).split(np.empty(pairs))):
        assert np.flatnonzero(found == number).tolist() == test.tolist()


@pytest.mark.parametrize(
    ("same", "folds", "says"),
    [([True, False] * 3, [0] * 6, "two folds"), ([True] * 3 + [False] * 3, [0] * 3 + [1] * 3, "outside of every fold")],
)
def test_folds_that_cannot_be_judged(same: list[bool], folds: list[int], says: str) -> None:
    with pytest.raises(InputError, match=says):
        fold_accuracy(scores=np.arange(6.0), same=np.array(same), folds=np.array(folds))


def test_scores_that_are_not_finite_are_refused() -> None:
    good, spoilt = np.arange(100.0), np.append(np.arange(100.0), math.nan)
    for call in (
        lambda: auc(genuine=spoilt, impostor=good),
        lambda: auc(genuine=good, impostor=spoilt),
        lambda: threshold_at_fmr(0.1, impostor=spoilt),
        lambda: operating_point(0.1, genuine=spoilt, impostor=good),
        lambda: operating_point(0.1, genuine=good, impostor=spoilt),
    ):
        with pytest.raises(InputError, match="finite scores"):
            call()


@pytest.mark.parametrize("wrong", [np.array([]), np.ones((3, 3)), np.array(1.0)])
def test_scores_of_another_shape_are_refused(wrong: np.ndarray) -> None:
    with pytest.raises(InputError, match="non-empty row"):
        auc(genuine=wrong, impostor=np.arange(3.0))
