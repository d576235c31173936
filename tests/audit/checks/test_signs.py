import numpy as np
import pytest

from arcinvert.audit.checks.signs import mixture, quantization

GENERATOR = np.random.default_rng(0)
ROWS = GENERATOR.normal(size=(700, 64)).astype(np.float32)
ROWS /= np.linalg.norm(ROWS, axis=1, keepdims=True)


def int8(rows: np.ndarray) -> np.ndarray:
    step = np.abs(rows).max(1, keepdims=True) / 127
    return (np.rint(rows / step) * step).astype(np.float32)


def product(rows: np.ndarray, run: int) -> np.ndarray:
    book = GENERATOR.normal(size=(rows.shape[1] // run, 200, run)).astype(np.float32)
    codes = GENERATOR.integers(0, 200, (len(rows), len(book)))
    return np.concatenate([book[n][codes[:, n]] for n in range(len(book))], 1)


@pytest.mark.parametrize(
    ("rows", "word"),
    [
        (np.sign(ROWS), "two different"),
        (np.sign(ROWS) / 8, "two different"),
        ((ROWS > 0).astype(np.float32), "two different"),
        (np.rint(ROWS * 99), "whole"),
        (ROWS.astype(np.float16).astype(np.float32), "float16"),
        ((ROWS.view(np.uint32) & 0xFFFF0000).view(np.float32), "bfloat16"),
        (int8(ROWS), "8 bits"),
        (int8(ROWS) / np.linalg.norm(int8(ROWS), axis=1, keepdims=True), "8 bits"),
        (np.rint(ROWS * 100 + np.arange(64) / 64).astype(np.float32) * 0.01 + 0.003, "no dimension"),
        (product(ROWS, 8), "runs of 8 numbers"),
        (product(ROWS, 2), "runs of 2 numbers"),
    ],
)
def test_quantization_is_named(rows: np.ndarray, word: str) -> None:
    assert word in (quantization(rows.astype(np.float32)) or "")


def test_float32_is_not_quantised() -> None:
    assert quantization(ROWS) is None
    assert quantization(ROWS * 20) is None
    assert quantization(np.maximum(ROWS, 0)) is None  # many zeros, as behind a ReLU
    assert quantization(ROWS[:5]) is None
    assert quantization(ROWS[:0]) is None
    assert quantization(np.repeat(ROWS[:300], 3, 0)) is None


def model(seed: int, count: int, size: int = 64) -> np.ndarray:
    """Embeddings that vary in directions of their own, in some more than in others."""
    generator = np.random.default_rng(seed)
    directions, _ = np.linalg.qr(generator.normal(size=(size, size)))
    rows = generator.normal(size=(count, size)) * 0.93 ** np.arange(size) @ directions.T
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("share", [0.5, 0.4])
def test_two_models_are_found(share: float) -> None:
    few = round(600 * share)
    rows = np.concatenate([model(1, 600 - few), model(2, few)])
    found = mixture(rows[np.random.default_rng(0).permutation(600)])
    assert found == pytest.approx(share, abs=0.1)


def test_one_model_is_one() -> None:
    assert mixture(model(1, 600)) is None
    one = model(1, 600)
    groups = one + 0.5 * np.repeat(one[:2], 300, 0)  # two kinds of people, seen by one model
    assert mixture(groups / np.linalg.norm(groups, axis=1, keepdims=True)) is None
    assert mixture(ROWS) is None
    assert mixture(np.concatenate([model(1, 40), model(2, 40)])) is None  # too few to say
