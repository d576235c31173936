from pathlib import Path

import numpy as np
import pytest

from arcinvert.audit.checks import scan
from arcinvert.audit.stores import open_store
from arcinvert.audit.stores.csv_file import LINE
from arcinvert.errors import InputError, UsageError

ROWS = np.random.default_rng(0).normal(size=(30, 12)).astype(np.float32)


def write(folder: Path, text: str) -> str:
    (folder / "a.csv").write_text(text, encoding="utf-8")
    return str(folder / "a.csv")


def read(path: str, **options: str) -> np.ndarray:
    return np.concatenate([block.templates for block in open_store(path, **options).blocks(7)])


@pytest.mark.parametrize("mark", [",", ";", "\t"])
@pytest.mark.parametrize("header", [True, False])
def test_a_column_for_each_number(mark: str, header: bool, tmp_path: Path) -> None:
    lines = [mark.join(f"emb_{n}" for n in range(12))] if header else []
    lines += [mark.join(map(str, row)) for row in ROWS]
    for text in ("\n".join(lines), "\ufeff" + "\r\n".join(lines) + "\r\n\r\n"):
        assert np.array_equal(read(write(tmp_path, text)), ROWS)


def test_a_column_of_text(tmp_path: Path) -> None:
    lines = ["person;vector;note"]
    lines += [f'p{n // 2};"{row.tolist()}";"a ""quoted""\nline"' for n, row in enumerate(ROWS)]
    store = open_store(write(tmp_path, "\n".join(lines)))
    assert np.array_equal(store.take(np.array([0, 29])).templates, ROWS[[0, 29]])
    assert store.take(np.array([29])).identities == ["p14"]
    spaced = ["vector"] + [f'"{row}"' for row in ROWS]  # as pandas writes an array: with line breaks
    assert np.abs(read(write(tmp_path, "\n".join(spaced))) - ROWS).max() < 1e-6


def test_formulas_markup_and_escapes_are_text(tmp_path: Path) -> None:
    names = ['=cmd|"/c calc"!A1', "<script>alert(1)</script>", "\x1b[31mred", "@SUM(1)", "[bold]x[/bold]"]
    cells = [name.replace('"', '""') for name in names]
    lines = ["name,embedding"] + [f'"{cell}","{row.tolist()}"' for cell, row in zip(cells, ROWS, strict=False)]
    store = open_store(write(tmp_path, "\n".join(lines)))
    assert store.take(np.arange(5)).identities == names
    assert scan(store).identities == 5


def test_a_million_columns_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path, ",".join(f"c{n}" for n in range(1_000_000)) + "\n1")
    with pytest.raises(InputError, match=f"longer than {LINE}"):
        open_store(path)
    path = write(tmp_path, ",".join(f"c{n}" for n in range(100_000)) + "\n1")
    with pytest.raises(InputError, match="at most 20000 columns"):
        open_store(path)
    with pytest.raises(InputError, match="longer than"):
        open_store(write(tmp_path, "embedding\n" + "1 " * LINE))


def test_rows_that_do_not_fit_are_counted(tmp_path: Path) -> None:
    lines = ["id,embedding"] + [f'{n},"{row.tolist()}"' for n, row in enumerate(ROWS)]
    lines[4] = "3"
    lines[5] = "4,"
    lines[6] = '5,"[1, 2]"'
    lines[7] = "6,=1+1"
    lines[8] = lines[8].replace("]", ", nan]").replace("[", "[").replace(str(ROWS[7].tolist()[0]) + ", ", "", 1)
    found = scan(open_store(write(tmp_path, "\n".join(lines))))
    counts = {f.code: f.count for f in found.findings if f.severity != "info"}
    assert counts == {"unreadable": 2, "null": 1, "ragged": 1, "not-finite": 1}
    assert np.flatnonzero(~found.good).tolist() == [3, 4, 5, 6, 7]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("embedding", "no rows"),
        ("a,b\n1,2", "choose one with --column"),
        ("embedding,embedding\n1,2", "several columns of one name"),
        ('embedding\n"' + "x" * 200_000 + '"', "no CSV that can be read"),
        ("embedding\nword\nword", "hold none"),
        ("\0\0\0\n\0", "CSV|--column"),
    ],
)
def test_what_holds_no_embeddings_is_one_line(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message) as caught:
        open_store(write(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_columns_by_name(tmp_path: Path) -> None:
    wide = ",".join(f"p{n}" for n in range(9))
    assert read(write(tmp_path, f"{wide},embedding\n{wide},[1 2 3]")).tolist() == [[1, 2, 3]]
    path = write(tmp_path, "w,who\n1 2 3,a\n4 5 6,b")
    assert np.array_equal(read(path, column="w"), [[1, 2, 3], [4, 5, 6]])
    assert open_store(path, column="w", identity="who").take(np.array([1])).identities == ["b"]
    with pytest.raises(UsageError, match="no column 'v'"):
        open_store(path, column="v")


@pytest.mark.parametrize("first", ["", "id,", "a,b,"])
def test_a_header_of_numbers_is_a_header(first: str, tmp_path: Path) -> None:
    lines = [first + ",".join(map(str, range(12)))] + [first + ",".join(map(str, row)) for row in ROWS]
    assert np.array_equal(read(write(tmp_path, "\n".join(lines))), ROWS)


def test_rows_without_a_header_that_begin_with_a_name(tmp_path: Path) -> None:
    store = open_store(write(tmp_path, "\n".join(f"p{n}," + ",".join(map(str, row)) for n, row in enumerate(ROWS))))
    assert np.array_equal(store.take(np.arange(30)).templates, ROWS)
    assert store.take(np.array([0, 7])).identities == ["p0", "p7"]


def test_whole_numbers_beside_fractions_are_asked_about(tmp_path: Path) -> None:
    people = [",".join(map(str, [17 + n // 2, *row])) for n, row in enumerate(ROWS)]
    path = write(tmp_path, "\n".join(people))
    with pytest.raises(InputError, match=r"'e0' .*\('17'\).*--identity 'e0' or --column 'e\*'"):
        open_store(path)
    assert np.array_equal(read(path, identity="e0"), ROWS)
    assert open_store(path, identity="e0").take(np.array([3])).identities == ["18"]
    assert open_store(path, column="e*").size == 13
    counted = [",".join(map(str, [n, *row])) for n, row in enumerate(ROWS)]
    assert np.array_equal(read(write(tmp_path, "\n".join(counted))), ROWS)


def test_landmarks_beside_the_embedding(tmp_path: Path) -> None:
    names = ",".join([f"lmk_{n}" for n in range(212)] + [f"emb_{n}" for n in range(12)])
    lines = [names] + [",".join(["7.5"] * 212 + [str(x) for x in row]) for row in ROWS]
    assert np.array_equal(read(write(tmp_path, "\n".join(lines))), ROWS)


@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize("mark", [";", "\t"])
def test_decimal_commas(mark: str, header: bool, tmp_path: Path) -> None:
    lines = [mark.join(f"f{n}" for n in range(12))] if header else []
    lines += [mark.join(map(str, row)).replace(".", ",") for row in ROWS]
    assert np.array_equal(read(write(tmp_path, "\n".join(lines))), ROWS)


def test_a_comma_of_thousands_or_decimals(tmp_path: Path) -> None:
    line = ";".join(["1,234"] * 12)
    with pytest.raises(InputError, match=r"'1,234'.*thousands or decimals"):
        open_store(write(tmp_path, f"{line}\n{line}"))


@pytest.mark.parametrize("options", [{}, {"header": "by numpy\n12 numbers"}, {"delimiter": ","}, {"fmt": "%15.8f"}])
def test_savetxt(options: dict, tmp_path: Path) -> None:
    np.savetxt(tmp_path / "a.txt", ROWS, **options)
    assert np.abs(read(str(tmp_path / "a.txt")) - ROWS).max() < 1e-7


def test_utf16_and_quoted_names(tmp_path: Path) -> None:
    lines = ['"name";"embedding"'] + [f'"p{n}";"{row.tolist()}"' for n, row in enumerate(ROWS)]
    (tmp_path / "a.csv").write_text("\n".join(lines), encoding="utf-16")
    assert np.array_equal(read(str(tmp_path / "a.csv")), ROWS)


def test_rows_longer_than_the_header_are_counted(tmp_path: Path) -> None:
    lines = [",".join(f"f{n}" for n in range(12))] + [",".join(map(str, row)) for row in ROWS]
    lines[3] = lines[3].replace(".", ",")
    assert scan(open_store(write(tmp_path, "\n".join(lines)))).skipped_rows == 1


def test_the_header_is_what_the_user_says(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(",".join(f"{n / 8}" for n in range(16)) + "\n" + ",".join("1" for _ in range(16)) + "\n")
    assert [open_store(str(path), header=header).count for header in (None, False)] == [2, 2]
    with pytest.raises(InputError, match="no column"):  # names such as 0.125 are no run of numbers
        open_store(str(path), header=True)
    counted = tmp_path / "b.csv"
    counted.write_text(",".join(map(str, range(16))) + "\n" + ",".join("0.5" for _ in range(16)) + "\n")
    assert [open_store(str(counted), header=header).count for header in (None, True, False)] == [1, 1, 2]
    np.save(tmp_path / "a.npy", np.eye(4, dtype=np.float32))
    with pytest.raises(UsageError, match="--no-header"):
        open_store(str(tmp_path / "a.npy"), header=False)
