"""CSV files of templates: their members, the pairs to compare, and the sets of probes and galleries.

Members: ``template,subject,media,row[,score]``, one member per line; ``row`` counts from 0. Pairs:
``template_a,template_b``. Sets: ``template,set``, where a set is ``probe`` or the name of a gallery. Names of
templates, subjects, media and galleries are free.
"""

import csv
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from arcinvert.errors import InputError
from arcinvert.evaluation.allpairs.search import Index
from arcinvert.evaluation.protocols.templates import Members
from arcinvert.file_bytes import check_regular

PROBE = "probe"
MAX_FILE = 2 << 30
"""Largest size of a list, in bytes."""


def read_members(path: Path) -> tuple[Members, tuple[str, ...]]:
    """Read a list of members; returns them and the names of the templates in order of appearance.

    Raises:
        InputError: no such file, not such a list (the message names the line), or a template of two subjects.
    """
    templates: dict[str, int] = {}
    subjects: dict[str, int] = {}
    media: dict[str, int] = {}
    of_template: list[int] = []
    numbers: list[tuple[int, int, int]] = []
    scores: list[float] = []
    lines = _read(path, ("template", "subject", "media", "row"), optional=("score",))
    for line, (template, subject, medium, row, *score) in lines:
        number = templates.setdefault(template, len(templates))
        person = subjects.setdefault(subject, len(subjects))
        if number == len(of_template):
            of_template.append(person)
        elif of_template[number] != person:
            raise InputError(f"{str(path)!r}, line {line}: template {template!r} is of a second subject, {subject!r}")
        if not row.isascii() or not row.isdigit() or len(row) > 12:
            raise InputError(f"{str(path)!r}, line {line}: expected a row number from 0, got {row[:40]!r}")
        numbers.append((number, media.setdefault(medium, len(media)), int(row)))
        scores += [_score(text, path, line) for text in score]
    template_of, medium_of, row_of = np.array(numbers, np.int64).T
    weights = np.array(scores) if scores else None
    return Members(template_of, medium_of, row_of, np.array(of_template, np.int64), weights), tuple(templates)


def read_template_pairs(path: Path, names: Sequence[str]) -> Index:
    """(P, 2) positions in ``names``.

    Raises:
        InputError: no such file, not such a list, or a template that is not in ``names``.
    """
    known = {name: number for number, name in enumerate(names)}
    found = [
        (_position(one, known, path, line), _position(other, known, path, line))
        for line, (one, other) in _read(path, ("template_a", "template_b"))
    ]
    return np.array(found, np.int64)


def read_sets(path: Path, names: Sequence[str]) -> tuple[Index, tuple[Index, ...]]:
    """The probes, and the galleries in order of appearance, as positions in ``names``.

    Raises:
        InputError: no such file, not such a list, an unknown template, no probes or no gallery.
    """
    known = {name: number for number, name in enumerate(names)}
    sets: dict[str, list[int]] = {}
    for line, (template, kind) in _read(path, ("template", "set")):
        sets.setdefault(kind, []).append(_position(template, known, path, line))
    probes = sets.pop(PROBE, [])
    if not probes or not sets:
        raise InputError(f"expected templates of the set {PROBE!r} and of a gallery in {str(path)!r}, one is missing")
    return np.array(probes, np.int64), tuple(np.array(gallery, np.int64) for gallery in sets.values())


def _read(path: Path, wanted: Sequence[str], optional: Sequence[str] = ()) -> list[tuple[int, list[str]]]:
    """The wanted columns and the optional ones that exist, with the number of each line."""
    found: list[tuple[int, list[str]]] = []
    try:
        check_regular(path, MAX_FILE)
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            header = [name.strip() for name in next(reader, [])]
            missing = [name for name in wanted if name not in header]
            if missing:
                raise InputError(f"expected columns {','.join(wanted)} in {str(path)!r}, found no {missing[0]!r}")
            columns = [header.index(name) for name in (*wanted, *optional) if name in header]
            for cells in reader:
                if len(cells) != len(header):
                    counts = f"{len(header)} cells, got {len(cells)}"
                    raise InputError(f"{str(path)!r}, line {reader.line_num}: expected {counts}")
                found.append((reader.line_num, [cells[column].strip() for column in columns]))
    except OSError as error:
        raise InputError(f"cannot read {str(path)!r}: {error.strerror or error}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{str(path)!r} is not a CSV file in UTF-8: {error}") from None
    if not found:
        raise InputError(f"expected lines below the header of {str(path)!r}, found none")
    return found


def _score(text: str, path: Path, line: int) -> float:
    try:
        score = float(text)
    except ValueError:
        score = math.nan
    if not 0 <= score < math.inf:
        raise InputError(f"{str(path)!r}, line {line}: expected a detector score of at least 0, got {text[:40]!r}")
    return score


def _position(name: str, known: dict[str, int], path: Path, line: int) -> int:
    if name not in known:
        raise InputError(f"{str(path)!r}, line {line}: no member makes template {name[:80]!r}")
    return known[name]
