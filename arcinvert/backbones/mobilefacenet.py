"""MobileFaceNet (Chen et al. 2018), with the parameter names of arcface_torch's ``mbf`` and ``mbf_large``.

Depthwise-separable residual units at 56, 28, 14 and 7 pixels, then a global depthwise
convolution, a linear layer and a BatchNorm.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

BLOCKS = (1, 4, 6, 2)
"""Residual units at 56, 28, 14 and 7 pixels; arcface_torch's ``mbf_large`` has 2-8-12-4 at width 4."""


class _Named(nn.Module):
    """A sequence whose parameters are named ``layers.*`` in checkpoints."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers(x)
        return x


def _linear(inputs: int, outputs: int, kernel: int = 1, stride: int = 1, padding: int = 0, groups: int = 1) -> _Named:
    """Convolution and BatchNorm, no activation."""
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
    return _Named(convolution, nn.BatchNorm2d(outputs))


def _active(inputs: int, outputs: int, kernel: int = 1, stride: int = 1, padding: int = 0, groups: int = 1) -> _Named:
    """Convolution, BatchNorm and PReLU."""
    block = _linear(inputs, outputs, kernel, stride, padding, groups)
    block.layers.append(nn.PReLU(outputs))
    return block


class Separable(_Named):
    """1x1 expansion, 3x3 depthwise, 1x1 projection; added to its input when ``residual``."""

    def __init__(self, inputs: int, outputs: int, hidden: int, *, stride: int = 1, residual: bool = False) -> None:
        super().__init__(
            _active(inputs, hidden),
            _active(hidden, hidden, 3, stride, 1, groups=hidden),
            _linear(hidden, outputs),
        )
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, H/stride, W/stride)."""
        y: Tensor = self.layers(x)
        return x + y if self.residual else y


def _stack(channels: int, depth: int, hidden: int) -> _Named:
    return _Named(*(Separable(channels, channels, hidden, residual=True) for _ in range(depth)))


class MobileFaceNet(nn.Module):
    """112x112 RGB, normalized, in; (B, embedding_size) features out.

    Args:
        width: factor on the channels; 2 gives the size that InsightFace publishes as ``mbf``.
        embedding_size: D of the features.
        blocks: how many residual units there are at each of the four sizes. One at the first size is
            a single depthwise convolution instead.
    """

    def __init__(self, *, width: float = 1.0, embedding_size: int = 512, blocks: Sequence[int] = BLOCKS) -> None:
        super().__init__()
        if width <= 0 or embedding_size < 1:
            raise ValueError(f"width {width} and embedding_size {embedding_size} must be positive")
        if len(blocks) != 4 or any(type(depth) is not int or depth < 1 for depth in blocks):
            raise ValueError(f"blocks must be four positive integers, not {blocks!r}")
        small, large = max(1, round(64 * width)), max(1, round(128 * width))
        # Depthwise at width 1; arcface_torch keeps 64 groups at every whole width.
        depthwise = _active(small, small, 3, 1, 1, groups=64 if small % 64 == 0 else small)
        self.layers = nn.ModuleList(
            [
                _active(3, small, 3, 2, 1),
                depthwise if blocks[0] == 1 else _stack(small, blocks[0], 128),
                Separable(small, small, 128, stride=2),
                _stack(small, blocks[1], 128),
                Separable(small, large, 256, stride=2),
                _stack(large, blocks[2], 256),
                Separable(large, large, 512, stride=2),
                _stack(large, blocks[3], 256),
            ]
        )
        self.conv_sep = _active(large, 512)
        self.features = _Named(
            _linear(512, 512, 7, groups=512),
            nn.Flatten(),
            nn.Linear(512, embedding_size, bias=False),
            nn.BatchNorm1d(embedding_size),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, 112, 112), normalized -> (B, embedding_size)."""
        for layer in self.layers:
            x = layer(x)
        x = self.features(self.conv_sep(x))
        return x


def mobilefacenet(**settings: Any) -> MobileFaceNet:
    """49 BatchNorm2d layers; 1.2 M parameters at width 1, 2.1 M at width 2."""
    return MobileFaceNet(**settings)
