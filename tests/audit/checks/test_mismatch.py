from pathlib import Path

import numpy as np
import pytest
from test_signs import model

from arcinvert.audit.checks.mismatch import FEWEST, mismatch
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


def rotation(seed: int) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(SIZE, SIZE)))[0].astype(np.float32)


@pytest.mark.parametrize("count", [1, 2, 5, 60])
def test_the_same_model_is_not_suspected(count: int) -> None:
    found = mismatch(people(1, 300), 17 * people(2, count))
    assert not found.suspected
    assert found.figures.energy == pytest.approx(1, abs=0.5)
    assert found.figures.mean_cosine > 0.2


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("how", ["rotated", "shuffled", "another model", "noise"])
def test_other_geometry_is_suspected(how: str, seed: int) -> None:
    generator = np.random.default_rng(seed)
    templates = {
        "rotated": people(2, 40) @ rotation(seed),
        "shuffled": people(2, 40)[:, generator.permutation(SIZE)],
        "another model": model(seed + 10, 40, SIZE),
        "noise": generator.normal(size=(40, SIZE)).astype(np.float32),
    }[how]
    found = mismatch(people(1, 300), templates)
    assert found.suspected
    assert len(found.evidence) >= 2
    assert abs(found.figures.energy) < 0.35


def test_another_dimension_is_evidence_enough() -> None:
    found = mismatch(people(1, 300), np.ones((3, 128), np.float32))
    assert found.suspected
    assert found.evidence == ("the store is 128-d, the recognizer is 64-d",)


def test_too_few_faces_of_its_own_say_nothing() -> None:
    found = mismatch(people(1, FEWEST - 1), people(2, 9) @ rotation(0))
    assert not found.suspected
    assert "not judged" in found.evidence[0]
    assert found.figures.energy is None


def test_bad_rows_are_left_out() -> None:
    rows = people(2, 40)
    rows[0], rows[1, 3] = 0, np.nan
    assert mismatch(people(1, 300), rows) == mismatch(people(1, 300), rows[2:])
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
            assert mismatch(rows[:, :size], foreign[:, :size]).suspected
        assert mismatch(first, other[:, np.random.default_rng(0).permutation(rows.shape[1])]).suspected
