"""Pictures made worse, a batch at once: blur, JPEG, low resolution."""

import math

import torch
from torch import Tensor
from torch.nn.functional import conv2d, interpolate, pad

BLUR = 2.5  # pixels, the widest blur's standard deviation
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
        sigma: (B,) standard deviations in pixels, above 0 and at most :data:`BLUR`.
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
    """Down to ``side`` pixels (averaged) and up again (bilinear)."""
    small = interpolate(images, size=[side, side], mode="bilinear", antialias=True, align_corners=False)
    return interpolate(small, size=list(images.shape[-2:]), mode="bilinear", align_corners=False)


def jpeg(images: Tensor, quality: Tensor) -> Tensor:
    """What JPEG leaves of the images (no subsampling of color), quality as the IJG's encoder counts it.

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
