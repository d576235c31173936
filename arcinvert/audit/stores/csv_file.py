"""CSV files: a column of embeddings written as text, or a column for each number. No cell is ever evaluated."""

import csv
import itertools
import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from arcinvert.audit.stores.cells import DECIMAL_COMMA
from arcinvert.audit.stores.columns import (
    LEAST_WIDE,
    VECTOR_NAMES,
    guess,
    identity_column,
    is_run,
    vector_column,
    wide_columns,
)
from arcinvert.audit.stores.store import Contents, RawStore
from arcinvert.errors import InputError

log = logging.getLogger(__name__)

LINE = 1 << 22
"""Characters of a line; a longer one is refused."""
MOST_COLUMNS = 20_000
DELIMITERS = ",;\t"
SAMPLE = 200
"""Rows at the start in which the numbers are looked at."""
_THOUSANDS = re.compile(r"[-+]?[1-9]\d{0,2},\d{3}")
_WHOLE = re.compile(r"[-+]?\d+(?:\.0*)?")


class CsvStore(RawStore):
    """A CSV file in UTF-8 or UTF-16, separated by commas, semicolons, tabs or blanks.

    The first line holds column names or numbers; lines of comments before numbers, as ``numpy.savetxt`` writes them,
    are left out. A header ``0,1,2,...`` is a header.
    """

    kind = "csv"

    def __init__(
        self,
        path: Path,
        column: str | None = None,
        identity: str | None = None,
        numbers: str | None = None,
        header: bool | None = None,
    ) -> None:
        self.path, self.name, self.numbers = path, repr(str(path)), numbers
        with open(path, "rb") as binary:
            self.encoding = "utf-16" if binary.read(2) in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
        self.comments, self.delimiter = self._form()
        first = next(self._lines(), [])
        if not first:
            raise InputError(f"expected a table, {self.name} is empty")
        if len(first) > MOST_COLUMNS:
            raise InputError(f"expected at most {MOST_COLUMNS} columns, {self.name} has {len(first)}")
        names = self._names(first, header)
        if len(set(names)) != len(names):
            raise InputError(f"{self.name} has several columns of one name")
        self.names, self.width = names, len(names)
        run = column if is_run(column, names) else None
        plain = run is None and (column is not None or guess(names, VECTOR_NAMES[:-2]))
        wide = [] if plain else [name for name in wide_columns(names, run, self.name) if name != identity]
        self.decimal = False
        if wide:
            wide = self._wide(names, wide, sure=run is not None or identity is not None)
        self.vectors = [names.index(name) for name in wide or [vector_column(names, column, self.name)]]
        found = identity_column(names, identity, self.name, vector=names[self.vectors[0]])
        self.identity = None if found is None else names.index(found)
        rest = {name: None for n, name in enumerate(names) if n not in set(self.vectors)}
        self.contents = Contents(rest, found)
        self.settle(sum(1 for _ in self._rows()))

    def _form(self) -> tuple[int, str]:
        """The number of lines of comments before the table, and the mark between columns."""
        with open(self.path, encoding=self.encoding, errors="replace", newline="") as file:
            lines = [file.readline(LINE)]
            while lines[-1].startswith("#") and len(lines) < SAMPLE:
                lines.append(file.readline(LINE))
        for comments, line in ((len(lines) - 1, lines[-1]), (0, lines[0])):
            for mark in (";", "\t", ",", " "):
                cells = line.split(None if mark == " " else mark)
                if len(cells) > 1 and all(map(_is_number, cells)):
                    return comments, mark
        first = re.sub(r'"[^"]*"', "", lines[0]).partition('"')[0]
        return 0, max(DELIMITERS, key=first.count)

    def _names(self, header: list[str], headed: bool | None) -> list[str]:
        """Names of the columns, by the first line; sets whether it holds them, as ``headed`` says."""
        numeric = [_is_number(cell) for cell in header]
        fractions = sum(n and not _WHOLE.fullmatch(cell.strip()) for n, cell in zip(numeric, header, strict=True))
        counted = len(header) >= LEAST_WIDE and any(
            header == [str(n) for n in range(start, start + len(header))] for start in (0, 1)
        )
        if counted and headed is None:
            log.info("%s: the first line, %s, ..., %s, is read as a header", self.name, header[0], header[-1])
        texts = len(header) - sum(numeric)
        guessed = counted or not (not texts or (fractions >= LEAST_WIDE and texts <= 2))
        self.headed = guessed if headed is None else headed
        if self.headed:
            return header
        if texts and headed is None:
            log.info("%s: the first line holds numbers and is read as a row, not as a header", self.name)
        other = "name" if texts == 1 else "text"
        return [f"e{n}" if number else other + (f"{n}" if texts > 1 else "") for n, number in enumerate(numeric)]

    def _wide(self, names: list[str], wide: list[str], *, sure: bool) -> list[str]:
        """The columns of numbers; finds decimal commas, and a column that is no part of the embedding."""
        places = [names.index(name) for name in wide]
        sample = [row for row in itertools.islice(self._rows(), SAMPLE) if len(row) == len(names)]
        commas = [row[n].strip() for row in sample for n in places if "," in row[n]]
        if commas and all(map(DECIMAL_COMMA.fullmatch, commas)):
            if all(map(_THOUSANDS.fullmatch, commas)):
                raise InputError(
                    f"the comma in {commas[0]!r} of {self.name} may part thousands or decimals; write decimal points"
                )
            self.decimal = True
            log.info("%s: the comma in %r is read as a decimal comma", self.name, commas[0])
        whole = [name for name, n in zip(wide, places, strict=True) if _is_whole([row[n] for row in sample])]
        if sure or len(whole) != 1 or whole[0] not in (wide[0], wide[-1]):
            return wide
        odd, place = whole[0], names.index(whole[0])
        values = [int(float(row[place].replace(",", "."))) for row in sample]
        rest = [name for name in wide if name != odd]
        if values in (list(range(len(values))), list(range(1, len(values) + 1))):
            log.info("%s: column %r holds 0, 1, 2, ... and is read as the number of the row", self.name, odd)
            return rest
        every = re.sub(r"\d+$", "*", odd)
        raise InputError(
            f"column {odd!r} of {self.name} holds whole numbers ({sample[0][place]!r}) where {len(rest)} others hold "
            f"fractions: a person, or a number of the embedding? use --identity {odd!r} or --column {every!r}"
        )

    def records(self) -> Iterator[tuple[list[str], object]]:
        """Every row: its cells, and its embedding as :meth:`raw` gives it."""
        return ((row, self._value(row)) for row in self._rows())

    def raw(self, rows: int) -> Iterator[tuple[Sequence[object], Sequence[object] | None]]:
        values: list[object] = []
        names: list[object] = []
        for row in self._rows():
            values.append(self._value(row))
            names.append(row[self.identity] if self.identity is not None and self.identity < len(row) else None)
            if len(values) == rows:
                yield values, None if self.identity is None else names
                values, names = [], []
        if values:
            yield values, None if self.identity is None else names

    def _value(self, row: list[str]) -> object:
        if len(row) <= self.vectors[-1] or any(row[self.width :]):
            return "cut off"  # text that is no embedding
        if len(self.vectors) == 1:
            return row[self.vectors[0]] or None
        cells = [row[n] for n in self.vectors]
        return [cell.replace(",", ".") for cell in cells] if self.decimal else cells

    def _rows(self) -> Iterator[list[str]]:
        lines = self._lines()
        if self.headed:
            next(lines)
        return lines

    def _lines(self) -> Iterator[list[str]]:
        """Rows that are not blank, without the comments before them."""
        try:
            with open(self.path, encoding=self.encoding, errors="replace", newline="") as file:
                lines = self._bounded(iter(lambda: file.readline(LINE), ""))
                blanks = self.delimiter == " "
                rest = (line.strip() if blanks else line for line in itertools.islice(lines, self.comments, None))
                for row in csv.reader(rest, delimiter=self.delimiter, skipinitialspace=blanks):
                    if row:
                        yield row
        except (csv.Error, OSError, UnicodeError) as error:
            raise InputError(f"{self.name} is no CSV that can be read: {error}") from None

    def _bounded(self, lines: Iterator[str]) -> Iterator[str]:
        for number, line in enumerate(lines, start=1):
            if len(line) >= LINE:
                raise InputError(f"line {number} of {self.name} is longer than {LINE} characters")
            yield line


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return DECIMAL_COMMA.fullmatch(text.strip()) is not None
    return True


def _is_whole(cells: list[str]) -> bool:
    """Whether all cells hold whole numbers, and not only 0, 1 and -1, as a number of an embedding may be."""
    stripped = [cell.strip().lstrip("+-") for cell in cells]
    return all(map(_WHOLE.fullmatch, stripped)) and any(float(cell) > 1 for cell in stripped)
