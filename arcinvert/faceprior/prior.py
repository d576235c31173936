"""The face prior: what aligned faces look like, independent of any recognizer.

A face is drawn by the face decoder from a *latent*, whose numbers are whitened: over the faces behind the prior each
has mean 0 and standard deviation of about 0.8. The file also holds pictures of synthetic faces with their latents, 8
bits each, on which recognizers are calibrated, and the directions of pose, expression and light among the latents.
``scripts/make_face_prior.py`` makes the file.
"""

import functools
import importlib.resources
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from arcinvert.checkpoint import load_checkpoint, load_strictly
from arcinvert.device import OnDevice, bytes_kept, has_bfloat16
from arcinvert.errors import CheckpointError
from arcinvert.faceprior.decoder import FaceDecoder
from arcinvert.faceprior.generator import FaceGenerator, load_generator

SIZE = 112
LARGE = 224
FORMS = (88, 40)
"""Height and width at which the coarse forms of a face are drawn, and those of hair and background; what these leave is
fine detail. With more pixels the decoder's beaded hair is left, with fewer inside the face judges accept fewer
tuning people."""
ALIKE = 0.12
"""Gray levels (0 to 1): where the difference of the two coarse pictures has this standard deviation, within an eighth
of the picture across and down, the generator's detail counts by 1/e, and beyond it hardly: an outline that lies
elsewhere in the two would be seen twice. With more, turned faces have lines along the cheek, with less hair is
beaded."""
OVAL = (0.5, 0.57, 0.295, 0.41)
"""The face in an aligned picture: center and half axes, across and down, of its width and height."""
ATTRIBUTES = ("yaw", "pitch", "smile", "light", "brightness")
"""What :meth:`FacePrior.attributes` tells: yaw and pitch as :func:`~arcinvert.faces.alignment.landmark_pose` measures
them, the width of the mouth over the distance of the eyes, and of the gray levels (0 to 1) of the face its right half
less its left half, and the mean."""


@dataclass(frozen=True, eq=False)
class FacePrior(OnDevice):
    """The face decoder, the generator, and synthetic faces with their latents.

    Attributes:
        decoder: frozen, in eval mode.
        codes: (N, K) int8; times :attr:`code_scale` they are latents.
        code_scale: (K,) the size of one unit of each column of ``codes``.
        files: one WebP file of 112x112 after another: the same faces as their generator drew them. They stay in the
            memory of the CPU, where they are decoded.
        offsets: (N + 1) places where they begin in ``files``.
        attribute_weight: (5, K), attribute_bias: (5,): latents -> :data:`ATTRIBUTES`.
        attribute_spread: (5,) standard deviation of each over the faces.
        digest: of the file.
        generator: draws sharper faces from the same latents, at 18 times the cost, or at six times by its early exit;
            None if there is none.
    """

    decoder: FaceDecoder
    codes: Tensor
    code_scale: Tensor
    files: bytes
    offsets: tuple[int, ...]
    attribute_weight: Tensor
    attribute_bias: Tensor
    attribute_spread: Tensor
    digest: str
    generator: FaceGenerator | None = None

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def size(self) -> int:
        """K, how many numbers a latent has."""
        return len(self.code_scale)

    @property
    def early(self) -> slice:
        """Where in a latent the generator's early layers are: pose and shape of the head."""
        return slice(self.size // 3)

    @property
    def late(self) -> slice:
        """Where in a latent the generator's late layers are: color and texture of skin, hair, background."""
        return slice(self.size - self.size // 3, self.size)

    @property
    def device(self) -> torch.device:
        """Where the decoder is."""
        return self.code_scale.device

    def first(self, count: int) -> "FacePrior":
        """The same prior with its first ``count`` synthetic faces alone."""
        return replace(self, codes=self.codes[:count], offsets=self.offsets[: count + 1])

    def latents(self, rows: Sequence[int]) -> Tensor:
        """Latents (M, K) of the synthetic faces ``rows``."""
        return self.codes[list(rows)].to(self.code_scale) * self.code_scale

    def pictures(self, rows: Sequence[int]) -> Tensor:
        """(M, 112, 112, 3) uint8 on the CPU: the synthetic faces ``rows`` as their generator drew them."""
        found = [_opened(self.files[self.offsets[row] : self.offsets[row + 1]]) for row in rows]
        return torch.from_numpy(np.stack(found))

    def refined(
        self, latents: Tensor, size: int = SIZE, offsets: Tensor | None = None, *, rough: bool = False
    ) -> Tensor:
        """(B, K) latents -> (B, 3, size, size), RGB: drawn by the generator, or by the decoder if there is none.

        Args:
            latents: of the faces.
            size: 112, 224 or 448; the decoder draws no 448.
            offsets: (B, 16, K), see :class:`~arcinvert.faceprior.generator.FaceGenerator`; the decoder takes none.
            rough: as for :meth:`render`; the generator draws its 112 pixels by its early exit then.

        Raises:
            KeyError: 448 without a generator.
        """
        if self.generator is None:
            return self.render(latents, size, rough=rough)
        with self._multiplying(rough):
            return self.generator(latents, size, offsets, early=rough)  # type: ignore[no-any-return]

    def detailed(self, latents: Tensor, size: int = LARGE) -> Tensor:
        """(B, K) latents -> (B, 3, size, size), RGB in [0, 1]: the decoder's face with the generator's fine detail.

        A latent that was sought with the decoder is off in the generator, most of all one of a photograph; but hair,
        skin and teeth are like those of a photograph there. So its picture is drawn as far towards the decoder's as
        :data:`FORMS` pixels tell them apart. Where these forms are not :data:`ALIKE`, and without a generator, the
        picture is the decoder's.

        Args:
            latents: of the faces.
            size: 112, 224 or 448; without a generator 448 gives 224.
        """
        coarse = self.render(latents, min(size, LARGE))
        if self.generator is None:
            return coarse
        fine, coarse = self.refined(latents, size), coarse.clamp(0, 1)
        missing = coarse - avg_pool2d(fine, size // coarse.shape[-1])
        face, around = (interpolate(missing, size=forms, mode="bilinear", antialias=True) for forms in FORMS)
        share = interpolate(_alike(around), size=size, mode="bilinear")
        face, around, plain = (interpolate(part, size=size, mode="bicubic") for part in (face, around, coarse))
        return torch.lerp(plain, fine + torch.lerp(around, face, oval(size).to(fine)), share).clamp(0, 1)

    @functools.cached_property
    def refined_bytes(self) -> int:
        """Bytes that a rough picture of :meth:`refined` keeps for a backward pass, in addition to the weights."""
        network = self.decoder if self.generator is None else self.generator
        latents = torch.zeros(1, self.size, device=self.device, requires_grad=True)
        return bytes_kept(network, functools.partial(self.refined, rough=True), latents)

    def render(self, latents: Tensor, size: int = SIZE, *, rough: bool = False) -> Tensor:
        """(B, K) latents -> (B, 3, size, size), RGB, not clamped to [0, 1]; ``size`` is 112 or 224.

        ``rough`` multiplies in bfloat16 where the device does so in hardware: for the steps of a descent, whose
        pictures nobody keeps.
        """
        with self._multiplying(rough):
            return self.decoder(latents, size).float()  # type: ignore[no-any-return]

    def _multiplying(self, rough: bool) -> torch.autocast:
        """In bfloat16 if the pictures may be rough and the device has it in hardware."""
        enabled = rough and has_bfloat16(self.device)
        return torch.autocast(self.device.type, torch.bfloat16, enabled=enabled)

    @functools.cached_property
    def mean(self) -> Tensor:
        """(3, 112, 112): the face of the mean latent, in [0, 1]."""
        with torch.no_grad():
            return self.render(torch.zeros(1, self.size, device=self.device))[0].clamp(0, 1)

    def attributes(self, latents: Tensor) -> Tensor:
        """(B, K) latents -> (B, 5) expected :data:`ATTRIBUTES`."""
        return latents @ self.attribute_weight.T + self.attribute_bias

    def moved(self, latents: Tensor, attributes: Tensor, spread: Tensor | None = None) -> Tensor:
        """(B, K) the likeliest latents near ``latents`` that have ``attributes`` (B, 5); NaN leaves one as it is.

        Args:
            latents, attributes: of the faces, and asked for.
            spread: (K,) standard deviation of each number; None takes them as equal.
        """
        missing = attributes - self.attributes(latents)
        back = self.attribute_directions(spread)
        return latents + missing.nan_to_num(0.0) @ back

    def attribute_directions(self, spread: Tensor | None = None) -> Tensor:
        """(5, K): what to add to a latent to raise one attribute by 1 and leave the others: S W' (W S W')^-1."""
        weight = self.attribute_weight
        scaled = weight if spread is None else weight * spread.square()
        directions: Tensor = torch.linalg.solve(weight @ scaled.T, scaled)
        return directions

    def portraits(self, rows: Sequence[int], each: int, seed: int = 0) -> Tensor:
        """(len(rows), each, 112, 112, 3) uint8 on the CPU: the faces ``rows``, and more pictures of the same people.

        The first is :meth:`pictures`; the decoder draws the others with another pose, expression and light.
        """
        generator = torch.Generator().manual_seed(seed)
        shown = [self.pictures(rows)[:, None]]
        for _ in range(1, each):
            drawn = torch.randn(len(rows), len(ATTRIBUTES), generator=generator).to(self.device)
            asked = self.attribute_bias + drawn * self.attribute_spread
            shown.append(self.drawn(self.moved(self.latents(rows), asked))[:, None])
        return torch.cat(shown, 1)

    @torch.no_grad()
    def drawn(self, latents: Tensor, size: int = SIZE, batch: int = 32) -> Tensor:
        """(B, K) latents -> (B, size, size, 3) uint8 on the CPU."""
        parts = [self.render(part, size) for part in torch.split(latents, batch)]
        return torch.cat([(p.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu() for p in parts])


def oval(size: int) -> Tensor:
    """(size, size): 1 in the face of an aligned picture, 0 in hair and background, and softly between."""
    across, down, width, height = OVAL
    place = (torch.arange(size) + 0.5) / size
    radius = torch.hypot((place[None, :] - across) / width, (place[:, None] - down) / height)
    share = ((1.15 - radius) / 0.3).clamp(0, 1)
    return share.square() * (3 - 2 * share)


def _alike(difference: Tensor) -> Tensor:
    """(B, 3, S, S) difference of two pictures -> (B, 1, S, S): 1 where it is even, however large, 0 where it varies."""
    window = difference.shape[-1] // 8
    near = functools.partial(avg_pool2d, kernel_size=window, stride=1, padding=window // 2, count_include_pad=False)
    variance = (near(difference.square()) - near(difference).square()).mean(1, keepdim=True)
    return torch.exp(-(variance / ALIKE**2).square())


def _opened(file: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(file), formats=["WEBP"]) as image:
        return np.array(image.convert("RGB"))


def load_face_prior(path: Path) -> FacePrior:
    """Read a face prior.

    Raises:
        CheckpointError: not a face prior, or damaged.
    """
    stored = load_checkpoint(path)
    if stored.header.get("kind") != "face prior":
        raise CheckpointError(f"{str(path)!r} is not a face prior")
    try:
        tensors, settings = stored.tensors, stored.header["decoder"]
        decoder = FaceDecoder(
            int(settings["latent"]), int(settings["start"]), tuple(settings["widths"]), tuple(settings["counts"])
        )
        load_strictly(decoder, stored.network(), repr(str(path)))
        prior = FacePrior(
            decoder.eval().requires_grad_(False).to(memory_format=torch.channels_last),
            tensors["codes"],
            tensors["code_scale"].float(),
            tensors["files"].numpy().tobytes(),
            tuple(tensors["offsets"].tolist()),
            tensors["attributes.weight"].float(),
            tensors["attributes.bias"].float(),
            tensors["attributes.spread"].float(),
            stored.digest,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"the face prior {str(path)!r} lacks or garbles {error}") from None
    count, ends = len(prior.codes), prior.offsets
    fits = prior.codes.shape == (count, prior.size) and prior.size == settings["latent"]
    fits = fits and len(ends) == count + 1 and tensors["files"].dtype == torch.uint8
    fits = fits and all(a < b for a, b in pairwise(ends)) and ends[0] == 0 and ends[-1] == len(prior.files)
    fits = fits and prior.attribute_weight.shape == (len(ATTRIBUTES), prior.size)
    fits = fits and prior.attribute_bias.shape == prior.attribute_spread.shape == (len(ATTRIBUTES),)
    if not fits:
        raise CheckpointError(f"the parts of the face prior {str(path)!r} do not fit each other")
    return prior


@functools.cache
def default_face_prior() -> FacePrior:
    """The face prior that ships with the package, with its generator."""
    with importlib.resources.as_file(importlib.resources.files("arcinvert") / "data") as folder:
        prior = load_face_prior(folder / "face_prior.safetensors")
        generator = load_generator(folder / "generator.safetensors", folder / "generator_early_exit.safetensors")
        return replace(prior, generator=generator)
