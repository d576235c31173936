"""IResNet: the residual network of the ArcFace paper (Deng et al. 2019, section 3.1).

A block is BN-conv-BN-PReLU-conv-BN without a bottleneck; the second convolution carries the
stride. Four stages halve a 112x112 image to 7x7; the head is BN-dropout-FC-BN. Parameter names
are those that arcface_torch checkpoints carry.
"""

from collections.abc import Sequence

from torch import Tensor, nn


def _conv3x3(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)


class Block(nn.Module):
    """One residual block, (B, inputs, H, W) -> (B, outputs, H/stride, W/stride)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = _conv3x3(inputs, outputs)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.prelu = nn.PReLU(outputs)
        self.conv2 = _conv3x3(outputs, outputs, stride)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """The residual added to the input, which a change of shape sends through ``downsample``."""
        y: Tensor = self.prelu(self.bn2(self.conv1(self.bn1(x))))
        y = self.bn3(self.conv2(y)) + self.downsample(x)
        return y


class IResNet(nn.Module):
    """The network. 112x112 RGB, normalised, in; features (not unit norm) out.

    Args:
        blocks: how many blocks each of the four stages has.
        width: factor on the 64, 128, 256, 512 channels of the stages.
        embedding_size: D of the (B, D) features.
        dropout: probability in the head, in training only.
    """

    def __init__(
        self,
        blocks: Sequence[int],
        *,
        width: float = 1.0,
        embedding_size: int = 512,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if width <= 0 or embedding_size < 1:
            raise ValueError(f"width {width} and embedding_size {embedding_size} must be positive")
        stages = [max(1, round(width * channels)) for channels in (64, 128, 256, 512)]
        self.conv1 = _conv3x3(3, stages[0])
        self.bn1 = nn.BatchNorm2d(stages[0])
        self.prelu = nn.PReLU(stages[0])
        inputs = stages[0]
        for number, (outputs, depth) in enumerate(zip(stages, blocks, strict=True), start=1):
            stage = [Block(inputs if i == 0 else outputs, outputs, 2 if i == 0 else 1) for i in range(depth)]
            self.add_module(f"layer{number}", nn.Sequential(*stage))
            inputs = outputs
        self.bn2 = nn.BatchNorm2d(inputs)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(inputs * 7 * 7, embedding_size)
        self.features = nn.BatchNorm1d(embedding_size)
        nn.init.constant_(self.features.weight, 1.0)
        self.features.weight.requires_grad = False
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0.0, 0.1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, 112, 112), normalised -> (B, embedding_size)."""
        x = self.prelu(self.bn1(self.conv1(x)))
        for number in range(1, 5):
            x = self.get_submodule(f"layer{number}")(x)
        x = self.features(self.fc(self.dropout(self.bn2(x)).flatten(1)))
        return x


def iresnet18(**settings: float) -> IResNet:
    """30 BatchNorm2d layers; 24.0 M parameters at width 1."""
    return IResNet((2, 2, 2, 2), **settings)  # type: ignore[arg-type]


def iresnet34(**settings: float) -> IResNet:
    """34.1 M parameters at width 1."""
    return IResNet((3, 4, 6, 3), **settings)  # type: ignore[arg-type]


def iresnet50(**settings: float) -> IResNet:
    """78 BatchNorm2d layers; 43.6 M parameters at width 1."""
    return IResNet((3, 4, 14, 3), **settings)  # type: ignore[arg-type]


def iresnet100(**settings: float) -> IResNet:
    """153 BatchNorm2d layers; 65.2 M parameters at width 1."""
    return IResNet((3, 13, 30, 3), **settings)  # type: ignore[arg-type]
