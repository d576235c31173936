import base64
import io
import json

import numpy as np
import pytest

from arcinvert.audit.stores.vectors import Reader, is_pickle, matrix, size_of
from arcinvert.errors import InputError

ROWS = np.random.default_rng(0).normal(size=(40, 48)).astype(np.float32) / 7


def npy(row: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, row)
    return file.getvalue()


@pytest.mark.parametrize(
    "write",
    [
        lambda row: row.tolist(),
        lambda row: tuple(row),
        lambda row: row,
        lambda row: row[None],
        lambda row: [row.tolist()],
        lambda row: json.dumps(row.tolist()),
        lambda row: json.dumps([row.tolist()]),
        lambda row: "{" + ",".join(map(str, row)) + "}",
        lambda row: str(row.tolist()).replace(",", ""),
        lambda row: "\n".join(map(str, row)),
        lambda row: " ( " + ", ".join(map(repr, row.tolist())) + " ) ",
        lambda row: row.tobytes(),
        lambda row: memoryview(row.tobytes()),
        lambda row: row.astype(np.float64).tobytes(),
        npy,
        lambda row: npy(row[None].astype(">f8")),
        lambda row: str(list(row)),  # [np.float32(0.1), ...]
        lambda row: f"array({row.tolist()}, dtype=float32)",
        lambda row: f"tensor([{row.tolist()}], device='cuda:0', grad_fn=<DivBackward0>)",
        lambda row: "[" + ", ".join(f"tensor({x}, device='cpu')" for x in row.tolist()) + "]",
        lambda row: f"[[{' '.join(map(str, row))}]]",
        lambda row: json.dumps(list(map(str, row))),
        lambda row: json.dumps({"model": "arc", "embedding": row.tolist()}),
        lambda row: json.dumps([row.tolist()]).encode(),
        lambda row: "; ".join(map(str, row)).replace(".", ","),
        lambda row: ", ".join(map(str, row)).replace(".", ","),
        lambda row: "[" + " ".join(map(str, row)).replace(".", ",") + "]",
        lambda row: base64.b64encode(row.tobytes()).decode(),
        lambda row: base64.urlsafe_b64encode(row.astype(np.float64).tobytes()).decode().rstrip("="),
        lambda row: "\\x" + row.tobytes().hex(),
        lambda row: row.astype(">f4").tobytes(),
    ],
)
def test_however_it_is_written(write) -> None:
    values = [write(row) for row in ROWS]
    reader = Reader.for_values(values, "it")
    assert size_of(values, reader, "it") == 48
    rows, kept, skipped = matrix(values, 48, reader)
    assert kept.all()
    assert not skipped
    assert np.abs(rows - ROWS).max() < 1e-7


@pytest.mark.parametrize(("kind", "tolerance"), [("<f2", 1e-3), ("<f4", 0), ("<f8", 0)])
@pytest.mark.parametrize("scale", [0.04, 1.0, 20.0])
@pytest.mark.parametrize("size", [64, 512])
def test_blobs_are_told_apart(kind: str, tolerance: float, scale: float, size: int) -> None:
    rows = np.random.default_rng(3).normal(size=(30, size)).astype(np.float32) * np.float32(scale)
    values = [row.astype(kind).tobytes() for row in rows]
    reader = Reader.for_values(values, "it")
    assert reader.blob == kind
    assert np.abs(matrix(values, size, reader)[0] - rows).max() <= tolerance * 4 * scale


def bfloat16(rows: np.ndarray) -> np.ndarray:
    return (np.ascontiguousarray(rows, "<f4").view("<u4") >> 16).astype("<u2")


@pytest.mark.parametrize("scale", [0.04, 1.0, 20.0])
def test_blobs_whose_numbers_were_halves_before(scale: float) -> None:
    rows = np.random.default_rng(4).normal(size=(30, 128)).astype(np.float32) * np.float32(scale)
    rough = (bfloat16(rows).astype("<u4") << 16).view("<f4")
    for values, kind in (
        (rows.astype(np.float16).astype("<f8"), "<f8"),
        (rows.astype(np.float16).astype("<f4"), "<f4"),
        (rough.astype("<f8"), "<f8"),
        (rough, "<f4"),
        (np.maximum(rows, 0).astype("<f8"), "<f8"),
        (np.sign(rows).astype("<f4"), "<f4"),
        (np.sign(rows).astype("<f8"), "<f8"),
    ):
        blobs = [row.tobytes() for row in values]
        reader = Reader.for_values(blobs, "it")
        assert reader.blob == kind
        assert np.array_equal(matrix(blobs, 128, reader)[0], values.astype(np.float32))
    blobs = [row.tobytes() for row in bfloat16(rows)]
    assert np.array_equal(matrix(blobs, 128, Reader.for_values(blobs, "it"))[0], rough)


def test_two_readings_of_a_blob_are_both_named() -> None:
    blobs = [row.tobytes() for row in np.sign(ROWS).astype("<f2")]
    with pytest.raises(InputError, match=r"float16 \(-?1, .*bfloat16 \(-?0.0078.*--numbers"):
        Reader.for_values(blobs, "it")
    reader = Reader.for_values(blobs, "it", "float16")
    assert np.array_equal(matrix(blobs, 48, reader)[0], np.sign(ROWS))
    quantized = [row.tobytes() for row in np.round(ROWS * 100).astype("i1")]
    with pytest.raises(InputError, match=r"48 bytes.*the first begins with"):
        Reader.for_values(quantized, "it")
    assert matrix(quantized, 48, Reader.for_values(quantized, "it", "int8"))[1].all()


def test_no_cell_is_evaluated() -> None:
    cells = ["__import__('os').system('false')", "[np.float32(1), exec(1)]", "tensor([1, 2], x=[3])", "[0.1 ... 0.2]"]
    for cell in cells:
        with pytest.raises(ValueError, match=r"."):
            Reader()(cell)


def test_what_cannot_be_read_is_counted() -> None:
    good = ROWS[0].tolist()
    values = [
        good, None, good[:-1], [], "", "nonsense", "[1, 2", 5, {"a": 1}, ["a"] * 48, [10**400] * 48, [[1, 2], [3]],
        "[" * 5000, "1," * 900_000, b"\x80\x04garbage.", npy(ROWS[0])[:-3], "[[" + "1," * 47 + "null]]", [None] * 48,
    ]  # fmt: skip
    rows, kept, skipped = matrix(values, 48, Reader())
    assert np.flatnonzero(kept).tolist() == [0, len(values) - 2, len(values) - 1]  # a null within a row is NaN
    assert np.isnan(rows[-1]).all()
    assert skipped == {"null": 2, "ragged": 2, "unreadable": 10, "pickle": 1}


def test_numbers_that_begin_as_a_pickle_does_are_numbers() -> None:
    blob = b"\x80\x04" + ROWS[0].tobytes()[2:-1] + b"."
    assert is_pickle(blob)
    assert matrix([ROWS[1].tobytes(), blob], 48, Reader())[1].all()


def test_overflow_becomes_infinite() -> None:
    rows, kept, _ = matrix([[1e300, 1.0], "[NaN, -1e999]"], 2, Reader())
    assert kept.all()
    assert rows[0, 0] == np.inf
    assert np.isnan(rows[1, 0])


def test_a_store_of_nothing_else_is_refused() -> None:
    with pytest.raises(InputError, match="pickles run code"):
        Reader.for_values([b"\x80\x04abc."] * 3, "it")
    with pytest.raises(InputError, match="blobs of 37 bytes"):
        Reader.for_values([bytes(range(37))] * 3, "it")
    with pytest.raises(InputError, match="the first 2 rows of it hold none; the first value is 'word'"):
        size_of([None, "word"], Reader(), "it")
