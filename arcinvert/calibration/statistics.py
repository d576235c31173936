"""Mean and variance of the layers of a network over many faces.

They are kept per channel, and for some layers per channel and position, on a grid of at most 28x28.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from arcinvert.checkpoint import section
from arcinvert.device import OnDevice
from arcinvert.quantize import dequantize, quantize

GRID = 28


@dataclass(frozen=True, eq=False)
class LayerStatistics(OnDevice):
    """Mean and variance of what enters each layer.

    Attributes:
        channel_mean, channel_var: layer -> (C,).
        location_mean, location_var: layer -> (C, h, w), at most 28x28; of the first layers only.
    """

    channel_mean: dict[str, Tensor] = field(repr=False)
    channel_var: dict[str, Tensor] = field(repr=False)
    location_mean: dict[str, Tensor] = field(repr=False)
    location_var: dict[str, Tensor] = field(repr=False)

    def to_tensors(self) -> dict[str, Tensor]:
        """As stored: ``channel.mean.LAYER`` and so on, deviations in place of variances.

        Maps of locations are int8, with the scale ``span.location.mean.LAYER``; those of deviations are logarithms,
        since the deviations of a channel differ by factors.
        """
        tensors = {f"channel.mean.{layer}": mean.float() for layer, mean in self.channel_mean.items()}
        tensors |= {f"channel.var.{layer}": var.sqrt().float() for layer, var in self.channel_var.items()}
        maps = {f"location.mean.{layer}": mean.float() for layer, mean in self.location_mean.items()}
        maps |= {
            f"location.var.{layer}": var.sqrt().float().clamp_min(1e-12).log()
            for layer, var in self.location_var.items()
        }
        for name, values in maps.items():
            tensors[name], tensors[f"span.{name}"] = quantize(values, offset=True)
        return tensors

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> "LayerStatistics":
        """See :meth:`to_tensors`; files of old keep maps of locations in half precision.

        Raises:
            KeyError: a scale is missing.
            ValueError: a scale does not fit.
        """

        def maps(kind: str) -> dict[str, Tensor]:
            found = section(tensors, kind)
            for layer, value in found.items():
                if value.dtype == torch.int8:
                    value = dequantize(value, tensors[f"span.{kind}.{layer}"])
                    value = value.exp() if kind.endswith("var") else value
                found[layer] = value.float().square() if kind.endswith("var") else value.float()
            return found

        return cls(maps("channel.mean"), maps("channel.var"), maps("location.mean"), maps("location.var"))


class Moments:
    """Running sums per channel, and of the layers ``located`` per channel and position."""

    def __init__(self, layers: Iterable[str], located: Iterable[str]) -> None:
        self.layers, self.located = tuple(layers), set(located)
        self.sums: dict[str, tuple[Tensor, Tensor]] = {}
        self.count = 0

    def add(self, activations: Mapping[str, Tensor]) -> None:
        """One batch; (B, C, H, W) per layer."""
        for number, layer in enumerate(self.layers):
            x = activations[layer]
            self.count += len(x) if number == 0 else 0
            if layer in self.located:
                first, second = x.sum(0).double(), x.square().sum(0).double()
            else:
                first, second = (value.double() for value in (x.mean((2, 3)).sum(0), x.square().mean((2, 3)).sum(0)))
            if layer in self.sums:
                first, second = first + self.sums[layer][0], second + self.sums[layer][1]
            self.sums[layer] = first, second

    def statistics(self) -> LayerStatistics:
        """Of all batches."""
        found = LayerStatistics({}, {}, {}, {})
        for layer, (first, second) in self.sums.items():
            mean, square = first / self.count, second / self.count
            located = layer in self.located
            channel, power = (m.mean((1, 2)) if located else m for m in (mean, square))
            found.channel_mean[layer] = channel.float()
            found.channel_var[layer] = (power - channel.square()).clamp_min(0).float()
            if located:
                side = min(GRID, mean.shape[-1])
                mean, square = (adaptive_avg_pool2d(m[None], (side, side))[0] for m in (mean, square))
                var = (square - mean.square()).clamp_min(0)
                found.location_mean[layer] = mean.float()
                found.location_var[layer] = torch.maximum(var, 1e-3 * var.mean((1, 2), keepdim=True) + 1e-8).float()
        return found
