"""Milvus Lite's folder, written by its own client: files and log, changed and deleted rows, damage."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from test_open_store import state

from arcinvert.audit.checks import scan
from arcinvert.audit.stores import open_store
from arcinvert.errors import InputError, UsageError

pytestmark = pytest.mark.slow
COUNT, SIZE = 600, 16
ROWS = np.random.default_rng(0).normal(size=(COUNT, SIZE)).astype(np.float32)
WRITER = """
import os, sys, numpy
from pymilvus import DataType, MilvusClient
rows = numpy.load(sys.argv[2])
client = MilvusClient(sys.argv[1])
def create(name, key):
    schema = client.create_schema(auto_id=False, enable_dynamic_field=True)
    schema.add_field("id", key, is_primary=True, **({"max_length": 20} if key == DataType.VARCHAR else {}))
    schema.add_field("embedding", DataType.FLOAT_VECTOR, dim=rows.shape[1])
    schema.add_field("city", DataType.VARCHAR, max_length=100)
    index = client.prepare_index_params()
    index.add_index("embedding", index_type="FLAT", metric_type="COSINE")
    client.create_collection(name, schema=schema, index_params=index)
def row(n, **changed):
    return {"id": n, "embedding": rows[n].tolist(), "city": "x", "person": f"p{n // 2}"} | changed
create("faces", DataType.INT64)
client.insert("faces", [row(n) for n in range(400)])
client.delete("faces", ids=[3, 200])
client.upsert("faces", [row(5, embedding=(rows[0] * 2).tolist())])
client.flush("faces")
client.insert("faces", [row(n) for n in range(400, 600)])
client.delete("faces", ids=[7, 599])
client.upsert("faces", [row(9, person="new"), row(3)])
create("others", DataType.VARCHAR)
client.insert("others", [row(n, id=f"k{n}") for n in range(3)])
if sys.argv[3] == "killed":
    os._exit(0)
client.close()
"""


@pytest.fixture(scope="module", params=["closed", "killed"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two collections; what a client that was killed leaves is in the log."""
    pytest.importorskip("pymilvus", reason="pymilvus is not installed")
    version = pytest.importorskip("milvus_lite", reason="milvus-lite is not installed")
    if not (Path(version.__file__).parent / "storage").is_dir():
        pytest.skip("milvus-lite is older than version 3")
    made = tmp_path_factory.mktemp("milvus")
    np.save(made / "rows.npy", ROWS)
    words = [sys.executable, "-c", WRITER, str(made / "m.db"), str(made / "rows.npy"), request.param]
    subprocess.run(words, check=True, capture_output=True, timeout=600, env=os.environ)
    assert bool(list((made / "m.db").rglob("wal_data_*.arrow"))) == (request.param == "killed")
    return made / "m.db"


def test_what_its_client_wrote_is_read(folder: Path) -> None:
    before = state(folder)
    store = open_store(str(folder), table="faces", identity="person")
    expected = {n: (ROWS[n], f"p{n // 2}") for n in range(COUNT) if n not in (7, 200, 599)}
    expected[5], expected[9] = (ROWS[0] * 2, "p2"), (ROWS[9], "new")
    assert (store.kind, store.count, store.size) == ("milvus", len(expected), SIZE)
    blocks = list(store.blocks(150))
    assert all(len(block.positions) <= 150 for block in blocks)
    read = np.concatenate([block.templates for block in blocks])
    names = [name for block in blocks for name in block.identities or ()]
    found = {(row.tobytes(), name) for row, name in zip(read, names, strict=True)}
    assert found == {(row.tobytes(), name) for row, name in expected.values()}
    chosen = np.array([0, 1, 300, store.count - 1])
    taken = store.take(chosen)
    assert np.array_equal(taken.templates, read[chosen])
    assert taken.identities == [names[n] for n in chosen]
    assert "names" in {finding.code for finding in scan(store).findings}
    assert state(folder) == before


def test_identities_are_guessed_beyond_the_schema(folder: Path) -> None:
    assert open_store(str(folder), table="others").contents.identity == "person"
    assert next(open_store(str(folder), table="others", identity="city").blocks()).identities == ["x"] * 3


def test_what_does_not_fit_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'faces', 'others'"):
        open_store(str(folder))
    with pytest.raises(UsageError, match="'nobody'"):
        open_store(str(folder), table="faces", identity="nobody")
    copy = tmp_path / "m.db"
    shutil.copytree(folder, copy)
    manifest = copy / "collections/faces/manifest.json"
    listed = json.loads(manifest.read_text())
    listed["partitions"]["_default"]["data_files"] = ["../../../../../etc/passwd"]
    manifest.write_text(json.dumps(listed))
    with pytest.raises(InputError, match="outside it"):
        open_store(str(copy), table="faces")
    manifest.write_text("[]")
    with pytest.raises(InputError, match="not what Milvus Lite writes"):
        open_store(str(copy), table="faces")


def test_damaged_files_are_refused_and_a_cut_log_is_read_to_the_cut(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copy = tmp_path / "m.db"
    shutil.copytree(folder, copy)
    whole = open_store(str(copy), table="faces").count
    for file in (copy / "collections/faces").rglob("wal_data_*.arrow"):
        file.write_bytes(file.read_bytes()[:-3000])
        assert open_store(str(copy), table="faces").count < whole
        assert caplog.text.count("is cut off") == 1
    for file in (copy / "collections/faces").rglob("data_*.parquet"):
        file.write_bytes(file.read_bytes()[:-300])
        with pytest.raises(InputError, match="is damaged"):
            open_store(str(copy), table="faces")
        break
