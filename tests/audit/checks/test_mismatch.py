from pathlib import Path

import numpy as np
import pytest
from test_signs import model

from arcinvert.audit.checks.mismatch import FEWEST, PhotoCosines, agreement, mismatch
from arcinvert.errors import InputError
from arcinvert.evaluation.embedding import embed_folder
from arcinvert.recognizer import Recognizer

SIZE = 64


def people(seed: int, count: int) -> np.ndarray:
    """Of one model whatever the seed: some directions are larger, numbers depend on each other, and there is a mean."""
    mixing = np.random.default_rng(99).normal(size=(24, SIZE))
    rows = np.random.default_rng(seed).normal(size=(count, 24)) @ mixing + 2 * mixing[0]
    rows += 0.5 * np.random.default_rng(seed + 1).normal(size=rows.shape)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def rotation(generator: np.random.Generator, size: int = SIZE) -> np.ndarray:
    q, r = np.linalg.qr(generator.normal(size=(size, size)))
    return (q * np.sign(np.diag(r))).astype(np.float32)


def photos(own: list[float], other: list[float]) -> PhotoCosines:
    return PhotoCosines(np.array(own), np.array(other))


@pytest.mark.parametrize("count", [5, 60])
def test_the_same_model_is_shown(count: int) -> None:
    found = mismatch(people(1, 300), 17 * people(2, count))
    assert (found.suspected, found.shown) == (False, True)
    assert found.figures.agreement == pytest.approx(found.figures.agreement_own, rel=0.3)


@pytest.mark.parametrize("how", ["rotated", "shuffled", "another model", "noise"])
def test_other_geometry_is_suspected(how: str) -> None:
    for seed in range(4):
        generator = np.random.default_rng(seed)
        templates = {
            "rotated": people(2, 40) @ rotation(generator),
            "shuffled": people(2, 40)[:, generator.permutation(SIZE)],
            "another model": model(seed + 10, 40, SIZE),
            "noise": generator.normal(size=(40, SIZE)).astype(np.float32),
        }[how]
        found = mismatch(people(1, 300), templates)
        assert (found.suspected, found.shown) == (True, False)


def test_the_agreement_of_random_rotations_has_mean_0_and_variance_1() -> None:
    """Whatever the templates and the recognizer: the test's level rests on this."""
    generator = np.random.default_rng(0)
    rows, precision = people(2, 30), np.linalg.inv(np.cov(people(1, 300).T) + 1e-3 * np.eye(SIZE))
    drawn = np.array([agreement(rows @ rotation(generator), precision) for _ in range(1000)])
    assert drawn.mean() == pytest.approx(0, abs=0.1)
    assert drawn.std() == pytest.approx(1, abs=0.08)
    assert (drawn > 3).mean() <= 0.006


def test_one_template_shows_nothing() -> None:
    found = mismatch(people(1, 300), people(2, 1) @ rotation(np.random.default_rng(0)))
    assert (found.suspected, found.shown) == (False, False)
    assert "by chance" in found.evidence[0]


def test_photos_decide_against_the_geometry() -> None:
    foreign = people(2, 40) @ rotation(np.random.default_rng(0))
    assert mismatch(people(1, 300), foreign, photos([0.95] * 40, [0.1] * 40)).shown
    strangers = np.random.default_rng(1).normal(scale=0.1, size=(2, 40))
    found = mismatch(people(1, 300), people(2, 40), PhotoCosines(strangers[0], strangers[1]))
    assert (found.suspected, found.shown) == (True, False)
    assert "0 of 40 templates have an enrolled photo" in found.evidence[0]


@pytest.mark.parametrize(
    ("own", "other", "shown"),
    [
        ([0.5] * 20, [0.1] * 20, True),  # other photos of the same people
        ([0.5] * 17 + [0.0] * 3, [0.1] * 20, True),
        ([0.5] * 12 + [0.0] * 8, [0.1] * 20, False),  # 12 of 20 by chance: 0.25
        ([0.95], [0.1], True),  # one enrolled photo
        ([0.5] * 4, [0.1] * 4, None),  # too few other photos: the geometry decides
        ([np.nan] * 4, [np.nan] * 4, None),
    ],
)
def test_by_photos(own: list[float], other: list[float], shown: bool | None) -> None:
    found = mismatch(people(1, FEWEST - 1), people(2, 9), photos(own, other))
    assert (found.suspected, found.shown) == (shown is False, shown is True)
    assert "not judged" in found.evidence[-1]


def test_another_dimension_is_evidence_enough() -> None:
    found = mismatch(people(1, 300), np.ones((3, 128), np.float32))
    assert found.suspected
    assert found.evidence == ("the store is 128-d, the recognizer is 64-d",)


def test_bad_rows_are_left_out() -> None:
    rows = people(2, 40)
    rows[0], rows[1, 3] = 0, np.nan
    found = mismatch(people(1, 300), rows)
    assert found == mismatch(people(1, 300), rows[2:])
    with pytest.raises(InputError, match="got none"):
        mismatch(people(1, 300), np.zeros((3, SIZE), np.float32))
    with pytest.raises(InputError, match="expected embeddings"):
        mismatch(people(1, 300), people(2, 3)[0])


@pytest.mark.slow
def test_real_recognizers_are_told_apart(test_data: Path, faces_dir: Path) -> None:
    """One's own embeddings of other people are never suspected, those of another recognizer always are."""
    names = ("insightface-mobilefacenet-y1.onnx", "mobileface-v3.onnx")
    found = [embed_folder(Recognizer.load(test_data / "models" / name), faces_dir) for name in names]
    for rows, labels in ((f.rows, f.labels) for f in found):
        first, other = rows[labels < 8], rows[labels >= 8]
        assert not mismatch(first, other).suspected
        for foreign in (f.rows[f.labels >= 8] for f in found if f.rows is not rows):
            size = min(foreign.shape[1], rows.shape[1])
            assert not mismatch(rows[:, :size], foreign[:, :size]).shown
        assert not mismatch(first, other[:, np.random.default_rng(0).permutation(rows.shape[1])]).shown
