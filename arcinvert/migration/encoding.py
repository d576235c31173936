"""Values of an embedding as a store keeps them: bytes, ``.npy`` in a blob, JSON or text, like the value replaced."""

import base64
import binascii
import io
import json
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arcinvert.audit.stores.cells import list_of, numbers_in, text_of
from arcinvert.audit.stores.vectors import NPY, Reader, matrix
from arcinvert.errors import InputError
from arcinvert.mapping.linear_map import Rows


def encode(old: object, row: Rows, reader: Reader, *, whole: bool = False) -> str | bytes:
    """An embedding in the form of a value that a store holds.

    Args:
        old: the value, text or bytes, that ``reader`` read.
        row: (K,) the new embedding.
        reader: of the store.
        whole: round where ``old`` holds whole numbers; float32 takes their place otherwise.
    """
    if isinstance(old, str):
        return _coded(old, row, reader, whole) if reader.coding else _text(old, row, whole)
    blob = bytes(old) if isinstance(old, bytes | bytearray | memoryview) else b""
    if blob.startswith(NPY):
        kept = np.lib.format.read_array(io.BytesIO(blob), allow_pickle=False, max_header_size=10_000)
        stream = io.BytesIO()
        np.save(stream, as_type(row, kept.dtype, whole).reshape((1,) * (kept.ndim - 1) + (-1,)))
        return stream.getvalue()
    text = text_of(blob)
    if text is not None:
        try:
            numbers_in(text)
        except ValueError:  # numbers whose first and last byte are brackets
            return to_bytes(row, reader.blob, whole)
        return _text(text, row, whole).encode()
    return to_bytes(row, reader.blob, whole)


def like(values: Iterable[object], size: int, reader: Reader) -> object:
    """The first value of a store that holds an embedding of ``size`` numbers.

    Raises:
        InputError: there is none.
    """
    for value in values:
        if matrix([value], size, reader)[1][0]:
            return value
    raise InputError(f"expected a row with an embedding of {size} numbers, got none")


def to_bytes(row: Rows, kind: str, whole: bool = False) -> bytes:
    """Numbers in a format of :data:`~arcinvert.audit.stores.blobs.NUMBERS`; see :func:`as_type`."""
    if kind == "bf2":
        bits = row.astype("<f4").view("<u4").astype(np.uint64)
        rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
        return rounded.astype("<u2").tobytes()
    return as_type(row, np.dtype(kind), whole).tobytes()


def as_type(rows: Rows, kind: "np.dtype[Any]", whole: bool) -> NDArray[np.generic]:
    """Numbers of a type; of a type of whole numbers, they are rounded if ``whole``, else they become float32."""
    if kind.kind == "f" or not whole:
        return rows.astype(float_type(kind))
    limits = np.iinfo(kind)
    return np.rint(rows).clip(limits.min, limits.max).astype(kind)


def float_type(kind: "np.dtype[Any]") -> "np.dtype[Any]":
    """The type itself if it holds fractions, else float32: mapped embeddings are not whole numbers."""
    return kind if kind.kind == "f" else np.dtype("<f4")


def numbers(row: NDArray[np.generic]) -> list[str]:
    """Each number with nine digits, which float32 needs."""
    return [f"{value:.9g}" for value in row.tolist()]


def _text(old: str, row: Rows, whole: bool) -> str:
    """A list in brackets; in a JSON object, the list under its key, the rest as it was."""
    texts = numbers(np.rint(row) if whole and not np.mod(numbers_in(old), 1).any() else row)
    listed = f"[{', '.join(texts)}]"
    if not old.lstrip().startswith("{"):
        return listed
    try:
        record = json.loads(old)
        key = list_of(record)
    except (ValueError, RecursionError):  # {0.1,0.2}, as PostgreSQL writes it
        return "{" + ",".join(texts) + "}"
    return json.dumps({**record, key: json.loads(listed)})


def _coded(old: str, row: Rows, reader: Reader, whole: bool) -> str:
    blob = to_bytes(row, reader.blob, whole)
    if reader.coding == "hex":
        prefix = next((mark for mark in ("\\x", "0x") if old.lstrip().startswith(mark)), "")
        return prefix + binascii.hexlify(blob).decode()
    return base64.b64encode(blob).decode()
