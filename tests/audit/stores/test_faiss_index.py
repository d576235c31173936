import base64
import gzip
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from writing import write_store

from arcinvert.audit.checks import scan
from arcinvert.audit.stores import open_store
from arcinvert.errors import InputError, UsageError

faiss = pytest.importorskip("faiss")

SIZE = 32
ROWS = np.random.default_rng(0).normal(size=(600, SIZE)).astype(np.float32)
ROWS /= np.linalg.norm(ROWS, axis=1, keepdims=True)


def write(folder: Path, index: object, ids: np.ndarray | None = None) -> str:
    if not index.is_trained:
        index.train(ROWS)
    if ids is None:
        index.add(ROWS)
    else:
        index.add_with_ids(ROWS, ids)
    faiss.write_index(index, str(folder / "a.index"))
    return str(folder / "a.index")


def read(path: str) -> np.ndarray:
    return np.concatenate([block.templates for block in open_store(path).blocks(101)])


@pytest.mark.parametrize("named", ["Flat", "HNSW16", "IVF8,Flat", "L2norm,Flat", "RFlat", "HNSW16,Flat"])
def test_indexes_that_keep_everything(named: str, tmp_path: Path) -> None:
    index = faiss.index_factory(SIZE, named) if named != "RFlat" else faiss.index_factory(SIZE, "RR32,Flat")
    path = write(tmp_path, index)
    assert np.abs(read(path) - ROWS).max() < 1e-5
    assert np.abs(open_store(path).take(np.array([0, 4, 599])).templates - ROWS[[0, 4, 599]]).max() < 1e-5
    assert open_store(path).contents.quantization is None
    assert (open_store(path).flat is not None) == (named == "Flat")


def test_a_file_that_shrinks_meanwhile(tmp_path: Path) -> None:
    path = write(tmp_path, faiss.IndexFlatIP(SIZE))
    store = open_store(path)
    Path(path).unlink()
    Path(path).write_bytes(b"gone")
    with pytest.raises(InputError, match="cannot be read any more"):
        list(store.blocks())


@pytest.mark.parametrize("named", ["PQ8x4", "PQ8x4fs", "SQ8", "IVF8,SQ8", "LSH", "PCA8,Flat"])
def test_lossy_indexes_say_so(named: str, tmp_path: Path) -> None:
    store = open_store(write(tmp_path, faiss.index_factory(SIZE, named)))
    assert store.contents.quantization is not None
    read = np.concatenate([block.templates for block in store.blocks()])
    assert read.shape == ROWS.shape
    assert (read * ROWS).sum(1).mean() > 0.2  # of the right rows


def test_ids_of_an_idmap_and_of_an_inverted_file(tmp_path: Path) -> None:
    ids = np.arange(600)[::-1] * 7 + 5
    assert np.array_equal(read(write(tmp_path, faiss.IndexIDMap(faiss.IndexFlatIP(SIZE)), ids)), ROWS)
    assert np.array_equal(read(write(tmp_path, faiss.IndexIDMap2(faiss.IndexFlatIP(SIZE)), ids)), ROWS)
    index = faiss.index_factory(SIZE, "IVF8,Flat")
    assert np.array_equal(read(write(tmp_path, index, ids)), ROWS[::-1])  # in the order of its ids
    with pytest.raises(InputError, match=r"IndexIVFPQFastScan cannot reconstruct"):
        open_store(write(tmp_path, faiss.index_factory(SIZE, "IVF8,PQ8x4fs")))


def test_repeated_ids_are_identities(tmp_path: Path) -> None:
    path = write(tmp_path, faiss.IndexIDMap(faiss.IndexFlatIP(SIZE)), np.arange(600) // 2)
    assert open_store(path).take(np.array([0, 1, 599])).identities == ["0", "0", "299"]
    path = write(tmp_path, faiss.IndexIDMap(faiss.IndexFlatIP(SIZE)), np.arange(600))
    assert open_store(path).take(np.array([0])).identities is None
    store = open_store(write(tmp_path, faiss.index_factory(SIZE, "IVF8,Flat"), np.arange(600)[::-1] // 3))
    found = store.take(np.arange(600))
    assert found.identities == [str(n // 3) for n in range(600)]
    for number in (0, 77, 199):  # the rows of a person, in whatever order
        mine = found.templates[3 * number : 3 * number + 3]
        theirs = ROWS[::-1][3 * number : 3 * number + 3]
        assert np.array_equal(np.unique(mine, axis=0), np.unique(theirs, axis=0))
    assert np.array_equal(np.concatenate([block.templates for block in store.blocks(101)]), found.templates)


def test_labels_beside_the_file(tmp_path: Path) -> None:
    path = write_store("faiss", tmp_path, ROWS, [f"p{n // 3}" for n in range(600)])
    assert scan(open_store(str(path))).identities == 200
    with pytest.raises(UsageError, match="no columns"):
        open_store(str(path), column="x")


def test_what_gives_no_rows_back(tmp_path: Path) -> None:
    index = faiss.IndexFlatIP(SIZE)
    faiss.write_index(index, str(tmp_path / "empty.index"))
    with pytest.raises(InputError, match="is empty"):
        open_store(str(tmp_path / "empty.index"))
    binary = faiss.IndexBinaryFlat(64)
    binary.add(np.zeros((3, 8), np.uint8))
    faiss.write_index_binary(binary, str(tmp_path / "binary.index"))
    with pytest.raises(InputError, match="binary index"):
        open_store(str(tmp_path / "binary.index"))


# FAISS ends its process on it by signal 11 (found by fuzzing).
CRASH = "H4sICH1oCmsCA3guaWRtYXAuZmFpc3MA86zwLVBgYGCQYIABARgNAHBEo2cbAAAA"


def test_a_file_that_crashes_faiss_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.index").write_bytes(gzip.decompress(base64.b64decode(CRASH)))
    with pytest.raises(InputError, match=r"a\.index.*(with code -\d+|can be read)"):
        open_store(str(tmp_path / "a.index"))


def test_the_process_of_an_index_ends_with_its_store(tmp_path: Path) -> None:
    store = open_store(write(tmp_path, faiss.index_factory(SIZE, "HNSW16")))
    process = store.reader.process
    assert process.poll() is None
    del store
    assert process.poll() is not None
    store = open_store(str(tmp_path / "a.index"))
    store.reader.process.kill()
    with pytest.raises(InputError, match="code -9"):
        list(store.blocks())


# Should the reader of the indexes fail to hold a crash back, it is seen here: another process opens these.
OPEN = """
import sys
from arcinvert.audit.stores import open_store
from arcinvert.errors import InputError
for path in sys.argv[1:]:
    try:
        sum(block.templates.sum() for block in open_store(path, kind="faiss").blocks())
    except InputError as error:
        assert "\\n" not in str(error)
        print("refused")
    else:
        print("read")
"""


def test_damage_is_refused(tmp_path: Path) -> None:
    whole = Path(write(tmp_path, faiss.IndexFlatIP(SIZE))).read_bytes()
    lists = Path(write(tmp_path, faiss.index_factory(SIZE, "IVF8,Flat"))).read_bytes()
    contents = [
        whole[:-1], whole[: len(whole) // 2], whole[:20], whole[:4], b"IxFI" + b"\xff" * 200, b"nope" + whole[4:],
        whole[:8] + (1 << 40).to_bytes(8, "little") + whole[16:], lists[:-100], lists[: len(lists) // 2],
        whole[:4] + (1 << 30).to_bytes(4, "little") + whole[8:],
    ]  # fmt: skip
    paths = []
    for number, content in enumerate(contents):
        (tmp_path / f"{number}.index").write_bytes(content)
        paths.append(str(tmp_path / f"{number}.index"))
    done = subprocess.run([sys.executable, "-c", OPEN, *paths], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["refused"] * len(paths)


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_an_index_that_asks_for_any_amount_of_memory_is_refused(tmp_path: Path) -> None:
    index = faiss.index_factory(8, "IDMap,SQ8")
    index.train(np.ones((9, 8), np.float32))
    index.add_with_ids(np.ones((9, 8), np.float32), np.arange(9))
    content = faiss.serialize_index(index).tobytes()
    size = struct.pack("<Q", 72)  # the codes, a byte a number
    assert content.count(size) == 1
    (tmp_path / "a.faiss").write_bytes(content.replace(size, struct.pack("<Q", 30 << 30)))
    with pytest.raises(InputError, match="is no FAISS index that can be read"):
        open_store(str(tmp_path / "a.faiss"))
