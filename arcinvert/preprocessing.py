"""The image contract of a network: range, mean, standard deviation, channel order, size and crop."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from arcinvert.errors import CheckpointError, InputError

COLORS = ("RGB", "BGR")
FACE = 112
"""Height and width of a face outside of this module."""
Similarity = tuple[float, ...]
"""(a, b, x, y), or (a, b, x, y, stretch), of a crop: its point (u, v), each from 0 to 1 of its width, is
(a u - b w + x, b u + a w + y) in a face, w = stretch v, in pixels of a 112x112 crop from its upper left corner. The
stretch is that of a box that is squeezed to the network's shape: above 1, faces in the crop are wider than in life."""


def box_crop(width: float, height: float, x: float, y: float, *, margin: float = 0.0) -> Similarity:
    """The crop of an upright box that is resized to a square, whatever its shape.

    Args:
        width, height: of the box, in pixels of a face.
        x, y: its middle.
        margin: part of the *crop* that was added around the box, half of it on either side, such as 32 / 160.
    """
    width, height = width / (1 - margin), height / (1 - margin)
    return width, 0.0, x - width / 2, y - height / 2, height / width


MTCNN_BOX = (80.09, 106.16, 55.30, 65.54)
"""Width, height and middle of the box that the detector MTCNN of the package facenet-pytorch draws: medians of 400
photos of different people (``benchmarks/mtcnn_box.py``). It follows no landmarks: its width varies by 3.6 pixels (one
standard deviation), its height by 5.4, its middle by 7.6 across and 2.8 down."""
CROPS: dict[str, Similarity] = {
    # dlib's chips of 150 with a padding of 0.25: the ratio of the distances between the eyes, the middle of the eyes.
    "dlib": (150 * 35.24 / 52.55, 0.0, 55.9 - 74.0 * 35.24 / 52.55, 51.6 - 47.1 * 35.24 / 52.55),
    # facenet-pytorch: the box, no margin by default, squeezed to 160x160.
    "facenet": box_crop(*MTCNN_BOX),
    # The same with a margin of 32 of 160 pixels. David Sandberg's FaceNet adds 44 (training, 182x182, of which 160 are
    # used) or 32 (evaluation) pixels of the *photo*, which is another part of each face: this is for faces of 128.
    "facenet-margin": box_crop(*MTCNN_BOX, margin=32 / 160),
}
"""Crops of other alignments by name. SFace of OpenCV needs none: its five points are those of ArcFace.

deepface crops the box of whichever detector was chosen, turned until the eyes are level, keeps its shape and adds
black borders: ``face``, or the numbers of that detector's box, is the nearest. Its ``normalization`` is a contract too:
*base* leaves 0..1 (mean 0, std 255), *Facenet2018* is 127.5 and 127.5, *ArcFace* 127.5 and 128; it hands colors over as
BGR. *Facenet* subtracts the mean of the image itself and divides by its deviation, which no contract expresses."""


@dataclass(frozen=True)
class Preprocessing:
    """How an RGB image in [0, 1] is prepared for a network: ``(x - mean) / std`` per channel of the network's crop.

    Attributes:
        mean, std: in the network's channel order, in units of [0, 1].
        color: ``RGB`` or ``BGR``.
        size: height and width of what the network takes.
        crop: where its crop lies in a face; None for the whole face, enlarged (of a narrower image, its middle).
    """

    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    color: str = "RGB"
    size: tuple[int, int] = (FACE, FACE)
    crop: Similarity | None = None

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
            given = header.get("crop")
            crop = None if given is None else tuple(float(x) for x in given)
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"the checkpoint's preprocessing is incomplete: {error!r}") from None
        fits = len(mean) == len(std) == 3 and len(size) == 2 and color in COLORS and min(std, default=0) > 0
        fits = fits and all(map(math.isfinite, (*mean, *std, *(crop or ())))) and all(1 <= n <= 1024 for n in size)
        if not fits or (crop is not None and not _possible(crop)):
            raise CheckpointError(f"the checkpoint's preprocessing does not fit: {dict(header)}")
        return cls(mean, std, color, size, crop)  # type: ignore[arg-type]

    def __call__(self, images: Tensor) -> Tensor:
        """RGB in [0, 1] -> what the network expects, (B, 3, *size).

        Args:
            images: faces (B, 3, 112, 112), or (B, 3, *size) where that differs: the network's own crops.

        Raises:
            InputError: images of another shape.
        """
        shape, own = tuple(images.shape[1:]), (3, *self.size)
        if images.ndim != 4 or shape not in ((3, FACE, FACE), own):
            other = "" if own == (3, FACE, FACE) else f" or (B, 3, {self.size[0]}, {self.size[1]})"
            raise InputError(f"expected images (B, 3, {FACE}, {FACE}){other}, got {tuple(images.shape)}")
        if shape != own or self.crop is not None:
            images = self.cropped(images) if shape == (3, FACE, FACE) else images
        if self.color == "BGR":
            images = images.flip(1)
        # In pixels, as a network's own program computes it: an int8 graph rounds, and whole pixels must arrive whole.
        mean, std = ([255 * number for number in numbers] for numbers in (self.mean, self.std))
        if (len(set(mean)), len(set(std))) == (1, 1):
            return (images * 255 - mean[0]) / std[0]
        shape_ = (1, 3, 1, 1)
        return (images * 255 - images.new_tensor(mean).view(shape_)) / images.new_tensor(std).view(shape_)

    def cropped(self, images: Tensor) -> Tensor:
        """Faces (B, 3, 112, 112) -> the network's crops (B, 3, *size); beyond its edge, a face's edge is repeated."""
        height, width = self.size
        a, b, x, y, *more = self.crop or _whole_face(height, width)
        along = torch.arange(max(height, width), device=images.device, dtype=images.dtype) + 0.5
        u, v = along[:width] / width, along[:height, None] / width * (more[0] if more else 1.0)
        grid = torch.stack([a * u - b * v + x, b * u + a * v + y], -1) / (FACE / 2) - 1
        grid = grid.expand(len(images), -1, -1, -1)
        return grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _possible(crop: tuple[float, ...]) -> bool:
    stretch = crop[4] if len(crop) == 5 else 1.0
    return len(crop) in (4, 5) and FACE / 8 <= math.hypot(*crop[:2]) <= FACE * 8 and 1 / 8 <= stretch <= 8


def _whole_face(height: int, width: int) -> Similarity:
    """The largest crop of this shape in the middle of a face."""
    a = FACE * min(1.0, width / height)
    return a, 0.0, (FACE - a) / 2, (FACE - a * height / width) / 2
