"""Label files and pair lists."""

from pathlib import Path

import numpy as np
import pytest

from arcinvert.errors import InputError
from arcinvert.evaluation.readers import lists
from arcinvert.evaluation.readers.lists import read_labels, read_pairs


def text_file(folder: Path, content: str | bytes) -> Path:
    path = folder / "list.txt"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_labels_count_from_the_first_name(tmp_path: Path) -> None:
    labels, names = read_labels(text_file(tmp_path, "\ufeffzoé\n ann b \r\nzoé\n"))
    assert names == ("ann b", "zoé")
    assert labels.tolist() == [1, 0, 1]
    assert labels.dtype == np.int64


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a\n\nb\n", "line 2 is blank"),
        (b"a\nb\n\xff\xfe\n", "line 3 is not"),
        ("", "found none"),
    ],
)
def test_labels_that_are_refused(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_labels(text_file(tmp_path, content))


def test_labels_without_a_file_and_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="No such file"):
        read_labels(tmp_path / "none.txt")
    monkeypatch.setattr(lists, "MAX_TEXT", 3)
    with pytest.raises(InputError, match="expected at most 3 bytes, got"):
        read_labels(text_file(tmp_path, "abcd"))


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LFW's layout, with suffixes of several kinds; the files have the first bytes of a JPEG alone."""
    folder = tmp_path_factory.mktemp("lfw")
    for name, suffix in (("Ann", ".jpg"), ("Bob_B", ".png"), ("Cy", ".JPG")):
        (folder / name).mkdir()
        for number in (1, 2, 3, 10):
            (folder / name / f"{name}_{number:04d}{suffix}").write_bytes(b"\xff\xd8\xff")
    (folder / "Ann" / "Ann_0001.txt").touch()
    return folder


LFW = (
    "2\t2\n" + "Ann\t1\t2\nBob_B\t1\t10\nAnn\t1\tCy\t3\nBob_B\t2\tCy\t10\n" + "Cy 1 2\nCy 1 3\nAnn 2 Cy 1\nCy 2 Ann 3\n"
)


def test_the_layout_of_lfw(tmp_path: Path, people: Path) -> None:
    pairs = read_pairs(text_file(tmp_path, LFW), people)
    named = [(pairs.files[a].name, pairs.files[b].name) for a, b in zip(pairs.first, pairs.second, strict=True)]
    assert named[0] == ("Ann_0001.jpg", "Ann_0002.jpg")
    assert named[3] == ("Bob_B_0002.png", "Cy_0010.JPG")
    assert named[7] == ("Cy_0002.JPG", "Ann_0003.jpg")
    assert pairs.same.tolist() == [True, True, False, False] * 2
    assert pairs.folds is not None
    assert pairs.folds.tolist() == [0] * 4 + [1] * 4
    assert len(set(pairs.files)) == len(pairs.files)
    assert all(path.is_file() for path in pairs.files)
    assert (pairs.first.dtype, pairs.second.dtype, pairs.same.dtype) == (np.int64, np.int64, np.bool_)


def test_a_header_of_one_number_names_no_folds(tmp_path: Path, people: Path) -> None:
    pairs = read_pairs(text_file(tmp_path, "1\nAnn 1 2\nAnn 1 Cy 3\n"), people)
    assert pairs.folds is None
    assert pairs.same.tolist() == [True, False]


@pytest.mark.parametrize("header", ["0", "0 0"])
def test_a_header_alone_has_no_pairs(tmp_path: Path, people: Path, header: str) -> None:
    with pytest.raises(InputError, match="expected pairs after the header"):
        read_pairs(text_file(tmp_path, header + "\n"), people)


@pytest.mark.parametrize(
    ("line", "separator"),
    [("Ann/Ann_0001.jpg{}Cy/Cy_0003.JPG{}0", " "), ("Ann/Ann_0001.jpg{}Ann/Ann_0002.jpg{}1", ", ")],
)
def test_the_plain_layout(tmp_path: Path, people: Path, line: str, separator: str) -> None:
    pairs = read_pairs(text_file(tmp_path, line.format(separator, separator) + "\n"), people)
    assert pairs.files[pairs.first[0]] == people / "Ann/Ann_0001.jpg"
    assert pairs.same.tolist() == [line.endswith("1")]
    assert pairs.folds is None


def test_spaces_in_names_want_tabs(tmp_path: Path) -> None:
    for name in ("a b.png", "c d.png"):
        (tmp_path / name).touch()
    assert len(read_pairs(text_file(tmp_path, "a b.png\tc d.png\t0\n"), tmp_path).files) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (LFW.replace("Cy 1 3\n", ""), "says 2 folds of 2 genuine"),
        (LFW.replace("2\t2\n", "1\t4\n"), "another order"),
        (LFW.replace("2\t2\n", "9" * 5000 + "\n"), "line 1: expected 'path_a"),
        ("1 1\n", "has 0 and 0"),
        (LFW.replace("Cy 1 3", "Cy 1"), "line 7: expected 'name n1 n2'"),
        (LFW.replace("Cy 1 3", "Cy 1 Cy 3"), "line 7: expected 'name n1 n2'"),
        (LFW.replace("Cy 1 3", "Cy 1 " + "3" * 5000), "line 7"),
        (LFW.replace("Cy 1 3", "Cy 3 3"), "line 7: a picture is paired with itself"),
        ("a b 2\n", "line 1: expected 'path_a path_b 0|1'"),
        ("a,,1\n", "line 1: expected"),
        ("a b 1\n\n", "line 2: expected"),
        (b"\xff b 1\n", "line 1 is not"),
        ("", "found none"),
    ],
)
def test_pair_lists_that_are_refused(tmp_path: Path, people: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(InputError) as caught:
        read_pairs(text_file(tmp_path, content), people)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 500


def test_the_first_missing_files_are_named(tmp_path: Path, people: Path) -> None:
    content = "".join(f"Ann/Ann_0001.jpg none{number}.jpg 0\n" for number in range(8))
    with pytest.raises(InputError, match=r"'none0.jpg', .*'none4.jpg' and 3 more"):
        read_pairs(text_file(tmp_path, content), people)
    with pytest.raises(InputError, match=r"hold: 'Ann/Ann_0004', 'Dan/Dan_0001', 'Dan/Dan_0002'$"):
        read_pairs(text_file(tmp_path, "1 2\nAnn 1 4\nDan 1 2\nAnn 1 Cy 1\nAnn 2 Cy 1\n"), people)
    with pytest.raises(InputError, match="expected a folder of pictures"):
        read_pairs(text_file(tmp_path, LFW), tmp_path / "nowhere")
