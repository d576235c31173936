"""What the readers of .bin sets and of Qdrant's points do not show: tests/evaluation/readers, tests/audit/stores."""

import os
import pickle
import re
from typing import Any

import numpy as np
import pytest

from arcinvert import safe_pickle
from arcinvert.errors import InputError
from arcinvert.safe_pickle import ARRAYS, DAMAGED, PickledObject, parse, read_pickle

NOTHING = re.compile("(?!)")


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize(
    "value",
    [
        {"a": [1, -(1 << 70), 2.5, -0.0], "é": (None, True, "text"), "nested": {"b": {}}},
        [float(number) for number in range(3000)],
        [1.5, 7, 2.5, [], 3.5, (), "", (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)],
        1.5,
    ],
    ids=["mixed", "floats", "runs", "one"],
)
def test_plain_data_reads_as_unpickled(value: object, protocol: int) -> None:
    assert parse(pickle.dumps(value, protocol), NOTHING) == value
    assert parse(pickle.dumps(b"bytes", 4), NOTHING) == b"bytes"


def test_a_value_that_occurs_twice_is_one() -> None:
    value = ["text"]
    found = parse(pickle.dumps([value, value], 4), NOTHING)
    assert isinstance(found, list)
    assert found[0] is found[1]


def test_a_set_becomes_a_list() -> None:
    assert parse(pickle.dumps({3}, 4), NOTHING) == [3]


@pytest.mark.parametrize("content", [b"cbuil\\tins\nlo\\st\n.", b"S'a\\q'\n."])
def test_a_wrong_escape_is_refused_or_read_without_a_warning(content: bytes) -> None:
    try:
        assert parse(content, NOTHING) == b"a\\q"
    except DAMAGED:
        assert content.startswith(b"c")


class Run:
    def __reduce__(self) -> tuple[object, ...]:
        return (os.mkdir, ("ran",))


def test_objects_are_described_and_not_made(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    content = pickle.dumps([Run()], 4)
    with pytest.raises(InputError, match=r"it asks for '\w+\.mkdir'; pickles that run code are not read"):
        read_pickle(content, "it")
    found = parse(content, re.compile(r"\w+ mkdir"))
    assert isinstance(found, list)
    assert isinstance(found[0], PickledObject)
    assert (found[0].name.split()[1], found[0].arguments, found[0].state) == ("mkdir", ("ran",), None)
    assert not list(tmp_path.iterdir())
    array = parse(pickle.dumps(np.arange(3), 4), ARRAYS)
    assert isinstance(array, PickledObject)
    assert array.state is not None or array.name.endswith("_frombuffer")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "does not end"),
        (b"\x80\x04G\x00\x00", "buffer"),
        (b"\x80\x04K\x01K\x02K\x03s.", "sets an entry of what is no dict"),
        (b"\x80\x04}(K\x01u.", "zip"),
        (b"\x80\x04}(]K\x01u.", "unhashable"),
        (b"\x80\x04K\x01}b.", "sets the state of what is no object"),
        (b"\xff.", "no instruction has the code"),
        (b"Stext\n.", "a text without quotes"),
        (b"P1\n.", "unexpected instruction PERSID"),
    ],
)
def test_damaged_pickles(content: bytes, message: str) -> None:
    with pytest.raises(DAMAGED, match=message):
        parse(content, NOTHING)
    with pytest.raises(InputError, match="it is not a whole pickle of plain data") as caught:
        read_pickle(content, "it")
    assert "\n" not in str(caught.value)


def test_a_program_of_too_many_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safe_pickle, "MAX_STEPS", 5)
    assert parse(pickle.dumps(1, 2), NOTHING) == 1
    with pytest.raises(InputError, match="more than 5 instructions"):
        read_pickle(pickle.dumps([1, 2, 3, 4], 4), "it")
