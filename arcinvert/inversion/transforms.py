"""Random transforms of an image: the same face, flipped, moved, resized and turned a little.

An optimization that must succeed under every transform cannot rest on single pixels. Each image has
its own generator, so its transforms do not depend on its neighbors.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample


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
        return warped(images, self.draw(generators, images.shape[-2:]).to(images.device, images.dtype))

    def draw(self, generators: Sequence[torch.Generator], size: Sequence[int]) -> Tensor:
        """(B, 2, 3), on the CPU: from the places of a transformed image of ``size`` (H, W) to those of the image.

        Both reach from -1 to 1, between the centers of the outermost pixels.
        """
        drawn = torch.stack([torch.cat([torch.rand(1, generator=g), torch.randn(4, generator=g)]) for g in generators])
        mirror = torch.where(drawn[:, 0] < self.flip, -1.0, 1.0)
        scale = 1 + self.scale * drawn[:, 1]
        cosine = torch.cos(self.rotate * drawn[:, 2]) / scale
        sine = torch.sin(self.rotate * drawn[:, 2]) / scale
        back = torch.stack([mirror * cosine, mirror * sine, -sine, cosine], 1).view(-1, 2, 2)  # of pixels
        half = torch.tensor([(size[1] - 1) / 2, (size[0] - 1) / 2])
        offset = -(back @ (self.shift * drawn[:, 3:5, None]))
        return torch.cat([back * half, offset], 2) / half[:, None]


def warped(images: Tensor, places: Tensor) -> Tensor:
    """(B, 3, H, W) and (B, 2, 3) of :meth:`Jitter.draw` -> (B, 3, H, W); the border is repeated outside."""
    grid = affine_grid(places, list(images.shape), align_corners=True)
    return grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=True)
