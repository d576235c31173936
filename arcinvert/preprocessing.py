"""The image contract of a network: range, mean, standard deviation, channel order and size."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from arcinvert.errors import CheckpointError, InputError

COLORS = ("RGB", "BGR")


@dataclass(frozen=True)
class Preprocessing:
    """How an RGB image in [0, 1] is prepared for a network: ``(x - mean) / std`` per channel.

    Attributes:
        mean, std: in the network's channel order, in units of [0, 1].
        color: ``RGB`` or ``BGR``.
        size: height and width.
    """

    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    color: str = "RGB"
    size: tuple[int, int] = (112, 112)

    @classmethod
    def from_header(cls, header: Mapping[str, Any]) -> "Preprocessing":
        """From the ``preprocessing`` part of a checkpoint's header.

        Raises:
            CheckpointError: a part is missing or of the wrong kind.
        """
        try:
            mean, std = (tuple(float(x) for x in header[name]) for name in ("mean", "std"))
            size = tuple(int(x) for x in header["size"])
            color = header["color"]
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"the checkpoint's preprocessing is incomplete: {error!r}") from None
        finite = all(map(math.isfinite, (*mean, *std)))
        if len(mean) != 3 or len(std) != 3 or len(size) != 2 or not finite or min(std) <= 0 or color not in COLORS:
            raise CheckpointError(f"the checkpoint's preprocessing does not fit: {dict(header)}")
        return cls(mean, std, color, size)

    def __call__(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) RGB in [0, 1] -> what the network expects."""
        if images.ndim != 4 or images.shape[1:] != (3, *self.size):
            raise InputError(f"expected images (B, 3, {self.size[0]}, {self.size[1]}), got {tuple(images.shape)}")
        if self.color == "BGR":
            images = images.flip(1)
        if len({*self.mean, *self.std}) == 1 or (len(set(self.mean)), len(set(self.std))) == (1, 1):
            return (images - self.mean[0]) / self.std[0]
        shape = (1, 3, 1, 1)
        return (images - images.new_tensor(self.mean).view(shape)) / images.new_tensor(self.std).view(shape)
