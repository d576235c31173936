"""The file of a map, and what it does to rows."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from arcinvert.checkpoint import file_digest
from arcinvert.errors import InputError
from arcinvert.mapping.linear_map import HEADER_KEY, LinearMap


@pytest.fixture
def mapping() -> LinearMap:
    draw = np.random.default_rng(0)
    weight, means = draw.normal(size=(5, 3)).astype(np.float32), draw.normal(size=8).astype(np.float32)
    return LinearMap(weight, means[:5], means[5:], {"to": "ab" * 32, "quality": {"cosine": 0.5}})


def test_rows_are_normalized_before_and_after(mapping: LinearMap) -> None:
    rows = np.random.default_rng(1).normal(size=(9000, 5)).astype(np.float32)
    found = mapping.apply(7 * rows)
    for row, mapped in zip(rows[::999], found[::999], strict=True):
        expected = (row / np.linalg.norm(row) - mapping.mean_from) @ mapping.weight + mapping.mean_to
        np.testing.assert_allclose(mapped, expected / np.linalg.norm(expected), atol=1e-5)


def test_a_row_without_a_direction_becomes_nan(mapping: LinearMap) -> None:
    rows = np.array([[0] * 5, [np.nan] + [1] * 4, [np.inf] + [1] * 4, [1] * 5], np.float32)
    assert np.isnan(mapping.apply(rows)).all(1).tolist() == [True, True, True, False]
    with pytest.raises(InputError, match=r"got \(4, 4\)"):
        mapping.apply(rows[:, 1:])


def test_a_map_of_huge_numbers_gives_no_direction(mapping: LinearMap) -> None:
    huge = LinearMap(np.full((5, 3), 3e38, np.float32), np.full(5, 9, np.float32), mapping.mean_to)
    assert np.isnan(huge.apply(np.ones((2, 5), np.float32))).all()


def test_what_is_written_is_read(mapping: LinearMap, tmp_path: Path) -> None:
    path = tmp_path / "map.safetensors"
    mapping.save(path)
    found = LinearMap.load(path)
    assert found.header == {**mapping.header, "format": 1, "digest": file_digest(path)}
    np.testing.assert_array_equal(found.weight, mapping.weight)
    np.testing.assert_array_equal(found.mean_from, mapping.mean_from)
    np.testing.assert_array_equal(found.mean_to, mapping.mean_to)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight": np.full((5, 3), np.nan, np.float32)}, "finite"),
        ({"weight": np.ones((5, 3))}, "float32"),
        ({"weight": np.ones((4, 3), np.float32)}, r"got \(4, 3\)"),
        ({"mean_to": None}, "mean_to"),
        ({"header": {"format": 9}}, "no map"),
        ({"header": []}, "no map"),
    ],
)
def test_a_file_that_is_no_map_is_refused(change: dict, message: str, tmp_path: Path) -> None:
    tensors = {"weight": np.ones((5, 3), np.float32), "mean_from": np.ones(5, np.float32)}
    tensors = {**tensors, "mean_to": np.ones(3, np.float32)} | {k: v for k, v in change.items() if k != "header"}
    header = json.dumps(change.get("header", {"format": 1}))
    path = tmp_path / "map.safetensors"
    save_file({name: value for name, value in tensors.items() if value is not None}, path, {HEADER_KEY: header})
    with pytest.raises(InputError, match=message):
        LinearMap.load(path)


def test_damaged_and_missing_files_are_refused(mapping: LinearMap, tmp_path: Path) -> None:
    path = tmp_path / "map.safetensors"
    mapping.save(path)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(InputError, match="not a whole map"):
        LinearMap.load(path)
    with pytest.raises(InputError, match=r"no file at .*nowhere"):
        LinearMap.load(tmp_path / "nowhere")
