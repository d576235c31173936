"""Inception-ResNet-v1 of FaceNet, with the parameter names of the package facenet-pytorch.

Three kinds of residual unit, each the sum of its input and a 1x1 convolution of concatenated branches, with two
reductions between them; then the mean of each map, a linear layer and a BatchNorm. 160x160 images in the original.

Szegedy et al. 2017, "Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning"; Schroff et
al. 2015, "FaceNet".
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

EPS = 1e-3
"""Of each BatchNorm."""


class _Conv(nn.Module):
    """Convolution, BatchNorm and ReLU."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int | tuple[int, int],
        stride: int = 1,
        padding: int | tuple[int, int] = 0,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=EPS)

    def forward(self, x: Tensor) -> Tensor:
        return relu(self.bn(self.conv(x)))


class _Branches(nn.Module):
    """Branches whose results are concatenated; they are named ``branch0``, ``branch1`` and so on."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.names = [f"branch{number}" for number in range(len(branches))]
        for name, branch in zip(self.names, branches, strict=True):
            self.add_module(name, branch)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.get_submodule(name)(x) for name in self.names], 1)


class _Residual(_Branches):
    """``x + scale * convolution(branches(x))``, followed by a ReLU unless it is the last of the network."""

    def __init__(self, channels: int, inner: int, scale: float, *branches: nn.Module, last: bool = False) -> None:
        super().__init__(*branches)
        self.conv2d = nn.Conv2d(inner, channels, 1)
        self.scale, self.last = scale, last

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.scale * self.conv2d(super().forward(x))
        return y if self.last else relu(y)


def _unit35() -> _Residual:
    return _Residual(
        256,
        96,
        0.17,
        _Conv(256, 32, 1),
        nn.Sequential(_Conv(256, 32, 1), _Conv(32, 32, 3, padding=1)),
        nn.Sequential(_Conv(256, 32, 1), _Conv(32, 32, 3, padding=1), _Conv(32, 32, 3, padding=1)),
    )


def _unit17() -> _Residual:
    wide, high = _Conv(128, 128, (1, 7), padding=(0, 3)), _Conv(128, 128, (7, 1), padding=(3, 0))
    return _Residual(896, 256, 0.1, _Conv(896, 128, 1), nn.Sequential(_Conv(896, 128, 1), wide, high))


def _unit8(scale: float, *, last: bool = False) -> _Residual:
    wide, high = _Conv(192, 192, (1, 3), padding=(0, 1)), _Conv(192, 192, (3, 1), padding=(1, 0))
    return _Residual(1792, 384, scale, _Conv(1792, 192, 1), nn.Sequential(_Conv(1792, 192, 1), wide, high), last=last)


class InceptionResNetV1(nn.Module):
    """The network. RGB, normalized, in; (B, embedding_size) features out.

    Args:
        embedding_size: D.
    """

    def __init__(self, *, embedding_size: int = 512) -> None:
        super().__init__()
        self.conv2d_1a = _Conv(3, 32, 3, 2)
        self.conv2d_2a = _Conv(32, 32, 3)
        self.conv2d_2b = _Conv(32, 64, 3, padding=1)
        self.maxpool_3a = nn.MaxPool2d(3, 2)
        self.conv2d_3b = _Conv(64, 80, 1)
        self.conv2d_4a = _Conv(80, 192, 3)
        self.conv2d_4b = _Conv(192, 256, 3, 2)
        self.repeat_1 = nn.Sequential(*(_unit35() for _ in range(5)))
        self.mixed_6a = _Branches(
            _Conv(256, 384, 3, 2),
            nn.Sequential(_Conv(256, 192, 1), _Conv(192, 192, 3, padding=1), _Conv(192, 256, 3, 2)),
            nn.MaxPool2d(3, 2),
        )
        self.repeat_2 = nn.Sequential(*(_unit17() for _ in range(10)))
        self.mixed_7a = _Branches(
            nn.Sequential(_Conv(896, 256, 1), _Conv(256, 384, 3, 2)),
            nn.Sequential(_Conv(896, 256, 1), _Conv(256, 256, 3, 2)),
            nn.Sequential(_Conv(896, 256, 1), _Conv(256, 256, 3, padding=1), _Conv(256, 256, 3, 2)),
            nn.MaxPool2d(3, 2),
        )
        self.repeat_3 = nn.Sequential(*(_unit8(0.2) for _ in range(5)))
        self.block8 = _unit8(1.0, last=True)
        self.last_linear = nn.Linear(1792, embedding_size, bias=False)
        self.last_bn = nn.BatchNorm1d(embedding_size, eps=EPS)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W), normalized, at least 75x75 -> (B, embedding_size)."""
        x = self.maxpool_3a(self.conv2d_2b(self.conv2d_2a(self.conv2d_1a(x))))
        x = self.conv2d_4b(self.conv2d_4a(self.conv2d_3b(x)))
        x = self.mixed_6a(self.repeat_1(x))
        x = self.mixed_7a(self.repeat_2(x))
        x = self.block8(self.repeat_3(x)).mean((2, 3))
        x = self.last_bn(self.last_linear(x))
        return x


def inception_resnet_v1(**settings: Any) -> InceptionResNetV1:
    """FaceNet's network."""
    return InceptionResNetV1(**settings)
