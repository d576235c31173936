"""Which column holds the embeddings, which says who it is, and what else lies beside them."""

import re
from collections.abc import Iterable, Mapping, Sequence

from arcinvert.audit.stores.store import Finding
from arcinvert.errors import InputError, UsageError

VECTOR_NAMES = (
    "embedding", "embeddings", "vector", "vectors", "feature", "features", "feat", "feats", "encoding",
    "face_embedding", "normed_embedding", "emb", "x", "arr_0",
)  # fmt: skip
IDENTITY_NAMES = (
    "identity", "identities", "person", "subject", "label", "labels", "name", "names",
    "identity_id", "person_id", "subject_id",
)  # fmt: skip
PERSONAL = re.compile(
    r"(?:full_?|first_?|last_?|user_?|sur)?name|identity|person|e?mail|phone|address|birth\w*|ssn", re.I
)
PICTURE = re.compile(
    r"(?:face|image|img|photo|picture|crop|thumb(?:nail)?|jpe?g|png)(?:_(?:bytes|blob|data|crop))?", re.I
)
PATH = re.compile(r"\w*(?:path|file|filename|url|uri|img_name)", re.I)
MAGIC = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"RIFF")
LEAST_WIDE = 8


def vector_column(columns: Sequence[str], wanted: str | None, where: str, *, likely: Sequence[str] = ()) -> str:
    """The column of the embeddings: the one that is asked for, or named as such, or the only ``likely`` one.

    Raises:
        UsageError: there is none of the name that is asked for.
        InputError: none can be guessed.
    """
    if wanted is not None:
        return named(columns, wanted, where)
    found = guess(columns, VECTOR_NAMES) or (likely[0] if len(likely) == 1 else None)
    if found is None:
        several = f"{', '.join(map(repr, likely[:10]))} might be" if likely else f"it has {_listed(columns)}"
        raise InputError(f"no column of {where} is named as embeddings are; {several}; choose one with --column")
    return found


def identity_column(columns: Sequence[str], wanted: str | None, where: str, *, vector: str) -> str | None:
    """The column that says who a row is: the one that is asked for, or named as such; or None.

    Raises:
        UsageError: there is none of the name that is asked for.
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
        raise UsageError(f"{where} has no column {wanted!r}, but {_listed(columns)}")
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


def beside(row: Mapping[str, object], *, vector: Iterable[str], identity: str | None) -> list[Finding]:
    """What lies beside the embeddings, by the columns' names and the values of one row.

    Args:
        row: column -> value, None where it is not known.
        vector: columns of the embeddings.
        identity: the column that says who a row is, or None.
    """
    skipped = set(vector)
    pictures, personal, paths = [], [], []
    for column, value in row.items():
        if column in skipped:
            continue
        if isinstance(value, Mapping):  # a picture of Hugging Face's: {bytes, path}
            value = value.get("bytes")
        encoded = isinstance(value, bytes | bytearray | memoryview) and bytes(value[:8]).startswith(MAGIC)
        if encoded or (PICTURE.fullmatch(column) and not isinstance(value, int | float)):
            pictures.append(column)
        elif PERSONAL.fullmatch(column) or column == identity:
            personal.append(column)
        elif PATH.fullmatch(column):
            paths.append(column)
    found = []
    if pictures:
        found.append(
            Finding("faces", "problem", f"pictures lie beside the embeddings: {_listed(pictures)}", len(pictures))
        )
    if personal:
        text = f"columns beside the embeddings say who the people are: {_listed(personal)}"
        found.append(Finding("names", "warning", text, len(personal)))
    if paths:
        text = f"columns beside the embeddings say where files lie: {_listed(paths)}"
        found.append(Finding("paths", "warning", text, len(paths)))
    return found


def _listed(columns: Sequence[str]) -> str:
    more = f" and {len(columns) - 10} more" if len(columns) > 10 else ""
    return (", ".join(repr(column[:100]) for column in columns[:10]) or "none") + more
