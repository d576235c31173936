import io
import json
import shutil
import tarfile
from pathlib import Path

import pytest
import torch
from PIL import Image

from arcinvert.errors import InputError, UsageError
from arcinvert.training.data.containers import convert_images, list_images
from arcinvert.training.data.faces import load_faces, open_faces

IDS = [f"id{number}" for number in range(6)]


def png(size: tuple[int, int] = (112, 112)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (9, 99, 199)).save(buffer, "PNG")
    return buffer.getvalue()


def tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture(scope="module")
def shards(tiny_faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny faces as shards of ten pictures. Do not write into it."""
    folder = tmp_path_factory.mktemp("shards") / "new"
    assert convert_images(list_images(tiny_faces), folder, per_shard=10) == "shards"
    return folder


def test_equal_to_the_folder_to_the_digest(shards: Path, tiny_faces: Path) -> None:
    expected = load_faces(tiny_faces, IDS)
    for source in (shards, sorted(shards.iterdir(), reverse=True)):  # the folder, or a list in any order
        faces = open_faces(source)
        assert torch.equal(faces.images, expected.images)
        assert torch.equal(faces.labels, expected.labels)
        assert (faces.files, faces.identities, faces.digest) == (expected.files, expected.identities, expected.digest)
    assert open_faces(shards, ["id1", "id4"]).digest == load_faces(tiny_faces, ["id1", "id4"]).digest


def test_what_a_shard_holds(shards: Path, tiny_faces: Path, tmp_path: Path) -> None:
    assert [path.name for path in sorted(shards.iterdir())] == [f"{number:06d}.tar" for number in range(4)]
    with tarfile.open(shards / "000001.tar") as archive:
        names = archive.getnames()
        assert names[:3] == ["id1/4.png", "id1/4.cls", "id1/4.json"]
        assert len(names) == 30
        content = [archive.extractfile(name).read() for name in names[:3]]
    assert content[0] == (tiny_faces / "id1" / "4.png").read_bytes()
    assert content[1] == b"1"
    assert json.loads(content[2]) == {"identity": "id1", "label": 1}
    convert_images(list_images(tiny_faces), tmp_path / "again", per_shard=10)
    assert (tmp_path / "again" / "000001.tar").read_bytes() == (shards / "000001.tar").read_bytes()


def test_back_to_a_folder(shards: Path, tiny_faces: Path, tmp_path: Path) -> None:
    convert_images(list_images(shards), tmp_path / "back")
    assert load_faces(tmp_path / "back", IDS).digest == load_faces(tiny_faces, IDS).digest


def test_shards_of_others(tmp_path: Path) -> None:
    """Flat keys, whole numbers as labels, more files than needed."""
    members = {"b/1.png": png(), "b/1.cls": b"12", "b/1.txt": b"x", "a2.PNG": png(), "a2.json": b'{"label": 3}'}
    faces = open_faces(tar(tmp_path / "x.tar", {**members, "readme.md": b"no picture"}))
    assert faces.files == ("00000003/a2.png", "00000012/b_1.png")
    assert faces.identities == ("00000003", "00000012")
    assert faces.images[0, 0, 0].tolist() == [9, 99, 199]
    assert [Path(file).name for file, _ in faces.skipped] == ["readme.md"]


def test_keys_with_dots(tmp_path: Path) -> None:
    """A key ends at the last dot where a label has that key; otherwise at the first, as others read shards."""
    members = {"a.b.jpg": png(), "a.b.cls": b"1", "a.c.jpg": png(), "a.c.cls": b"2", "x.png": png(), "x.cls": b"3"}
    members |= {"x.mask.png": png(), "y.face.png": png(), "y.cls": b"4", "z.heic": b"", "z.cls": b"5", "w.cls": b"6"}
    faces = open_faces(tar(tmp_path / "x.tar", members))
    assert faces.files == ("00000001/a.b.jpg", "00000002/a.c.jpg", "00000003/x.png", "00000004/y.face.png")
    assert {Path(file).name: reason for file, reason in faces.skipped} == {
        "x.mask.png": "a second image beside .png",
        "z.heic": "empty",
        "w.cls": "a label without an image",
    }


def test_strange_files_beside_shards_are_named(shards: Path, tmp_path: Path) -> None:
    shutil.copytree(shards, tmp_path / "shards")
    (tmp_path / "shards" / "000009.tar.gz").write_bytes(b"\x1f\x8b")
    (tmp_path / "shards" / "000000.tar").rename(tmp_path / "shards" / "first")
    images = list_images(tmp_path / "shards")
    assert len(images) == 36
    assert [Path(file).name for file, _ in images.skipped] == ["000009.tar.gz"]


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"/etc/a.png": b"", "/etc/a.cls": b"0"}, "leads out of it: '/etc/a.png'"),
        ({"../a.png": b"", "../a.cls": b"0"}, r"leads out of it: '\.\./a.png'"),
        ({"a.png": png()}, r"expected a label .* 'a' in"),
        ({"a.png": png(), "a.cls": b"tom"}, "cannot read the label of 'a'"),
        ({"a.png": png(), "a.cls": b"-1"}, "expected a whole number from 0"),
        ({"a.png": png(), "a.cls": b"true"}, "expected a whole number from 0"),
        ({"a.png": png(), "a.cls": b"[1]"}, "expected a whole number in the .cls"),
        ({"a.png": png(), "a.cls": b"1" * 70_000}, "expected a label, got 70000 bytes"),
        ({"a.png": png(), "a.json": b"[" * 60_000}, "cannot read the label of 'a'"),
        ({"a.png": png(), "a.json": b"[1]"}, "or a folder's name as identity, got None"),
        ({"a.png": png(), "a.json": b'{"identity": "../x"}'}, "got '../x'"),
        ({"a.png": png(), "a.json": b'{"identity": ".."}'}, r"got '\.\.'"),
        (
            {"a.png": png((64, 64)), "a.cls": b"0"},
            r"expected 112x112 aligned faces, got \(64, 64\) in .*00000000/a.png",
        ),
        ({"a.png": b"no picture", "a.cls": b"0"}, "a.png': not an image"),
        (
            {"a/b.png": png(), "a/b.cls": b"0", "a_b.png": png(), "a_b.cls": b"0"},
            "two images named '00000000/a_b.png'",
        ),
        ({"a.txt": b""}, "no images in"),
    ],
)
def test_refused(tmp_path: Path, members: dict[str, bytes], said: str) -> None:
    with pytest.raises(InputError, match=said):
        open_faces(tar(tmp_path / "x.tar", members))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        member = tarfile.TarInfo("a.png")
        member.type, member.linkname = kind, "/etc/passwd"
        archive.addfile(member)
    with pytest.raises(InputError, match=r"a link or a special file: 'a.png'"):
        open_faces(tmp_path / "x.tar")


@pytest.mark.parametrize("keep", [600, 0.3, 0.6, 0.9])
def test_cut_off(shards: Path, tmp_path: Path, keep: float) -> None:
    content = (shards / "000000.tar").read_bytes()
    (tmp_path / "x.tar").write_bytes(content[: int(keep if keep > 1 else keep * len(content))])
    with pytest.raises(InputError, match=r"cut off|cannot read the shard|damaged"):
        open_faces(tmp_path / "x.tar")


def test_a_damaged_header_in_the_middle(shards: Path, tmp_path: Path) -> None:
    """tarfile itself would take it for the end and leave the rest out."""
    content = bytearray((shards / "000000.tar").read_bytes())
    at = content.index(b"id0/3.cls")
    content[at + 150] ^= 1  # in its check sum
    (tmp_path / "x.tar").write_bytes(content)
    with pytest.raises(InputError, match=f"damaged at byte {at}"):
        open_faces(tmp_path / "x.tar")


def test_other_files_under_these_names(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(b"\x1f\x8b" * 400)
    for source in (tmp_path, tmp_path / "x.tar"):
        with pytest.raises(InputError, match="uncompressed tar shards"):
            open_faces(source)
    for shards in ([tmp_path / "x.tar"], []):
        with pytest.raises(InputError, match="expected tar shards"):
            open_faces(shards)
    with pytest.raises(InputError, match=r"expected a folder of identities, a .rec file or tar shards"):
        open_faces(tmp_path / "missing")


def test_dots_in_names_are_written_as_underscores(tmp_path: Path) -> None:
    (tmp_path / "faces" / "Dr. A").mkdir(parents=True)
    (tmp_path / "faces" / "Dr. A" / "0.1.png").write_bytes(png())
    convert_images(list_images(tmp_path / "faces"), tmp_path / "new", per_shard=5)
    assert [entry.file for entry in list_images(tmp_path / "new").entries] == ["Dr. A/0_1.png"]
    (tmp_path / "faces" / "Dr. A" / "0_1.png").write_bytes(png())
    with pytest.raises(InputError, match="stands there already"):
        convert_images(list_images(tmp_path / "faces"), tmp_path / "other", per_shard=5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["faces", "new"]


def test_a_folder_with_something_in_it_is_not_written_to(tiny_faces: Path, tmp_path: Path) -> None:
    (tmp_path / "old.tar").write_bytes(b"")
    with pytest.raises(UsageError, match="expected a new or empty folder"):
        convert_images(list_images(tiny_faces), tmp_path, per_shard=5)
    with pytest.raises(UsageError, match="expected a folder for tar shards"):
        convert_images(list_images(tiny_faces), tmp_path / "x.rec", per_shard=5)
