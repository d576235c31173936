"""The generator: a large network from the face decoder's latents to a sharp face.

It is a MobileStyleGAN, the network from which the decoder was distilled: stages of twice the size each, made by the
inverse Haar transform, of depthwise and pointwise convolutions whose input channels are scaled by the latent, and a
fixed noise in every layer. ``scripts/torch_generator.py`` makes the file from the package ``random-face``. A face costs
about 18 times what the decoder takes, most of it in the largest layers, so the last steps of the preset ``best`` go
through the others and an :class:`EarlyExit`.

Belousov 2021, "MobileStyleGAN: A Lightweight Convolutional Neural Network for High-Fidelity Image Synthesis".
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import affine_grid, avg_pool2d, conv2d, grid_sample, leaky_relu_, pixel_shuffle

from arcinvert.checkpoint import load_checkpoint, load_strictly
from arcinvert.errors import CheckpointError

AXES = 256
"""Numbers of each of the three groups of a latent: early, middle and late."""
EARLY, MIDDLE, LATE = range(3)
PICTURE = 512
"""Height and width of the picture that the generator was trained to draw."""
WINDOW = (32, 480)
"""Rows and columns of the picture that are drawn; the face lies inside."""
LARGE = 448
"""Height and width at which the face is cut out, before it is reduced."""


@dataclass(frozen=True)
class Shape:
    """Of a layer: channels before and after, height and width, and which group of the latent decides its styles."""

    before: int
    after: int
    size: int
    style: int
    rise: int | None = None
    """The group that scales its input before the size doubles; None if it does not."""


SHAPES = (
    Shape(512, 512, 4, EARLY),
    Shape(128, 512, 8, EARLY, EARLY), Shape(512, 512, 8, EARLY),
    Shape(128, 512, 16, MIDDLE, EARLY), Shape(512, 512, 16, MIDDLE),
    Shape(128, 512, 32, MIDDLE, MIDDLE), Shape(512, 512, 32, MIDDLE),
    Shape(128, 512, 64, LATE, MIDDLE), Shape(512, 512, 64, LATE),
    Shape(128, 256, 128, LATE, LATE), Shape(256, 256, 128, LATE),
    Shape(64, 128, 256, LATE, LATE), Shape(128, 128, 256, LATE),
    Shape(32, 64, 512, LATE, LATE), Shape(64, 64, 512, LATE),
)  # fmt: skip
LAYERS = len(SHAPES) + 1
"""Layers that the latents decide: those of :data:`SHAPES`, and the colors at the end."""
LEVELED = (64, 128)
"""Sizes of the layers before which :func:`haar` levels: there a checkerboard shows, and colors hardly change."""
AT_ONCE = 16
"""Faces that a GPU draws together."""
CUT = 64
"""Height and width of the last layers that are drawn whole; of the larger ones only the window is."""


class Layer(nn.Module):
    """(B, before, H, W) or, where the size doubles, (B, 4 before, H/2, W/2) -> (B, after, H, W).

    The first layer is a dense 3x3 convolution, the others a depthwise one and a pointwise one.
    """

    def __init__(self, shape: Shape, *, dense: bool = False) -> None:
        super().__init__()
        self.shape = shape
        first, last = WINDOW
        size = shape.size if shape.size <= CUT else shape.size * (last - first) // PICTURE
        self.size = size
        self.rise = None if shape.rise is None else nn.Linear(AXES, 4 * shape.before)
        self.style = nn.Linear(AXES, shape.before)
        self.depth = None if dense else nn.Parameter(torch.zeros(shape.before, 1, 3, 3))
        self.point = nn.Parameter(torch.zeros(shape.after, shape.before, *((3, 3) if dense else ())))
        self.noise = nn.Parameter(torch.zeros(size, size))
        self.bias = nn.Parameter(torch.zeros(shape.after))

    def forward(self, x: Tensor, groups: tuple[Tensor, ...]) -> Tensor:
        if self.rise is not None and self.shape.rise is not None:
            x = haar(x * self.rise(groups[self.shape.rise])[:, :, None, None], level=self.shape.size in LEVELED)
        style = self.style(groups[self.shape.style])
        shift = self.noise + self.bias[:, None, None]
        if self.depth is None:
            return leaky_relu_(conv2d(x * style[:, :, None, None], self.point, padding=1) + shift, 0.2)
        x = conv2d(x, self.depth, padding=1, groups=self.shape.before)
        # A depthwise convolution leaves channels apart, so that scaling the pointwise weights does the same.
        x = torch.baddbmm(shift.flatten(1).expand(len(x), -1, -1), self.point * style[:, None], x.flatten(2))
        return leaky_relu_(x, 0.2).view(len(x), -1, self.size, self.size)


class EarlyExit(nn.Module):
    """(B, 256, H, W) maps of the last layer of size 128, (B, 256) late latents -> (B, 3, H, W): the picture so large.

    It takes the place of the layers of size 256 and 512 while a face is sought, at a third of the whole cost.
    ``scripts/train_early_exit.py`` makes it.
    """

    AFTER = 10
    """The layer whose maps it takes."""
    WIDTH = 64

    def __init__(self) -> None:
        super().__init__()
        channels = SHAPES[self.AFTER].after
        self.rise = nn.Linear(AXES, channels)
        self.point = nn.Linear(channels, self.WIDTH)
        self.depth = nn.Parameter(torch.zeros(self.WIDTH, 1, 3, 3))
        self.styles = nn.ModuleList([nn.Linear(AXES, self.WIDTH) for _ in range(2)])
        self.mix = nn.Linear(self.WIDTH, self.WIDTH)
        self.colors = nn.Linear(self.WIDTH, 3)
        self.direct = nn.Linear(channels, 3, bias=False)

    def forward(self, x: Tensor, late: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        before, after = (style(late)[:, :, None] for style in self.styles)
        x = x.flatten(2)
        rise = self.rise(late)[:, None]
        y = leaky_relu_((self.point.weight * rise) @ x + self.point.bias[:, None], 0.2)
        y = conv2d(y.view(len(y), -1, height, width), self.depth, padding=1, groups=self.WIDTH).flatten(2)
        y = leaky_relu_(self.mix.weight @ (y * before) + self.mix.bias[:, None], 0.2)
        colors: Tensor = self.colors.weight @ (y * after) + self.direct.weight @ x + self.colors.bias[:, None]
        return colors.view(len(y), 3, height, width)


class FaceGenerator(nn.Module):
    """(B, 768) latents -> (B, 3, size, size), RGB in [0, 1]: the aligned face, where the latents place it."""

    def __init__(self) -> None:
        super().__init__()
        first, *others = SHAPES
        self.constant = nn.Parameter(torch.zeros(first.before, first.size, first.size))
        self.layers = nn.ModuleList([Layer(first, dense=True), *(Layer(shape) for shape in others)])
        self.early_exit = EarlyExit()
        self.style = nn.Linear(AXES, SHAPES[-1].after)
        self.last = nn.Linear(SHAPES[-1].after, 3)
        self.place = nn.Linear(2 * AXES, 4)

    def forward(
        self, latents: Tensor, size: int = 224, offsets: Tensor | None = None, *, early: bool = False
    ) -> Tensor:
        """(B, 768) -> (B, 3, size, size): the face of 112, 224 or 448 pixels.

        ``offsets`` (B, 16, 768) are added to the latents, for each of the :data:`LAYERS` its own; the face stays in
        its place. ``early`` takes the :class:`EarlyExit`, for 112 pixels.
        """
        each = latents[:, None].expand(-1, LAYERS, -1) if offsets is None else latents[:, None] + offsets
        # On a CPU the maps of a single face stay in memory that is used again, which halves the time.
        count = 1 if latents.device.type == "cpu" else AT_ONCE
        parts = zip(torch.split(latents, count), torch.split(each, count), strict=True)
        return torch.cat([self._faces(*part, size, early) for part in parts])

    def _faces(self, latents: Tensor, each: Tensor, size: int, early: bool) -> Tensor:
        x, colors = self.maps(each, EarlyExit.AFTER + 1 if early else len(SHAPES))
        if early:
            x = self.early_exit(x, colors)
        else:
            side = x.shape[-1]
            x = (self.last.weight * self.style(colors)[:, None]) @ x.flatten(2) + self.last.bias[:, None]
            x = x.view(len(x), -1, side, side)
        return self.placed(x, latents, size)

    def maps(self, each: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """(B, 16, 768) latents -> (B, C, S, S) activations after ``count`` layers, (B, 256) late group of the next."""
        styles = [torch.split(own, AXES, 1) for own in each.unbind(1)]
        x: Tensor = self.constant.expand(len(each), -1, -1, -1)
        for layer, groups in zip(self.layers[:count], styles[:count], strict=True):
            assert isinstance(layer, Layer)
            if x.shape[-1] == CUT and layer.rise is not None:
                first, last = (edge * CUT // PICTURE for edge in WINDOW)
                x = x[:, :, first:last, first:last]
            x = layer(x, groups)
        return x, styles[count][LATE]

    def placed(self, x: Tensor, latents: Tensor, size: int) -> Tensor:
        """(B, 3, S, S) colors of the window -> (B, 3, size, size): the aligned face."""
        picture = 0.5 + 0.25 * x.float()  # half of the low band of a wavelet transform
        across, down, left, top = self.place(latents[:, : 2 * AXES]).float().unbind(1)
        matrix = torch.stack([torch.stack([across, -down, left], 1), torch.stack([down, across, top], 1)], 1)
        matrix = matrix * PICTURE / (WINDOW[1] - WINDOW[0])
        sampled = min(LARGE, max(size, x.shape[-1]))
        grid = affine_grid(matrix, [len(latents), 3, sampled, sampled], align_corners=False)
        face = grid_sample(picture, grid, mode="bicubic", align_corners=False, padding_mode="border")
        return avg_pool2d(face, sampled // size).clamp(0, 1)


def haar(x: Tensor, *, level: bool = False) -> Tensor:
    """(B, 4 C, H, W), the low band first -> (B, C, 2 H, 2 W): the inverse Haar wavelet transform.

    ``level`` takes its mean from the diagonal band, which would draw a checkerboard over the whole picture.
    """
    count, channels, height, width = x.shape
    n = channels // 4
    low = x[:, :n]
    down, across, both = x[:, n:].reshape(count, n, 3, height, width).unbind(2)
    if level:
        both = both - both.mean((2, 3), keepdim=True)
    a, b, c, d = low + down, low - down, across + both, across - both
    return pixel_shuffle(0.5 * torch.stack([a + c, a - c, b + d, b - d], 2).reshape(count, channels, height, width), 2)


def load_generator(path: Path, early_exit: Path) -> FaceGenerator:
    """Read a generator and its early exit, frozen and in eval mode.

    Raises:
        CheckpointError: one of them is something else, or damaged.
    """
    tensors = _stored(path, "face generator")
    tensors |= {f"early_exit.{name}": value for name, value in _stored(early_exit, "generator early exit").items()}
    generator = FaceGenerator()
    load_strictly(generator, tensors, f"{str(path)!r} or {str(early_exit)!r}")
    return generator.eval().requires_grad_(False)


def _stored(path: Path, kind: str) -> dict[str, Tensor]:
    stored = load_checkpoint(path)
    if stored.header.get("kind") != kind:
        raise CheckpointError(f"{str(path)!r} is not a {kind}")
    return stored.network()
