"""Text files: label files and pair lists."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from arcinvert.errors import InputError
from arcinvert.evaluation.allpairs.search import Index, Labels
from arcinvert.faces.listing import is_image
from arcinvert.file_bytes import read_bytes

MAX_TEXT = 1 << 28
"""Largest size of a list, in bytes."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of images to compare.

    Attributes:
        files: (F,) each image once, in order of appearance.
        first, second: (P,) int64 positions in ``files``.
        same: (P,) bool, whether both images show one person.
        folds: (P,) int64 from 0, or None if the list has no folds.
    """

    files: tuple[Path, ...]
    first: Index
    second: Index
    same: NDArray[np.bool_]
    folds: Index | None


def read_labels(path: Path) -> tuple[Labels, tuple[str, ...]]:
    """Read a file with one label per line, UTF-8.

    Returns:
        (N,) positions in the sorted names, and the names.

    Raises:
        InputError: no such file, an empty file, a blank line, or not UTF-8; the message names the line.
    """
    lines = _lines(path, "the labels")
    for number, line in enumerate(lines, start=1):
        if not line:
            raise InputError(f"expected a label a line in {str(path)!r}, line {number} is blank")
    names, labels = np.unique(np.array(lines, dtype=object), return_inverse=True)
    return labels.astype(np.int64), tuple(map(str, names))


def read_pairs(path: Path, folder: Path) -> Pairs:
    """Read a pair list in one of two layouts.

    LFW's ``pairs.txt``: a header ``folds pairs`` (or ``pairs`` alone: no folds), then for each fold ``pairs`` lines
    ``name n1 n2`` and ``pairs`` lines ``name1 n1 name2 n2``; image n of a name is ``name/name_000n`` with any suffix of
    an image. Plain: lines ``path_a path_b 0|1``, separated by tabs, commas or spaces; 1 means one person.

    Args:
        path: the list, UTF-8.
        folder: the names in the list are relative to it.

    Raises:
        InputError: no such file or folder, a line of another layout (the message names it), a header that does not
            fit, or missing images (the message names the first five).
    """
    if not folder.is_dir():
        raise InputError(f"expected a folder of pictures, got {str(folder)!r}")
    lines = _lines(path, "the pair list")
    if bad := next((number for number, line in enumerate(lines, start=1) if "\0" in line), 0):
        raise InputError(f"{str(path)!r}, line {bad}: a NUL in the name of a picture")
    header = lines[0].split()
    found: dict[str, int] = {}
    pairs: list[tuple[int, int, bool]] = []
    is_lfw = len(header) in (1, 2) and all(part.isdecimal() and len(part) < 10 for part in header)
    for number, line in enumerate(lines[is_lfw:], start=1 + is_lfw):
        try:
            one, other, same = _lfw_line(line) if is_lfw else _plain_line(line)
        except ValueError as error:
            raise InputError(f"{str(path)!r}, line {number}: {error}, got {line[:100]!r}") from None
        if one == other:
            raise InputError(f"{str(path)!r}, line {number}: a picture is paired with itself")
        pairs.append((found.setdefault(one, len(found)), found.setdefault(other, len(found)), same))
    folds = _folds(header, [same for *_, same in pairs], str(path)) if is_lfw else None
    if not pairs:
        raise InputError(f"expected pairs after the header of {str(path)!r}, found none")
    try:
        files = _resolve(list(found), folder, is_lfw)
    except OSError as error:  # a name that is too long
        raise InputError(f"{str(path)!r} names a picture that cannot be: {error.strerror or error}") from None
    first, second, truths = zip(*pairs, strict=True)
    return Pairs(files, np.array(first, np.int64), np.array(second, np.int64), np.array(truths, bool), folds)


def _lines(path: Path, what: str) -> list[str]:
    """The lines of a text file, stripped."""
    try:
        content = read_bytes(path, MAX_TEXT)
    except OSError as error:
        raise InputError(f"cannot read {what} {str(path)!r}: {error.strerror or error}") from None
    try:
        lines = content.decode("utf-8-sig").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        number = content[: error.start].count(b"\n") + 1
        raise InputError(f"expected UTF-8 in {what} {str(path)!r}, line {number} is not") from None
    if not content.strip():
        raise InputError(f"expected lines in {what} {str(path)!r}, found none")
    return [line.strip() for line in lines]


def _lfw_line(line: str) -> tuple[str, str, bool]:
    match line.split():
        case [name, one, other] if one.isdecimal() and other.isdecimal():
            return _lfw_name(name, one), _lfw_name(name, other), True
        case [name, one, second, other] if one.isdecimal() and other.isdecimal() and name != second:
            return _lfw_name(name, one), _lfw_name(second, other), False
    raise ValueError("expected 'name n1 n2' or 'name1 n1 name2 n2'")


def _lfw_name(name: str, number: str) -> str:
    return f"{name}/{name}_{int(number):04d}"


def _plain_line(line: str) -> tuple[str, str, bool]:
    separator = next((mark for mark in "\t," if mark in line), None)
    match [part.strip() for part in line.split(separator)]:
        case [one, other, ("0" | "1") as same] if one and other:
            return one, other, same == "1"
    raise ValueError("expected 'path_a path_b 0|1'")


def _folds(header: list[str], same: list[bool], source: str) -> Index | None:
    folds, pairs = map(int, header if len(header) == 2 else ["1", *header])
    if 2 * folds * pairs != len(same) or ([True] * pairs + [False] * pairs) * folds != same:
        raise InputError(
            f"{source!r} says {folds} folds of {pairs} genuine and then {pairs} impostor pairs, "
            f"but has {sum(same)} and {len(same) - sum(same)} or another order"
        )
    return np.arange(len(same), dtype=np.int64) // (2 * pairs) if len(header) == 2 else None


def _resolve(names: list[str], folder: Path, any_suffix: bool) -> tuple[Path, ...]:
    there: dict[Path, dict[str, Path]] = {}
    files: list[Path | None] = []
    for name in names:
        path = folder / name
        if not any_suffix:
            files.append(path if path.is_file() else None)
            continue
        if path.parent not in there:
            inside = sorted(path.parent.iterdir()) if path.parent.is_dir() else []
            there[path.parent] = {p.stem: p for p in sorted(inside, key=is_image)}  # an image before other files
        files.append(there[path.parent].get(path.name))
    missing = [name for name, path in zip(names, files, strict=True) if path is None]
    if missing:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        listed = ", ".join(map(repr, missing[:5]))
        raise InputError(f"the pair list names pictures that {str(folder)!r} does not hold: {listed}{more}")
    return tuple(path for path in files if path is not None)
