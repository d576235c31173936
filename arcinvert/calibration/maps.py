"""What an embedding says of the maps inside the network: E[maps | embedding] for a few layers of medium depth.

An embedding can be reached by images whose early maps no face with such an embedding has; other networks, whose
early layers see much the same, are not deceived by them. So calibration learns, by ridge regression, what the
maps of a few layers are for a given embedding, pooled to 7x7, and how far faces deviate from that.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, avg_pool2d

from arcinvert.calibration.regression import Sums, reduced_rank
from arcinvert.checkpoint import in_bits
from arcinvert.errors import CheckpointError

if TYPE_CHECKING:
    from arcinvert.recognizer import Recognizer

GRID = 7
LAYERS = 4
RANK = 64


def medium_layers(recognizer: "Recognizer") -> tuple[str, ...]:
    """Four layers, evenly spaced over those whose maps are an eighth to a quarter as high as the input."""
    height = recognizer.preprocessing.size[0]
    medium = [name for name, (_, h, _) in recognizer.layer_sizes.items() if height / 8 <= h <= height / 4]
    return tuple(dict.fromkeys(medium[(2 * i + 1) * len(medium) // (2 * LAYERS)] for i in range(LAYERS) if medium))


def pooled(activation: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, C, 7, 7) means; smaller maps stay as they are."""
    height, width = activation.shape[-2:]
    if height <= GRID and width <= GRID:
        return activation
    if height % GRID == width % GRID == 0:
        return avg_pool2d(activation, (height // GRID, width // GRID))
    return adaptive_avg_pool2d(activation, (min(GRID, height), min(GRID, width)))


@dataclass(frozen=True, eq=False)
class ExpectedFeatures:
    """E[maps | embedding], in few directions of the embedding.

    Attributes:
        factor: (D, R), from the embedding to the directions.
        maps: layer -> (R, C, h, w), what a step in each direction changes, in units of ``deviation``.
        mean: layer -> (C, h, w), at an embedding of zeros.
        deviation: layer -> (C, h, w), the standard deviation around what is expected, on unseen faces.
    """

    factor: Tensor
    maps: dict[str, Tensor] = field(repr=False)
    mean: dict[str, Tensor] = field(repr=False)
    deviation: dict[str, Tensor] = field(repr=False)

    def expected(self, embeddings: Tensor) -> dict[str, Tensor]:
        """(B, D) unit norm -> layer -> (B, C, h, w)."""
        along = embeddings @ self.factor
        return {
            layer: self.mean[layer] + self.deviation[layer] * torch.tensordot(along, self.maps[layer], 1)
            for layer in self.maps
        }

    def to(self, device: torch.device | str) -> "ExpectedFeatures":
        """The same on another device."""
        maps, mean, deviation = (
            {layer: value.to(device) for layer, value in part.items()}
            for part in (self.maps, self.mean, self.deviation)
        )
        return ExpectedFeatures(self.factor.to(device), maps, mean, deviation)

    def to_tensors(self) -> dict[str, Tensor]:
        """As stored: ``expected.factor``, ``expected.mean.LAYER``, ``expected.deviation.LAYER`` and the maps in 8 bits.

        These are ``expected.maps.LAYER``, in units of ``expected.unit.LAYER`` (R,).
        """
        tensors = {"expected.factor": self.factor.float()}
        for layer, maps in self.maps.items():
            tensors[f"expected.maps.{layer}"], tensors[f"expected.unit.{layer}"] = in_bits(maps)
            tensors[f"expected.mean.{layer}"] = self.mean[layer].float()
            tensors[f"expected.deviation.{layer}"] = self.deviation[layer].float()
        return tensors

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], device: torch.device | str) -> "ExpectedFeatures":
        """See :meth:`to_tensors`.

        Raises:
            KeyError: no factor.
            CheckpointError: the parts do not fit each other.
        """

        def section(kind: str) -> dict[str, Tensor]:
            prefix = f"expected.{kind}."
            return {k[len(prefix) :]: v.float().to(device) for k, v in tensors.items() if k.startswith(prefix)}

        factor, steps, unit = tensors["expected.factor"].float().to(device), section("maps"), section("unit")
        mean, deviation = section("mean"), section("deviation")
        same = steps.keys() == unit.keys() == mean.keys() == deviation.keys() and factor.ndim == 2
        if not same or any(
            value.ndim != 4
            or not len(value) == factor.shape[1] == unit[layer].numel()
            or not value.shape[1:] == mean[layer].shape == deviation[layer].shape
            for layer, value in steps.items()
        ):
            raise CheckpointError("the expected maps of the calibration do not fit each other; calibrate it again")
        maps = {layer: value * unit[layer].view(-1, 1, 1, 1) for layer, value in steps.items()}
        return cls(factor, maps, mean, deviation)


class FeatureRegression:
    """Collects sums over faces, and solves for :class:`ExpectedFeatures`; what it holds does not grow with them.

    Args:
        layers: whose maps.
    """

    def __init__(self, layers: Sequence[str]) -> None:
        self.layers = tuple(layers)
        self.shapes: list[torch.Size] = []
        self.seen: Sums | None = None
        self.unseen: Sums | None = None

    def add(self, embeddings: Tensor, activations: Mapping[str, Tensor], *, unseen: bool) -> None:
        """One batch: (B, D), and layer -> (B, C, H, W); ``unseen`` faces choose the ridge and measure deviations."""
        if not self.layers or not len(embeddings):
            return
        maps = [pooled(activations[layer].float()) for layer in self.layers]
        self.shapes = [part.shape[1:] for part in maps]
        sums = Sums.of(embeddings.float(), torch.cat([part.flatten(1) for part in maps], 1))
        name = "unseen" if unseen else "seen"
        before: Sums | None = getattr(self, name)
        setattr(self, name, sums if before is None else before + sums)

    def result(self, ridges: Sequence[float], size: int, rank: int = RANK) -> ExpectedFeatures:
        """The regression with the best of ``ridges``; D is ``size``. Without a layer, or unseen faces, it is empty.

        Of the directions of the embedding at most ``rank`` are heeded, those that say most of the maps.
        """
        if self.seen is None or self.unseen is None:
            return ExpectedFeatures(torch.zeros(size, 0), {}, {}, {})
        left_over = torch.stack([self.unseen.left_over(self.seen.solved(ridge)) for ridge in ridges])
        best = int((left_over / left_over.mean(0).clamp_min(1e-12)).mean(1).argmin())
        variance, both = left_over[best], self.seen + self.unseen
        sizes = [shape.numel() for shape in self.shapes]
        floor = torch.cat([part.mean().expand(len(part)) for part in torch.split(self.unseen.variance(), sizes)])
        deviation = (variance + 1e-3 * floor + 1e-12).sqrt()
        weight = both.solved(ridges[best])
        factor, maps = reduced_rank(weight[:-1] / deviation, both.covariance(), rank)
        # Through the means, whatever the directions that are left out would have added there.
        mean = both.of_mean(weight) - both.mean() @ factor @ maps * deviation

        def by_layer(values: Tensor) -> dict[str, Tensor]:
            parts = torch.split(values.float().cpu(), sizes, -1)
            return {
                layer: part.reshape(*part.shape[:-1], *shape)
                for layer, part, shape in zip(self.layers, parts, self.shapes, strict=True)
            }

        return ExpectedFeatures(factor.float().cpu(), by_layer(maps), by_layer(mean), by_layer(deviation))
