"""The image contract, by hand."""

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from arcinvert.errors import CheckpointError, InputError
from arcinvert.preprocessing import CROPS, Preprocessing, box_crop


@pytest.mark.parametrize(
    "contract",
    [
        Preprocessing(),
        Preprocessing(color="BGR"),
        Preprocessing((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        Preprocessing((0.1, 0.2, 0.3), (1.0, 2.0, 4.0), "BGR"),
        Preprocessing((0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255)),
        Preprocessing((0.1, 0.1, 0.3), (0.5, 0.5, 0.5)),
    ],
    ids=repr,
)
def test_what_the_network_is_shown(contract: Preprocessing) -> None:
    image = np.zeros((1, 3, 112, 112), np.float32)
    image[0, :, 7, 9] = red, green, blue = 0.25, 0.5, 1.0
    shown = contract(torch.from_numpy(image))[0, :, 7, 9].tolist()
    values = [red, green, blue] if contract.color == "RGB" else [blue, green, red]
    by_hand = [(value - mean) / std for value, mean, std in zip(values, contract.mean, contract.std, strict=True)]
    assert shown == pytest.approx(by_hand, rel=1e-5)


def test_a_network_of_another_size_is_shown_the_whole_face() -> None:
    image = torch.rand(2, 3, 112, 112)
    expected = interpolate(image, (160, 160), mode="bilinear") * 2 - 1
    torch.testing.assert_close(Preprocessing(size=(160, 160))(image), expected, atol=1e-4, rtol=0)
    narrow = Preprocessing(size=(112, 96))(image)
    torch.testing.assert_close(narrow, image[..., 8:104] * 2 - 1, atol=1e-4, rtol=0)
    own = torch.rand(2, 3, 160, 160)
    torch.testing.assert_close(Preprocessing(size=(160, 160), crop=CROPS["dlib"])(own), own * 2 - 1)
    with pytest.raises(InputError, match=r"\(B, 3, 112, 112\) or \(B, 3, 160, 160\), got \(2, 3, 100, 100\)"):
        Preprocessing(size=(160, 160))(own[..., :100, :100])


@pytest.mark.parametrize("crop", [(60.0, 0.0, 20.0, 30.0), (50.0, 20.0, 30.0, 10.0), (50.0, 20.0, 30.0, 10.0, 1.3)])
def test_a_crop_is_a_similarity_of_the_face(crop: tuple[float, ...]) -> None:
    """A smooth image, whose values are known between its pixels."""
    y, x = torch.meshgrid(torch.arange(112) + 0.5, torch.arange(112) + 0.5, indexing="ij")
    image = torch.stack([x / 112, y / 112, (x + y) / 224])[None].requires_grad_()
    contract = Preprocessing((0.0,) * 3, (1.0,) * 3, "BGR", (64, 80), crop)
    found = contract(image)
    a, b, left, top, stretch = (*crop, 1.0)[:5]
    for row, column in ((0, 0), (10, 70), (63, 79)):
        u, v = (column + 0.5) / 80, stretch * (row + 0.5) / 80
        where = (a * u - b * v + left) / 112, (b * u + a * v + top) / 112
        assert found[0, :, row, column].tolist() == pytest.approx([sum(where) / 2, where[1], where[0]], abs=1e-4)
    (gradient,) = torch.autograd.grad(found.sum(), image)
    assert float(gradient.sum()) == pytest.approx(3 * 64 * 80, rel=1e-4)


@pytest.mark.parametrize("crop", [[1, 2, 3], [0, 0, 0, 0], [float("nan"), 0, 0, 0], [50, 0, 0, 0, 0], "dlib", 5])
def test_crops_that_are_none(crop: object) -> None:
    header = {"mean": [0.5] * 3, "std": [0.5] * 3, "size": [112, 112], "color": "RGB", "crop": crop}
    with pytest.raises(CheckpointError, match="preprocessing"):
        Preprocessing.from_header(header)


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1 / 255), (0.5, 0.5), (127.5 / 255, 128 / 255)])
def test_whole_pixels_arrive_as_the_networks_own_program_prepares_them(mean: float, std: float) -> None:
    """To the last bit: an int8 graph rounds them, and 127.5 lies on a border."""
    pixels = torch.arange(256.0).repeat(3, 49).view(1, 3, 112, 112)
    found = Preprocessing((mean,) * 3, (std,) * 3)(pixels / 255)
    assert torch.equal(found, (pixels - round(255 * mean, 3)) / round(255 * std, 3))


def test_the_crop_of_a_box() -> None:
    """Its corners are those of the box, with the margin that facenet-pytorch gives in pixels of the crop."""
    a, b, x, y, stretch = box_crop(80.0, 106.0, 56.0, 65.0)
    assert (x, y, a + x, a * stretch + y, b) == pytest.approx((16.0, 12.0, 96.0, 118.0, 0.0))
    a, b, x, y, stretch = box_crop(80.0, 106.0, 56.0, 65.0, margin=32 / 160)
    assert (x, y, a + x, a * stretch + y) == pytest.approx((6.0, -1.25, 106.0, 131.25))
