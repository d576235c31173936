"""Formats of one embedding: a list, bytes, ``.npy`` in a blob, JSON or ``[0.1, 0.2]`` as text."""

import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from arcinvert.embeddings import DAMAGED
from arcinvert.errors import InputError

Rows = NDArray[np.float32]
Mask = NDArray[np.bool_]

BLOBS = ("<f4", "<f8", "<f2")
"""Number formats of a blob, in the order in which they are tried."""
TEXT = 1 << 20
"""Largest text of one embedding, in characters."""
NPY = b"\x93NUMPY"


@dataclass(frozen=True)
class Reader:
    """The conversion of one value to numbers.

    Attributes:
        blob: type of the numbers in a blob; ``pgvector`` and ``pghalfvec`` are PostgreSQL's own, with a header.
    """

    blob: str = "<f4"

    @classmethod
    def for_values(cls, values: Sequence[object], name: str) -> "Reader":
        """The reader whose numbers look like an embedding, for the first values of a store.

        Raises:
            InputError: blobs in an unknown format.
        """
        blobs = [bytes(v) for v in values if isinstance(v, bytes | bytearray | memoryview) and len(v)]
        plain = [blob for blob in blobs if not blob.startswith(NPY) and not is_pickle(blob)]
        if blobs and all(value is None or is_pickle(value) for value in values):
            raise InputError(f"{name} holds pickles; pickles run code and are not read")
        if not plain:
            return cls()
        for kind in BLOBS:
            fitting = [blob for blob in plain if _likely(blob, kind)]
            if 2 * len(fitting) > len(plain):
                return cls(kind)
        raise InputError(f"{name} holds blobs of {len(plain[0])} bytes that are no float32, float64 or float16 numbers")

    def __call__(self, value: object) -> NDArray[np.generic]:
        """(D,) of one value.

        Raises:
            ValueError: it is not a row of numbers.
        """
        if isinstance(value, str):
            return _text(value)
        if isinstance(value, bytes | bytearray | memoryview):
            return self._bytes(bytes(value))
        if not isinstance(value, list | tuple | np.ndarray):
            raise ValueError("neither a list nor bytes nor text")
        try:
            row = np.asarray(value, None if isinstance(value, np.ndarray) else np.float64)
        except (TypeError, OverflowError):
            raise ValueError("a list of something else") from None
        return _flat(row)

    def _bytes(self, value: bytes) -> NDArray[np.generic]:
        if self.blob.startswith("pg"):
            return np.frombuffer(value, ">f4" if self.blob == "pgvector" else ">f2", offset=4)
        if value.startswith(NPY):
            try:
                return _flat(npy.read_array(io.BytesIO(value), allow_pickle=False, max_header_size=10_000))
            except DAMAGED:
                raise ValueError("a damaged .npy") from None
        return np.frombuffer(value, self.blob)


def matrix(values: Sequence[object], size: int, reader: Reader) -> tuple[Rows, Mask, Mapping[str, int]]:
    """Values as rows.

    Returns:
        (n, size) float32, zero where nothing could be read; (n,) whether a row could be read; and counts of the reasons
        ``null``, ``ragged``, ``unreadable`` and ``pickle``.
    """
    rows, kept = np.zeros((len(values), size), np.float32), np.zeros(len(values), bool)
    skipped: Counter[str] = Counter()
    with np.errstate(over="ignore", invalid="ignore"):
        for number, value in enumerate(values):
            if value is None:
                skipped["null"] += 1
                continue
            try:
                row = reader(value)
            except ValueError:
                skipped["pickle" if is_pickle(value) else "unreadable"] += 1
                continue
            if len(row) != size:
                skipped["pickle" if is_pickle(value) else "ragged"] += 1
                continue
            rows[number], kept[number] = row, True
    return rows, kept, dict(skipped)


def size_of(values: Sequence[object], reader: Reader, name: str) -> int:
    """D: the most frequent length.

    Raises:
        InputError: no value is a vector.
    """
    lengths: Counter[int] = Counter()
    for value in values:
        try:
            if value is not None:
                lengths[len(reader(value))] += 1
        except ValueError:
            continue
    if not lengths:
        raise InputError(f"expected embeddings, the first {len(values)} rows of {name} hold none")
    return lengths.most_common(1)[0][0]


def is_pickle(value: object) -> bool:
    """Whether bytes begin and end like a pickle; so does one blob of numbers in four million."""
    if not isinstance(value, bytes | bytearray | memoryview):
        return False
    blob = bytes(value)
    return len(blob) > 2 and blob[0] == 0x80 and 2 <= blob[1] <= 5 and blob[-1:] == b"."


def _text(value: str) -> NDArray[np.generic]:
    inner = value.strip()
    if len(inner) > TEXT:
        raise ValueError("a long text")
    if inner.startswith("[["):  # (1, D), as some write it
        try:
            return _flat(np.asarray(json.loads(inner), np.float64))
        except (TypeError, RecursionError, OverflowError):
            raise ValueError("not JSON") from None
    if inner[:1] + inner[-1:] in ("[]", "()", "{}"):
        inner = inner[1:-1]
    parts = inner.split(",") if "," in inner else inner.split()  # as JSON and PostgreSQL, or numpy, write it
    return np.array(parts, np.float64)


def _flat(row: NDArray[np.generic]) -> NDArray[np.generic]:
    row = row[0] if row.ndim == 2 and len(row) == 1 else row
    if row.ndim != 1 or row.dtype.kind not in "fiu":
        raise ValueError("not a row of numbers")
    return row


def _likely(blob: bytes, kind: str) -> bool:
    """Whether the numbers are finite and of similar magnitude; bytes read as a wrong type are not."""
    if len(blob) % np.dtype(kind).itemsize:
        return False
    with np.errstate(invalid="ignore"):
        wide = np.abs(np.frombuffer(blob, kind).astype(np.float64))
    if not np.isfinite(wide).all():
        return False
    typical = float(np.median(wide))
    return 1e-5 < typical < 1e3 and wide.max() < 1e3 * typical
