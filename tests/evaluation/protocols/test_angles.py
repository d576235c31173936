"""Angle statistics of points whose angles are known, and against loops."""

import numpy as np
import pytest

from arcinvert.errors import InputError
from arcinvert.evaluation.allpairs import search
from arcinvert.evaluation.protocols.angles import angle_statistics, embedding_centers, nearest_angles


def at(*degrees: float) -> np.ndarray:
    """Points of the circle."""
    angle = np.radians(degrees)
    return np.stack([np.cos(angle), np.sin(angle)], 1).astype(np.float32)


def test_on_the_circle() -> None:
    rows, labels = at(-10, 10, 85, 95, 200), np.array([3, 3, 7, 7, 9])
    found = angle_statistics(rows, labels, centers=at(5, 90, 180))
    assert (found.classes, found.samples, found.intra_samples) == (3, 5, 4)
    assert found.intra == pytest.approx((10 + 10 + 5 + 5) / 4, abs=1e-4)
    assert found.w_ec == pytest.approx((5 + 0 + 20) / 3, abs=1e-4)
    assert found.intra_w == pytest.approx((15 + 5 + 5 + 5 + 20) / 5, abs=1e-4)
    assert found.inter == pytest.approx((90 + 90 + 110) / 3, abs=1e-4)
    assert found.inter_least == pytest.approx(90, abs=1e-4)
    assert found.w_inter == pytest.approx((85 + 85 + 90) / 3, abs=1e-4)
    assert found.w_inter_least == pytest.approx(85, abs=1e-4)
    assert found.notes == ()


def test_against_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "BLOCK_SCORES", 40)
    monkeypatch.setattr(search, "BLOCK_PAIRS", 7)
    draw = np.random.default_rng(0)
    labels = draw.permutation(np.arange(60) % 17)
    rows = draw.normal(size=(60, 9)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    found = angle_statistics(rows, labels)
    middle = [np.sum([r for r, n in zip(rows, labels, strict=True) if n == name], axis=0) for name in range(17)]

    def angle(a: np.ndarray, b: np.ndarray) -> float:
        a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
        return float(np.degrees(2 * np.arctan2(np.linalg.norm(a - b), np.linalg.norm(a + b))))

    assert found.intra == pytest.approx(np.mean([angle(r, middle[n]) for r, n in zip(rows, labels, strict=True)]))
    nearest = [min(angle(middle[i], middle[j]) for j in range(17) if j != i) for i in range(17)]
    assert found.inter == pytest.approx(np.mean(nearest), abs=1e-4)
    assert found.inter_least == pytest.approx(min(nearest), abs=1e-4)
    assert found.w_ec is found.w_inter is found.intra_w is None


def test_no_angle_is_no_angle() -> None:
    draw = np.random.default_rng(0).normal(size=(3, 512))
    rows = np.repeat(draw / np.linalg.norm(draw, axis=1, keepdims=True), 4, axis=0).astype(np.float32)
    assert angle_statistics(rows, np.repeat(np.arange(3), 4)).intra < 1e-4


def test_what_is_missing_is_null_with_the_reason() -> None:
    one = angle_statistics(at(0, 20), np.zeros(2, np.int64))
    assert one.intra == pytest.approx(10, abs=1e-4)
    assert one.inter is None
    assert one.inter_least is None
    assert any("one identity" in note for note in one.notes)
    assert any("class centers" in note for note in one.notes)
    single = angle_statistics(at(0, 20), np.arange(2))
    assert single.intra is None
    assert single.intra_samples == 0
    assert any("single sample" in note for note in single.notes)
    assert nearest_angles(at(0)) is None


def test_what_does_not_fit_is_refused() -> None:
    labels = np.array([0, 0, 1])
    with pytest.raises(InputError, match=r"\(2, 2\), one for each identity, got \(3, 2\)"):
        angle_statistics(at(0, 1, 2), labels, centers=at(0, 1, 2))
    with pytest.raises(InputError, match="class 0 add up to zero"):
        embedding_centers(np.stack([at(0)[0], -at(0)[0]]), np.zeros(2, np.int64), 1)
    with pytest.raises(InputError, match="a label for each of 3 embeddings, got 2"):
        angle_statistics(at(0, 1, 2), labels[:2])
    with pytest.raises(InputError, match="NaN or infinity in row 0"):
        angle_statistics(at(np.nan, 1, 2), labels)
