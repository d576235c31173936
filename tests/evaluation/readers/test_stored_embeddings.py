"""Stored embeddings and their labels, good and bad."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from arcinvert.errors import InputError
from arcinvert.evaluation.readers.stored_embeddings import joint_labels, read_stored


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, Path]:
    rows = np.random.default_rng(0).normal(size=(4, 6))
    np.save(tmp_path / "e.npy", rows)
    (tmp_path / "l.txt").write_text("b\na\nb\nc\n")
    return tmp_path / "e.npy", tmp_path / "l.txt"


def test_rows_labels_and_digests(saved: tuple[Path, Path]) -> None:
    stored = read_stored(*saved)
    assert stored.rows == pytest.approx(
        np.load(saved[0]) / np.linalg.norm(np.load(saved[0]), axis=1)[:, None], abs=1e-6
    )
    assert [stored.names[label] for label in stored.labels] == ["b", "a", "b", "c"]
    assert [file["sha256"] for file in stored.files] == [hashlib.sha256(p.read_bytes()).hexdigest() for p in saved]
    assert "normalized" in stored.note
    alone = read_stored(saved[0])
    assert alone.labels.tolist() == [0, 1, 2, 3]
    assert alone.names == ()


def test_labels_of_two_files_meet_by_name(saved: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "other.txt").write_text("d\nb\nc\nc\n")
    first, second = joint_labels(read_stored(*saved), read_stored(saved[0], tmp_path / "other.txt"))
    assert first.tolist() == [1, 0, 1, 2]
    assert second.tolist() == [3, 1, 2, 2]


def test_what_does_not_fit_is_refused(saved: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text("a\nb\n")
    with pytest.raises(InputError, match=r"e\.npy' has 4 rows, but .*short\.txt' 2 labels"):
        read_stored(saved[0], tmp_path / "short.txt")
    with pytest.raises(InputError, match=r"cannot read the embeddings .*nothing\.npy"):
        read_stored(tmp_path / "nothing.npy")
    with pytest.raises(InputError, match=r"labels .*nothing\.txt"):
        read_stored(saved[0], tmp_path / "nothing.txt")
    rows = np.load(saved[0])
    rows[2, 1] = np.nan
    np.save(tmp_path / "nan.npy", rows)
    with pytest.raises(InputError, match="NaN or infinity in row 2"):
        read_stored(tmp_path / "nan.npy")
    np.savez(tmp_path / "many.npz", rows)
    with pytest.raises(InputError, match="archive"):
        read_stored(tmp_path / "many.npz")
    (tmp_path / "text.npy").write_text("not numbers")
    with pytest.raises(InputError, match=r"neither \.npy nor \.npz"):
        read_stored(tmp_path / "text.npy")
    (tmp_path / "cut.npy").write_bytes(saved[0].read_bytes()[:-9])
    with pytest.raises(InputError, match="bytes, but holds"):
        read_stored(tmp_path / "cut.npy")
    (tmp_path / "damaged.npy").write_bytes(saved[0].read_bytes()[:20])
    with pytest.raises(InputError, match="damaged"):
        read_stored(tmp_path / "damaged.npy")
    np.save(tmp_path / "pickled.npy", np.array([{}, {}]), allow_pickle=True)
    with pytest.raises(InputError, match="pickle"):
        read_stored(tmp_path / "pickled.npy")
    np.save(tmp_path / "empty.npy", np.empty((0, 6)))
    with pytest.raises(InputError, match="empty array"):
        read_stored(tmp_path / "empty.npy")
    np.save(tmp_path / "scalar.npy", np.float32(3))
    with pytest.raises(InputError):
        read_stored(tmp_path / "scalar.npy")
