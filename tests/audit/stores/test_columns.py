import pytest

from arcinvert.audit.stores.columns import guess, identity_column, vector_column, wide_columns
from arcinvert.errors import InputError, UsageError


def test_the_order_of_guesses() -> None:
    assert vector_column(["id", "emb", "Vector", "Embedding"], None, "it") == "Embedding"
    assert vector_column(["id", "emb", "feats"], None, "it") == "feats"
    assert vector_column(["id", "emb", "feats"], "id", "it") == "id"
    assert vector_column(["id", "w"], None, "it", likely=["w"]) == "w"
    assert identity_column(["name", "label", "x"], None, "it", vector="x") == "label"
    assert identity_column(["name"], None, "it", vector="name") is None
    assert identity_column(["a", "b"], "b", "it", vector="a") == "b"
    assert guess([], ("a",)) is None


def test_what_cannot_be_guessed() -> None:
    with pytest.raises(InputError, match=r"it has 'a', 'b'; choose one with --column"):
        vector_column(["a", "b"], None, "it")
    with pytest.raises(InputError, match=r"'a', 'b' might be"):
        vector_column(["a", "b"], None, "it", likely=["a", "b"])
    with pytest.raises(UsageError, match="no column 'c', but"):
        vector_column(["a", "b"], "c", "it")
    with pytest.raises(UsageError, match="and 90 more"):
        identity_column([str(n) for n in range(100)], "c", "it", vector="1")


def test_a_number_a_column() -> None:
    assert wide_columns(["id", *(f"f{n}" for n in (3, 1, 2, 0, 4, 5, 6, 7, 10, 9, 8))]) == [f"f{n}" for n in range(11)]
    assert wide_columns([str(n) for n in range(8)]) == [str(n) for n in range(8)]
    assert wide_columns([f"f{n}" for n in range(7)]) == []
    assert wide_columns([f"f{n}" for n in (0, 1, 2, 3, 4, 5, 6, 9)]) == []
    assert wide_columns([]) == []


def test_several_numbered_runs() -> None:
    points, rows, other = (
        [f"{name}{n}" for n in range(count)] for name, count in (("lmk_", 212), ("emb_", 128), ("q", 9))
    )
    assert wide_columns([*points, *rows]) == rows
    assert wide_columns([*points, *other]) == other
    assert wide_columns(points) == []
    assert wide_columns([*points, *rows], "lmk_*") == points
    with pytest.raises(InputError, match=r"'r\*' \(9 columns\) or 'q\*' \(9 columns\); .*--column"):
        wide_columns([*(f"r{n}" for n in range(9)), *other])
    with pytest.raises(UsageError, match=r"no numbered columns 'z\*'; it has 'q\*'"):
        wide_columns(other, "z*")
