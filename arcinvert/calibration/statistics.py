"""Mean and variance of the layers of a network over many images, and how maps of them are stored.

Per channel, and for some layers per channel and position, on a grid of at most 28x28.
"""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

GRID = 28


class Moments:
    """Running sums per channel, and per channel and position."""

    def __init__(self, layers: Iterable[str], located: Iterable[str]) -> None:
        self.layers, self.located = tuple(layers), set(located)
        self.sums: dict[str, tuple[Tensor, Tensor]] = {}
        self.count = 0

    def add(self, activations: Mapping[str, Tensor]) -> None:
        """One batch; (B, C, H, W) per layer."""
        for number, layer in enumerate(self.layers):
            x = activations[layer]
            self.count += len(x) if number == 0 else 0
            first, second = x.sum(0).double(), x.square().sum(0).double()
            if layer in self.sums:
                first, second = first + self.sums[layer][0], second + self.sums[layer][1]
            self.sums[layer] = first, second

    def result(self) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
        """Channel mean and variance, location mean and variance."""
        found: tuple[dict[str, Tensor], ...] = ({}, {}, {}, {})
        for layer, (first, second) in self.sums.items():
            mean, square = first / self.count, second / self.count
            channel = mean.mean((1, 2))
            found[0][layer] = channel.float()
            found[1][layer] = (square.mean((1, 2)) - channel.square()).clamp_min(0).float()
            if layer in self.located:
                side = min(GRID, mean.shape[-1])
                mean, square = (adaptive_avg_pool2d(m[None], (side, side))[0] for m in (mean, square))
                var = (square - mean.square()).clamp_min(0)
                found[2][layer] = mean.float()
                found[3][layer] = torch.maximum(var, 1e-3 * var.mean((1, 2), keepdim=True) + 1e-8).float()
        return found[0], found[1], found[2], found[3]


def to_bytes(maps: Tensor) -> tuple[Tensor, Tensor]:
    """(C, h, w) in 255 levels between the least and the largest of each channel, int8; and (C, 2), least and level."""
    flat = maps.flatten(1)
    least = flat.amin(1, keepdim=True)
    level = ((flat.amax(1, keepdim=True) - least) / 254).clamp_min(1e-12)
    return ((flat - least) / level - 127).round().to(torch.int8).view_as(maps), torch.cat([least, level], 1)


def from_bytes(stored: Tensor, span: Tensor) -> Tensor:
    """What :func:`to_bytes` was given, to half a level.

    Raises:
        ValueError: they do not belong together.
    """
    if span.shape != (len(stored), 2):
        raise ValueError("the span of each channel of a map")
    least, level = (part.view(-1, 1, 1) for part in span.float().unbind(1))
    return least + (stored.float() + 127) * level
