"""Predicted maps: E[maps | embedding] of a few layers of medium depth, pooled to 7x7.

An embedding can be reached by images whose early maps no face with such an embedding has. Other networks, whose early
layers respond alike, are not fooled by them, so an inversion holds its maps to the prediction.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, avg_pool2d

from arcinvert.calibration.regression import Accumulators, reduced_rank
from arcinvert.checkpoint import section
from arcinvert.device import OnDevice
from arcinvert.errors import CheckpointError
from arcinvert.quantize import dequantize, quantize

if TYPE_CHECKING:
    from arcinvert.recognizer import Recognizer

GRID = 7
LAYERS = 4
RANK = 64
TOGETHER = 256
"""Faces whose maps are added to the sums at once: each addition moves all of the sums."""
CHOOSING = 5
"""Of so many map values one chooses the ridge; no divisor of a row of the grid, so that all positions have a say."""


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
class PredictedMaps(OnDevice):
    """A regression from embeddings to maps, in few directions of the embedding.

    Attributes:
        factor: (D, R), from the embedding to the directions.
        maps: layer -> (R, C, h, w), what a step in each direction changes, in units of ``deviation``.
        mean: layer -> (C, h, w), the prediction for an embedding of zeros.
        deviation: layer -> (C, h, w), the standard deviation of held-out faces around their prediction.
    """

    factor: Tensor
    maps: dict[str, Tensor] = field(repr=False)
    mean: dict[str, Tensor] = field(repr=False)
    deviation: dict[str, Tensor] = field(repr=False)

    def predict(self, embeddings: Tensor) -> dict[str, Tensor]:
        """(B, D) unit norm -> layer -> (B, C, h, w)."""
        along = embeddings @ self.factor
        return {
            layer: self.mean[layer] + self.deviation[layer] * torch.tensordot(along, self.maps[layer], 1)
            for layer in self.maps
        }

    def to_tensors(self) -> dict[str, Tensor]:
        """As stored: ``expected.factor``, ``expected.mean.LAYER``, ``expected.deviation.LAYER`` and the maps in int8.

        These are ``expected.maps.LAYER``, with the scale ``expected.unit.LAYER`` (R,).
        """
        tensors = {"expected.factor": self.factor.float()}
        for layer, maps in self.maps.items():
            tensors[f"expected.maps.{layer}"], tensors[f"expected.unit.{layer}"] = quantize(maps)
            tensors[f"expected.mean.{layer}"] = self.mean[layer].float()
            tensors[f"expected.deviation.{layer}"] = self.deviation[layer].float()
        return tensors

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> "PredictedMaps":
        """See :meth:`to_tensors`.

        Raises:
            KeyError: no factor.
            CheckpointError: the parts do not fit each other.
        """
        factor = tensors["expected.factor"].float()
        steps, unit, mean, deviation = (
            section(tensors, f"expected.{k}") for k in ("maps", "unit", "mean", "deviation")
        )
        same = steps.keys() == unit.keys() == mean.keys() == deviation.keys() and factor.ndim == 2
        if not same or any(
            value.ndim != 4
            or not len(value) == factor.shape[1] == unit[layer].numel()
            or not value.shape[1:] == mean[layer].shape == deviation[layer].shape
            for layer, value in steps.items()
        ):
            raise CheckpointError("the predicted maps of the calibration do not fit each other; calibrate it again")
        maps = {layer: dequantize(value, unit[layer].flatten()) for layer, value in steps.items()}
        mean, deviation = ({layer: v.float() for layer, v in part.items()} for part in (mean, deviation))
        return cls(factor, maps, mean, deviation)


class MapRegression:
    """Accumulates faces batch by batch and solves for :class:`PredictedMaps`; its size does not grow with them.

    Args:
        layers: whose maps.
    """

    def __init__(self, layers: Sequence[str]) -> None:
        self.layers = tuple(layers)
        self.shapes: list[torch.Size] = []
        self.sums: dict[bool, Accumulators] = {}
        self.pending: dict[bool, list[tuple[Tensor, Tensor]]] = {False: [], True: []}

    def add(self, embeddings: Tensor, activations: Mapping[str, Tensor], *, held_out: bool) -> None:
        """One batch: (B, D), and layer -> (B, C, H, W); held-out faces choose the ridge and measure deviations."""
        if not self.layers or not len(embeddings):
            return
        maps = [pooled(activations[layer].float()) for layer in self.layers]
        self.shapes = [part.shape[1:] for part in maps]
        waiting = self.pending[held_out]
        waiting.append((embeddings.float(), torch.cat([part.flatten(1) for part in maps], 1)))
        if sum(len(part) for part, _ in waiting) >= TOGETHER:
            self._sum_up(held_out)

    def _sum_up(self, held_out: bool) -> Accumulators | None:
        """Add what is pending; the sums of all faces so far, None without any."""
        if self.pending[held_out]:
            x, y = (torch.cat(part) for part in zip(*self.pending[held_out], strict=True))
            self.pending[held_out] = []
            batch = Accumulators.of(x, y)
            self.sums[held_out] = self.sums[held_out] + batch if held_out in self.sums else batch
        return self.sums.get(held_out)

    def solve(self, ridges: Sequence[float], size: int, rank: int = RANK) -> PredictedMaps:
        """The regression with the best of ``ridges``; D is ``size``. Without layers or held-out faces it is empty.

        It uses at most ``rank`` directions of the embedding, those that determine most of the maps.
        """
        fitted, held_out = self._sum_up(False), self._sum_up(True)
        if fitted is None or held_out is None:
            return PredictedMaps(torch.zeros(size, 0), {}, {}, {})
        some, seen = fitted.targets(slice(None, None, CHOOSING)), held_out.targets(slice(None, None, CHOOSING))
        residual = torch.stack([seen.residual_variance(some.solve(ridge)) for ridge in ridges])
        best = int((residual / residual.mean(0).clamp_min(1e-12)).mean(1).argmin())
        variance, both = held_out.residual_variance(fitted.solve(ridges[best])), fitted + held_out
        sizes = [shape.numel() for shape in self.shapes]
        floor = torch.cat([part.mean().expand(len(part)) for part in torch.split(held_out.variance(), sizes)])
        deviation = (variance + 1e-3 * floor + 1e-12).sqrt()
        solution = both.solve(ridges[best])
        weight, bias = solution[:-1], solution[-1]
        factor, maps = reduced_rank(weight / deviation, both.covariance(), rank)
        # The prediction for the mean embedding stays exact, whatever the omitted directions would add there.
        mean = both.mean() @ weight + bias - both.mean() @ factor @ maps * deviation

        def by_layer(values: Tensor) -> dict[str, Tensor]:
            parts = torch.split(values.float().cpu(), sizes, -1)
            return {
                layer: part.reshape(*part.shape[:-1], *shape)
                for layer, part, shape in zip(self.layers, parts, self.shapes, strict=True)
            }

        return PredictedMaps(factor.float().cpu(), by_layer(maps), by_layer(mean), by_layer(deviation))
