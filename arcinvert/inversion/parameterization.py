"""Parameterizations: modules whose no-argument forward *is* the image.

Every parameterization holds one row of parameters per image, so images never influence each
other, and offers ``latent()``: the whitened coordinates a Gaussian prior may be put on, or None.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from arcinvert.errors import InputError
from arcinvert.faceprior.generator import LAYERS
from arcinvert.faceprior.prior import LARGE, SIZE, FacePrior

HELD_SHARE = 0.4
"""Of the early part of a layer's offsets, where a pose is kept: with all of it a turned face turns back, with none of
it too few judges accept it (turned development identities)."""


class Parameterization(nn.Module):
    """Base: B images, each of its own row of every parameter."""

    def forward(self) -> Tensor:
        """(B, 3, 112, 112) RGB; may leave [0, 1] a little."""
        raise NotImplementedError

    def refine(self) -> None:
        """From here on draw the image as well as it can be drawn, whatever it costs; there may be new parameters."""

    def result(self, size: int = LARGE) -> Tensor:
        """The picture to keep in the end, (B, 3, S, S): of ``size`` if it is drawn so large, else the largest there is.

        S is a multiple of 112, and at least 224 where that can be drawn.
        """
        return self()  # type: ignore[no-any-return]

    def latent(self) -> Tensor | None:
        """(B, K) whitened coordinates, or None; K may grow with :meth:`refine`."""
        return None


class Pixels(Parameterization):
    """Free pixels, clamped to [0, 1] with a gradient that passes the clamp.

    Args:
        start: (B, 3, 112, 112) in [0, 1]; see :func:`noise_start`.
    """

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.normalized = nn.Parameter(_checked(start) * 2 - 1)

    def forward(self) -> Tensor:
        image = (self.normalized + 1) / 2
        return image + (image.clamp(0, 1) - image).detach()


class Fourier(Parameterization):
    """The logit of the image as a Fourier spectrum whose coefficients shrink with frequency.

    Coefficient f is scaled by ``1 / max(|f|, 1/112)`` (cycles per pixel), so that one learning rate
    serves all sizes of structure; a sigmoid keeps the image inside [0, 1].

    Args:
        start: (B, 3, 112, 112) in [0, 1]; the spectrum itself starts at 0.
    """

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        start = _checked(start)
        height, width = start.shape[-2:]
        across = torch.fft.rfftfreq(width, device=start.device)
        down = torch.fft.fftfreq(height, device=start.device)[:, None]
        frequency = (across**2 + down**2).sqrt().clamp_min(1 / max(height, width))
        self.scale: Tensor
        self.start: Tensor
        self.register_buffer("scale", (1 / frequency)[..., None])
        self.register_buffer("start", torch.logit(start.clamp(0.01, 0.99)))
        self.spectrum = nn.Parameter(torch.zeros(*start.shape[:2], *frequency.shape, 2, device=start.device))

    def forward(self) -> Tensor:
        spectrum = torch.view_as_complex((self.spectrum * self.scale).contiguous())
        detail = torch.fft.irfft2(spectrum, s=self.start.shape[-2:], norm="ortho")
        return torch.sigmoid(self.start + detail)


class FaceLatent(Parameterization):
    """A face of the face prior: ``render(center + spread * coordinates)``, after :meth:`refine` ``refined(...)``.

    The picture to keep has the fine detail of the generator in either case. After :meth:`refine` every layer of the
    generator also has offsets of its own, with the spread times ``layer_spread``: one latent for all layers draws the
    faces of the generator, and a photograph is seldom one of them. The late part of a latent has none: it decides the
    colors, which the embedding leaves open, and they would drift. Those of a face that keeps its pose are small in the
    early part, and hardly change the attributes.

    Abdal et al. 2019, "Image2StyleGAN: How to Embed Images Into the StyleGAN Latent Space?".

    Args:
        prior: the face prior.
        center: (B, K) latents to start from; zeros give the mean face.
        spread: (K,) standard deviation of each number around the center; ones for the prior alone, the residual
            deviations for p(face | embedding).
        attributes: (B, 5) that an image keeps, as :meth:`~arcinvert.faceprior.prior.FacePrior.attributes` tells them.
            Where some are NaN it keeps those of its center, where all are, or with None, it is free.
        layer_spread: of the offsets; 0 for none.

    Raises:
        InputError: centers that do not fit the prior.
    """

    def __init__(
        self,
        prior: FacePrior,
        center: Tensor,
        spread: Tensor | None = None,
        *,
        attributes: Tensor | None = None,
        layer_spread: float = 0.0,
    ) -> None:
        super().__init__()
        if center.ndim != 2 or center.shape[1] != prior.size:
            raise InputError(f"expected centers (B, {prior.size}), got {tuple(center.shape)}")
        self.prior, self.attributes, self.fine, self.layer_spread = prior, attributes, False, layer_spread
        self.spread: Tensor
        self.center: Tensor
        self.register_buffer("spread", torch.ones_like(center[0]) if spread is None else spread)
        self.held: Tensor | None = None
        if attributes is not None and not bool(attributes.isnan().all()):
            self.weight, self.back = prior.attribute_weight, prior.attribute_directions(self.spread)
            self.held = ~attributes.isnan().all(1, keepdim=True)
            # Attributes are not quite linear in a latent: what decides the pose stays, the rest moves only in
            # directions that leave them unchanged.
            self.free = torch.ones_like(center[0])
            self.free[prior.early] = 0
            center = prior.moved(center, attributes, self.spread)
        self.register_buffer("center", center)
        self.coordinates = nn.Parameter(torch.zeros_like(center))
        self.layers: nn.Parameter | None = None

    def latents(self) -> Tensor:
        """(B, K) latents of the face prior."""
        moved = self.spread * self.coordinates
        if self.held is not None:
            moved = moved * torch.where(self.held, self.free, 1.0)
            moved = moved - self.held * (moved @ self.weight.T) @ self.back
        return self.center + moved

    def offsets(self) -> Tensor | None:
        """(B, 16, K) of the generator's layers, or None."""
        if self.layers is None:
            return None
        kept = self.prior.late.start
        offsets = self.layer_spread * self.spread[:kept] * self.layers
        if self.held is not None:
            share = torch.where(self.free[:kept] > 0, 1.0, HELD_SHARE)
            offsets = offsets * torch.where(self.held, share, 1.0)[:, None]
            offsets = offsets - self.held[:, None] * (offsets @ self.weight[:, :kept].T) @ self.back[:, :kept]
        return pad(offsets, (0, self.prior.size - kept))

    def refine(self) -> None:
        self.fine = True
        if self.layer_spread and self.prior.generator is not None:
            self.layers = nn.Parameter(self.center.new_zeros(len(self.center), LAYERS, self.prior.late.start))

    def forward(self) -> Tensor:
        if self.fine:
            return self.prior.refined(self.latents(), offsets=self.offsets(), rough=True)
        return self.prior.render(self.latents(), rough=True)

    def result(self, size: int = LARGE) -> Tensor:
        size = LARGE if self.prior.generator is None else max(size, LARGE)
        if self.fine:
            return self.prior.refined(self.latents(), size, self.offsets())
        return self.prior.detailed(self.latents(), size)

    def latent(self) -> Tensor:
        return self.coordinates if self.layers is None else torch.cat([self.coordinates, self.layers.flatten(1)], 1)


def noise_start(generators: Sequence[torch.Generator], device: torch.device | str = "cpu") -> Tensor:
    """(B, 3, 112, 112): Gaussian noise of mean 0 and deviation 1 in normalized pixels, one generator each."""
    noise = torch.stack([torch.randn(3, SIZE, SIZE, generator=generator) for generator in generators])
    return ((noise + 1) / 2).to(device)


def _checked(start: Tensor) -> Tensor:
    if start.ndim != 4 or start.shape[1:] != (3, SIZE, SIZE) or not bool(torch.isfinite(start).all()):
        raise InputError(f"expected finite starting images (B, 3, {SIZE}, {SIZE}), got {tuple(start.shape)}")
    return start.detach().clone()
