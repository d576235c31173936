"""The auxiliary recognizer: a second network, whose view of the face an inversion heeds besides.

A network that was trained on few people sees little of a face, and its inversion is free in all that it does not
see. What a network trained on photographs of many people would see in the same face can be foretold from the
attacked network's embedding: its own embedding of it, and maps half-way there (``auxiliary`` and
``auxiliary_features`` of :class:`~arcinvert.calibration.calibration.Calibration`). The network here is dlib's, a
ResNet of 29 layers by Davis King, trained on about three million photographs and given into the public domain. It is
part of the attack, so it is never a judge. ``scripts/make_auxiliary.py`` makes the file.

King 2017, "High Quality Face Recognition with Deep Metric Learning", blog.dlib.net; He et al. 2016.
"""

import functools
import importlib.resources
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, grid_sample, max_pool2d, pad, relu

from arcinvert.backbones.graph import FoldedNorm
from arcinvert.checkpoint import load_checkpoint, load_strictly
from arcinvert.errors import CheckpointError
from arcinvert.preprocessing import Preprocessing
from arcinvert.recognizer import Recognizer

SIZE = 128
"""Numbers of its embedding."""

PREPROCESSING = Preprocessing(mean=(122.782 / 255, 117.001 / 255, 104.298 / 255), std=(256 / 255, 256 / 255, 256 / 255))

CHIP = 150
"""Height and width of the aligned picture that dlib's network was trained on."""

SCALE = 35.24 / 52.55
"""Pixels of a 112x112 aligned face for one of a chip: by the distance of the eyes in either."""

CORNER = (55.9 - 74.0 * SCALE, 51.6 - 47.1 * SCALE)
"""Where a chip begins, x and y, in a 112x112 aligned face; it ends 9 pixels below it, where the edge is repeated."""

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
"""Residual blocks whose maps can be foretold: the second and the last of 64 channels, and the second of 128."""


class DlibResNet(nn.Module):
    """dlib's ``dlib_face_recognition_resnet_model_v1``, its affine layers folded into the convolutions.

    112x112 aligned faces, RGB by :data:`PREPROCESSING`, in; (B, 128), less what faces have in common, out.
    """

    def __init__(self) -> None:
        super().__init__()
        widths = (3, *(channels for channels, _, _ in CONVOLUTIONS))
        self.layers = nn.ModuleList(
            nn.Conv2d(before, channels, kernel, stride, padding=kernel // 2 if stride == 1 else 0)
            for before, (channels, kernel, stride) in zip(widths, CONVOLUTIONS, strict=False)
        )
        # No weights, only names: by these a trace keeps what a block gives.
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
        return self.of_chips(chips)

    def of_chips(self, chips: Tensor) -> Tensor:
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
    """Both with zeros below, to the right, and in further channels, where the other has more."""
    shape = [max(a, b) for a, b in zip(skipped.shape[1:], moved.shape[1:], strict=True)]

    def filled(x: Tensor) -> Tensor:
        channels, height, width = (most - own for most, own in zip(shape, x.shape[1:], strict=True))
        return pad(x, (0, width, 0, height, 0, channels)) if channels or height or width else x

    return filled(skipped), filled(moved)


def load_auxiliary(path: Path) -> Recognizer:
    """Read an auxiliary recognizer; (B, 3, 112, 112) in [0, 1] -> (B, 128), as any recognizer.

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
