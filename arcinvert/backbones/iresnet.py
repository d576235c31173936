"""IResNet: the residual network of the ArcFace paper (Deng et al. 2019, section 3.1).

A block is BN-conv-BN-PReLU-conv-BN without a bottleneck; the second convolution carries the
stride. Four stages halve a 112x112 image to 7x7; the head is BN-dropout-FC-BN. Parameter names
are those of arcface_torch checkpoints.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from arcinvert.backbones.operations import FoldedNorm


@dataclass(frozen=True)
class _Style:
    """The differences between published variants; see :class:`IResNet`."""

    folded: bool = False
    shortcut: str = "conv"
    eps: float = 1e-5

    def conv3x3(self, inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
        return nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=self.folded)

    def norm(self, channels: int) -> nn.Module:
        """A BatchNorm that follows no convolution, so that it cannot be folded."""
        return nn.BatchNorm2d(channels, eps=self.eps)

    def norm_after(self, channels: int) -> nn.Module:
        return FoldedNorm() if self.folded else self.norm(channels)


class Block(nn.Module):
    """One residual block, (B, inputs, H, W) -> (B, outputs, H/stride, W/stride)."""

    def __init__(self, inputs: int, outputs: int, stride: int, style: _Style) -> None:
        super().__init__()
        self.bn1 = style.norm(inputs)
        self.conv1 = style.conv3x3(inputs, outputs)
        self.bn2 = style.norm_after(outputs)
        self.prelu = nn.PReLU(outputs)
        self.conv2 = style.conv3x3(outputs, outputs, stride)
        self.bn3 = style.norm_after(outputs)
        self.downsample: nn.Module = nn.Identity()
        if style.shortcut == "pool" and inputs == outputs:
            self.downsample = nn.MaxPool2d(1, stride)
        elif stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=stride, bias=style.folded), style.norm_after(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """The residual plus the input, which passes through ``downsample`` if the shape changes."""
        y: Tensor = self.prelu(self.bn2(self.conv1(self.bn1(x))))
        y = self.bn3(self.conv2(y)) + self.downsample(x)
        return y


class IResNet(nn.Module):
    """The network. 112x112 RGB, normalized, in; features (not unit norm) out.

    Args:
        blocks: how many blocks each of the four stages has.
        width: factor on the 64, 128, 256, 512 channels of the stages.
        embedding_size: D of the (B, D) features.
        dropout: probability in the head, in training only.
        folded: whether the BatchNorm after each convolution is folded into it, as in most exported files.
        shortcut: ``conv``, or ``pool`` as in CVLFace and AdaFace, where a shortcut with equal
            channels takes every other pixel.
        eps: of the BatchNorm layers.
    """

    def __init__(
        self,
        blocks: Sequence[int],
        *,
        width: float = 1.0,
        embedding_size: int = 512,
        dropout: float = 0.0,
        folded: bool = False,
        shortcut: str = "conv",
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        if width <= 0 or embedding_size < 1:
            raise ValueError(f"width {width} and embedding_size {embedding_size} must be positive")
        if shortcut not in ("conv", "pool"):
            raise ValueError(f"shortcut must be conv or pool, not {shortcut!r}")
        style = _Style(folded, shortcut, eps)
        stages = [max(1, round(width * channels)) for channels in (64, 128, 256, 512)]
        self.conv1 = style.conv3x3(3, stages[0])
        self.bn1 = style.norm_after(stages[0])
        self.prelu = nn.PReLU(stages[0])
        inputs = stages[0]
        for number, (outputs, depth) in enumerate(zip(stages, blocks, strict=True), start=1):
            stage = [Block(inputs if i == 0 else outputs, outputs, 2 if i == 0 else 1, style) for i in range(depth)]
            self.add_module(f"layer{number}", nn.Sequential(*stage))
            inputs = outputs
        self.bn2 = style.norm(inputs)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(inputs * 7 * 7, embedding_size)
        self.features = nn.BatchNorm1d(embedding_size, eps=eps)
        nn.init.constant_(self.features.weight, 1.0)
        self.features.weight.requires_grad = False
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0.0, 0.1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, 112, 112), normalized -> (B, embedding_size)."""
        x = self.prelu(self.bn1(self.conv1(x)))
        for number in range(1, 5):
            x = self.get_submodule(f"layer{number}")(x)
        x = self.features(self.fc(self.dropout(self.bn2(x)).flatten(1)))
        return x


BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 14, 3), 100: (3, 13, 30, 3), 200: (6, 26, 60, 6)}
"""Depth by name -> blocks per stage."""


def iresnet18(**settings: Any) -> IResNet:
    """30 BatchNorm2d layers; 24.0 M parameters at width 1."""
    return IResNet(BLOCKS[18], **settings)


def iresnet34(**settings: Any) -> IResNet:
    """34.1 M parameters at width 1."""
    return IResNet(BLOCKS[34], **settings)


def iresnet50(**settings: Any) -> IResNet:
    """78 BatchNorm2d layers; 43.6 M parameters at width 1."""
    return IResNet(BLOCKS[50], **settings)


def iresnet100(**settings: Any) -> IResNet:
    """153 BatchNorm2d layers; 65.2 M parameters at width 1."""
    return IResNet(BLOCKS[100], **settings)


def iresnet200(**settings: Any) -> IResNet:
    """Blocks 6-26-60-6."""
    return IResNet(BLOCKS[200], **settings)
