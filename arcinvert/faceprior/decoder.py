"""The face decoder: a small network from a latent to an aligned face.

Its structure follows StyleGAN's generator: a start of 7x7 that is linear in the latent, stages of twice the size each,
convolutions whose input channels are scaled by the latent, and pictures that add up from stage to stage. Up-sampling
is bilinear, so that no pattern of the pixel grid appears. ``scripts/train_face_decoder.py`` trains it.

Karras et al. 2020, "Analyzing and improving the image quality of StyleGAN".
"""

from torch import Tensor, nn
from torch.nn.functional import interpolate, leaky_relu

START = 7
WIDTHS = (512, 256, 128, 64, 32, 16)
"""Channels at 7, 14, 28, 56, 112 and 224 pixels."""


class StyledConv(nn.Module):
    """A 3x3 convolution of channels scaled by a linear function of the latent, and a leaky ReLU."""

    def __init__(self, latent: int, before: int, after: int) -> None:
        super().__init__()
        self.style = nn.Linear(latent, before)
        self.conv = nn.Conv2d(before, after, 3, padding=1)
        nn.init.normal_(self.style.weight, std=0.5 / latent**0.5)
        nn.init.ones_(self.style.bias)
        nn.init.kaiming_normal_(self.conv.weight, a=0.2)
        nn.init.zeros_(self.conv.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, latent: Tensor) -> Tensor:
        return leaky_relu(self.conv(x * self.style(latent)[:, :, None, None]), 0.2)


class Stage(nn.Module):
    """Twice the size, fewer channels, styled convolutions, and a picture."""

    def __init__(self, latent: int, before: int, after: int, convolutions: int) -> None:
        super().__init__()
        self.narrow = nn.Conv2d(before, after, 1)
        self.convs = nn.ModuleList(StyledConv(latent, after, after) for _ in range(convolutions))
        self.picture = nn.Conv2d(after, 3, 1)
        nn.init.normal_(self.picture.weight, std=0.1 / after**0.5)

    def forward(self, x: Tensor, latent: Tensor) -> Tensor:
        x = interpolate(self.narrow(x), scale_factor=2, mode="bilinear")
        for conv in self.convs:
            x = conv(x, latent)
        return x


class FaceDecoder(nn.Module):
    """(B, K) latents -> (B, 3, 112, 112) and on request (B, 3, 224, 224), RGB in about [0, 1]."""

    def __init__(
        self,
        latent: int = 768,
        start: int = 96,
        widths: tuple[int, ...] = WIDTHS,
        counts: tuple[int, ...] = (2, 2, 2, 1, 2),
    ) -> None:
        super().__init__()
        self.start = nn.Linear(latent, start * START**2)
        self.first = StyledConv(latent, start, widths[0])
        self.second = StyledConv(latent, widths[0], widths[0])
        nn.init.normal_(self.start.weight, std=0.5 / latent**0.5)
        nn.init.normal_(self.start.bias)
        self.stages = nn.ModuleList(
            Stage(latent, before, after, count)
            for before, after, count in zip(widths, widths[1:], counts, strict=False)
        )

    def forward(self, latent: Tensor, size: int = 112) -> Tensor:
        """The picture of 112 or 224 pixels."""
        return self.pictures(latent, size)[size]

    def pictures(self, latent: Tensor, size: int) -> dict[int, Tensor]:
        """Height -> picture, of all stages from 56 pixels up to ``size``."""
        x = self.start(latent).unflatten(1, (-1, START, START))
        x = self.second(self.first(x, latent), latent)
        found: dict[int, Tensor] = {}
        for stage in self.stages:
            assert isinstance(stage, Stage)
            x = stage(x, latent)
            if (height := x.shape[-1]) >= 56:
                before = found.get(height // 2)
                own = stage.picture(x)
                found[height] = own if before is None else own + interpolate(before, scale_factor=2, mode="bilinear")
            if height >= size:
                break
        return {height: 0.5 + 0.5 * picture for height, picture in found.items()}
