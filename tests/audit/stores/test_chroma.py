"""Chroma's folder, written by its own client: index and queue, updates, deletions, damage."""

import os
import pickle
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from test_open_store import state

from arcinvert.audit.checks import scan
from arcinvert.audit.stores import open_store
from arcinvert.errors import InputError, UsageError

pytestmark = pytest.mark.slow
COUNT, SIZE = 1300, 16
ROWS = np.random.default_rng(0).normal(size=(COUNT, SIZE)).astype(np.float32)
WRITER = """
import sys, numpy, chromadb
from chromadb.config import Settings
rows = numpy.load(sys.argv[2])
client = chromadb.PersistentClient(sys.argv[1], settings=Settings(anonymized_telemetry=False))
faces = client.create_collection("faces", metadata={"hnsw:space": "cosine"})
for start in range(0, len(rows), 260):
    ids = range(start, start + 260)
    faces.add(ids=[f"id{n}" for n in ids], embeddings=rows[start : start + 260],
              metadatas=[{"person": f"p{n // 2}", "path": f"/{n}.jpg", "age": n} for n in ids])
faces.delete(ids=["id3", "id1299"])
faces.update(ids=["id5"], embeddings=[rows[0] * 2])
few = client.create_collection("few", metadata={"hnsw:space": "l2"})
few.add(ids=["a", "b"], embeddings=rows[:2])
set = client.create_collection("set", configuration={"hnsw": {"space": "cosine"}})
set.add(ids=["a", "b"], embeddings=rows[:2] * 3)
client.create_collection("none")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three collections, written in a process of its own: its threads do not end before the process."""
    pytest.importorskip("chromadb", reason="chromadb is not installed")
    made = tmp_path_factory.mktemp("chroma")
    np.save(made / "rows.npy", ROWS)
    environment = os.environ | {"ANONYMIZED_TELEMETRY": "False"}
    words = [sys.executable, "-c", WRITER, str(made / "db"), str(made / "rows.npy")]
    subprocess.run(words, check=True, env=environment, capture_output=True, timeout=600)
    return made / "db"


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_what_its_client_wrote_is_read(folder: Path) -> None:
    before = state(folder)
    store = open_store(str(folder), table="faces")
    assert (store.kind, store.count, store.size) == ("chroma", COUNT - 2, SIZE)
    assert (next(folder.glob("*/data_level0.bin"))).is_file()
    kept = np.delete(np.arange(COUNT), [3, 1299])
    expected = ROWS.copy()
    expected[5] = ROWS[0]
    blocks = list(store.blocks(500))
    assert np.abs(np.concatenate([b.templates for b in blocks]) - unit(expected[kept])).max() < 1e-6
    assert [name for b in blocks for name in b.identities or ()] == [f"p{n // 2}" for n in kept]
    chosen = np.array([0, 3, 700, COUNT - 3])
    assert store.take(chosen).identities == [f"p{n // 2}" for n in kept[chosen]]
    codes = {finding.code for finding in scan(store).findings}
    assert {"names", "paths", "distance"} <= codes
    assert open_store(str(folder / "chroma.sqlite3"), table="faces", identity="age").count == COUNT - 2
    assert state(folder) == before


def test_a_young_collection_is_all_queue(folder: Path) -> None:
    store = open_store(str(folder), table="few")
    assert np.array_equal(next(store.blocks()).templates, ROWS[:2])  # compared by l2, so nothing is scaled
    assert store.contents.identity is None
    again = open_store(str(folder), table="set")  # the comparison is in the configuration
    assert np.abs(next(again.blocks()).templates - unit(ROWS[:2])).max() < 1e-6


def test_what_does_not_fit_is_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match="'faces', 'few', 'none', 'set'"):
        open_store(str(folder))
    with pytest.raises(UsageError, match="one vector a row"):
        open_store(str(folder), table="few", column="v")
    with pytest.raises(InputError, match="no rows"):
        open_store(str(folder), table="none")


class Run:
    """A pickle that would run."""

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (Path("ran"),))


def test_damage_is_refused_and_nothing_runs(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for number, (name, content) in enumerate(
        {
            "index_metadata.pickle": pickle.dumps(Run()),
            "header.bin": b"\1\0\0\0" + b"\xff" * 48,
            "data_level0.bin": b"short",
        }.items()
    ):
        copy = tmp_path / str(number)
        shutil.copytree(folder, copy)
        for file in copy.glob(f"*/{name}"):
            file.write_bytes(content)
        with pytest.raises(InputError, match="has an index"):
            open_store(str(copy), table="faces")
    assert not (tmp_path / "ran").exists()
    with closing(sqlite3.connect(tmp_path / "chroma.sqlite3")) as connection:
        connection.execute("create table t (a int)")
        connection.commit()
    with pytest.raises(InputError, match="no Chroma folder"):
        open_store(str(tmp_path))
