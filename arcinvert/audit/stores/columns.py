"""Finding the column of the embeddings and the column that names the people."""

import re
from collections.abc import Iterable, Sequence

from arcinvert.errors import InputError, UsageError

VECTOR_NAMES = (
    "embedding", "embeddings", "vector", "vectors", "feature", "features", "feat", "feats", "encoding",
    "face_embedding", "normed_embedding", "emb", "x", "arr_0",
)  # fmt: skip
IDENTITY_NAMES = (
    "identity", "identities", "person", "subject", "label", "labels", "name", "names",
    "identity_id", "person_id", "subject_id",
)  # fmt: skip
LEAST_WIDE = 8


def vector_column(columns: Sequence[str], wanted: str | None, where: str, *, likely: Sequence[str] = ()) -> str:
    """The column of the embeddings: ``wanted``, or one with a usual name, or the only ``likely`` one.

    Raises:
        UsageError: there is no column ``wanted``.
        InputError: none can be guessed.
    """
    if wanted is not None:
        return named(columns, wanted, where)
    found = guess(columns, VECTOR_NAMES) or (likely[0] if len(likely) == 1 else None)
    if found is None:
        several = f"{', '.join(map(repr, likely[:10]))} might be" if likely else f"it has {listed(columns)}"
        raise InputError(f"no column of {where} has a usual name for embeddings; {several}; choose one with --column")
    return found


def identity_column(columns: Sequence[str], wanted: str | None, where: str, *, vector: str) -> str | None:
    """The column that names the people: ``wanted``, or one with a usual name; or None.

    Raises:
        UsageError: there is no column ``wanted``.
    """
    if wanted is not None:
        return named(columns, wanted, where)
    return guess([column for column in columns if column != vector], IDENTITY_NAMES)


def named(columns: Sequence[str], wanted: str, where: str) -> str:
    """``wanted``, if it is there.

    Raises:
        UsageError: it is not.
    """
    if wanted not in columns:
        raise UsageError(f"{where} has no column {wanted!r}, but {listed(columns)}")
    return wanted


def guess(columns: Iterable[str], names: Sequence[str]) -> str | None:
    """The column whose name, in any case, comes first in ``names``."""
    lower: dict[str, str] = {}
    for column in columns:
        lower.setdefault(column.lower(), column)
    return next((lower[name] for name in names if name in lower), None)


def wide_columns(columns: Sequence[str]) -> list[str]:
    """The columns of a table with one number a column: ``e0, e1, ...``, the longest such run by number, or none."""
    runs: dict[str, dict[int, str]] = {}
    for column in columns:
        match = re.fullmatch(r"(\D*?)(\d{1,6})", column)
        if match:
            runs.setdefault(match[1], {})[int(match[2])] = column
    best = max(runs.values(), key=len, default={})
    numbers = sorted(best)
    whole = len(numbers) >= LEAST_WIDE and numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    return [best[number] for number in numbers] if whole else []


def listed(columns: Sequence[str]) -> str:
    """Names of columns for a message, at most ten of them."""
    more = f" and {len(columns) - 10} more" if len(columns) > 10 else ""
    return (", ".join(repr(column[:100]) for column in columns[:10]) or "none") + more
