"""Aligned faces of identities, held in memory as bytes; augmentation in batches.

Layout of a folder: ``DIR/<identity>/<picture>.(jpg|jpeg|png|webp|bmp)``; ``.rec`` files and tar shards are
read as if they were unpacked into one. Identities are labeled 0.. in sorted order.
"""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, interpolate

from arcinvert.errors import InputError
from arcinvert.faces.alignment import SIZE
from arcinvert.training.data.augmentation import BLUR, blur, jpeg, low_resolution
from arcinvert.training.data.containers import folder_pictures, open_pictures
from arcinvert.training.data.containers import identity_folders as identity_folders
from arcinvert.training.data.image_files import Pictures, decode


@dataclass(frozen=True)
class Faces:
    """Aligned faces and who they show.

    Attributes:
        files: (N,) paths ``identity/picture``, relative to the source.
        images: (N, 112, 112, 3) uint8 RGB.
        labels: (N,) int64, positions in ``identities``.
        identities: the names, sorted.
        digest: SHA-256 over the names and bytes of the files, in order.
    """

    files: tuple[str, ...]
    images: Tensor
    labels: Tensor
    identities: tuple[str, ...]
    digest: str

    def __len__(self) -> int:
        return len(self.files)


def split_identities(names: list[str], held_out: int) -> tuple[list[str], list[str]]:
    """Training identities, and the last ``held_out`` ones, which training never sees.

    Raises:
        InputError: fewer than two identities would be left on either side.
    """
    if held_out < 0 or len(names) - held_out < 2 or held_out == 1:
        raise InputError(
            f"expected to hold out 0, or at least 2 and leave 2, got {held_out} of {len(names)} identities"
        )
    cut = len(names) - held_out
    return names[:cut], names[cut:]


def open_faces(
    source: Path | Sequence[Path] | Pictures,
    identities: Sequence[str] | None = None,
    *,
    keep: Collection[str] | None = None,
) -> Faces:
    """Read the faces of a source of any kind; an identity folder gives what :func:`load_faces` does.

    Args:
        source: as of :func:`~arcinvert.training.data.containers.open_pictures`, or what that returned.
        identities: only these; default: all.
        keep: of their pictures only these, ``identity/picture`` (a clean list). An identity that
            keeps none is left out.

    Raises:
        InputError: see there; or a picture that cannot be read, or that is not 112x112
            with 8 bits a channel, or that is in ``keep`` and not in the source.
    """
    listed = source if isinstance(source, Pictures) else open_pictures(source)
    return _read(listed.of(listed.identities if identities is None else identities, keep))


def load_faces(folder: Path, identities: list[str], keep: Collection[str] | None = None) -> Faces:
    """Read the pictures of these identity folders, or of them only those in ``keep`` (see :func:`open_faces`).

    Raises:
        InputError: a picture that cannot be read, or that is not 112x112 with 8 bits a channel.
    """
    return _read(folder_pictures(folder, identities).of(identities, keep))


def _read(pictures: Pictures) -> Faces:
    digest = hashlib.sha256()
    images = np.empty((len(pictures.entries), SIZE, SIZE, 3), np.uint8)
    names = pictures.identities
    labels = {name: label for label, name in enumerate(names)}
    for row, entry in enumerate(pictures.entries):
        where = str(pictures.source / entry.file)
        try:
            content = pictures.read(entry)
        except OSError as error:
            raise InputError(f"cannot read the picture {where!r}: {error}") from None
        digest.update(entry.file.encode(errors="surrogatepass") + b"\0" + hashlib.sha256(content).digest())
        images[row] = decode(content, where)
    return Faces(
        tuple(entry.file for entry in pictures.entries),
        torch.from_numpy(images),
        torch.tensor([labels[entry.identity] for entry in pictures.entries]),
        tuple(names),
        digest.hexdigest(),
    )


def to_float(images: Tensor) -> Tensor:
    """(B, H, W, 3) uint8 -> (B, 3, H, W) float32 in [0, 1]."""
    return images.permute(0, 3, 1, 2).float().div_(255.0)


@dataclass(frozen=True)
class Augmentation:
    """Random changes to a training image, all drawn per image; 0 switches one off.

    Attributes:
        flip: probability of a mirror image.
        shift: largest shift as a share of the width.
        scale: largest relative change of size.
        rotate: largest rotation, radians.
        light: largest relative change of brightness and of contrast.
        color: largest relative change of one channel.
        gray: probability of a gray image.
        cutout: probability of a gray square of a quarter to a half of the width.
        surroundings: probability that everything outside an oval around the face is taken from
            another image of the batch, so that hair and background say nothing of who it is.
        shade: largest relative change of brightness by a light that varies smoothly over the image.
        low_resolution: probability of an image of a quarter to three quarters of the pixels a side.
        blurred: probability of a Gaussian blur of 0.3 to 2.5 pixels.
        jpeg: probability of JPEG's losses, at a quality from 20 to 90.
    """

    flip: float = 0.5
    shift: float = 0.04
    scale: float = 0.05
    rotate: float = 0.06
    light: float = 0.25
    color: float = 0.08
    gray: float = 0.1
    cutout: float = 0.2
    surroundings: float = 0.0
    shade: float = 0.0
    low_resolution: float = 0.0
    blurred: float = 0.0
    jpeg: float = 0.0

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> the same, drawn from ``generator`` (a CPU generator)."""
        count, device = len(images), images.device

        def draw(*shape: int) -> Tensor:
            return (torch.rand(count, *shape, generator=generator) * 2 - 1).to(device)

        def chance(probability: float) -> Tensor:
            return (torch.rand(count, 1, 1, 1, generator=generator) < probability).to(device)

        angle, size = self.rotate * draw(), 1 + self.scale * draw()
        mirror = 1 - 2 * chance(self.flip).flatten().float()
        matrix = torch.stack(
            [
                torch.stack([mirror * size * angle.cos(), -size * angle.sin(), 2 * self.shift * draw()], 1),
                torch.stack([mirror * size * angle.sin(), size * angle.cos(), 2 * self.shift * draw()], 1),
            ],
            1,
        )
        grid = affine_grid(matrix, list(images.shape), align_corners=False)
        images = grid_sample(images, grid, padding_mode="border", align_corners=False)
        middle = images.mean((1, 2, 3), keepdim=True)
        contrast = 1 + self.light * draw(1, 1, 1)
        brightness = 1 + self.light * draw(1, 1, 1)
        images = ((images - middle) * contrast + middle) * brightness * (1 + self.color * draw(3, 1, 1))
        images = torch.where(chance(self.gray), images.mean(1, keepdim=True), images).clamp(0, 1)
        half = (0.125 + 0.125 * torch.rand(count, 1, 1, generator=generator)).to(device) * images.shape[-1]
        place = torch.arange(images.shape[-1], device=device).view(1, 1, -1)
        center = torch.rand(count, 2, 1, 1, generator=generator).to(device) * images.shape[-1]
        inside = ((place.mT - center[:, 0]).abs() < half) & ((place - center[:, 1]).abs() < half)
        images = images.masked_fill(inside[:, None] & chance(self.cutout), 0.5)
        if self.shade:
            light = interpolate(draw(1, 4, 4), size=list(images.shape[-2:]), mode="bicubic", align_corners=True)
            images = (images * (1 + self.shade * light)).clamp(0, 1)
        if self.surroundings:
            oval = self._oval(images, draw(4, 1, 1))
            images = torch.where(chance(self.surroundings), images * oval + images.roll(1, 0) * (1 - oval), images)
        return self._degrade(images, generator) if self.low_resolution or self.blurred or self.jpeg else images

    def _degrade(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """What a poor camera does, in its order: low resolution, blur, JPEG; only the images drawn are touched."""
        images = images.clone()

        def chosen(probability: float) -> tuple[Tensor, Tensor]:
            """Which images, and for each a number in [0, 1)."""
            drawn = torch.rand(2, len(images), generator=generator)
            rows = (drawn[0] < probability).nonzero()[:, 0]
            return rows.to(images.device), drawn[1, rows].to(images.device)

        if self.low_resolution:
            rows, share = chosen(self.low_resolution)
            sides = ((0.25 + 0.5 * share) * images.shape[-1] / 8).round().mul(8).long()  # few sizes: few calls
            for side in sorted(set(sides.tolist())):
                images[rows[sides == side]] = low_resolution(images[rows[sides == side]], side)
        if self.blurred:
            rows, share = chosen(self.blurred)
            images[rows] = blur(images[rows], 0.3 + (BLUR - 0.3) * share)
        if self.jpeg:
            rows, share = chosen(self.jpeg)
            images[rows] = jpeg(images[rows], 20 + 70 * share)
        return images

    @staticmethod
    def _oval(images: Tensor, drawn: Tensor) -> Tensor:
        """(B, 1, H, W) mask: 1 inside an oval around the aligned face, 0 outside, with a soft edge.

        Args:
            images: of whose size it is.
            drawn: (B, 4, 1, 1) in [-1, 1]: place and half axes.
        """
        side = images.shape[-1]
        row = torch.arange(side, device=images.device).view(1, 1, -1, 1)
        column = torch.arange(side, device=images.device).view(1, 1, 1, -1)
        x, y, across, down = drawn.unsqueeze(1).unbind(2)
        right = (column - side * (0.5 + 0.03 * x)) / (side * (0.37 + 0.06 * across))
        below = (row - side * (0.59 + 0.03 * y)) / (side * (0.45 + 0.06 * down))
        return torch.sigmoid((1 - (right**2 + below**2).sqrt()) * 16)
