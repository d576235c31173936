import json
import pickle
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from writing import write_store

from arcinvert.audit.checks import scan
from arcinvert.audit.stores import open_store
from arcinvert.audit.stores.points import POINT, read_point
from arcinvert.errors import InputError, UsageError

qdrant_client = pytest.importorskip("qdrant_client")

ROWS = np.random.default_rng(0).normal(size=(40, 24)).astype(np.float32)


class Run:
    """A pickle that would run."""

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (Path("ran"),))


def points(path: Path) -> list[bytes]:
    connection = sqlite3.connect(path / "collection" / "faces" / "storage.sqlite")
    found = [content for (content,) in connection.execute("select point from points order by rowid")]
    connection.close()
    return found


def test_a_point_reads_as_unpickled() -> None:
    models = qdrant_client.models
    payloads = [None, {}, {"identity": "é<b>", "n": 3, "f": 1.5, "l": [1, True, None, {"a": -70000}], "b": 1 << 60}]
    vectors = [ROWS[0].tolist(), {"face": ROWS[0].tolist(), "text": [0.5]}, np.arange(3000.0).tolist(), []]
    for protocol in (4, 5):
        for payload in payloads:
            for vector in vectors:
                point = models.PointStruct.model_construct(id=7, vector=vector, payload=payload)
                assert read_point(pickle.dumps(point, protocol)) == (vector, payload)


def test_no_pickle_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    point = qdrant_client.models.PointStruct.model_construct(id=7, vector=[1.0, 2.0], payload={"identity": Run()})
    for content in (pickle.dumps(Run()), pickle.dumps(point), b"\x80\x04cos\nsystem\n(S'touch ran'\ntR.", b""):
        with pytest.raises(ValueError, match="no point"):
            read_point(content)
    assert not (tmp_path / "ran").exists()
    path = write_store("qdrant", tmp_path, ROWS, [f"p{n}" for n in range(40)])
    connection = sqlite3.connect(path / "collection" / "faces" / "storage.sqlite")
    connection.execute("update points set point = ? where rowid = 5", (pickle.dumps(Run()),))
    connection.commit()
    found = scan(open_store(str(path)))
    assert {f.code: f.count for f in found.findings if f.severity == "problem"} == {"pickle": 1}
    connection.execute("update points set point = ?", (pickle.dumps(Run()),))
    connection.commit()
    connection.close()
    with pytest.raises(InputError, match=r"pickles that run code are not read"):
        open_store(str(path))
    assert not (tmp_path / "ran").exists()


def test_every_cut_and_changed_byte_is_refused_or_read(tmp_path: Path) -> None:
    content = points(write_store("qdrant", tmp_path, ROWS[:1], ["a"]))[0]
    assert POINT.split()[1].encode() in content
    generator = np.random.default_rng(0)
    for length in range(0, len(content), 3):
        with pytest.raises(ValueError, match="no point"):
            read_point(content[:length])
    for _ in range(2000):
        changed = bytearray(content)
        changed[generator.integers(len(content))] = generator.integers(256)
        try:
            read_point(bytes(changed))
        except ValueError as error:
            assert "no point" in str(error)  # noqa: PT017


def test_several_vectors_and_collections(tmp_path: Path) -> None:
    models, size = qdrant_client.models, {"size": 24, "distance": qdrant_client.models.Distance.DOT}
    client = qdrant_client.QdrantClient(path=str(tmp_path / "q"))
    for name, vectors in (("two", ("face", "voice")), ("odd", ("a", "b"))):
        client.create_collection(name, vectors_config={vector: models.VectorParams(**size) for vector in vectors})
        made = [
            models.PointStruct(
                id=n, vector={v: (ROWS[n] + k).tolist() for k, v in enumerate(vectors)}, payload={"who": "x"}
            )
            for n in range(3)
        ]
        client.upsert(name, made)
    client.close()
    path = str(tmp_path / "q")
    with pytest.raises(UsageError, match="'two', 'odd'; use --table"):
        open_store(path)
    store = open_store(path, table="two", identity="who")
    assert np.array_equal(store.take(np.array([2])).templates, ROWS[2:3])
    assert store.take(np.array([2])).identities == ["x"]
    voices = open_store(path, table="two", column="voice")
    assert np.abs(voices.take(np.array([2])).templates - ROWS[2:3] - 1).max() < 1e-6
    with pytest.raises(UsageError, match="several vectors: 'a', 'b'"):
        open_store(path, table="odd")
    with pytest.raises(UsageError, match="no column 'c'"):
        open_store(path, table="odd", column="c")
    with pytest.raises(UsageError, match="no column 'nobody'"):
        open_store(path, table="two", identity="nobody")


def test_a_damaged_folder_is_one_line(tmp_path: Path) -> None:
    path = write_store("qdrant", tmp_path, ROWS, None)
    meta = path / "meta.json"
    whole = meta.read_text()
    escape = json.dumps({"collections": {"../../x": {}}})
    for text in ("", "[]", "{", '{"collections": []}', '{"collections": {"a": 1}}', "[" * 100_000, escape):
        meta.write_text(text)
        with pytest.raises((InputError, UsageError)) as caught:
            open_store(str(path))
        assert "\n" not in str(caught.value)
    meta.write_text(whole)
    (path / "collection" / "faces" / "storage.sqlite").write_bytes(b"nothing at all")
    with pytest.raises(InputError, match="no SQLite database"):
        open_store(str(path))
    (path / "collection" / "faces" / "storage.sqlite").unlink()
    with pytest.raises(InputError, match="no storage"):
        open_store(str(path))
    assert sorted(p.name for p in (path / "collection" / "faces").iterdir()) == []
