from pathlib import Path

import numpy as np
import pytest
from writing import write_store

from arcinvert.audit.checks import scan
from arcinvert.audit.checks.contents import contents_findings
from arcinvert.audit.stores import open_store
from arcinvert.errors import InputError, UsageError

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

ROWS = np.random.default_rng(0).normal(size=(60, 24)).astype(np.float32)


def write(folder: Path, columns: dict, name: str = "a.parquet") -> str:
    pq.write_table(pa.table(columns), folder / name, row_group_size=17)
    return str(folder / name)


@pytest.mark.parametrize(
    "column",
    [
        pa.array(ROWS.tolist(), pa.list_(pa.float64())),
        pa.array(ROWS.tolist(), pa.large_list(pa.float32())),
        pa.FixedSizeListArray.from_arrays(pa.array(ROWS.ravel()), 24),
        pa.array([row.tobytes() for row in ROWS]),
        pa.array([str(row.tolist()) for row in ROWS]),
        pa.FixedShapeTensorArray.from_numpy_ndarray(ROWS),
    ],
    ids=["list-f64", "large-list", "fixed", "binary", "text", "tensor"],
)
def test_every_type_of_column(column: object, tmp_path: Path) -> None:
    store = open_store(write(tmp_path, {"id": list(range(60)), "w": column}), column="w")
    assert np.array_equal(np.concatenate([b.templates for b in store.blocks(11)]), ROWS)
    assert np.array_equal(store.take(np.array([16, 17, 59])).templates, ROWS[[16, 17, 59]])


def test_a_column_for_each_number(tmp_path: Path) -> None:
    store = open_store(write(tmp_path, {"label": [1.0] * 60, **{f"f{n}": ROWS[:, n] for n in range(24)}}))
    block = store.take(np.arange(60))
    assert np.array_equal(block.templates, ROWS)
    assert block.identities == ["1"] * 60


def test_rows_of_another_size_in_another_file_are_left_out_and_counted(tmp_path: Path) -> None:
    for name, size in (("a", 24), ("b", 12)):
        rows = pa.FixedSizeListArray.from_arrays(pa.array(ROWS.ravel()), size)
        pq.write_table(pa.table({"embedding": rows}), tmp_path / f"{name}.parquet")
    store = open_store(str(tmp_path))
    assert (store.count, store.size) == (180, 24)
    blocks = list(store.blocks())
    assert np.array_equal(np.concatenate([block.templates for block in blocks]), ROWS)
    assert sum(block.skipped.get("ragged", 0) for block in blocks) == 120


@pytest.mark.parametrize("fixed", [False, True])
def test_null_and_ragged_rows_are_left_out_and_counted(fixed: bool, tmp_path: Path) -> None:
    rows = ROWS.tolist()
    rows[3] = None
    rows[20][5] = None
    if not fixed:
        rows[30], rows[31] = rows[30][:-1], []
    kind = pa.list_(pa.float32(), 24) if fixed else pa.list_(pa.float32())
    path = write(tmp_path, {"embedding": pa.array(rows, kind), "name": [f"n{n}" for n in range(60)]})
    store = open_store(path)
    blocks = list(store.blocks())
    positions = np.concatenate([block.positions for block in blocks])
    gone = [3] if fixed else [3, 30, 31]
    assert np.array_equal(positions, np.delete(np.arange(60), gone))
    read = np.concatenate([block.templates for block in blocks])
    assert np.isnan(read[positions == 20][0, 5])
    plain = positions != 20
    assert np.array_equal(read[plain], ROWS[positions[plain]])
    assert [n for b in blocks for n in b.identities] == [f"n{n}" for n in positions]
    taken = store.take(np.array([2, 3, 4]))
    assert taken.positions.tolist() == [2, 4]
    assert taken.identities == ["n2", "n4"]
    assert taken.skipped == {"null": 1}
    found = scan(store)
    assert {f.code: f.count for f in found.findings if f.severity != "info" and f.code != "names"} == {
        "null": 1,
        "not-finite": 1,
        **({} if fixed else {"ragged": 2}),
    }
    assert found.skipped_rows == (2 if fixed else 4)


def test_a_folder_of_files_is_one_store(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for number in range(3):
        write(tmp_path / "data", {"embedding": ROWS[20 * number :][:20].tolist()}, f"train-{number}.parquet")
    store = open_store(str(tmp_path))
    assert (store.kind, store.count) == ("parquet", 60)
    assert np.array_equal(store.take(np.array([0, 19, 20, 59])).templates, ROWS[[0, 19, 20, 59]])
    assert [block.positions[0] for block in store.blocks()][1] == 20


def test_pictures_beside_the_embeddings(tmp_path: Path) -> None:
    images = [{"bytes": b"\xff\xd8\xff...", "path": None}] * 60
    store = open_store(write(tmp_path, {"embedding": ROWS.tolist(), "cover": images, "file_path": ["/x"] * 60}))
    assert [(f.code, f.severity) for f in contents_findings(store)] == [("faces", "problem"), ("paths", "warning")]


def test_damage_is_one_line(tmp_path: Path) -> None:
    path = write_store("parquet", tmp_path, ROWS, None)
    whole = path.read_bytes()
    for content in (whole[:-1], whole[: len(whole) // 2], whole[:4], b"PAR1PAR1", whole[:60] + whole[80:]):
        path.write_bytes(content)
        with pytest.raises(InputError) as caught:
            list(open_store(str(path)).blocks())
        assert "\n" not in str(caught.value)
    garbled = bytearray(whole)
    garbled[200:900] = bytes(700)
    path.write_bytes(garbled)
    with pytest.raises(InputError):
        list(open_store(str(path)).blocks())


@pytest.mark.parametrize("claimed", [-61, 0, 61])
def test_a_wrong_number_of_rows(claimed: int, tmp_path: Path) -> None:
    path = write_store("parquet", tmp_path, ROWS, None)
    content = path.read_bytes()
    start = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    known, wrong = (bytes([0x16, 2 * n if n >= 0 else -2 * n - 1]) for n in (len(ROWS), claimed))  # an i64 of Thrift
    assert content[start:].count(known) == 1
    path.write_bytes(content[:start] + content[start:].replace(known, wrong))
    with pytest.raises(InputError, match=f"is damaged: it claims {claimed} rows, its row groups 60"):
        open_store(str(path))


def test_more_rows_than_any_machine_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_store("parquet", tmp_path, ROWS, None)
    monkeypatch.setattr("arcinvert.audit.stores.MOST_ROWS", len(ROWS) - 1)
    with pytest.raises(InputError, match="is damaged: it claims 60 rows"):
        open_store(str(path))


def test_what_holds_no_embeddings(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="choose one with --column"):
        open_store(write(tmp_path, {"a": [1, 2]}))
    with pytest.raises(UsageError, match="no column 'b'"):
        open_store(write(tmp_path, {"a": [1, 2]}), column="b")
    with pytest.raises(InputError, match="no rows"):
        open_store(write(tmp_path, {"embedding": pa.array([], pa.list_(pa.float32()))}))
    with pytest.raises(InputError, match="hold none"):
        open_store(write(tmp_path, {"embedding": pa.array([None], pa.list_(pa.float32()))}))
    with pytest.raises(InputError, match="8192 numbers"):
        open_store(write(tmp_path, {"embedding": [list(range(9000))]}))


def test_text_that_is_no_utf_8(tmp_path: Path) -> None:
    offsets = pa.py_buffer(np.array([0, 2, 4], np.int32).tobytes())
    names = pa.Array.from_buffers(pa.string(), 2, [None, offsets, pa.py_buffer(b"\xff\xfeab")])
    path = write(tmp_path, {"embedding": pa.array(ROWS[:2].tolist()), "name": names, "vxyz": [1, 2]})
    store = open_store(path)
    assert store.contents.columns["name"] == b"\xff\xfe"
    assert next(store.blocks()).identities == ["\ufffd\ufffd", "ab"]
    Path(path).write_bytes(Path(path).read_bytes().replace(b"vxyz", b"v\xffyz"))
    with pytest.raises(InputError, match="not a whole parquet file"):
        scan(open_store(path))


def test_a_page_that_claims_to_be_huge_takes_no_memory(tmp_path: Path) -> None:
    path = Path(write(tmp_path, {"embedding": pa.FixedSizeListArray.from_arrays(pa.array(ROWS.ravel()), 24)}))
    content = path.read_bytes()
    assert content[:7] == b"PAR1\x15\x04\x15"  # its first page: kind, size, size in the file, as Thrift writes them
    start = next(n for n in range(7, 20) if content[n] == 0x15) + 1
    end = next(n for n in range(start, 20) if not content[n] & 0x80) + 1
    claim, number = bytearray(), 2 * 800_000_000
    while number:
        claim.append(number & 0x7F | (0x80 if number > 0x7F else 0))
        number >>= 7
    path.write_bytes(content[:start] + claim + content[end:])
    before = pa.default_memory_pool().max_memory()
    with pytest.raises(InputError, match="is damaged"):
        scan(open_store(str(path)))
    assert pa.default_memory_pool().max_memory() < max(before, 1 << 28) + 1
