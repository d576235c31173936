from pathlib import Path

import numpy as np
import pytest
from writing import write_store

from arcinvert.audit.checks import scan
from arcinvert.audit.checks.contents import contents_findings
from arcinvert.audit.stores import open_store
from arcinvert.errors import InputError, UsageError

pa = pytest.importorskip("pyarrow")
lancedb = pytest.importorskip("lancedb")

ROWS = np.random.default_rng(0).normal(size=(40, 24)).astype(np.float32)


def test_a_table_among_several_and_a_table_as_a_folder(tmp_path: Path) -> None:
    database = lancedb.connect(str(tmp_path / "db"))
    database.create_table("one", pa.table({"vector": ROWS.tolist()}))
    database.create_table("two", pa.table({"vector": (ROWS + 1).tolist(), "image": [b"\xff\xd8\xff"] * 40}))
    with pytest.raises(UsageError, match="'one', 'two'; use --table"):
        open_store(str(tmp_path / "db"))
    with pytest.raises(UsageError, match="'one', 'two'; use --table"):
        open_store(str(tmp_path / "db"), table="three")
    store = open_store(str(tmp_path / "db"), table="two")
    assert np.array_equal(store.take(np.array([0, 39])).templates, ROWS[[0, 39]] + 1)
    assert [f.code for f in contents_findings(store)] == ["faces"]
    assert np.array_equal(open_store(str(tmp_path / "db" / "one.lance")).take(np.array([7])).templates, ROWS[7:8])


def test_rows_that_were_added_and_deleted(tmp_path: Path) -> None:
    database = lancedb.connect(str(tmp_path / "db"))
    table = database.create_table("t", pa.table({"id": range(20), "vector": ROWS[:20].tolist()}))
    table.add(pa.table({"id": range(20, 40), "vector": ROWS[20:].tolist()}))
    table.delete("id = 3")
    store = open_store(str(tmp_path / "db"))
    left = np.delete(np.arange(40), 3)
    assert store.count == 39
    assert np.array_equal(np.concatenate([block.templates for block in store.blocks(7)]), ROWS[left])
    assert np.array_equal(store.take(np.array([2, 3, 38])).templates, ROWS[left[[2, 3, 38]]])
    table.delete("id = 4")
    with pytest.raises(InputError, match="changed while it was read"):
        list(store.blocks())


def test_null_and_ragged_rows(tmp_path: Path) -> None:
    rows = ROWS.tolist()
    rows[5], rows[6] = None, rows[6][:3]
    column = pa.array(rows, pa.list_(pa.float32()))
    lancedb.connect(str(tmp_path / "db")).create_table("t", pa.table({"w": column}))
    counts = {f.code: f.count for f in scan(open_store(str(tmp_path / "db"), column="w")).findings}
    assert counts == {"null": 1, "ragged": 1, "unnormalized": 38}


def test_damage_is_one_line(tmp_path: Path) -> None:
    path = write_store("lancedb", tmp_path, ROWS, None)
    data = next((path / "faces.lance" / "data").iterdir())
    data.write_bytes(data.read_bytes()[:50])
    with pytest.raises(InputError) as caught:
        list(open_store(str(path)).blocks())
    assert "\n" not in str(caught.value)
    for manifest in (path / "faces.lance" / "_versions").iterdir():
        manifest.write_bytes(b"nothing")
    with pytest.raises(InputError, match="no Lance table"):
        open_store(str(path))


def test_the_process_of_a_table_may_crash_and_ends_with_its_store(tmp_path: Path) -> None:
    store = open_store(str(write_store("lancedb", tmp_path, ROWS, None)))
    process = store._child.process
    first, second = store.blocks(10), store.blocks(10)  # two scans at a time
    assert np.array_equal(next(first).templates, next(second).templates)
    process.kill()
    with pytest.raises(InputError, match="ends the process that reads it, with code -9"):
        list(store.blocks())
    del first, second, store
    assert process.stdin.closed
