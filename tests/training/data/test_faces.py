import hashlib
import os
import shutil
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin

from arcinvert.errors import InputError
from arcinvert.faces.images import IMAGE_FORMATS
from arcinvert.training.data import list_images, open_faces, stream_faces
from arcinvert.training.data.faces import identity_folders, load_faces, split_identities, to_float


def picture(seed: int = 0, size: tuple[int, int] = (112, 112)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two identities of two pictures, to be spoilt."""
    for identity in "ba":
        (tmp_path / identity).mkdir()
        for number in range(2):
            picture(ord(identity) + number).save(tmp_path / identity / f"{number}.png")
    return tmp_path


class TestFolder:
    def test_reads_what_the_files_hold(self, folder: Path) -> None:
        faces = load_faces(folder, ["a", "b"])
        assert faces.files == ("a/0.png", "a/1.png", "b/0.png", "b/1.png")
        assert faces.labels.tolist() == [0, 0, 1, 1]
        assert faces.labels.dtype == torch.int64
        assert faces.identities == ("a", "b")
        assert (len(faces), faces.images.dtype) == (4, torch.uint8)
        assert np.array_equal(faces.images[3].numpy(), np.asarray(picture(ord("b") + 1)))

    def test_labels_follow_the_names_given(self, folder: Path) -> None:
        faces = load_faces(folder, ["b"])
        assert (faces.files, faces.labels.tolist()) == (("b/0.png", "b/1.png"), [0, 0])

    def test_real_faces(self, faces_dir: Path) -> None:
        names = identity_folders(faces_dir)
        assert names == [f"{number:05d}" for number in range(12)]
        faces = load_faces(faces_dir, names)
        assert faces.images.shape == (len(list(faces_dir.glob("*/*.jpg"))), 112, 112, 3)
        assert faces.labels.unique().tolist() == list(range(12))

    def test_identities_are_sorted_and_hidden_ones_and_files_ignored(self, folder: Path) -> None:
        for name in ("10", "9", ".hidden"):
            (folder / name).mkdir()
        (folder / "notes.txt").write_text("not an identity")
        assert identity_folders(folder) == ["10", "9", "a", "b"]

    def test_every_format_that_is_read_whatever_its_name(self, folder: Path) -> None:
        kinds = {"c.JPG": "JPEG", "d.jfif": "JPEG", "e": "WEBP", "f.dat": "BMP", "g.tif": "TIFF", "h.gif": "GIF"}
        kinds |= {"i.avif": "AVIF", "j.jp2": "JPEG2000", "k.ppm": "PPM", ".hidden.png": "PNG"}
        for name, kind in kinds.items():
            picture().save(folder / "a" / name, format=kind)
        (folder / "a" / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
        (folder / "a" / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
        faces = load_faces(folder, ["a"])
        assert faces.files == tuple(sorted(f"a/{name}" for name in ("0.png", "1.png", *kinds)))
        assert faces.skipped == ()

    def test_heic_with_its_extra(self, folder: Path) -> None:
        pytest.importorskip("pillow_heif")
        gradient = np.linspace(0, 255, 112, dtype=np.uint8)[:, None, None].repeat(112, 1).repeat(3, 2)
        Image.fromarray(gradient).save(folder / "a" / "9.jpg", format="HEIF", quality=90)
        image = load_faces(folder, ["a"]).images[-1].numpy()
        assert np.abs(image.astype(int) - gradient).mean() < 6

    @pytest.mark.parametrize("name", ["with space.png", "línea\nnueva.png", "顔.png"])
    def test_odd_file_names(self, folder: Path, name: str) -> None:
        picture().save(folder / "a" / name)
        assert f"a/{name}" in load_faces(folder, ["a"]).files

    @pytest.mark.skipif(sys.platform != "linux", reason="other systems have no file name that is not Unicode")
    def test_a_file_name_that_is_not_unicode(self, folder: Path) -> None:
        os.rename(folder / "a" / "0.png", os.fsencode(folder / "a") + b"/\xff.png")
        assert len(load_faces(folder, ["a"])) == 2

    @pytest.mark.parametrize(("mode", "suffix"), [("L", "png"), ("RGBA", "png"), ("P", "png"), ("CMYK", "jpg")])
    def test_other_modes_become_rgb(self, folder: Path, mode: str, suffix: str) -> None:
        gradient = Image.fromarray(np.linspace(0, 255, 112, dtype=np.uint8)[:, None, None].repeat(112, 1).repeat(3, 2))
        other = gradient.quantize(256) if mode == "P" else gradient.convert(mode)
        assert other.mode == mode
        other.save(folder / "a" / f"x.{suffix}")
        image = load_faces(folder, ["a"]).images[-1].double()
        assert image.shape == (112, 112, 3)
        assert (image - torch.tensor(np.asarray(gradient)).double()).abs().mean() < 6


class TestDigest:
    def test_stays_when_nothing_changes(self, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
        copy = tmp_path_factory.mktemp("copy") / "elsewhere"
        shutil.copytree(folder, copy)
        assert load_faces(copy, ["a", "b"]).digest == load_faces(folder, ["a", "b"]).digest

    def test_is_the_digest_of_names_and_file_digests(self, folder: Path) -> None:
        """So that it can be computed without this package."""
        text = b"".join(
            f"a/{number}.png".encode() + b"\0" + hashlib.sha256((folder / f"a/{number}.png").read_bytes()).digest()
            for number in range(2)
        )
        assert load_faces(folder, ["a"]).digest == hashlib.sha256(text).hexdigest()

    def test_changes_with_a_byte_a_name_or_a_picture_less(self, folder: Path) -> None:
        digests = [load_faces(folder, ["a", "b"]).digest]
        picture(7).save(folder / "b" / "1.png")
        digests.append(load_faces(folder, ["a", "b"]).digest)
        (folder / "b" / "1.png").rename(folder / "b" / "2.png")
        digests.append(load_faces(folder, ["a", "b"]).digest)
        (folder / "b" / "2.png").unlink()
        digests.append(load_faces(folder, ["a", "b"]).digest)
        assert len(set(digests)) == 4

    def test_changes_when_two_pictures_trade_places(self, folder: Path) -> None:
        before = load_faces(folder, ["a"]).digest
        (folder / "a" / "0.png").rename(folder / "a" / "x")
        (folder / "a" / "1.png").rename(folder / "a" / "0.png")
        (folder / "a" / "x").rename(folder / "a" / "1.png")
        assert load_faces(folder, ["a"]).digest != before


class TestRefusals:
    def test_no_such_folder(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="expected a folder of identities"):
            identity_folders(tmp_path / "missing")

    def test_a_file_for_a_folder(self, folder: Path) -> None:
        with pytest.raises(InputError, match="expected a folder of identities"):
            identity_folders(folder / "a" / "0.png")

    def test_no_identity_in_it(self, folder: Path) -> None:
        with pytest.raises(InputError, match="one sub-folder per identity"):
            identity_folders(folder / "a")

    def test_identities_without_pictures(self, folder: Path) -> None:
        (folder / "c").mkdir()
        (folder / "c" / "readme.txt").write_text("x")
        with pytest.raises(InputError, match="expected images"):
            load_faces(folder, ["c"])

    @pytest.mark.parametrize("size", [(111, 112), (112, 113), (224, 224), (1, 1)])
    def test_wrong_size(self, folder: Path, size: tuple[int, int]) -> None:
        picture(size=size).save(folder / "a" / "1.png")
        with pytest.raises(InputError, match=rf"expected 112x112 aligned faces, got \({size[0]}, {size[1]}\).*1\.png"):
            load_faces(folder, ["a", "b"])

    def test_sixteen_bits_a_channel(self, folder: Path) -> None:
        """Pillow clips such a picture to almost all white."""
        gray = np.linspace(0, 65535, 112 * 112).reshape(112, 112).astype(np.uint16)
        Image.fromarray(gray).save(folder / "a" / "9.png")
        with pytest.raises(InputError, match=r"expected 8 bits a channel, got mode I;16 .*9\.png"):
            load_faces(folder, ["a"])


class TestLeftOut:
    """What cannot be read is left out and named; the other images are there."""

    def refused(self, folder: Path, name: str) -> str:
        """The reason for which ``a/NAME`` is left out, beside the two images of the folder."""
        faces = load_faces(folder, ["a"])
        assert f"a/{name}" not in faces.files
        assert len(faces.files) == len(faces.images) == len(faces.labels)
        assert faces.digest == stream_faces(list_images(folder), ["a"]).digest
        [(file, reason)] = faces.skipped
        assert file == str(folder / "a" / name)
        return reason

    @pytest.mark.parametrize("keep", [0, 30, 2000])
    @pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp"])
    def test_truncated_picture(self, folder: Path, keep: int, suffix: str) -> None:
        path = folder / "a" / f"9.{suffix}"
        picture().save(path)
        path.write_bytes(path.read_bytes()[:keep])
        reason = self.refused(folder, path.name)
        assert reason == "empty" if keep == 0 else "cannot read the image" in reason

    def test_a_text_for_a_picture(self, folder: Path) -> None:
        for text in ("no picture", "BMW and a driver, no bitmap", "Python, and no anymap"):
            (folder / "a" / "9.jpg").write_text(text)
            assert "not an image" in self.refused(folder, "9.jpg")

    def test_a_folder_and_a_dangling_link_for_a_picture(self, folder: Path) -> None:
        (folder / "a" / "9.jpg").mkdir()
        assert self.refused(folder, "9.jpg") == "a folder, not an image"
        (folder / "a" / "9.jpg").rmdir()
        (folder / "a" / "9.jpg").symlink_to("nowhere")
        assert self.refused(folder, "9.jpg") == "no regular file"

    def test_a_picture_bomb(self, folder: Path) -> None:
        """A header that claims 400 million pixels."""
        path = folder / "a" / "0.png"
        content = bytearray(path.read_bytes())
        content[16:24] = struct.pack(">II", 20_000, 20_000)
        content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
        path.write_bytes(content)
        assert "pixels" in self.refused(folder, "0.png")

    def test_a_text_bomb_in_a_picture(self, folder: Path) -> None:
        info = PngImagePlugin.PngInfo()
        info.add_text("comment", "x" * 2_000_000, zip=True)
        picture().save(folder / "a" / "9.png", pnginfo=info)
        assert "too large" in self.refused(folder, "9.png")

    def test_heic_is_named_with_the_way_out(self, folder: Path) -> None:
        (folder / "a" / "9.jpg").write_bytes(b"\0\0\0\x18ftypheic" + bytes(64))
        reason = self.refused(folder, "9.jpg")
        assert ("cannot read the image" if "HEIF" in IMAGE_FORMATS else "install arcinvert[heic], or convert") in reason

    def test_an_identity_without_images_and_files_outside(self, folder: Path) -> None:
        (folder / "c").mkdir()
        (folder / "notes.txt").write_text("x")
        picture().save(folder / "loose.png")
        faces = open_faces(folder)
        assert faces.identities == ("a", "b")
        assert {Path(file).name for file, _ in faces.skipped} == {"c", "notes.txt", "loose.png"}

    def test_nothing_is_left(self, folder: Path) -> None:
        for path in folder.glob("*/*"):
            path.write_bytes(path.read_bytes()[:500])
        with pytest.raises(InputError, match=r"cannot read the image .*a/0\.png"):
            open_faces(folder)


class TestSplit:
    def test_the_last_ones_are_held_out(self) -> None:
        assert split_identities(list("abcdef"), 2) == (list("abcd"), list("ef"))
        assert split_identities(list("abcdef"), 4) == (list("ab"), list("cdef"))
        assert split_identities(list("abcdef"), 0) == (list("abcdef"), [])

    @pytest.mark.parametrize("held_out", [-1, 1, 5, 6, 7])
    def test_two_are_needed_on_either_side(self, held_out: int) -> None:
        with pytest.raises(InputError, match=f"got {held_out} of 6 identities"):
            split_identities(list("abcdef"), held_out)


def test_to_float_keeps_the_range_and_moves_the_channels() -> None:
    images = torch.zeros(2, 4, 5, 3, dtype=torch.uint8)
    images[1, 2, 3] = torch.tensor([255, 51, 0], dtype=torch.uint8)
    floats = to_float(images)
    assert (floats.shape, floats.dtype) == ((2, 3, 4, 5), torch.float32)
    torch.testing.assert_close(floats[1, :, 2, 3], torch.tensor([1.0, 0.2, 0.0]))
    assert floats[0].sum() == 0
