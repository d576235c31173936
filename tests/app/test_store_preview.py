"""A look into a store: rows, columns and findings, and never a number of an embedding."""

import re
from pathlib import Path

import numpy as np
import pytest

from arcinvert.app.store_preview import CHARACTERS, COLUMNS, ROWS, preview
from arcinvert.audit.stores import open_store
from arcinvert.errors import InputError


def cells(html: str) -> list[list[str]]:
    return [re.findall(r"<td>(.*?)</td>", row) for row in re.findall(r"<tr>(<td>.*?)</tr>", html)]


def test_the_first_rows_with_their_people_and_lengths(tmp_path: Path) -> None:
    rows = np.eye(8, 16, dtype=np.float32) * np.arange(1, 9, dtype=np.float32)[:, None]
    np.save(tmp_path / "people.npy", rows)
    (tmp_path / "people.labels.txt").write_text("".join(f"person {number}\n" for number in range(8)))
    html = preview(open_store(str(tmp_path / "people.npy")))
    assert "8 rows of 16 numbers, kind npy, 0 skipped, 8 people" in html
    assert cells(html) == [[str(n), f"person {n}", f"{n + 1:.2f}"] for n in range(ROWS)]
    assert str(tmp_path) not in html


def test_a_store_that_names_nobody(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.full((2, 16), 0.123456, np.float32))
    html = preview(open_store(str(tmp_path / "rows.npy")))
    assert cells(html) == [["0", "not named", "0.49"], ["1", "not named", "0.49"]]
    assert "0.1234" not in html
    assert "Findings without any attack" in html


def test_columns_are_few_and_short_and_harmless(tmp_path: Path) -> None:
    columns = ["person", *(f"about_{n}" for n in range(COLUMNS + 3)), "embedding"]
    values = ["<script>x</script>", *("w" * 500 for _ in range(COLUMNS + 3))]
    lines = [",".join(columns), *(",".join([*values, f'"[{n}, 1, 0.5, 0]"']) for n in range(3))]
    (tmp_path / "s.csv").write_text("\n".join(lines) + "\n")
    html = preview(open_store(str(tmp_path / "s.csv")))
    assert "<script" not in html
    assert "&lt;script" in html
    assert "about_0" in html
    assert f"about_{COLUMNS}" not in html
    assert max(map(len, re.findall("w+", html))) <= CHARACTERS


def test_a_damaged_store_is_one_line(tmp_path: Path) -> None:
    np.save(tmp_path / "cut.npy", np.ones((50, 16), np.float32))
    content = (tmp_path / "cut.npy").read_bytes()
    (tmp_path / "cut.npy").write_bytes(content[:-40])
    with pytest.raises(InputError) as error:
        preview(open_store(str(tmp_path / "cut.npy")))
    assert "\n" not in str(error.value)
