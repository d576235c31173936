"""Formats of one embedding: a list, bytes, ``.npy`` in a blob, JSON or ``[0.1, 0.2]`` as text."""

import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from arcinvert.audit.stores.blobs import NUMBERS, decode, number_format
from arcinvert.audit.stores.cells import coded_bytes, coding_of, numbers_in, shown, text_of
from arcinvert.embeddings import read_array
from arcinvert.errors import InputError

Rows = NDArray[np.float32]
Mask = NDArray[np.bool_]

NPY = b"\x93NUMPY"


@dataclass(frozen=True)
class Reader:
    """The conversion of one value to numbers.

    Attributes:
        blob: type of the numbers in a blob, a value of :data:`NUMBERS`; ``pgvector`` and ``pghalfvec`` are
            PostgreSQL's own, with a header.
        coding: ``hex`` or ``base64`` if text holds bytes; None if it holds numbers.
    """

    blob: str = "<f4"
    coding: str | None = None

    @classmethod
    def for_values(cls, values: Sequence[object], name: str, numbers: str | None = None) -> "Reader":
        """The reader whose numbers look like an embedding, for the first values of a store.

        Args:
            values: the first of the store.
            name: of the store, for messages.
            numbers: the format of blobs, a key of :data:`NUMBERS`; default: the one that the values are evidence for.

        Raises:
            InputError: blobs in an unknown format, or in one of several.
        """
        blobs = [bytes(v) for v in values if isinstance(v, bytes | bytearray | memoryview) and len(v)]
        coding = None
        if not blobs:
            texts = [value for value in values if isinstance(value, str) and value]
            coding = coding_of(texts)
            blobs = list(_decoded(texts, coding)) if coding else []
        plain = [b for b in blobs if not b.startswith(NPY) and not is_pickle(b) and text_of(b) is None]
        if blobs and all(value is None or is_pickle(value) for value in values):
            raise InputError(f"{name} holds pickles; pickles run code and are not read")
        if not plain:
            return cls(coding=coding)
        return cls(number_format(plain, name) if numbers is None else NUMBERS[numbers], coding)

    @property
    def format(self) -> str:
        """The format of blobs, for messages."""
        numbers = next((label for label, kind in NUMBERS.items() if kind == self.blob), self.blob)
        return f"{numbers} in {self.coding}" if self.coding else numbers

    def __call__(self, value: object) -> NDArray[np.generic]:
        """(D,) of one value.

        Raises:
            ValueError: it is not a row of numbers.
        """
        if isinstance(value, str):
            return self._bytes(coded_bytes(value, self.coding)) if self.coding else _flat(numbers_in(value))
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
                return _flat(read_array(io.BytesIO(value), lambda start: len(value) - start, "the blob"))
            except InputError:
                raise ValueError("a damaged .npy") from None
        text = text_of(value)
        if text is not None:
            try:
                return _flat(numbers_in(text))
            except ValueError:
                pass  # numbers whose first and last byte are brackets
        return decode(value, self.blob)


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
            if value is None or (isinstance(value, str | bytes) and not value):
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
        first = next((value for value in values if value is not None), None)
        raise InputError(
            f"expected embeddings, the first {len(values)} rows of {name} hold none; the first value is {shown(first)}"
        )
    return lengths.most_common(1)[0][0]


def is_pickle(value: object) -> bool:
    """Whether bytes begin and end like a pickle; so does one blob of numbers in four million."""
    if not isinstance(value, bytes | bytearray | memoryview):
        return False
    blob = bytes(value)
    return len(blob) > 2 and blob[0] == 0x80 and 2 <= blob[1] <= 5 and blob[-1:] == b"."


def _decoded(texts: Sequence[str], coding: str) -> Iterator[bytes]:
    for text in texts:
        try:
            yield coded_bytes(text, coding)
        except ValueError:
            continue


def _flat(row: NDArray[np.generic]) -> NDArray[np.generic]:
    row = row[0] if row.ndim == 2 and len(row) == 1 else row
    if row.ndim != 1 or row.dtype.kind not in "fiu":
        raise ValueError("not a row of numbers")
    return row
