"""A frozen recognizer: a network and its image contract.

Outside this module an image is RGB float in [0, 1], (B, 3, 112, 112). This module applies range, mean,
standard deviation and channel order, sets eval mode and freezes the weights. It also registers the hooks
that record activations, and removes them after the forward pass.
"""

import functools
import importlib.resources
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import normalize

from arcinvert.backbones.frozen import FrozenBatchNorm, freeze
from arcinvert.backbones.operations import FoldedNorm
from arcinvert.checkpoint import Checkpoint, build_network, load_checkpoint
from arcinvert.device import bytes_kept
from arcinvert.errors import CheckpointError, InputError
from arcinvert.formats import open_checkpoint
from arcinvert.formats.license import license_of
from arcinvert.preprocessing import Preprocessing

PACKAGE = Path(str(importlib.resources.files("arcinvert")))
DEFAULT_CHECKPOINT = "default.safetensors"
BESIDE = ".calibration.safetensors"
"""Suffix of the calibration file beside a checkpoint, after the checkpoint's name."""


@dataclass(frozen=True, eq=False)
class ChannelStatistics:
    """The stored statistics of a BatchNorm layer: mean and (unbiased) variance of its input, each (C,).

    ``usable`` (C,) is False for channels whose variance is not positive or whose statistics are not finite.
    """

    mean: Tensor
    var: Tensor
    usable: Tensor


@dataclass(frozen=True, eq=False)
class Trace:
    """The result of one forward pass: the embedding and the recorded activations.

    Attributes:
        image: (B, 3, 112, 112), the input after transforms.
        embedding: (B, D), unit norm.
        activations: layer name -> (B, C, H, W), the input of a BatchNorm layer.
        latent: (B, K), the whitened latent code of the image, if its parameterization has one.
    """

    image: Tensor
    embedding: Tensor
    activations: Mapping[str, Tensor] = field(default_factory=dict)
    latent: Tensor | None = None


class Recognizer:
    """A frozen network with its image contract.

    Args:
        network: maps preprocessed images to (B, D) features. It is set to eval mode, its parameters no
            longer require gradients, and :class:`FrozenBatchNorm` replaces its BatchNorm2d layers.
        preprocessing: the image contract.
        embedding_size: D.
        header: of the checkpoint.
        calibration: the tensors of a calibration (see :mod:`arcinvert.calibration.calibration`), if there is one.
        digest: SHA-256 of the checkpoint file.

    Raises:
        CheckpointError: no BatchNorm channel has usable statistics, or weights are not finite.
    """

    def __init__(
        self,
        network: nn.Module,
        preprocessing: Preprocessing,
        *,
        embedding_size: int,
        header: Mapping[str, Any] | None = None,
        calibration: Mapping[str, Tensor] | None = None,
        digest: str = "",
    ) -> None:
        self.preprocessing = preprocessing
        self.embedding_size = embedding_size
        self.header: Mapping[str, Any] = header or {}
        self.calibration_tensors: Mapping[str, Tensor] = calibration or {}
        self.digest = digest
        self.network = freeze(network)
        self._norms = {n: m for n, m in self.network.named_modules() if isinstance(m, FrozenBatchNorm | FoldedNorm)}
        weights = [*self.network.named_parameters(), *self.network.named_buffers()]
        # The mean and var of a FrozenBatchNorm may be anything: only its scale and shift are used.
        if any(not bool(torch.isfinite(w).all()) for name, w in weights if not name.endswith((".mean", ".var"))):
            raise CheckpointError("the network has weights that are not finite")
        if self._stored and not any(bool(norm.usable.any()) for norm in self._stored.values()):
            raise CheckpointError("not one BatchNorm channel has a positive, finite variance")

    def __repr__(self) -> str:
        name = self.header.get("backbone", type(self.network).__name__)
        return f"Recognizer({name}, D={self.embedding_size}, {len(self._stored)} BatchNorm layers, {self.digest[:12]})"

    @classmethod
    def load(cls, path: Path | str | None = None, *, device: torch.device | str = "cpu") -> "Recognizer":
        """Read a checkpoint, ours or of a foreign format; without a path, the one that ships with arcinvert.

        A file ``NAME.calibration.safetensors`` beside ``NAME.ext`` replaces the calibration in the checkpoint.

        Raises:
            CheckpointError: see :func:`arcinvert.formats.open_checkpoint`; or the calibration beside it is
                another network's.
        """
        path = default_checkpoint() if path is None else Path(path)
        stored = open_checkpoint(path)
        for folder in (path.parent, *([PACKAGE / "data"] if path == default_checkpoint() else [])):
            beside = folder / (path.stem + BESIDE)
            if beside.is_file():
                stored = _calibrated_by(stored, beside)
                break
        return cls.from_checkpoint(stored, str(path)).to(device)

    @classmethod
    def from_checkpoint(cls, stored: Checkpoint, source: str) -> "Recognizer":
        """The recognizer that a checkpoint describes; ``source`` names it in errors.

        Raises:
            CheckpointError: the header is incomplete, or the weights do not fit it.
        """
        header = stored.header
        for key in ("backbone", "backbone_settings", "embedding_size", "preprocessing"):
            if key not in header:
                raise CheckpointError(f"expected {key} in the header of {source!r}, got none")
        return cls(
            build_network(stored, source),
            Preprocessing.from_header(header["preprocessing"]),
            embedding_size=header["embedding_size"],
            header=header,
            calibration=stored.section("calibration"),
            digest=stored.digest,
        )

    def to(self, device: torch.device | str) -> "Recognizer":
        """Move the network; returns itself."""
        self.network.to(device)
        for norm in self._stored.values():
            norm.usable = norm.usable.to(device)
        return self

    @property
    def license(self) -> str:
        """The license of the weights in one line, or "not stated"; see :func:`arcinvert.formats.license.license_of`."""
        return license_of(self.header, self.digest)

    @property
    def _stored(self) -> dict[str, FrozenBatchNorm]:
        return {name: norm for name, norm in self._norms.items() if isinstance(norm, FrozenBatchNorm)}

    @property
    def device(self) -> torch.device:
        """The device of the network."""
        tensors = [*self.network.parameters(), *self.network.buffers()]
        return tensors[0].device if tensors else torch.device("cpu")

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers that have statistics, in the order of the network.

        They are the BatchNorm2d layers, and the convolutions without one (folded, or never there).
        """
        return tuple(self._norms)

    @property
    def folded(self) -> tuple[str, ...]:
        """The :attr:`layers` that are not BatchNorm layers, and store no statistics themselves."""
        return tuple(name for name in self._norms if name not in self._stored)

    @functools.cached_property
    def layer_sizes(self) -> Mapping[str, tuple[int, int, int]]:
        """Layer -> (C, H, W) of its input, measured in one forward pass of a black image."""
        with torch.no_grad():
            trace = self.trace(torch.zeros(1, 3, *self.preprocessing.size, device=self.device), taps=self.layers)
        return {layer: tuple(value.shape[1:]) for layer, value in trace.activations.items()}  # type: ignore[misc]

    @functools.cached_property
    def kept_bytes(self) -> int:
        """Bytes that a forward pass keeps of one image for the backward pass, in addition to the weights."""
        image = torch.zeros(1, 3, *self.preprocessing.size, device=self.device, requires_grad=True)
        return bytes_kept(self.network, self.trace, image)

    def statistics(self, layer: str) -> ChannelStatistics | None:
        """The stored statistics of a BatchNorm layer; None for one of :attr:`folded`."""
        norm = self._norms[layer]
        return ChannelStatistics(norm.mean, norm.var, norm.usable) if isinstance(norm, FrozenBatchNorm) else None

    def dropped_channels(self) -> int:
        """The number of BatchNorm channels without usable statistics."""
        return sum(int((~norm.usable).sum()) for norm in self._stored.values())

    def trace(
        self,
        images: Tensor,
        *,
        taps: Collection[str] = (),
        latent: Tensor | None = None,
        precision: torch.dtype = torch.float32,
        weights: Mapping[str, Tensor] | None = None,
    ) -> Trace:
        """One forward pass, with gradients to the images.

        Args:
            images: (B, 3, 112, 112) RGB in [0, 1].
            taps: layers whose input is recorded.
            latent: stored in the trace.
            precision: bfloat16 or float16 runs convolutions and matrix products so (autocast); the
                embedding is float32 all the same.
            weights: name -> what takes the place of a parameter, for this pass.

        Raises:
            InputError: an image of another shape, or an unknown layer.
        """
        tapped = self.tapped(taps)
        try:
            pixels = self.preprocessing(images)
            if pixels.device.type != "mps":
                pixels = pixels.contiguous(memory_format=torch.channels_last)
            with torch.autocast(pixels.device.type, precision, enabled=precision != torch.float32):
                features, activations = tapped(pixels, weights)
        finally:
            tapped.release()
        return Trace(images, normalize(features.float()), activations, latent)

    def noisy_weights(self, noise: float, seed: int) -> dict[str, Tensor]:
        """The real parameters of two dimensions or more, by name, each number times ``1 + noise * n``, n normal."""
        generator = torch.Generator(self.device).manual_seed(seed)
        return {
            name: weight * _factors(weight, noise, generator)
            for name, weight in self.network.named_parameters()
            if weight.ndim > 1 and weight.is_floating_point()
        }

    def tapped(self, taps: Collection[str]) -> "Tapped":
        """The network as a module that also returns the inputs of the layers ``taps``, until it is released.

        Raises:
            InputError: an unknown layer.
        """
        unknown = set(taps) - set(self._norms)
        if unknown:
            raise InputError(f"expected layers of the network, got {', '.join(sorted(unknown)[:5])}")
        return Tapped(self.network, {name: self._norms[name] for name in taps})

    @torch.no_grad()
    def embed(self, images: Tensor, *, batch_size: int = 32) -> Tensor:
        """(B, 3, 112, 112) RGB in [0, 1] or uint8, or (B, 112, 112, 3) uint8 -> (B, D), unit norm."""
        if images.dtype == torch.uint8 and images.ndim == 4 and images.shape[1] != 3:
            images = images.permute(0, 3, 1, 2)
        parts = []
        for start in range(0, len(images), batch_size):
            part = images[start : start + batch_size].to(self.device)
            part = part.float() / 255 if part.dtype == torch.uint8 else part
            parts.append(self.trace(part).embedding)
        return torch.cat(parts) if parts else torch.empty(0, self.embedding_size, device=self.device)


def _factors(weight: Tensor, noise: float, generator: torch.Generator) -> Tensor:
    """``1 + noise * n`` for every number of a weight."""
    drawn = torch.empty_like(weight)
    # Filled in the order of its memory, which for large weights in channels-last memory takes a third of the time.
    drawn.as_strided((weight.numel(),), (1,)).normal_(1, noise, generator=generator)
    return drawn


def default_checkpoint() -> Path:
    """Path of the checkpoint that ships with arcinvert, in the wheel or in the source tree.

    Raises:
        CheckpointError: it is in neither place.
    """
    for path in (PACKAGE / "data" / DEFAULT_CHECKPOINT, PACKAGE.parent / "checkpoints" / DEFAULT_CHECKPOINT):
        if path.is_file():
            return path
    raise CheckpointError("the default checkpoint is missing from this installation; name one with --checkpoint")


class Tapped(nn.Module):
    """A network that also returns the inputs of some of its layers (name -> activation).

    Forward hooks on these layers record the inputs; :meth:`release` removes the hooks.
    """

    def __init__(self, network: nn.Module, layers: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.network = network
        self.kept: dict[str, Tensor] = {}
        self.handles = [
            layer.register_forward_pre_hook(functools.partial(self._keep, name)) for name, layer in layers.items()
        ]

    def _keep(self, name: str, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.kept[name] = inputs[0]

    def forward(self, pixels: Tensor, weights: Mapping[str, Tensor] | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        self.kept = {}
        features = functional_call(self.network, dict(weights), (pixels,)) if weights else self.network(pixels)
        kept, self.kept = self.kept, {}
        return features, kept

    def release(self) -> None:
        """Remove the hooks."""
        for handle in self.handles:
            handle.remove()


def _calibrated_by(stored: Checkpoint, beside: Path) -> Checkpoint:
    """The checkpoint, with the calibration of the file ``beside`` in place of its own."""
    found = load_checkpoint(beside)
    if found.header.get("kind") != "calibration" or found.header.get("recognizer") != stored.digest:
        raise CheckpointError(f"{str(beside)!r} is not a calibration of the checkpoint beside it; calibrate it again")
    own = {key: value for key, value in stored.tensors.items() if not key.startswith("calibration.")}
    header = dict(stored.header) | {"calibration": found.header.get("calibration", {})}
    return replace(stored, header=header, tensors=own | dict(found.tensors))
