import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from torch import Tensor

from arcinvert.faces.augmentation import Augmentation, blur, jpeg, low_resolution

OFF = Augmentation(flip=0, shift=0, scale=0, rotate=0, light=0, color=0, gray=0, cutout=0)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def images() -> Tensor:
    """(12, 3, 112, 112), in whole steps of 1/255: soft colors and some noise."""
    coarse = torch.rand(12, 3, 7, 7, generator=generator(5))
    soft = torch.nn.functional.interpolate(coarse, size=[112, 112], mode="bicubic").clamp(0, 1)
    return ((soft * 0.8 + 0.1 + 0.02 * torch.randn(soft.shape, generator=generator(6))) * 255).round().clamp(
        0, 255
    ) / 255


@pytest.fixture
def smooth() -> torch.Tensor:
    """(16, 3, 112, 112) in [0, 1]: big colored squares, no two alike."""
    return torch.rand(16, 3, 7, 7, generator=generator(5)).repeat_interleave(16, 2).repeat_interleave(16, 3)


def to_picture(image: Tensor) -> Image.Image:
    return Image.fromarray((image * 255).round().byte().permute(1, 2, 0).numpy())


def test_jpeg_as_an_encoder_does_it(images: Tensor) -> None:
    qualities = torch.tensor([20.0, 35, 50, 75, 90, 95] * 2)
    for image, out, quality in zip(images, jpeg(images, qualities), qualities, strict=True):
        buffer = io.BytesIO()
        to_picture(image).save(buffer, "JPEG", quality=int(quality), subsampling=0)
        expected = torch.from_numpy(np.array(Image.open(buffer))).permute(2, 0, 1) / 255
        lost = (expected - image).square().mean().sqrt()
        assert (out - expected).square().mean().sqrt() < max(0.4 * lost, 1.5 / 255)


def test_blur_as_a_direct_sum(images: Tensor) -> None:
    sigma = torch.linspace(0.3, 2.5, 12)
    out = blur(images, sigma)
    distance = np.arange(-7, 8)
    for row in (0, 5, 11):
        weights = np.exp(-(distance[:, None] ** 2 + distance**2) / (2 * sigma[row].item() ** 2))
        patch = images[row, 1, 40:55, 60:75].numpy()
        assert out[row, 1, 47, 67].item() == pytest.approx((weights * patch).sum() / weights.sum(), abs=1e-5)
    pillow = np.asarray(to_picture(images[11]).filter(ImageFilter.GaussianBlur(2.5))) / 255
    assert np.abs(out[11].permute(1, 2, 0).numpy() - pillow).max() < 0.03


def test_low_resolution_keeps_the_mean_and_loses_the_detail(images: Tensor) -> None:
    out = low_resolution(images, 28)
    torch.testing.assert_close(out.mean((2, 3)), images.mean((2, 3)), atol=2e-3, rtol=0)
    checks = (torch.arange(112)[:, None] + torch.arange(112)).remainder(2).float().expand(1, 3, 112, 112)
    assert low_resolution(checks, 28).std() < 0.02
    torch.testing.assert_close(low_resolution(images, 112), images)


@pytest.mark.parametrize("name", ["low_resolution", "blurred", "jpeg"])
class TestInAnAugmentation:
    def test_only_those_drawn_are_touched(self, images: Tensor, name: str) -> None:
        many = images.repeat(20, 1, 1, 1)
        out, plain = replace(OFF, **{name: 0.3})(many, generator()), OFF(many, generator())
        touched = (out != plain).flatten(1).any(1)
        assert touched.float().mean() == pytest.approx(0.3, abs=0.1)
        assert out.min() >= 0
        assert out.max() <= 1

    def test_the_draws_before_stay_as_they_were(self, images: Tensor, name: str) -> None:
        """Switched on but never drawn, all else is bit-equal; and switched off, nothing more is drawn."""
        first, second = generator(3), generator(3)
        rare = replace(Augmentation(), **{name: 1e-12})(images, first)
        assert torch.equal(rare, Augmentation()(images, second))
        assert not torch.equal(first.get_state(), second.get_state())

    def test_all_of_them(self, images: Tensor, name: str) -> None:
        out = replace(OFF, **{name: 1})(images, generator())
        assert ((out - images).abs().amax((1, 2, 3)) > 1e-3).all()
        assert (out - images).abs().mean() < 0.05


def test_what_runs_drew_before_is_still_drawn() -> None:
    """The figures are those of the version that did not know these three."""
    out = Augmentation(shade=0.3, surroundings=0.5)(
        torch.linspace(0, 1, 4 * 3 * 64 * 64).view(4, 3, 64, 64), generator(1)
    )
    torch.testing.assert_close(out[:, :, 20, 20].sum(1), torch.tensor(EXPECTED), atol=1e-5, rtol=0)


EXPECTED = [0.56723, 0.765929, 2.182247, 2.329755]


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
