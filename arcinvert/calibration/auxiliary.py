"""The auxiliary recognizer: a second network that constrains an inversion.

A network that was trained on few people captures little of a face, and its inversion is free in all that it does not
capture. The attacked network's embedding predicts the embedding and the inner maps that a network trained on many
people has of the same face (``auxiliary`` and ``auxiliary_maps`` of
:class:`~arcinvert.calibration.calibration.Calibration`). The network here is dlib's, a ResNet of 29 layers by Davis
King, trained on about three million photographs and given into the public domain. It is part of the attack, so it is
never a judge. ``scripts/make_auxiliary.py`` makes the file.

King 2017, "High Quality Face Recognition with Deep Metric Learning", blog.dlib.net; He et al. 2016.
"""

import functools
import importlib.resources
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, grid_sample, max_pool2d, pad, relu

from arcinvert.backbones.operations import FoldedNorm
from arcinvert.checkpoint import load_checkpoint, load_strictly
from arcinvert.errors import CheckpointError
from arcinvert.preprocessing import Preprocessing
from arcinvert.recognizer import Recognizer

SIZE = 128
"""Dimension of its embedding."""

PREPROCESSING = Preprocessing(mean=(122.782 / 255, 117.001 / 255, 104.298 / 255), std=(256 / 255, 256 / 255, 256 / 255))

CHIP = 150
"""Height and width of a chip, the aligned crop that dlib's network was trained on."""

SCALE = 35.24 / 52.55
"""Size of a chip's pixel in pixels of a 112x112 crop: the ratio of the distances between the eyes."""

CORNER = (55.9 - 74.0 * SCALE, 51.6 - 47.1 * SCALE)
"""Where a chip begins in a 112x112 crop, x and y. It ends 9 pixels below the crop, whose edge is repeated there."""

CONVOLUTIONS = (
    ((32, 7, 2),)
    + ((32, 3, 1),) * 6
    + tuple(
        step
        for channels, blocks in ((64, 4), (128, 3), (256, 3), (256, 1))
        for step in ((channels, 3, 2), *((channels, 3, 1),) * (2 * blocks - 1))
    )
)
"""Channels, kernel and stride; after the first, each pair is a residual block."""

BLOCKS = ("blocks.4", "blocks.6", "blocks.8")
"""Residual blocks whose maps are predicted: the second and the last of 64 channels, and the second of 128."""


class DlibResNet(nn.Module):
    """dlib's ``dlib_face_recognition_resnet_model_v1``, its affine layers folded into the convolutions.

    Input: 112x112 crops, RGB by :data:`PREPROCESSING`. Output: (B, 128), from which the mean of faces is subtracted.
    """

    def __init__(self) -> None:
        super().__init__()
        widths = (3, *(channels for channels, _, _ in CONVOLUTIONS))
        self.layers = nn.ModuleList(
            nn.Conv2d(before, channels, kernel, stride, padding=kernel // 2 if stride == 1 else 0)
            for before, (channels, kernel, stride) in zip(widths, CONVOLUTIONS, strict=False)
        )
        # These have no weights, only names, under which a trace keeps the output of a block.
        self.blocks = nn.ModuleList(FoldedNorm() for _ in CONVOLUTIONS[1::2])
        self.fc = nn.Linear(widths[-1], SIZE)
        along = (torch.arange(CHIP) + 0.5) * SCALE
        x, y = ((corner + along) / 56 - 1 for corner in CORNER)
        self.grid: Tensor
        self.register_buffer(
            "grid", torch.stack([x.expand(CHIP, -1), y[:, None].expand(-1, CHIP)], -1)[None], persistent=False
        )

    def forward(self, images: Tensor) -> Tensor:
        grid = self.grid.expand(len(images), -1, -1, -1)
        chips = grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
        return self.embed_chips(chips)

    def embed_chips(self, chips: Tensor) -> Tensor:
        """(B, 3, 150, 150), normalized -> (B, 128)."""
        x = max_pool2d(relu(self.layers[0](chips)), 3, 2)
        for first, second, block in zip(self.layers[1::2], self.layers[2::2], self.blocks, strict=True):
            moved = second(relu(first(x)))
            if first.stride != (1, 1):
                x = avg_pool2d(x, 2, 2)
                x, moved = _same_size(x, moved)
            x = block(relu(x + moved))
        features: Tensor = self.fc(x.mean((2, 3)))
        return features


def _same_size(skipped: Tensor, moved: Tensor) -> tuple[Tensor, Tensor]:
    """Both, padded with zeros below, to the right and in further channels to the larger of their sizes."""
    shape = [max(a, b) for a, b in zip(skipped.shape[1:], moved.shape[1:], strict=True)]

    def padded(x: Tensor) -> Tensor:
        channels, height, width = (most - own for most, own in zip(shape, x.shape[1:], strict=True))
        return pad(x, (0, width, 0, height, 0, channels)) if channels or height or width else x

    return padded(skipped), padded(moved)


def load_auxiliary(path: Path) -> Recognizer:
    """Read an auxiliary recognizer; it maps (B, 3, 112, 112) in [0, 1] to (B, 128).

    Raises:
        CheckpointError: not an auxiliary recognizer, or damaged.
    """
    stored = load_checkpoint(path)
    if stored.header.get("kind") != "auxiliary recognizer":
        raise CheckpointError(f"{str(path)!r} is not an auxiliary recognizer")
    network = DlibResNet()
    load_strictly(network, stored.network(), repr(str(path)))
    return Recognizer(network, PREPROCESSING, embedding_size=SIZE, header=stored.header, digest=stored.digest)


def default_auxiliary(device: torch.device | str = "cpu") -> Recognizer:
    """The auxiliary recognizer that ships with arcinvert, read once for each device."""
    return _default(str(device))


@functools.cache
def _default(device: str) -> Recognizer:
    path = Path(str(importlib.resources.files("arcinvert") / "data" / "auxiliary.safetensors"))
    return load_auxiliary(path).to(device)
