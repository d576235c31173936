"""Embeddings from untrusted files."""

import io
import os
import pickle
import struct
import zipfile
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from arcinvert.embeddings import Embeddings, check_embeddings, read_embeddings
from arcinvert.errors import InputError

SIZE = 8


def unit_rows(count: int = 5) -> np.ndarray:
    rows = np.random.default_rng(0).normal(size=(count, SIZE))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def write(path: Path, array: np.ndarray) -> str:
    np.save(path, array)
    return str(path)


def header(description: str) -> bytes:
    """The first bytes of a .npy file, with a header of one's own."""
    text = description.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


class Bomb:
    """Unpickling it makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


# --- values


@pytest.mark.parametrize(
    ("bad", "rows", "message"),
    [
        (np.nan, [3], "NaN or infinity in row 3"),
        (-np.inf, [0], "NaN or infinity in row 0"),
        (0, [1, 4], "zeros in rows 1, 4"),
        (0, range(20), "rows 0, 1, 2, 3, 4 and 15 more"),
    ],
)
def test_bad_rows_are_named(bad: float, rows: Sequence[int], message: str) -> None:
    array = unit_rows(20)
    array[list(rows)] = bad
    with pytest.raises(InputError, match=f"{message}$"):
        check_embeddings(array, SIZE)


@pytest.mark.parametrize(("size", "model"), [(128, "FaceNet"), (512, "ArcFace"), (100, "")])
def test_the_error_for_another_dimension_names_both_and_a_likely_model(size: int, model: str) -> None:
    with pytest.raises(InputError) as caught:
        check_embeddings(np.ones((3, size)), 64, "the store's recognizer")
    assert f"are {size}-d" in str(caught.value)
    assert str(caught.value).endswith("the store's recognizer is 64-d: another network made them")
    assert model in str(caught.value)


def test_rows_are_normalized_and_a_note_names_the_norms() -> None:
    rows = unit_rows()
    lengths = np.array([1.0, 2.0, 10.0, 29.5, 0.25])
    found = check_embeddings(rows * lengths[:, None], SIZE)
    assert found.rows.dtype == np.float32
    np.testing.assert_allclose(found.rows, rows, atol=1e-6)
    np.testing.assert_allclose(found.norms, lengths)
    assert found.note() == "5 embeddings had norms 0.25 to 29.5; they were normalized"


def test_unit_rows_need_no_note() -> None:
    assert check_embeddings(unit_rows().astype(np.float16), SIZE).note() is None


@pytest.mark.parametrize("factor", [1e-200, 1e300])
def test_numbers_whose_squares_do_not_exist(factor: float) -> None:
    found = check_embeddings(unit_rows() * factor, SIZE)
    np.testing.assert_allclose(found.rows, unit_rows(), atol=1e-6)
    np.testing.assert_allclose(found.norms, factor)


def test_the_longest_row_there_is_does_not_overflow() -> None:
    found = check_embeddings(np.full((1, SIZE), np.finfo(np.float64).max), SIZE)
    np.testing.assert_allclose(found.rows, SIZE**-0.5, rtol=1e-6)
    assert isinstance(found.note(), str)


@pytest.mark.parametrize(("dtype", "order"), [("<f2", "C"), (">f4", "F"), ("<f8", "C")])
def test_floating_types_of_either_byte_and_memory_order(tmp_path: Path, dtype: str, order: Any) -> None:
    found = read_embeddings(write(tmp_path / "e.npy", unit_rows().astype(dtype, order=order)), size=SIZE)
    np.testing.assert_allclose(found.rows, unit_rows(), atol=2e-3 if "f2" in dtype else 1e-6)
    np.testing.assert_allclose(np.linalg.norm(found.rows, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("dtype", ["i1", ">i2", "u1"])
def test_integers(dtype: str) -> None:
    rows = np.arange(1, 2 * SIZE + 1).reshape(2, SIZE)
    if dtype == "i1":
        rows[0, 0] = -128  # whose absolute value is not an int8
    found = check_embeddings(rows.astype(dtype), SIZE)
    np.testing.assert_allclose(found.rows * found.norms[:, None], rows, rtol=1e-6)


def test_longdouble_beyond_float64_is_refused_as_infinite() -> None:
    with pytest.raises(InputError, match="row 0"):
        check_embeddings(np.full((1, SIZE), np.finfo(np.longdouble).max), SIZE)


@pytest.mark.parametrize("array", [np.ones((2, SIZE), bool), np.ones((2, SIZE), complex), np.full((2, SIZE), "a")])
def test_what_is_not_a_real_number_is_refused(array: np.ndarray) -> None:
    with pytest.raises(InputError, match="expected numbers"):
        check_embeddings(array, SIZE)


# --- shapes


@pytest.mark.parametrize("shape", [(SIZE,), (1, SIZE), (5, SIZE), (5, 1, SIZE), (1, 1, SIZE), (SIZE, SIZE)])
def test_shapes_that_are_read(tmp_path: Path, shape: tuple[int, ...]) -> None:
    array = np.arange(1.0, np.prod(shape) + 1).reshape(shape)
    found = read_embeddings(write(tmp_path / "e.npy", array), size=SIZE)
    count = array.size // SIZE
    assert found.rows.shape == (count, SIZE)
    assert found.norms.shape == (count,)
    assert float(found.rows[-1] @ array.reshape(count, SIZE)[-1]) == pytest.approx(found.norms[-1])


def test_transposed_is_refused_with_a_hint() -> None:
    with pytest.raises(InputError, match=r"\(8, 5\): transposed\?.*\.T"):
        check_embeddings(unit_rows().T, SIZE)
    rows = np.random.default_rng(0).normal(size=(64, 64))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    assert np.allclose(check_embeddings(rows, 64).rows, rows, atol=1e-6)
    with pytest.raises(InputError, match=r"columns of norm 1 .*transposed\?.*\.T"):
        check_embeddings(rows.T, 64)


@pytest.mark.parametrize(
    ("shape", "message"),
    [((0,), "empty array"), ((3, 0), "empty array"), ((), "expected emb"), ((2, SIZE, 1), "expected emb")],
)
def test_other_shapes_are_refused(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_embeddings(np.ones(shape), SIZE)


# --- pickles


@pytest.mark.parametrize("suffix", ["npy", "npz", "pkl"])
def test_a_pickle_is_refused_and_not_run(tmp_path: Path, suffix: str) -> None:
    trap, path = tmp_path / "trap", tmp_path / f"store.{suffix}"
    array = np.empty(1, object)
    array[0] = Bomb(trap)
    if suffix == "pkl":
        path.write_bytes(pickle.dumps(Bomb(trap)))
    else:
        (np.save if suffix == "npy" else np.savez)(path, array)
    with pytest.raises(InputError, match="pickle"):
        read_embeddings(str(path), size=SIZE)
    assert not trap.exists()
    if suffix != "npz":
        np.load(path, allow_pickle=True)  # the trap works
        assert trap.exists()


def test_a_structured_dtype_with_an_object_inside_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.npy"
    path.write_bytes(
        header("{'descr': [('a', '|O'), ('b', '<f4')], 'fortran_order': False, 'shape': (1,)}") + b"x" * 12
    )
    with pytest.raises(InputError, match="pickle"):
        read_embeddings(str(path), size=SIZE)


# --- false headers

FALSE = {
    "a terabyte": "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 8)}",
    "more than 64 bits": "{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999999999999, 8)}",
    "two to the 64": "{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 4)}",
    "negative": "{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 8)}",
    "twice negative": "{'descr': '<f4', 'fortran_order': False, 'shape': (-1, -8)}",
    "boolean": "{'descr': '<f4', 'fortran_order': False, 'shape': (True, 8)}",
    "no dtype": "{'descr': '<q9', 'fortran_order': False, 'shape': (1, 8)}",
    "no shape": "{'descr': '<f4', 'fortran_order': False}",
    "no dictionary": "[1, 2",
    "a call": "__import__('os').system('true')",
    "text of no size": "{'descr': '<U0', 'fortran_order': False, 'shape': (3, 8)}",
    "many axes": "{'descr': '<f4', 'fortran_order': False, 'shape': (" + "1, " * 99 + "8)}",
    "nested": "(" * 3000,
    "nul": "{'descr': '<f4\0', 'fortran_order': False, 'shape': (1, 8)}",
}


@pytest.mark.parametrize("description", FALSE.values(), ids=FALSE)
def test_a_false_header_is_refused_before_anything_is_allocated(tmp_path: Path, description: str) -> None:
    path = tmp_path / "false.npy"
    path.write_bytes(header(description) + bytes(32))
    with pytest.raises(InputError) as caught:
        read_embeddings(str(path), size=SIZE)
    assert "\n" not in str(caught.value)


def test_the_error_for_a_truncated_file_names_its_size(tmp_path: Path) -> None:
    path = Path(write(tmp_path / "e.npy", unit_rows().astype(np.float32)))
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(InputError, match="160 bytes, but holds 156"):
        read_embeddings(str(path), size=SIZE)


@pytest.mark.parametrize("length", [0, 6, 40, 127])
def test_a_file_that_ends_in_its_header(tmp_path: Path, length: int) -> None:
    path = Path(write(tmp_path / "e.npy", unit_rows()))
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(InputError):
        read_embeddings(str(path), size=SIZE)


def test_trailing_bytes_are_refused(tmp_path: Path) -> None:
    path = Path(write(tmp_path / "e.npy", unit_rows()))
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(InputError, match="but holds 321"):
        read_embeddings(str(path), size=SIZE)


@pytest.mark.parametrize("version", [(2, 0), (3, 0)])
def test_later_format_versions(tmp_path: Path, version: tuple[int, int]) -> None:
    with open(tmp_path / "v.npy", "wb") as file:
        np.lib.format.write_array(file, unit_rows(), version=version)
    assert len(read_embeddings(str(tmp_path / "v.npy"), size=SIZE).rows) == 5


def test_an_unknown_format_version(tmp_path: Path) -> None:
    path = Path(write(tmp_path / "e.npy", unit_rows()))
    content = bytearray(path.read_bytes())
    content[6] = 9
    path.write_bytes(content)
    with pytest.raises(InputError, match="header"):
        read_embeddings(str(path), size=SIZE)


# --- archives


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_archive_with_one_array(tmp_path: Path, save: object) -> None:
    save(tmp_path / "one.npz", feats=unit_rows())
    np.testing.assert_allclose(read_embeddings(str(tmp_path / "one.npz"), size=SIZE).rows, unit_rows(), atol=1e-6)


@pytest.fixture
def several(tmp_path: Path) -> str:
    np.savez(tmp_path / "several.npz", embeddings=unit_rows(), labels=np.arange(5), other=2 * unit_rows()[:2])
    return str(tmp_path / "several.npz")


def test_several_arrays_are_listed(several: str) -> None:
    with pytest.raises(InputError, match=r"3 arrays \(embeddings, labels, other\); choose one with --array"):
        read_embeddings(several, size=SIZE)


def test_a_key_chooses(several: str) -> None:
    assert len(read_embeddings(several, size=SIZE, key="embeddings").rows) == 5
    assert read_embeddings(several, size=SIZE, key="other").norms == pytest.approx([2, 2])


def test_an_unknown_key_lists_the_known(several: str) -> None:
    with pytest.raises(InputError, match="no array 'nothing', but embeddings, labels, other"):
        read_embeddings(several, size=SIZE, key="nothing")


def test_an_empty_archive(tmp_path: Path) -> None:
    np.savez(tmp_path / "none.npz")
    with pytest.raises(InputError, match="0 arrays"):
        read_embeddings(str(tmp_path / "none.npz"), size=SIZE)


def archive(path: Path, content: bytes, name: str = "e.npy") -> str:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(name, content)
    return str(path)


def test_a_member_with_a_false_header_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        read_embeddings(archive(tmp_path / "a.npz", header(FALSE["a terabyte"]) + bytes(32)), size=SIZE)


def test_a_member_larger_than_the_limit_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((50_000, SIZE)))
    path = archive(tmp_path / "bomb.npz", buffer.getvalue())
    monkeypatch.setattr("arcinvert.embeddings.LIMIT", 1 << 20)
    assert Path(path).stat().st_size < 1 << 20
    with pytest.raises(InputError, match="larger than"):
        read_embeddings(path, size=SIZE)


def test_a_member_that_is_smaller_than_the_directory_says(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.save(buffer, unit_rows())
    path = Path(archive(tmp_path / "torn.npz", buffer.getvalue()))
    content = bytearray(path.read_bytes())
    directory = content.rindex(b"PK\x01\x02")
    content[directory + 24 : directory + 28] = struct.pack("<I", len(buffer.getvalue()) + 64)
    path.write_bytes(content)
    with pytest.raises(InputError):
        read_embeddings(str(path), size=SIZE)


def test_damaged_compressed_bytes(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.save(buffer, unit_rows(200))
    path = Path(archive(tmp_path / "torn.npz", buffer.getvalue()))
    content = bytearray(path.read_bytes())
    for place in range(200, 400):
        content[place] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"not a whole \.npz"):
        read_embeddings(str(path), size=SIZE)


def test_an_archive_cut_short(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", unit_rows())
    path = tmp_path / "a.npz"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(InputError, match=r"not a whole \.npz"):
        read_embeddings(str(path), size=SIZE)


def test_an_encrypted_member(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.save(buffer, unit_rows())
    path = Path(archive(tmp_path / "locked.npz", buffer.getvalue()))
    content = bytearray(path.read_bytes())
    content[6] |= 1
    content[content.rindex(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="encrypted"):
        read_embeddings(str(path), size=SIZE)


@pytest.mark.parametrize("content", [b"PK but no zip", b"name,vector\n", b"\x89PNG\r\n", b"PK\x05\x06" + bytes(18)])
def test_neither_array_nor_archive(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(InputError):
        read_embeddings(str(tmp_path / "x.npz"), size=SIZE)


# --- where they come from


def feed(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(content)))


@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_standard_input(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    buffer = io.BytesIO()
    if kind == "npy":
        np.save(buffer, unit_rows())
    else:
        np.savez(buffer, a=unit_rows(), b=np.arange(3))
    feed(monkeypatch, buffer.getvalue())
    rows = read_embeddings("-", size=SIZE, key="a" if kind == "npz" else None).rows
    np.testing.assert_allclose(rows, unit_rows(), atol=1e-6)


@pytest.mark.parametrize("content", [b"", b"hello"])
def test_standard_input_that_is_no_array(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    feed(monkeypatch, content)
    with pytest.raises(InputError, match="standard input"):
        read_embeddings("-", size=SIZE)


def test_endless_standard_input_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("arcinvert.embeddings.LIMIT", 1000)
    feed(monkeypatch, bytes(5000))
    with pytest.raises(InputError, match="larger than"):
        read_embeddings("-", size=SIZE)


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        read_embeddings(str(tmp_path / "none.npy"), size=SIZE)
    with pytest.raises(InputError, match="cannot read"):
        read_embeddings(str(tmp_path), size=SIZE)


def test_no_embedding_is_printed_by_a_message(tmp_path: Path) -> None:
    rows = unit_rows()
    rows[2, 0] = np.nan
    with pytest.raises(InputError) as caught:
        read_embeddings(write(tmp_path / "e.npy", rows), size=SIZE)
    assert not any(f"{value:.4f}" in str(caught.value) for value in rows.ravel())
    assert isinstance(check_embeddings(unit_rows(), SIZE), Embeddings)


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "bomb.npz", embeddings=np.zeros((1 << 18, 16), np.float32))
    with pytest.raises(InputError, match="unpacks to 16777344 bytes: a zip bomb"):
        read_embeddings(str(tmp_path / "bomb.npz"), size=16)


def test_a_name_in_an_archive_that_is_no_utf8(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, é=np.ones((2, 16)))
    path.write_bytes(path.read_bytes().replace("é".encode(), b"\xff\xff"))
    with pytest.raises(InputError, match=r"not a whole \.npz"):
        read_embeddings(str(path), size=16)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with names")
def test_pipes_and_devices_are_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.npy")
    for path in (tmp_path / "pipe.npy", Path("/dev/zero")):
        with pytest.raises(InputError, match="no regular file"):
            read_embeddings(str(path), size=16)
