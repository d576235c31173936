import pytest
import torch

from arcinvert.inversion.transforms import Jitter


def generators(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


@pytest.fixture
def images():
    coarse = torch.rand(2, 3, 14, 14, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.interpolate(coarse, size=(112, 112), mode="bilinear")


def test_all_switched_off_shows_the_image_itself(images):
    shown = Jitter(flip=0, shift=0, scale=0, rotate=0)(images, generators(1, 2))
    torch.testing.assert_close(shown, images, atol=1e-4, rtol=1e-4)


def test_flip_alone_is_the_mirror_image(images):
    shown = Jitter(flip=1, shift=0, scale=0, rotate=0)(images, generators(1, 2))
    torch.testing.assert_close(shown, images.flip(-1), atol=1e-4, rtol=1e-4)


def test_shift_moves_by_pixels(images):
    generator = generators(3)[0]
    drawn = torch.cat([torch.rand(1, generator=generator), torch.randn(4, generator=generator)])
    size = 3 / float(drawn[3])  # so that the horizontal shift is three pixels
    shown = Jitter(flip=0, shift=size, scale=0, rotate=0)(images[:1], generators(3))
    down = size * float(drawn[4])
    middle = shown[0, :, 50:60, 50:60]
    row = round(down)
    expected = images[0, :, 50 - row : 60 - row, 47:57]
    assert float((middle - expected).abs().mean()) < 0.03
    assert float((middle - images[0, :, 50:60, 50:60]).abs().mean()) > 0.03


def test_view_of_one_image_does_not_depend_on_its_neighbors(images):
    together = Jitter()(images, generators(1, 2))
    alone = Jitter()(images[1:], generators(2))
    torch.testing.assert_close(together[1:], alone)


def test_gradient_reaches_the_image(images):
    images = images.clone().requires_grad_(True)
    Jitter()(images, generators(1, 2)).sum().backward()
    assert (images.grad != 0).float().mean() > 0.8
