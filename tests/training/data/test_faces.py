import hashlib
import os
import shutil
import struct
import sys
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin

from arcinvert.errors import InputError
from arcinvert.training.data.augmentation import Augmentation
from arcinvert.training.data.faces import identity_folders, load_faces, split_identities, to_float

OFF = Augmentation(flip=0, shift=0, scale=0, rotate=0, light=0, color=0, gray=0, cutout=0)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


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


@pytest.fixture
def smooth() -> torch.Tensor:
    """(16, 3, 112, 112) in [0, 1]: big colored squares, no two alike."""
    return torch.rand(16, 3, 7, 7, generator=generator(5)).repeat_interleave(16, 2).repeat_interleave(16, 3)


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

    def test_suffixes_in_any_case_and_nothing_else(self, folder: Path) -> None:
        for name in ("c.JPG", "d.jpeg", "e.WebP", "f.bmp"):
            picture().save(folder / "a" / name)
        (folder / "a" / "g.txt").write_text("x")
        faces = load_faces(folder, ["a"])
        assert faces.files == ("a/0.png", "a/1.png", "a/c.JPG", "a/d.jpeg", "a/e.WebP", "a/f.bmp")

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

    @pytest.mark.parametrize("keep", [0, 30, 2000])
    @pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp"])
    def test_truncated_picture(self, folder: Path, keep: int, suffix: str) -> None:
        path = folder / "a" / f"9.{suffix}"
        picture().save(path)
        path.write_bytes(path.read_bytes()[:keep])
        with pytest.raises(InputError, match=f"cannot read the image .*9.{suffix}"):
            load_faces(folder, ["a"])

    def test_a_text_for_a_picture(self, folder: Path) -> None:
        (folder / "a" / "9.jpg").write_text("no picture")
        with pytest.raises(InputError, match=r"cannot read the image .*9\.jpg"):
            load_faces(folder, ["a"])

    def test_a_folder_and_a_dangling_link_for_a_picture(self, folder: Path) -> None:
        (folder / "a" / "9.jpg").mkdir()
        (folder / "b" / "9.jpg").symlink_to("nowhere")
        for name in "ab":
            with pytest.raises(InputError, match=r"cannot read the image .*9\.jpg"):
                load_faces(folder, [name])

    def test_a_picture_bomb(self, folder: Path) -> None:
        """A header that claims 400 million pixels."""
        path = folder / "a" / "0.png"
        content = bytearray(path.read_bytes())
        content[16:24] = struct.pack(">II", 20_000, 20_000)
        content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"cannot read the image .*bomb"):
            load_faces(folder, ["a"])

    def test_a_text_bomb_in_a_picture(self, folder: Path) -> None:
        info = PngImagePlugin.PngInfo()
        info.add_text("comment", "x" * 2_000_000, zip=True)
        picture().save(folder / "a" / "9.png", pnginfo=info)
        with pytest.raises(InputError, match=r"cannot read the image .*too large"):
            load_faces(folder, ["a"])

    def test_sixteen_bits_a_channel(self, folder: Path) -> None:
        """Pillow clips such a picture to almost all white."""
        gray = np.linspace(0, 65535, 112 * 112).reshape(112, 112).astype(np.uint16)
        Image.fromarray(gray).save(folder / "a" / "9.png")
        with pytest.raises(InputError, match=r"expected 8 bits a channel, got mode I;16 .*9\.png"):
            load_faces(folder, ["a"])


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


class TestAugmentation:
    def test_same_generator_same_images(self, smooth: torch.Tensor) -> None:
        first, second, other = (Augmentation()(smooth, generator(seed)) for seed in (3, 3, 4))
        assert torch.equal(first, second)
        assert not torch.equal(first, other)

    def test_the_global_generator_is_neither_used_nor_moved(self, smooth: torch.Tensor) -> None:
        torch.manual_seed(1)
        state = torch.get_rng_state()
        first = Augmentation()(smooth, generator())
        assert torch.equal(torch.get_rng_state(), state)
        torch.manual_seed(2)
        assert torch.equal(Augmentation()(smooth, generator()), first)

    def test_shape_and_range_even_when_strong(self, smooth: torch.Tensor) -> None:
        strong = Augmentation(shift=0.5, scale=0.5, rotate=1.0, light=0.9, color=0.9, gray=0.5, cutout=0.5, shade=0.9)
        for seed in range(5):
            images = strong(smooth, generator(seed))
            assert images.shape == smooth.shape
            assert images.isfinite().all()
            assert images.min() >= 0
            assert images.max() <= 1

    def test_all_zero_changes_nothing(self, smooth: torch.Tensor) -> None:
        for seed in range(3):
            torch.testing.assert_close(OFF(smooth, generator(seed)), smooth, atol=1e-4, rtol=0)

    def test_input_is_left_as_it_was(self, smooth: torch.Tensor) -> None:
        before = smooth.clone()
        Augmentation(cutout=1)(smooth, generator())
        assert torch.equal(smooth, before)

    def test_flip_mirrors_left_and_right(self, smooth: torch.Tensor) -> None:
        images = replace(OFF, flip=1)(smooth, generator())
        torch.testing.assert_close(images, smooth.flip(3), atol=1e-4, rtol=0)

    def test_each_image_draws_for_itself(self, smooth: torch.Tensor) -> None:
        images = replace(OFF, flip=0.5)(smooth, generator())
        mirrored = (images - smooth.flip(3)).abs().amax((1, 2, 3)) < 1e-3
        kept = (images - smooth).abs().amax((1, 2, 3)) < 1e-3
        assert (mirrored ^ kept).all()
        assert 2 <= mirrored.sum() <= 14

    def test_gray_is_the_mean_of_the_channels(self, smooth: torch.Tensor) -> None:
        images = replace(OFF, gray=1)(smooth, generator())
        for channel in range(3):
            torch.testing.assert_close(images[:, channel], smooth.mean(1), atol=1e-4, rtol=0)

    def test_color_scales_whole_channels(self) -> None:
        images = replace(OFF, color=0.2)(torch.full((32, 3, 112, 112), 0.5), generator())
        factors = images.mean((2, 3)) / 0.5
        assert images.std((2, 3)).max() < 1e-6
        assert factors.min() >= 0.8
        assert factors.max() <= 1.2
        assert factors.std(1).min() > 0

    def test_light_keeps_the_order_of_pixels(self, smooth: torch.Tensor) -> None:
        """Brightness and contrast are straight lines: one line per image, from old to new values."""
        images = replace(OFF, light=0.2)(smooth * 0.3 + 0.35, generator())
        slopes = []
        for old, new in zip(smooth[..., ::8, ::8], images[..., ::8, ::8], strict=True):
            matrix = torch.stack([old.flatten(), torch.ones(old.numel())], 1)
            line = torch.linalg.lstsq(matrix, new.flatten()[:, None]).solution
            torch.testing.assert_close((matrix @ line)[:, 0], new.flatten(), atol=1e-3, rtol=0)
            slopes.append(line[0].item() / 0.3)
        assert min(slopes) >= 0.8 * 0.8 - 1e-3
        assert max(slopes) <= 1.2 * 1.2 + 1e-3
        assert max(slopes) - min(slopes) > 0.1

    def test_shift_moves_by_at_most_its_share_in_each_direction(self) -> None:
        images = torch.zeros(64, 3, 112, 112)
        images[:, :, 50:62, 50:62] = 1
        moved = replace(OFF, shift=0.1)(images, generator()).mean(1)
        axis = torch.arange(112.0) - 55.5
        mass = moved.sum((1, 2))
        places = torch.stack([(moved.sum(2) * axis).sum(1) / mass, (moved.sum(1) * axis).sum(1) / mass], 1)
        torch.testing.assert_close(mass, torch.full((64,), 144.0), atol=0.5, rtol=0)
        assert places.abs().max() <= 11.2 + 0.05
        assert places.amax(0).min() > 7
        assert places.amin(0).max() < -7

    def test_scale_and_rotation_keep_the_center_and_stay_within_their_bounds(self) -> None:
        images = torch.zeros(64, 3, 112, 112)
        images[:, :, 36:76, 52:60] = 1  # an upright bar of 40 by 8
        moved = replace(OFF, scale=0.2, rotate=0.3)(images, generator()).mean(1).double()
        axis = torch.arange(112.0, dtype=torch.float64) - 55.5
        mass = moved.sum((1, 2))
        row, column = axis[:, None], axis[None, :]
        assert ((moved * row).sum((1, 2)) / mass).abs().max() < 0.1
        assert ((moved * column).sum((1, 2)) / mass).abs().max() < 0.1
        spread = [(moved * what).sum((1, 2)) / mass for what in (row * row, column * column, row * column)]
        tilt = 0.5 * torch.atan2(2 * spread[2], spread[0] - spread[1])
        assert tilt.abs().max() <= 0.3 + 0.01
        assert tilt.max() > 0.2
        assert tilt.min() < -0.2
        growth = (mass / 320).sqrt()
        assert growth.min() >= 1 / 1.2 - 0.02
        assert growth.max() <= 1 / 0.8 + 0.02
        assert growth.max() - growth.min() > 0.2

    def test_cutout_is_one_gray_square_of_a_quarter_to_a_half_of_the_width(self) -> None:
        images = replace(OFF, cutout=1)(torch.zeros(64, 3, 112, 112), generator())
        whole = 0
        for image in images:
            assert set(image.flatten().unique().tolist()) <= {0.0, 0.5}
            cut = image[0] == 0.5
            assert torch.equal(image[1] == 0.5, cut)
            rows, columns = cut.any(1).nonzero().flatten(), cut.any(0).nonzero().flatten()
            assert cut.sum() == len(rows) * len(columns)  # a filled rectangle
            assert max(len(rows), len(columns)) <= 56
            touches = {0, 111} & {*rows.tolist(), *columns.tolist()}
            if not touches:
                whole += 1
                assert abs(len(rows) - len(columns)) <= 1
                assert len(rows) >= 27
        assert whole > 10

    def test_surroundings_come_from_the_neighbor_and_the_face_stays(self) -> None:
        images = torch.linspace(0.1, 0.9, 16).view(16, 1, 1, 1).expand(16, 3, 112, 112).contiguous()
        mixed = replace(OFF, surroundings=1)(images, generator())
        face, corners = (slice(45, 85), slice(44, 68)), ([0, 0, 111, 111], [0, 111, 0, 111])
        torch.testing.assert_close(mixed[:, :, *face], images[:, :, *face], atol=0.01, rtol=0)
        neighbor = images.roll(1, 0)
        torch.testing.assert_close(mixed[:, :, *corners], neighbor[:, :, *corners], atol=0.01, rtol=0)
        assert torch.equal(replace(OFF, surroundings=0)(images, generator()), OFF(images, generator()))

    def test_surroundings_of_some_images_only(self, smooth: torch.Tensor) -> None:
        mixed = replace(OFF, surroundings=0.5)(smooth, generator())
        touched = (mixed - smooth).abs().amax((1, 2, 3)) > 1e-2
        assert 2 <= touched.sum() <= 14

    def test_shade_is_a_smooth_light_the_same_for_all_channels(self) -> None:
        images = torch.full((16, 3, 112, 112), 0.5)
        light = replace(OFF, shade=0.3)(images, generator()) / 0.5
        assert torch.equal(light[:, 0], light[:, 1])
        assert torch.equal(light[:, 0], light[:, 2])
        assert (light - 1).abs().amax((1, 2, 3)).min() > 0.1
        assert (light - 1).abs().max() < 0.3 * 1.3  # bicubic curves overshoot their points a little
        assert max(light.diff(dim=2).abs().max(), light.diff(dim=3).abs().max()) < 0.03
        assert light.std((2, 3)).min() > 0.03

    def test_probabilities_are_kept(self) -> None:
        images = torch.zeros(2000, 1, 8, 8)
        share = (replace(OFF, cutout=0.2)(images, generator()).amax((1, 2, 3)) > 0).float().mean()
        assert share == pytest.approx(0.2, abs=0.04)
