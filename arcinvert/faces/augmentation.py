"""Random augmentation of training images in batches, and the degradations that it draws: blur, JPEG, low resolution."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, conv2d, grid_sample, interpolate, pad

MAX_BLUR = 2.5  # standard deviation in pixels of the widest blur
_REACH = 7
# ITU-T T.81, tables K.1 and K.2, row by row; and the colors of JFIF 1.02.
_LUMA = "16 11 10 16 24 40 51 61 12 12 14 19 26 58 60 55 14 13 16 24 40 57 69 56 14 17 22 29 51 87 80 62 "
_LUMA += "18 22 37 56 68 109 103 77 24 35 55 64 81 104 113 92 49 64 78 87 103 121 120 101 72 92 95 98 112 100 103 99"
_CHROMA = "17 18 24 47 99 99 99 99 18 21 26 66 99 99 99 99 24 26 56 99 99 99 99 99 47 66 99 99 99 99 99 99"
_YCBCR = [[0.299, 0.587, 0.114], [-0.168735892, -0.331264108, 0.5], [0.5, -0.418687589, -0.081312411]]


def blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur.

    Args:
        images: (B, C, H, W).
        sigma: (B,) standard deviations in pixels, above 0 and at most :data:`MAX_BLUR`.
    """
    count, channels = images.shape[:2]
    distance = torch.arange(-_REACH, _REACH + 1, device=images.device, dtype=images.dtype)
    kernel = torch.softmax(-0.5 * (distance / sigma[:, None]) ** 2, 1).repeat_interleave(channels, 0)
    rows = pad(images, (_REACH,) * 4, mode="replicate").flatten(0, 1)[None]
    if count == 0:
        return images
    rows = conv2d(rows, kernel[:, None, None], groups=count * channels)
    return conv2d(rows, kernel[:, None, :, None], groups=count * channels).view_as(images)


def low_resolution(images: Tensor, side: int) -> Tensor:
    """Images scaled down to ``side`` pixels (averaged) and up again (bilinear)."""
    small = interpolate(images, size=[side, side], mode="bilinear", antialias=True, align_corners=False)
    return interpolate(small, size=list(images.shape[-2:]), mode="bilinear", align_corners=False)


def jpeg(images: Tensor, quality: Tensor) -> Tensor:
    """The images after JPEG compression without subsampling of color; quality on the scale of the IJG's encoder.

    Args:
        images: (B, 3, H, W) in [0, 1]; H and W multiples of 8.
        quality: (B,) in 1..100.
    """
    count, _, height, width = images.shape
    colors = torch.tensor(_YCBCR, device=images.device)
    luma = torch.tensor([float(n) for n in _LUMA.split()])
    chroma = torch.tensor([float(n) for n in _CHROMA.split()] + [99.0] * 32)
    tables = torch.stack([luma, chroma, chroma]).to(images.device)
    factor = torch.where(quality < 50, 50 / quality, 2 - quality / 50).view(-1, 1, 1)
    tables = (tables * factor + 0.5).floor().clamp(1, 255).view(count, 3, 1, 1, 8, 8)
    place = torch.arange(8, device=images.device)
    cosine = 0.5 * torch.cos(math.pi / 8 * place[:, None] * (place + 0.5))
    cosine[0] /= math.sqrt(2)
    values = torch.einsum("ij,bjhw->bihw", colors, (images * 255).round()).round()
    values[:, 0] -= 128
    blocks = values.view(count, 3, height // 8, 8, width // 8, 8).transpose(3, 4)
    frequencies = cosine @ blocks @ cosine.T
    blocks = cosine.T @ ((frequencies / tables).round() * tables) @ cosine
    values = blocks.transpose(3, 4).reshape(count, 3, height, width)
    values[:, 0] += 128
    return torch.einsum("ij,bjhw->bihw", torch.linalg.inv(colors), values).div(255).clamp(0, 1)


@dataclass(frozen=True)
class Augmentation:
    """Random changes to a training image, drawn per image; 0 switches one off.

    Attributes:
        flip: probability of a mirror image.
        shift: largest shift as a share of the width.
        scale: largest relative change of size.
        rotate: largest rotation, radians.
        light: largest relative change of brightness and of contrast.
        color: largest relative change of one channel.
        gray: probability of a gray image.
        cutout: probability of a gray square of a quarter to a half of the width.
        surroundings: probability that everything outside an oval around the face is taken from
            another image of the batch, so that hair and background do not reveal the identity.
        shade: largest relative change of brightness by a light that varies smoothly over the image.
        low_resolution: probability that the image is reduced to a quarter to three quarters of its width.
        blurred: probability of a Gaussian blur of 0.3 to 2.5 pixels.
        jpeg: probability of JPEG compression at a quality from 20 to 90.
    """

    flip: float = 0.5
    shift: float = 0.04
    scale: float = 0.05
    rotate: float = 0.06
    light: float = 0.25
    color: float = 0.08
    gray: float = 0.1
    cutout: float = 0.2
    surroundings: float = 0.0
    shade: float = 0.0
    low_resolution: float = 0.0
    blurred: float = 0.0
    jpeg: float = 0.0

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> the same, drawn from ``generator`` (a CPU generator)."""
        count, device = len(images), images.device

        def draw(*shape: int) -> Tensor:
            return (torch.rand(count, *shape, generator=generator) * 2 - 1).to(device)

        def chance(probability: float) -> Tensor:
            return (torch.rand(count, 1, 1, 1, generator=generator) < probability).to(device)

        angle, size = self.rotate * draw(), 1 + self.scale * draw()
        mirror = 1 - 2 * chance(self.flip).flatten().float()
        matrix = torch.stack(
            [
                torch.stack([mirror * size * angle.cos(), -size * angle.sin(), 2 * self.shift * draw()], 1),
                torch.stack([mirror * size * angle.sin(), size * angle.cos(), 2 * self.shift * draw()], 1),
            ],
            1,
        )
        grid = affine_grid(matrix, list(images.shape), align_corners=False)
        images = grid_sample(images, grid, padding_mode="border", align_corners=False)
        middle = images.mean((1, 2, 3), keepdim=True)
        contrast = 1 + self.light * draw(1, 1, 1)
        brightness = 1 + self.light * draw(1, 1, 1)
        images = ((images - middle) * contrast + middle) * brightness * (1 + self.color * draw(3, 1, 1))
        images = torch.where(chance(self.gray), images.mean(1, keepdim=True), images).clamp(0, 1)
        half = (0.125 + 0.125 * torch.rand(count, 1, 1, generator=generator)).to(device) * images.shape[-1]
        place = torch.arange(images.shape[-1], device=device).view(1, 1, -1)
        center = torch.rand(count, 2, 1, 1, generator=generator).to(device) * images.shape[-1]
        inside = ((place.mT - center[:, 0]).abs() < half) & ((place - center[:, 1]).abs() < half)
        images = images.masked_fill(inside[:, None] & chance(self.cutout), 0.5)
        if self.shade:
            light = interpolate(draw(1, 4, 4), size=list(images.shape[-2:]), mode="bicubic", align_corners=True)
            images = (images * (1 + self.shade * light)).clamp(0, 1)
        if self.surroundings:
            oval = self._oval(images, draw(4, 1, 1))
            images = torch.where(chance(self.surroundings), images * oval + images.roll(1, 0) * (1 - oval), images)
        return self._degrade(images, generator) if self.low_resolution or self.blurred or self.jpeg else images

    def _degrade(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """The losses of a poor camera in their order, low resolution, blur, JPEG, on the images that are drawn."""
        images = images.clone()

        def chosen(probability: float) -> tuple[Tensor, Tensor]:
            """The rows of the images, and for each a number in [0, 1)."""
            drawn = torch.rand(2, len(images), generator=generator)
            rows = (drawn[0] < probability).nonzero()[:, 0]
            return rows.to(images.device), drawn[1, rows].to(images.device)

        if self.low_resolution:
            rows, share = chosen(self.low_resolution)
            sides = ((0.25 + 0.5 * share) * images.shape[-1] / 8).round().mul(8).long()  # few sizes: few calls
            for side in sorted(set(sides.tolist())):
                images[rows[sides == side]] = low_resolution(images[rows[sides == side]], side)
        if self.blurred:
            rows, share = chosen(self.blurred)
            images[rows] = blur(images[rows], 0.3 + (MAX_BLUR - 0.3) * share)
        if self.jpeg:
            rows, share = chosen(self.jpeg)
            images[rows] = jpeg(images[rows], 20 + 70 * share)
        return images

    @staticmethod
    def _oval(images: Tensor, drawn: Tensor) -> Tensor:
        """(B, 1, H, W) mask: 1 inside an oval around the aligned face, 0 outside, with a soft edge.

        Args:
            images: (B, C, H, W), for the size.
            drawn: (B, 4, 1, 1) in [-1, 1]: position and half axes.
        """
        side = images.shape[-1]
        row = torch.arange(side, device=images.device).view(1, 1, -1, 1)
        column = torch.arange(side, device=images.device).view(1, 1, 1, -1)
        x, y, across, down = drawn.unsqueeze(1).unbind(2)
        right = (column - side * (0.5 + 0.03 * x)) / (side * (0.37 + 0.06 * across))
        below = (row - side * (0.59 + 0.03 * y)) / (side * (0.45 + 0.06 * down))
        return torch.sigmoid((1 - (right**2 + below**2).sqrt()) * 16)
