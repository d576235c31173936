"""Verification sets of every writer, and those that are refused."""

import io
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from arcinvert import safe_pickle as binfile
from arcinvert.errors import InputError
from arcinvert.evaluation.readers import bin_files
from arcinvert.evaluation.readers.bin_files import read_bin


def picture(number: int, size: int = 112, kind: str = "PNG") -> bytes:
    image = np.random.default_rng(number).integers(0, 256, (size, size, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, kind)
    return stream.getvalue()


PICTURES = [picture(number) for number in range(4)]
SAME = [True, False]


def python2(pictures: list[bytes], same: list[bool]) -> bytes:
    """What Python 2 writes with protocol 2, by hand: a str is a BINSTRING."""

    def string(value: bytes) -> bytes:
        short = len(value) < 256
        return (b"U" + bytes([len(value)]) if short else b"T" + struct.pack("<i", len(value))) + value

    listed = b"".join(string(value) + b"q" + bytes([number]) for number, value in enumerate(pictures))
    truths = b"".join(b"\x88" if value else b"\x89" for value in same)
    return b"\x80\x02]q\x64(" + listed + b"e]q\x65(" + truths + b"e\x86q\x66."


def python2_protocol0(pictures: list[bytes], same: list[bool]) -> bytes:
    """What Python 2 writes with protocol 0, by hand: a str is a STRING in quotes, with escapes."""
    listed = b"".join(
        b"S" + repr(value)[1:].encode() + b"\np%d\na" % number for number, value in enumerate(pictures, start=2)
    )
    truths = b"".join(b"I01\na" if value else b"I00\na" for value in same)
    return b"((lp1\n" + listed + b"(lp90\n" + truths + b"tp91\n."


def arrays(pictures: list[bytes]) -> list[Any]:
    return [np.frombuffer(value, np.uint8) for value in pictures]


WRITTEN = {
    **{f"protocol {p}": pickle.dumps((PICTURES, SAME), p) for p in range(6)},
    **{f"arrays {p}": pickle.dumps((arrays(PICTURES), SAME), p) for p in (2, 4, 5)},
    "copied arrays": pickle.dumps(([array.copy() for array in arrays(PICTURES)], SAME), 5),
    "python 2": python2(PICTURES, SAME),
    "python 2 with protocol 0": python2_protocol0(PICTURES, SAME),
    "bytearrays": pickle.dumps(([bytearray(value) for value in PICTURES], SAME), 4),
    "bytearrays of protocol 2": pickle.dumps(([bytearray(value) for value in PICTURES], SAME), 2),
    "bytearrays of protocol 5": pickle.dumps(([bytearray(value) for value in PICTURES], SAME), 5),
    "numpy truths": pickle.dumps([PICTURES, np.array(SAME)], 4),
    "numpy truths one by one": pickle.dumps((PICTURES, [np.bool_(value) for value in SAME]), 4),
    "numbers": pickle.dumps((PICTURES, np.array([1, 0])), 2),
    "big-endian numbers": pickle.dumps((PICTURES, np.array([1, 0], ">i8")), 5),
    "object arrays": pickle.dumps((np.array(PICTURES, object), SAME), 4),
    "byte strings of numpy": pickle.dumps(([np.bytes_(value) for value in PICTURES], SAME), 4),
    "tuples": pickle.dumps((tuple(PICTURES), (1, 0)), 4),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_bins_of_every_writer(tmp_path: Path, name: str) -> None:
    path = tmp_path / "set.bin"
    path.write_bytes(WRITTEN[name])
    found = read_bin(path)
    assert found.same.tolist() == SAME
    assert found.images.shape == (4, 112, 112, 3)
    for number in range(4):
        expected = np.random.default_rng(number).integers(0, 256, (112, 112, 3), dtype=np.uint8)
        assert np.array_equal(found.images[number], expected)


class Payload:
    """Runs a command when it is unpickled."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def refused(tmp_path: Path, content: bytes) -> str:
    path = tmp_path / "set.bin"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_bin(path)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 500
    return message


def test_a_payload_is_named_and_not_run(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    for protocol in (2, 4):
        content = pickle.dumps((PICTURES, [Payload(Path.touch, trace)]), protocol)
        assert "pickles that run code are not read" in refused(tmp_path, content)
    assert not trace.exists()
    assert "'builtins.eval'" in refused(tmp_path, pickle.dumps(Payload(eval, "1"), 4))
    # What only the name of an allowed function leads to is not called either.
    assert "expected True or False" in refused(tmp_path, pickle.dumps((PICTURES, [1, [2]]), 4))


def nested(depth: int) -> bytes:
    return b"\x80\x04" + b"]" * depth + b"a" * (depth - 1) + b"."


NDARRAY = b"cnumpy.core.multiarray\n_reconstruct\n"
U1 = b"cnumpy\ndtype\nU\x02u1\x85R"
HUGE = b"\x8a\x08" + struct.pack("<q", 1 << 50)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not a whole pickle"),
        (b"\xff\xd8\xff\xe0 a picture", "is not a whole pickle"),
        (b"PK\x03\x04", "is not a whole pickle"),
        (pickle.dumps((PICTURES, [True]), 4), "4 pictures to 1 pairs"),
        (pickle.dumps(([], []), 4), "0 pictures to 0 pairs"),
        (pickle.dumps(PICTURES, 4), "expected"),
        (pickle.dumps({"a": 1}, 4), "expected bytes or an array, got dict"),
        (pickle.dumps((1.5, 2), 4), "expected bytes or an array, got float"),
        (pickle.dumps((3, 4), 4), "expected bytes or an array, got int"),
        (pickle.dumps((PICTURES, [0, 2]), 4), "expected True or False"),
        (pickle.dumps((PICTURES, ["1", "0"]), 4), "expected True or False"),
        (pickle.dumps((["text"] * 4, SAME), 4), "expected bytes or an array, got str"),
        (pickle.dumps(([np.zeros(5)] * 4, SAME), 4), "an array of 'f8'"),
        (pickle.dumps(([np.zeros(5, int)] * 4, SAME), 4), "an array of something else"),
        (pickle.dumps((np.zeros((4, 5), np.uint8), SAME), 4), "expected a row"),
        (pickle.dumps(([b"no picture"] * 4, SAME), 4), "picture 0: cannot identify"),
        (pickle.dumps(([picture(0, 96)] * 4, SAME), 4), "picture 0 is 96x96"),
        (pickle.dumps(([PICTURES[0], PICTURES[1][:2000]] * 2, SAME), 4), "picture 1: "),
        (pickle.dumps(([bytes(2 << 20)] * 4, SAME), 4), "at most 1,048,576 bytes"),
        (pickle.dumps(([np.zeros(2 << 20, np.uint8)] * 4, SAME), 4), "at most 1,048,576 bytes"),
        (nested(100_000), "expected"),
        (b"\x80\x04\x8e" + struct.pack("<Q", 1 << 60) + b"a.", "is not a whole pickle"),
        (b"\x80\x04]r\xff\xff\xff\x7f.", "expected pairs of pictures"),  # a memo of 2^31 entries
        (b"\x80\x04" + NDARRAY + b"(K\x01" + HUGE + b"\x85" + U1 + b"\x89U\x01atb.", "no object"),
        (b"\x80\x04" + NDARRAY + b")R(K\x01" + HUGE + b"\x85" + U1 + b"\x89U\x01atb.", "without a shape"),
        (b"\x80\x04" + NDARRAY + b")R(K\x01K\x09\x85" + U1 + b"\x89U\x01atb.", "do not fit"),
        (b"\x80\x04a.", "is not a whole pickle"),
        (b"\x80\x04].]", "expected"),
        (b"\x80\x04K\x01K\x02a.", "appends to what is no list"),
        (b"\x80\x04(e.", "is not a whole pickle"),
        (b"\x80\x04h\x05.", "is not a whole pickle"),
        (b"\x80\x04K\x01)R.", "calls what is no constructor"),
        (b"\x80\x04\x86.", "a tuple of values that are not there"),
        (b"\x80\x04K\x01K\x02\x93.", "expected text"),
    ],
)
def test_bins_that_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    found = refused(tmp_path, content)
    assert any(part in found for part in message.split("|")), found


def test_every_truncation_is_an_error(tmp_path: Path) -> None:
    for name in ("protocol 2", "arrays 4", "arrays 5", "python 2"):
        whole = WRITTEN[name]
        for cut in [*range(60), *range(60, len(whole), 9973), *range(len(whole) - 60, len(whole))]:
            refused(tmp_path, whole[:cut])


def test_damaged_bytes_are_an_error_or_harmless(tmp_path: Path) -> None:
    tiny = pickle.dumps((arrays([b"ab", b"c"]), np.array([True])), 4)
    random = np.random.default_rng(0)
    for _ in range(3000):
        changed = bytearray(tiny)
        for place in random.integers(0, len(tiny), random.integers(1, 4)):
            changed[place] = random.integers(0, 256)
        try:
            value = binfile.read_pickle(bytes(changed), "it")
        except InputError:
            continue
        try:
            for part in binfile.items(value):
                for item in binfile.items(part):
                    binfile.blob(item, 100)
        except binfile.DAMAGED:
            continue


def test_limits_of_a_bin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bin_files, "MAX_PICTURES", 3)
    assert "more than 3 pictures" in refused(tmp_path, WRITTEN["protocol 4"])
    monkeypatch.setattr(binfile, "MAX_STEPS", 5)
    assert "more than 5 instructions" in refused(tmp_path, WRITTEN["protocol 4"])
    monkeypatch.setattr(bin_files, "MAX_BIN", 5)
    assert "at most 0 MiB" in refused(tmp_path, WRITTEN["protocol 4"])
    with pytest.raises(InputError, match="found none"):
        read_bin(tmp_path / "none.bin")
