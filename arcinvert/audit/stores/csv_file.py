"""CSV files: a column of embeddings written as text, or a column for each number. No cell is ever evaluated."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from arcinvert.audit.stores.columns import VECTOR_NAMES, guess, identity_column, vector_column, wide_columns
from arcinvert.audit.stores.store import Contents, RawStore
from arcinvert.errors import InputError

LINE = 1 << 22
"""Characters of a line; a longer one is refused."""
MOST_COLUMNS = 20_000
DELIMITERS = ",;\t"


class CsvStore(RawStore):
    """A CSV file in UTF-8, separated by commas, semicolons or tabs; the first line holds column names or numbers."""

    kind = "csv"

    def __init__(self, path: Path, column: str | None = None, identity: str | None = None) -> None:
        self.path, self.name = path, repr(str(path))
        with open(path, encoding="utf-8-sig", errors="replace", newline="") as file:
            first = file.readline(LINE)
        self.delimiter = max(DELIMITERS, key=lambda mark: first.partition('"')[0].count(mark))
        header = next(self._lines(), [])
        if not header:
            raise InputError(f"expected a table, {self.name} is empty")
        self.headed = not all(map(_is_number, header))
        names = header if self.headed else [f"e{n}" for n in range(len(header))]
        if len(names) > MOST_COLUMNS:
            raise InputError(f"expected at most {MOST_COLUMNS} columns, {self.name} has {len(names)}")
        if len(set(names)) != len(names):
            raise InputError(f"{self.name} has several columns of one name")
        plain = column is not None or guess(names, VECTOR_NAMES[:-2])
        wide = [] if plain else wide_columns(names)
        self.width = len(names)
        if wide:
            self.vectors = [names.index(name) for name in wide]
        else:
            self.vectors = [names.index(vector_column(names, column, self.name))]
        found = identity_column(names, identity, self.name, vector=names[self.vectors[0]])
        self.identity = None if found is None else names.index(found)
        rest = {name: None for n, name in enumerate(names) if n not in set(self.vectors)}
        self.contents = Contents(rest, found)
        self.settle(sum(1 for _ in self._rows()))

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
        if len(row) <= self.vectors[-1]:
            return "cut off"  # text that is no embedding
        if len(self.vectors) == 1:
            return row[self.vectors[0]] or None
        return [row[n] for n in self.vectors]

    def _rows(self) -> Iterator[list[str]]:
        lines = self._lines()
        if self.headed:
            next(lines)
        return lines

    def _lines(self) -> Iterator[list[str]]:
        """Rows that are not blank."""
        try:
            with open(self.path, encoding="utf-8-sig", errors="replace", newline="") as file:
                for row in csv.reader(self._bounded(iter(lambda: file.readline(LINE), "")), delimiter=self.delimiter):
                    if row:
                        yield row
        except (csv.Error, OSError) as error:
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
        return False
    return True
