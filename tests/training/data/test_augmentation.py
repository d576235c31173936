import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from torch import Tensor

from arcinvert.training.data.augmentation import Augmentation, blur, jpeg, low_resolution

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
