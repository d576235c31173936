"""Every kind of store holds the same rows, is read in order, and stays as it was."""

import hashlib
import os
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
from writing import FILES, write_store

from arcinvert.audit.checks import draw_sample, rank1, scan
from arcinvert.audit.stores import KINDS, open_store
from arcinvert.errors import EnvironmentProblem, InputError, UsageError

COUNT, SIZE = 120, 32


@pytest.fixture(scope="module")
def templates() -> np.ndarray:
    rows = np.random.default_rng(1).normal(size=(COUNT, SIZE)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def identities() -> list[str]:
    return [f"person {n // 2}" for n in range(COUNT - 1)] + ["<script>é"]


def state(path: Path) -> dict[str, str]:
    """Every file of a store and beside it, with its digest."""
    files = [path, *path.parent.glob(path.stem + "*"), *path.rglob("*")]
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in files if p.is_file()}


@pytest.mark.parametrize("kind", FILES)
def test_what_was_written_is_read(kind: str, templates: np.ndarray, identities: list[str], tmp_path: Path) -> None:
    path = write_store(kind, tmp_path, templates, identities)
    before = state(tmp_path)
    store = open_store(str(path))
    assert (store.kind, store.count, store.size) == (kind, COUNT, SIZE)
    blocks = list(store.blocks(70))
    assert all(len(block.positions) <= 70 for block in blocks)
    assert np.array_equal(np.concatenate([block.positions for block in blocks]), np.arange(COUNT))
    read = np.concatenate([block.templates for block in blocks])
    assert read.dtype == np.float32
    assert np.array_equal(read, templates)
    assert [name for block in blocks for name in block.identities] == identities
    assert not any(block.skipped for block in blocks)
    chosen = np.array([0, 3, 69, 70, 71, COUNT - 1])
    taken = store.take(chosen)
    assert np.array_equal(taken.positions, chosen)
    assert np.array_equal(taken.templates, templates[chosen])
    assert taken.identities == [identities[n] for n in chosen]
    assert store.take(np.empty(0, np.int64)).templates.shape == (0, SIZE)
    found = scan(store)
    assert found.skipped_rows == 0
    assert found.identities == len(set(identities))
    assert found.digest == hashlib.sha256(templates.tobytes()).hexdigest()
    drawn = draw_sample(found, count=20, seed=3)
    probes = templates[drawn.positions]
    assert (rank1(store, probes, drawn.positions, scanned=found) == 1).all()
    assert state(tmp_path) == before
    for positions in ([3, 2], [3, 3], [-1], [COUNT]):
        with pytest.raises(InputError, match="ascending positions"):
            store.take(np.array(positions))


@pytest.mark.parametrize("kind", FILES)
def test_a_store_may_name_nobody(kind: str, templates: np.ndarray, tmp_path: Path) -> None:
    store = open_store(str(write_store(kind, tmp_path, templates, None)))
    block = store.take(np.array([5, 7]))
    assert np.array_equal(block.templates, templates[[5, 7]])
    if kind in ("sqlite",):  # the column is there, but empty
        assert block.identities == ["", ""]
    else:
        assert block.identities is None
    found = scan(store)
    assert found.identities == 0
    assert len(draw_sample(found, count=1000, seed=0).positions) == COUNT


def test_what_does_not_fit_together_is_a_usage_error(templates: np.ndarray, tmp_path: Path) -> None:
    path = str(write_store("npy", tmp_path, templates, None))
    with pytest.raises(UsageError, match="kind of store out of npy"):
        open_store(path, kind="hdf5")
    with pytest.raises(UsageError, match="no tables"):
        open_store(path, table="t")
    with pytest.raises(UsageError, match="no columns"):
        open_store(path, column="t")
    with pytest.raises(UsageError, match="PostgreSQL database is no store of kind npy"):
        open_store("postgresql://nowhere/x", kind="npy")
    with pytest.raises(InputError, match="expected a folder for qdrant"):
        open_store(path, kind="qdrant")
    assert "postgres" in KINDS


class Run:
    """A pickle that would run."""

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (Path("ran"),))


@pytest.mark.parametrize("kind", [None, "parquet", "faiss", "sqlite", "npz", "npy"])
def test_what_is_no_store_is_refused(kind: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(Run()))
    (tmp_path / "b.bin").write_bytes(b"hello, world, this is no store at all")
    (tmp_path / "c.bin").write_bytes(b"")
    for name in ("a.pkl", "b.bin", "c.bin", "missing"):
        with pytest.raises(InputError) as caught:
            open_store(str(tmp_path / name), kind=kind)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError):
        open_store(str(tmp_path / "empty"), kind=kind)


def test_a_file_that_may_not_be_read_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        open_store(str(tmp_path / "nothing.npy"))


@pytest.mark.parametrize(
    ("kind", "module", "extra"),
    [("parquet", "pyarrow", "stores"), ("lancedb", "lancedb", "stores"), ("faiss", "faiss", "search")],
)
def test_the_extra_is_named_where_the_client_is_missing(
    kind: str, module: str, extra: str, templates: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(module)
    path = write_store(kind, tmp_path, templates, None)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(EnvironmentProblem, match=rf"pip install 'arcinvert\[{extra}\]'"):
        open_store(str(path))
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(EnvironmentProblem, match=r"pip install 'arcinvert\[stores\]'"):
        open_store("postgresql://nowhere/x")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with names")
def test_pipes_and_devices_are_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for source in (str(tmp_path / "pipe"), "/dev/zero"):
        with pytest.raises(InputError, match="pipe or a device"):
            open_store(source)
