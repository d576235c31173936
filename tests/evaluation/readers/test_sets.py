"""Labels, pair lists, .bin files and folders; each refuses what it cannot read."""

import hashlib
import io
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from arcinvert import safe_pickle as binfile
from arcinvert.errors import InputError, UsageError
from arcinvert.evaluation.readers import lists
from arcinvert.evaluation.readers import sets as sources
from arcinvert.evaluation.readers.sets import (
    embed_files,
    embed_folder,
    embed_images,
    identity_files,
    read_bin,
    read_crop,
    read_labels,
    read_pairs,
)
from arcinvert.recognizer import Recognizer
from arcinvert.training.data.faces import identity_folders, load_faces


def text_file(folder: Path, content: str | bytes) -> Path:
    path = folder / "list.txt"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


# --- labels


def test_labels_count_from_the_first_name(tmp_path: Path) -> None:
    labels, names = read_labels(text_file(tmp_path, "\ufeffzoé\n ann b \r\nzoé\n"))
    assert names == ("ann b", "zoé")
    assert labels.tolist() == [1, 0, 1]
    assert labels.dtype == np.int64


def test_the_last_line_needs_no_end(tmp_path: Path) -> None:
    assert read_labels(text_file(tmp_path, "b\na"))[0].tolist() == [1, 0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a\n\nb\n", "line 2 is blank"),
        ("a\nb\n\n", "line 3 is blank"),
        (b"a\nb\n\xff\xfe\n", "line 3 is not"),
        ("", "found none"),
        ("\n", "found none"),
    ],
)
def test_labels_that_are_refused(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_labels(text_file(tmp_path, content))


def test_labels_without_a_file_and_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="No such file"):
        read_labels(tmp_path / "none.txt")
    monkeypatch.setattr(lists, "MAX_TEXT", 3)
    with pytest.raises(InputError, match="larger than"):
        read_labels(text_file(tmp_path, "abcd"))


# --- pair lists


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LFW's layout, with suffixes of several kinds; the files are empty."""
    folder = tmp_path_factory.mktemp("lfw")
    for name, suffix in (("Ann", ".jpg"), ("Bob_B", ".png"), ("Cy", ".JPG")):
        (folder / name).mkdir()
        for number in (1, 2, 3, 10):
            (folder / name / f"{name}_{number:04d}{suffix}").touch()
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


@pytest.mark.parametrize("line", ["Ann/Ann_0001.jpg{}Cy/Cy_0003.JPG{}0", "Ann/Ann_0001.jpg{}Ann/Ann_0002.jpg{}1"])
@pytest.mark.parametrize("separator", [" ", "\t", ",", ", "])
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
        (LFW.replace("2\t2\n", "999999999\t999999999\n"), "says 999999999 folds"),
        (LFW.replace("2\t2\n", "9" * 5000 + "\n"), "line 1: expected 'path_a"),
        ("1 1\n", "has 0 and 0"),
        (LFW.replace("Cy 1 3", "Cy 1"), "line 7: expected 'name n1 n2'"),
        (LFW.replace("Cy 1 3", "Cy one 3"), "line 7: expected 'name n1 n2'"),
        (LFW.replace("Cy 1 3", "Cy 1 Cy 3"), "line 7: expected 'name n1 n2'"),
        (LFW.replace("Cy 1 3", "Cy 1 " + "3" * 5000), "line 7"),
        (LFW.replace("Cy 1 3", "Cy 3 3"), "line 7: a picture is paired with itself"),
        ("a b 2\n", "line 1: expected 'path_a path_b 0|1'"),
        ("a b\n", "line 1: expected"),
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


# --- .bin


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


def arrays(pictures: list[bytes]) -> list[Any]:
    return [np.frombuffer(value, np.uint8) for value in pictures]


WRITTEN = {
    **{f"protocol {p}": pickle.dumps((PICTURES, SAME), p) for p in range(6)},
    **{f"arrays {p}": pickle.dumps((arrays(PICTURES), SAME), p) for p in (2, 4, 5)},
    "copied arrays": pickle.dumps(([array.copy() for array in arrays(PICTURES)], SAME), 5),
    "python 2": python2(PICTURES, SAME),
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
    monkeypatch.setattr(sources, "MAX_PICTURES", 3)
    assert "more than 3 pictures" in refused(tmp_path, WRITTEN["protocol 4"])
    monkeypatch.setattr(binfile, "MAX_STEPS", 5)
    assert "more than 5 instructions" in refused(tmp_path, WRITTEN["protocol 4"])
    monkeypatch.setattr(sources, "MAX_BIN", 5)
    assert "at most 0 MiB" in refused(tmp_path, WRITTEN["protocol 4"])
    with pytest.raises(InputError, match="found none"):
        read_bin(tmp_path / "none.bin")


# --- folders and embeddings


def test_a_folder_of_identities(tiny_recognizer: Recognizer, tiny_faces: Path) -> None:
    found = embed_folder(tiny_recognizer, tiny_faces, batch_size=7)
    assert [path.relative_to(tiny_faces).as_posix() for path in found.files[:2]] == ["id0/0.png", "id0/1.png"]
    assert found.labels.tolist() == [person for person in range(6) for _ in range(6)]
    faces = load_faces(tiny_faces, identity_folders(tiny_faces))
    assert found.digest == faces.digest
    expected = tiny_recognizer.embed(faces.images.permute(0, 3, 1, 2)).numpy()
    np.testing.assert_allclose(found.rows, expected, atol=1e-5)
    assert found.rows.dtype == np.float32


def test_the_flip_test(tiny_recognizer: Recognizer, tiny_faces: Path) -> None:
    files = identity_files(tiny_faces)[0][:5]
    images = np.stack([np.asarray(Image.open(path)) for path in files])
    seen: list[int] = []
    plain = embed_images(tiny_recognizer, images, batch_size=2, progress=lambda done, *_: seen.append(done))
    mirror = embed_images(tiny_recognizer, images[:, :, ::-1])
    assert seen == [2, 4, 5]
    both = embed_files(tiny_recognizer, files, flip="concatenate")
    np.testing.assert_allclose(both, np.hstack([plain, mirror]) / np.sqrt(2), atol=1e-5)
    average = embed_files(tiny_recognizer, files, flip="average")
    for row, one, other in zip(average, plain, mirror, strict=True):
        np.testing.assert_allclose(row, (one + other) / np.linalg.norm(one + other), atol=1e-5)
    # A face and its mirror image are one under the average.
    turned = embed_images(tiny_recognizer, np.ascontiguousarray(images[:, :, ::-1]), flip="average")
    np.testing.assert_allclose(turned, average, atol=1e-5)


def test_nothing_to_embed(tiny_recognizer: Recognizer) -> None:
    size = tiny_recognizer.embedding_size
    assert embed_files(tiny_recognizer, [], flip="concatenate").shape == (0, 2 * size)


def test_what_cannot_be_embedded(tiny_recognizer: Recognizer, tmp_path: Path) -> None:
    images = np.zeros((1, 112, 112, 3), np.uint8)
    with pytest.raises(UsageError, match="none, average, concatenate"):
        embed_images(tiny_recognizer, images, flip="both")
    with pytest.raises(UsageError, match="batch size"):
        embed_images(tiny_recognizer, images, batch_size=0)
    for wrong in (images.astype(np.float32), images[:, :96], images[0]):
        with pytest.raises(InputError, match="expected images"):
            embed_images(tiny_recognizer, wrong)
    (tmp_path / "small.png").write_bytes(picture(0, 96))
    with pytest.raises(InputError, match="got 96x96"):
        read_crop(tmp_path / "small.png")
    (tmp_path / "cut.png").write_bytes(PICTURES[0][:500])
    with pytest.raises(InputError, match=r"cut\.png"):
        embed_files(tiny_recognizer, [tmp_path / "cut.png"])
    torch.manual_seed(0)


def test_folders_that_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a folder of identities"):
        identity_files(tmp_path / "none")
    with pytest.raises(InputError, match="one sub-folder per identity"):
        identity_files(tmp_path)
    (tmp_path / "ann").mkdir()
    (tmp_path / "ann" / "notes.txt").touch()
    with pytest.raises(InputError, match=r"expected pictures .* in '.*ann'"):
        identity_files(tmp_path)


def test_the_digest_sees_names_and_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    expected = hashlib.sha256(b"a\0" + hashlib.sha256(b"1").digest()).hexdigest()
    assert sources.files_digest(tmp_path, [tmp_path / "a"]) == expected
