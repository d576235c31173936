import io
import struct
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest

from arcinvert.audit.checks import scan
from arcinvert.audit.stores import open_store
from arcinvert.errors import InputError, UsageError

ROWS = np.random.default_rng(0).normal(size=(50, 24)).astype(np.float32)


def read(path: Path, **options: str) -> np.ndarray:
    return np.concatenate([block.templates for block in open_store(str(path), **options).blocks(7)])


@pytest.mark.parametrize(
    "array",
    [
        ROWS.astype(">f4"), ROWS.astype(np.float64), np.asfortranarray(ROWS), ROWS[:, None], ROWS.astype(np.float16),
        (ROWS * 30).astype(np.int8), (ROWS * 1000).astype(np.int64),
    ],
    ids=["big-endian", "float64", "fortran", "n1d", "float16", "int8", "int64"],
)  # fmt: skip
def test_any_layout_is_read_as_float32(array: np.ndarray, tmp_path: Path) -> None:
    expected = array.astype(np.float32).reshape(50, 24)
    np.save(tmp_path / "a.npy", array)
    np.savez_compressed(tmp_path / "b.npz", array)
    np.savez(tmp_path / "c.npz", feats=array)
    for name in ("a.npy", "b.npz", "c.npz"):
        found = read(tmp_path / name)
        assert found.dtype == np.float32
        assert np.array_equal(found, expected)
        assert np.array_equal(open_store(str(tmp_path / name)).take(np.array([3, 49])).templates, expected[[3, 49]])
        quantized = open_store(str(tmp_path / name)).contents.quantization is not None
        assert quantized == (array.dtype == np.int8)


def test_one_embedding(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", ROWS[0])
    assert np.array_equal(read(tmp_path / "a.npy"), ROWS[:1])


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((0, 512), np.float32), "shape"),
        (np.zeros((512, 0), np.float32), "shape"),
        (np.zeros((3, 100_000), np.float32), "transposed"),
        (np.zeros((2, 2, 8), np.float32), "shape"),
        (np.zeros((5, 8), complex), "complex128"),
        (np.array(["a", "b"]), "<U1"),
        (np.zeros(5, [("a", "f4")]), "shape"),
        (np.float32(3), "shape"),
    ],
)
def test_what_is_no_matrix_is_refused(array: np.ndarray, message: str, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "a.npz", embeddings=array)
    for name in ("a.npy", "a.npz"):
        with pytest.raises(InputError, match=message):
            open_store(str(tmp_path / name))


def test_pickled_objects_are_refused(tmp_path: Path) -> None:
    objects = np.array([ROWS[0], ROWS[1, :5], None], dtype=object)
    np.save(tmp_path / "a.npy", objects, allow_pickle=True)
    np.savez(tmp_path / "a.npz", embeddings=objects)
    np.savez(tmp_path / "b.npz", embeddings=ROWS, names=np.array([None] * 50, dtype=object))
    for name in ("a.npy", "a.npz"):
        with pytest.raises(InputError, match="pickles run code and are not read"):
            open_store(str(tmp_path / name))
    with pytest.raises(InputError, match="pickles run code"):
        open_store(str(tmp_path / "b.npz"), identity="names")
    store = open_store(str(tmp_path / "b.npz"))  # the embeddings themselves are none
    assert next(store.blocks()).identities is None
    assert "pickles run code" in store.contents.unread["names"]
    assert "dtype=str" in store.contents.unread["names"]
    assert [note.text for note in store.notes] == [store.contents.unread["names"]]
    np.savez(tmp_path / "c.npz", embeddings=ROWS, names=np.array(["a", "b"]))
    assert "no list of 50 names" in open_store(str(tmp_path / "c.npz")).contents.unread["names"]
    assert store.contents.identity == "names"


def damaged() -> list[bytes]:
    file = io.BytesIO()
    np.save(file, ROWS)
    whole = file.getvalue()
    lying = whole.replace(b"(50, 24)", b"(90, 24)")
    endless = whole.replace(b"(50, 24), }", b"(" + b"9" * 9 + b")}")
    return [whole[:-1], whole[:50], whole[:9], whole + b"x", lying, endless, whole.replace(b"'<f4'", b"'|O' ")]


@pytest.mark.parametrize("number", range(len(damaged())))
def test_a_header_that_lies_is_refused(number: int, tmp_path: Path) -> None:
    content = damaged()[number]
    (tmp_path / "a.npy").write_bytes(content)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("embeddings.npy", content)
    for name in ("a.npy", "a.npz"):
        with pytest.raises(InputError):
            open_store(str(tmp_path / name))


def test_a_zip_bomb_is_refused_before_it_unpacks(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", embeddings=np.zeros((20_000, 512), np.float32))
    with pytest.raises(InputError, match="zip bomb"):
        open_store(str(tmp_path / "a.npz"))


def test_another_compression_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", ROWS)
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_LZMA) as archive:
        archive.write(tmp_path / "a.npy", "embeddings.npy")
    with pytest.raises(InputError, match="numpy does not write"):
        open_store(str(tmp_path / "a.npz"))


def test_an_archive_with_damage_inside(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", embeddings=ROWS)
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[len(content) // 2] ^= 0xFF
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(InputError, match=r"not a whole \.npz"):
        list(open_store(str(tmp_path / "a.npz")).blocks())
    (tmp_path / "b.npz").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"not a whole \.npz"):
        open_store(str(tmp_path / "b.npz"))


def test_an_archive_that_lies_about_a_member(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", embeddings=ROWS)
    content = bytearray((tmp_path / "a.npz").read_bytes())
    central = content.rindex(b"PK\x01\x02")
    content[central + 24 : central + 28] = struct.pack("<I", 1 << 20)  # its size when unpacked
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(InputError):
        list(open_store(str(tmp_path / "a.npz")).blocks())


def test_several_arrays(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", one=ROWS, two=ROWS + 1, who=np.arange(50), odd=np.arange(7.0), flat=np.arange(49))
    with pytest.raises(InputError, match=r"one, two, .*--column"):
        open_store(str(tmp_path / "a.npz"))
    store = open_store(str(tmp_path / "a.npz"), column="two", identity="who")
    assert np.array_equal(store.take(np.array([4])).templates, ROWS[4:5] + 1)
    assert store.take(np.array([4])).identities == ["4"]
    with pytest.raises(UsageError, match="no column 'three'"):
        open_store(str(tmp_path / "a.npz"), column="three")
    with pytest.raises(InputError, match="expected 50 identities"):
        open_store(str(tmp_path / "a.npz"), column="two", identity="odd")


def test_labels_beside_a_file(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", ROWS)
    labels = [f"<b>{n // 2}</b>" for n in range(50)]
    (tmp_path / "who.txt").write_text("\n".join(labels))
    assert open_store(str(tmp_path / "a.npy"), identity=str(tmp_path / "who.txt")).take(np.array([9])).identities == [
        "<b>4</b>"
    ]
    (tmp_path / "a.labels.txt").write_text("\n".join(labels[:-1]))
    with pytest.raises(InputError, match=r"50 rows, but .* 49 labels"):
        open_store(str(tmp_path / "a.npy"))
    with pytest.raises(InputError):
        open_store(str(tmp_path / "a.npy"), identity=str(tmp_path / "missing.txt"))


def test_too_large_for_float32_is_counted(tmp_path: Path) -> None:
    rows = ROWS.astype(np.float64)
    rows[3, 4] = 1e200
    np.save(tmp_path / "a.npy", rows)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = scan(open_store(str(tmp_path / "a.npy")))
    assert found.skipped_rows == 1
    assert not found.good[3]
    assert "not-finite" in {finding.code for finding in found.findings}


def test_a_file_that_shrinks_meanwhile(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", ROWS)
    store = open_store(str(tmp_path / "a.npy"))
    (tmp_path / "a.npy").write_bytes(b"gone")
    with pytest.raises(InputError, match="cannot be read any more"):
        list(store.blocks())


@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
def test_a_transposed_array_is_refused(name: str, tmp_path: Path) -> None:
    path, rows = tmp_path / name, np.random.default_rng(1).normal(size=(40, 128)).astype(np.float32)
    save = np.save if name == "a.npy" else np.savez
    save(path, rows.T)
    with pytest.raises(InputError, match=r"128 embeddings of 40 numbers, or 40 of 128 .*--size 40"):
        open_store(str(path))
    assert open_store(str(path), size=40).count == 128
    save(path, (rows / np.linalg.norm(rows, axis=1, keepdims=True)).T[:90] * 1.0)
    assert open_store(str(path)).count == 90  # neither a usual D nor columns of one norm
    save(path, (rows / np.linalg.norm(rows, axis=1, keepdims=True)).T)
    with pytest.raises(InputError, match="its columns have norm 1, its rows differ"):
        open_store(str(path))
    save(path, rows.repeat(4, 0)[:128])
    assert open_store(str(path)).count == 128
