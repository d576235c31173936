"""Finding the column of the embeddings and the column that names the people."""

import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from arcinvert.errors import InputError, UsageError

log = logging.getLogger(__name__)

VECTOR_NAMES = (
    "embedding", "embeddings", "vector", "vectors", "feature", "features", "feat", "feats", "encoding",
    "face_embedding", "normed_embedding", "emb", "x", "arr_0",
)  # fmt: skip
IDENTITY_NAMES = (
    "identity", "identities", "person", "subject", "label", "labels", "name", "names",
    "identity_id", "person_id", "subject_id",
)  # fmt: skip
OTHER_NAMES = (
    "lmk", "lmks", "landmark", "landmarks", "kps", "keypoint", "keypoints", "pts", "point", "bbox", "box", "pose",
    "pixel", "px", "attr",
)  # fmt: skip
"""Prefixes of numbered columns that hold something else of a face."""
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


def wide_columns(columns: Sequence[str], wanted: str | None = None, where: str = "the table") -> list[str]:
    """The columns of a table with one number a column: ``e0, e1, ...``, by number, or none.

    Of several runs the one with a usual name is taken, ``emb_0`` before ``lmk_0``; ``wanted`` names one as ``emb_*``.

    Raises:
        InputError: two runs might be meant.
        UsageError: there is no run ``wanted``.
    """
    runs: dict[str, dict[int, str]] = {}
    for column in columns:
        match = re.fullmatch(r"(\D*?)(\d{1,6})", column)
        if match:
            runs.setdefault(match[1], {})[int(match[2])] = column
    whole = {p: run for p, run in runs.items() if len(run) >= LEAST_WIDE and max(run) - min(run) + 1 == len(run)}
    kinds = {prefix: prefix.strip(" _-.").lower() for prefix in whole}
    if wanted is not None:
        if wanted[:-1] not in whole:
            others = ", ".join(f"'{prefix}*'" for prefix in whole) or "none"
            raise UsageError(f"{where} has no numbered columns {wanted!r}; it has {others}")
        chosen = [wanted[:-1]]
    else:
        chosen = [prefix for prefix in whole if kinds[prefix] in VECTOR_NAMES]
        chosen = chosen or [prefix for prefix in whole if kinds[prefix] not in OTHER_NAMES]
    if len(chosen) > 1:
        readings = " or ".join(f"'{p}*' ({len(whole[p])} columns)" for p in chosen[:5])
        raise InputError(f"the embedding of {where} may be {readings}; choose one with --column")
    if not chosen:
        return []
    run = whole[chosen[0]]
    found = [run[number] for number in sorted(run)]
    if len(whole) > 1:
        log.info(
            "%s: columns %r to %r are read as the embedding, the other numbered columns are not",
            where,
            found[0],
            found[-1],
        )
    return found


@dataclass(frozen=True)
class NamesElsewhere:
    """Names in another table, ``TABLE.NAME=KEY``: column ``key`` of the embeddings' table is the key of ``table``."""

    table: str
    name: str
    key: str

    @classmethod
    def parse(cls, text: str) -> "NamesElsewhere":
        """Raises UsageError if the text is none."""
        place, _, key = text.partition("=")
        table, _, name = place.rpartition(".")
        if not (table and name and key):
            raise UsageError(f"expected TABLE.NAME=KEY, such as people.name=person_id, got {text!r}")
        return cls(table, name, key)

    def joined_by(self, columns: Sequence[str], keys: Sequence[str], where: str) -> str:
        """The column of ``table`` that ``key`` refers to: the primary key, or the column of the same name.

        Raises:
            UsageError: there is no such column, or no column ``name``.
        """
        named(columns, self.name, f"table {self.table!r} of {where}")
        if len(keys) == 1:
            return keys[0]
        return named(columns, self.key, f"table {self.table!r}, without a primary key of one column,")


def is_run(column: str | None, columns: Sequence[str]) -> bool:
    """Whether ``column`` names numbered columns, as ``emb_*``."""
    return column is not None and column.endswith("*") and column not in columns


def listed(columns: Sequence[str]) -> str:
    """Names of columns for a message, at most ten of them."""
    more = f" and {len(columns) - 10} more" if len(columns) > 10 else ""
    return (", ".join(repr(column[:100]) for column in columns[:10]) or "none") + more
