import pytest

from arcinvert.audit.stores.columns import beside, guess, identity_column, vector_column, wide_columns
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


def test_what_lies_beside() -> None:
    row = {
        "embedding": b"\xff\xd8\xff but a vector", "face": b"raw", "img_blob": None, "x": b"\x89PNG....", "faces": 3,
        "jpg": {"bytes": b"..."}, "picture": 7, "e_mail": "a@b", "email": "a@b", "image_path": "/a", "who": "me",
    }  # fmt: skip
    found = {finding.code: finding for finding in beside(row, vector=["embedding"], identity="who")}
    assert set(found) == {"faces", "names", "paths"}
    assert found["faces"].count == 4
    assert all(name in found["faces"].text for name in ("'face'", "'img_blob'", "'x'", "'jpg'"))
    assert found["faces"].severity == "problem"
    assert "'email', 'who'" in found["names"].text
    assert "'image_path'" in found["paths"].text
    assert beside({"id": 1, "n": 2}, vector=["v"], identity=None) == []
