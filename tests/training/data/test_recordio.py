import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from arcinvert.errors import InputError
from arcinvert.training.data.containers import convert_images, list_images
from arcinvert.training.data.faces import load_faces, open_faces
from arcinvert.training.data.recordio import (
    MAGIC,
    Record,
    encode,
    pack,
    read_index,
    read_payload,
    unpack,
    write_records,
)

IDS = [f"id{number}" for number in range(6)]
# What MXNet 1.9.1 wrote for label 3, id 5, id2 10 and the content b"ab" + MAGIC at a multiple of 4 of the payload.
SPLIT = (
    "0a23d7ce1c00002000000000000040400500000000000000" + "0a000000000000006162636" + "40a23d7ce020000606566" + "0000"
)


@pytest.fixture(scope="module")
def packed(tiny_faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny faces as ``train.rec``. Do not write to it."""
    path = tmp_path_factory.mktemp("packed") / "train.rec"
    assert convert_images(list_images(tiny_faces), path) == "rec"
    return path


@pytest.fixture
def spoilt(packed: Path, tmp_path: Path) -> Path:
    """A copy of it, to be spoilt."""
    for suffix in (".rec", ".idx"):
        (tmp_path / f"a{suffix}").write_bytes(packed.with_suffix(suffix).read_bytes())
    return tmp_path / "a.rec"


def by_hand(content: bytes) -> list[tuple[int, bytes]]:
    """(flag, part) of all parts of a file, read one after the other: a slow reference."""
    parts, at = [], 0
    while at < len(content):
        magic, word = struct.unpack_from("<II", content, at)
        assert magic == 0xCED7230A
        length = word & 0x1FFFFFFF
        parts.append((word >> 29, content[at + 8 : at + 8 + length]))
        at += 8 + (length + 3) // 4 * 4
    return parts


def read_all(path: Path) -> list[bytes]:
    size = path.stat().st_size
    with open(path, "rb") as stream:
        index = read_index(path.with_suffix(".idx"), size)
        return [read_payload(stream, offset, size, "it") for offset in index.values()]


def test_a_record_as_mxnet_writes_it() -> None:
    payload = pack(Record((3.0,), b"abcd" + MAGIC + b"ef", id=5, id2=10))
    assert encode(payload).hex() == SPLIT


@pytest.mark.parametrize("seed", range(20))
def test_payloads_that_hold_the_magic_number_come_back(seed: int, tmp_path: Path) -> None:
    random = np.random.default_rng(seed)
    pieces = [MAGIC if random.random() < 0.6 else random.bytes(random.integers(0, 9)) for _ in range(10)]
    records = [Record((float(k),), b"".join(pieces[:k]), id=k, id2=2**63 + k) for k in range(11)]
    write_records(tmp_path / "x.rec", records)
    assert [unpack(payload, "it") for payload in read_all(tmp_path / "x.rec")] == records
    parts = by_hand((tmp_path / "x.rec").read_bytes())
    joined = b"".join(part + (MAGIC if flag in (1, 2) else b"") for flag, part in parts)
    assert joined == b"".join(map(pack, records))
    assert all(part[at : at + 4] != MAGIC for _, part in parts for at in range(0, len(part), 4))


def test_label_arrays_come_back() -> None:
    record = Record((1.0, 0.5, -2.0), b"picture", is_array=True, id=1)
    assert struct.unpack_from("<IfQQ3f", pack(record)) == (3, 0.0, 1, 0, 1.0, 0.5, -2.0)
    assert unpack(pack(record), "it") == record


def test_the_face_layout(packed: Path, tiny_faces: Path) -> None:
    records = [unpack(payload, "it") for payload in read_all(packed)]
    assert records[0] == Record((37.0, 43.0), is_array=True)
    files = sorted(tiny_faces.glob("*/*.png"))
    for key, (record, file) in enumerate(zip(records[1:37], files, strict=True), 1):
        assert record == Record((float(file.parent.name[2:]),), file.read_bytes(), id=key)
    assert [record.labels for record in records[37:]] == [(6.0 * n + 1, 6.0 * n + 7) for n in range(6)]
    assert not any(record.content for record in records[37:])


def test_the_same_faces_as_the_folder(packed: Path, tiny_faces: Path) -> None:
    expected = load_faces(tiny_faces, IDS)
    for source in (packed, packed.parent):  # the file, or the folder that holds it
        faces = open_faces(source)
        assert torch.equal(faces.images, expected.images)
        assert torch.equal(faces.labels, expected.labels)
        assert faces.files[7] == "00000001/000000008.png"
    assert open_faces(packed, ["00000004"]).files == faces.files[24:30]


def test_a_flat_file_in_any_order(tiny_faces: Path, tmp_path: Path) -> None:
    """As im2rec writes it: no header record, shuffled, some labels as arrays."""
    expected = load_faces(tiny_faces, IDS)
    order = np.random.default_rng(0).permutation(36).tolist()
    records = [
        Record((float(row // 6), 9.0), (tiny_faces / expected.files[row]).read_bytes(), is_array=row % 2 == 1)
        for row in order
    ]
    write_records(tmp_path / "flat.rec", records)
    faces = open_faces(tmp_path / "flat.rec")
    assert len(faces) == 36
    for row, file in enumerate(faces.files):
        assert torch.equal(faces.images[row], expected.images[order[int(file[9:18])]])
        assert faces.labels[row] == order[int(file[9:18])] // 6


def test_back_to_a_folder(packed: Path, tiny_faces: Path, tmp_path: Path) -> None:
    assert convert_images(list_images(packed), tmp_path / "back") == "folder"
    back = sorted((tmp_path / "back").glob("*/*"))
    assert [p.read_bytes() for p in back] == [p.read_bytes() for p in sorted(tiny_faces.glob("*/*.png"))]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["back"]


class TestHostile:
    @pytest.mark.parametrize("keep", [9, 100, 0.5, 0.9])
    def test_cut_off(self, spoilt: Path, keep: float) -> None:
        content = spoilt.read_bytes()
        spoilt.write_bytes(content[: int(keep if keep > 1 else keep * len(content))])
        with pytest.raises(InputError, match=r"cut off|points to byte"):
            open_faces(spoilt)

    def test_cut_off_inside_the_last_record(self, spoilt: Path) -> None:
        spoilt.write_bytes(spoilt.read_bytes()[:-4])
        with pytest.raises(InputError, match="cut off"):
            read_all(spoilt)

    def test_wrong_magic_at_the_start_and_later(self, spoilt: Path) -> None:
        content = bytearray(spoilt.read_bytes())
        offset = int(spoilt.with_suffix(".idx").read_text().splitlines()[3].split()[1])
        content[offset] ^= 1
        spoilt.write_bytes(content)
        with pytest.raises(InputError, match=f"no record at byte {offset}"):
            open_faces(spoilt)
        spoilt.write_bytes(b"RECORDIO" + content[8:])
        with pytest.raises(InputError, match=r"expected one \.rec file or uncompressed tar shards"):
            open_faces(spoilt)

    def test_no_index(self, spoilt: Path) -> None:
        spoilt.with_suffix(".idx").unlink()
        with pytest.raises(InputError, match=r"cannot read the index .*a\.idx"):
            open_faces(spoilt)

    @pytest.mark.parametrize(
        ("line", "said"),
        [
            ("5\t99999999", "points to byte 99999999"),
            ("5\t-4", "expected a key and an offset in line 6"),
            ("5\t3", "points to byte 3"),
            ("5\t" + "9" * 5000, "expected a key and an offset"),
            ("5", "expected a key and an offset"),
            ("5\t\u0664", "cannot read the index"),
            ("4\t0", "names key 4 a second time"),
            ("99\t0", "counts image 5"),
        ],
    )
    def test_an_index_that_lies(self, spoilt: Path, line: str, said: str) -> None:
        index = spoilt.with_suffix(".idx")
        lines = index.read_text().splitlines()
        lines[5] = line
        index.write_text("\n".join(lines), encoding="utf-8")
        with pytest.raises(InputError, match=said):
            open_faces(spoilt)

    @pytest.mark.parametrize("label", [-1.0, 0.5, float("nan"), float("inf"), 1e30])
    def test_labels_that_are_no_identities(self, tmp_path: Path, label: float) -> None:
        write_records(tmp_path / "x.rec", [Record((label,), b"x")])
        with pytest.raises(InputError, match=r"expected a whole number.*record 0"):
            open_faces(tmp_path / "x.rec")

    @pytest.mark.parametrize("end", [0.0, 1.0, 1.5, 4.0, 1e38, float("nan")])
    def test_a_header_record_that_lies(self, tmp_path: Path, end: float) -> None:
        write_records(tmp_path / "x.rec", [Record((end, 9.0), is_array=True), Record((0.0,), b"x")])
        with pytest.raises(InputError, match="says the images end before record"):
            open_faces(tmp_path / "x.rec")

    def test_more_labels_than_bytes(self, tmp_path: Path) -> None:
        payload = struct.pack("<IfQQ", 2**32 - 1, 0.0, 0, 0)
        (tmp_path / "x.rec").write_bytes(encode(payload))
        (tmp_path / "x.idx").write_text("0\t0\n")
        with pytest.raises(InputError, match="claims 4294967295 labels"):
            open_faces(tmp_path / "x.rec")

    def test_a_part_that_nothing_begins(self, tmp_path: Path) -> None:
        (tmp_path / "x.rec").write_bytes(MAGIC + struct.pack("<I", 3 << 29 | 4) + b"abcd")
        (tmp_path / "x.idx").write_text("0\t0\n")
        with pytest.raises(InputError, match="no record at byte 0"):
            open_faces(tmp_path / "x.rec")

    def test_a_picture_of_another_size_is_named(self, tmp_path: Path) -> None:
        Image.new("RGB", (96, 112)).save(tmp_path / "x.png")
        write_records(tmp_path / "x.rec", [Record((7.0,), (tmp_path / "x.png").read_bytes())])
        with pytest.raises(InputError, match=r"expected 112x112 .*\(96, 112\) in '.*x\.rec/00000007/000000000\.png'"):
            open_faces(tmp_path / "x.rec")

    def test_what_is_there_is_not_overwritten_and_nothing_half_is_left(self, tiny_faces: Path, tmp_path: Path) -> None:
        (tmp_path / "faces" / "a").mkdir(parents=True)
        (tmp_path / "faces" / "a" / "0.png").write_bytes(b"\x89PNG\r\n\x1a\n no picture")
        with pytest.raises(InputError, match="cannot read the image"):
            convert_images(list_images(tmp_path / "faces"), tmp_path / "x.rec")
        assert [path.name for path in tmp_path.iterdir()] == ["faces"]
