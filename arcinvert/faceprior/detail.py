"""Detail that the face basis lacks, and the pose and expression that its coefficients determine.

The basis is linear and half as high as a face. A small U-shaped network maps the soft face to
what is missing (edges, eyes, skin); its weights belong to no recognizer.
``scripts/train_face_detail.py`` trains it and writes the file.

Ronneberger et al. 2015, "U-Net"; Shi et al. 2016 for the rearrangement of channels into pixels.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, relu

from arcinvert.checkpoint import load_checkpoint, load_strictly
from arcinvert.device import OnDevice
from arcinvert.errors import CheckpointError

HALF = 56
ATTRIBUTES = ("yaw", "pitch", "smile")


class Block(nn.Module):
    """A residual block of two convolutions, initialized as the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(relu(self.first(relu(x))))  # type: ignore[no-any-return]


class DetailNetwork(nn.Module):
    """(B, 3, 56, 56) soft faces in about [0, 1] -> (B, 3, 112, 112), to be added to them enlarged.

    Args:
        widths: channels at 56, 28 and 14 pixels.
    """

    def __init__(self, widths: tuple[int, int, int] = (32, 64, 128)) -> None:
        super().__init__()
        top, middle, low = widths
        self.enter = nn.Conv2d(3, top, 3, padding=1)
        self.place = nn.Parameter(torch.zeros(1, top, HALF, HALF))
        self.top_in = Block(top)
        self.down_middle = nn.Conv2d(top, middle, 3, 2, 1)
        self.middle_in = Block(middle)
        self.down_low = nn.Conv2d(middle, low, 3, 2, 1)
        self.low = nn.Sequential(Block(low), Block(low))
        self.up_middle = nn.Conv2d(low, 4 * middle, 1)
        self.middle_out = Block(middle)
        self.up_top = nn.Conv2d(middle, 4 * top, 1)
        self.top_out = nn.Sequential(Block(top), Block(top))
        self.leave = nn.Conv2d(top, 12, 3, padding=1)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)  # type: ignore[arg-type]

    def forward(self, soft: Tensor) -> Tensor:
        top = self.top_in(self.enter((soft - 0.5) * 4) + self.place)
        middle = self.middle_in(self.down_middle(top))
        low = self.low(self.down_low(middle))
        middle = self.middle_out(middle + pixel_shuffle(self.up_middle(low), 2))
        top = self.top_out(top + pixel_shuffle(self.up_top(middle), 2))
        return 0.25 * pixel_shuffle(self.leave(relu(top)), 2)


@dataclass(frozen=True, eq=False)
class FaceDetail(OnDevice):
    """The network, and linear measures of pose and expression.

    Attributes:
        network: frozen, in eval mode.
        attribute_weight: (3, K), attribute_bias: (3,): whitened coefficients -> yaw, pitch, smile, in
            the units of :func:`~arcinvert.faces.alignment.landmark_pose` and mouth width over eye distance.
        digest: of the file.
    """

    network: DetailNetwork
    attribute_weight: Tensor
    attribute_bias: Tensor
    digest: str


def load_face_detail(path: Path, *, prior_digest: str) -> FaceDetail:
    """Read the detail that goes with a face prior.

    Raises:
        CheckpointError: not face detail, damaged, or of another face prior.
    """
    stored = load_checkpoint(path)
    if stored.header.get("kind") != "face detail":
        raise CheckpointError(f"{str(path)!r} is not face detail")
    if stored.header.get("face_prior") != prior_digest:
        raise CheckpointError(f"the face detail {str(path)!r} belongs to another face prior")
    network = DetailNetwork()
    load_strictly(network, {k: v.float() for k, v in stored.section("network").items()}, repr(str(path)))
    try:
        weight, bias = stored.tensors["attributes.weight"].float(), stored.tensors["attributes.bias"].float()
    except KeyError as error:
        raise CheckpointError(f"the face detail {str(path)!r} lacks {error}") from None
    if weight.ndim != 2 or len(weight) != len(ATTRIBUTES) or bias.shape != weight.shape[:1]:
        raise CheckpointError(f"the parts of the face detail {str(path)!r} do not fit each other")
    return FaceDetail(_frozen(network), weight, bias, stored.digest)


def _frozen(network: DetailNetwork) -> DetailNetwork:
    network.eval().requires_grad_(False)
    network.to(memory_format=torch.channels_last)
    return network
