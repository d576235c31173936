"""Random transforms of an image: the same face, flipped, moved, resized and turned a little.

An optimization that must succeed under every transform cannot rest on single pixels. Each image has
its own generator, so its transforms do not depend on its neighbors.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from kornia.geometry.transform import warp_affine
from torch import Tensor


@dataclass(frozen=True)
class Jitter:
    """Per-image flip, shift, scale and rotation, in one differentiable warp; 0 switches one off.

    Attributes:
        flip: probability of a mirror image.
        shift: standard deviation, pixels.
        scale: standard deviation, relative.
        rotate: standard deviation, radians.
    """

    flip: float = 0.5
    shift: float = 1.5
    scale: float = 0.02
    rotate: float = 0.03

    def __call__(self, images: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """(B, 3, H, W) and B generators -> (B, 3, H, W); the border is repeated outside."""
        height, width = images.shape[-2:]
        drawn = torch.stack([torch.cat([torch.rand(1, generator=g), torch.randn(4, generator=g)]) for g in generators])
        mirror = torch.where(drawn[:, 0] < self.flip, -1.0, 1.0)
        size = 1 + self.scale * drawn[:, 1]
        cosine = size * torch.cos(self.rotate * drawn[:, 2])
        sine = size * torch.sin(self.rotate * drawn[:, 2])
        linear = torch.stack([mirror * cosine, -sine, mirror * sine, cosine], 1).view(-1, 2, 2)
        center = torch.tensor([(width - 1) / 2, (height - 1) / 2])
        offset = center + self.shift * drawn[:, 3:5] - linear @ center
        matrix = torch.cat([linear, offset[..., None]], 2).to(images.device, images.dtype)
        return warp_affine(images, matrix, (height, width), padding_mode="border", align_corners=True)
