"""Priors: terms that hold an image to what faces have in common, whatever the target is.

The BatchNorm layer behind the embedding is no part of any prior: matching it fights the target.
Variances of an image are biased, the stored ones unbiased; at the 49 to 12,544 positions of a
layer the difference is at most 2 %, and it is left as it is.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import relu

from arcinvert.calibration.calibration import Calibration
from arcinvert.errors import InputError
from arcinvert.inversion.terms import channel_moments
from arcinvert.recognizer import ChannelStatistics, Recognizer, Trace


def stored_statistics(
    recognizer: Recognizer, calibration: Calibration | None = None, *, largest: int | None = None
) -> dict[str, ChannelStatistics]:
    """The statistics of every layer that has a usable channel.

    Args:
        recognizer: of the layers. The statistics that its BatchNorm layers store come first.
        calibration: gives the statistics of layers whose BatchNorm is folded away.
        largest: leaves out layers whose input is higher than this, in pixels. The few at full
            resolution hold about half of all activations.

    Layers of a single position are left out: they hold the embedding itself.
    """
    found = {}
    for layer in recognizer.layers:
        _, height, width = recognizer.layer_sizes[layer]
        if height * width == 1 or (largest is not None and height > largest):
            continue
        stored = recognizer.statistics(layer)
        if stored is None and calibration is not None and layer in calibration.statistics.channel_mean:
            mean, var = calibration.statistics.channel_mean[layer], calibration.statistics.channel_var[layer]
            stored = ChannelStatistics(mean, var, var > 0)
        if stored is not None and bool(stored.usable.any()):
            found[layer] = stored
    return found


@dataclass(frozen=True, eq=False)
class BatchNormMatch:
    """Distance of the channel statistics to the stored ones, in units of the stored ones.

    Per layer, the mean over usable channels of
    ``(mean - mean*)^2 / var* + (std / std* - 1)^2``; then the mean over layers. Because every
    layer is measured in its own unit, one weight serves networks of any depth and scale.

    Attributes:
        statistics: layer -> stored statistics.
    """

    statistics: Mapping[str, ChannelStatistics]

    @property
    def taps(self) -> tuple[str, ...]:
        """The layers that have statistics."""
        return tuple(self.statistics)

    def __call__(self, trace: Trace) -> Tensor:
        if not self.statistics:  # a network without a single map, such as a transformer
            return trace.embedding.new_zeros(len(trace.embedding))
        means, deviations, stored, weights = [], [], [], []
        for layer, statistics in self.statistics.items():
            mean, var = channel_moments(trace.activations[layer])
            means.append(mean)
            deviations.append(var)
            stored.append(statistics)
            weights.append(statistics.usable / (statistics.usable.sum() * len(self.statistics)))
        # One vector over all layers: the arithmetic per channel costs the same for 3 layers or 150.
        mean, var = torch.cat(means, 1), torch.cat(deviations, 1)
        usable = torch.cat([s.usable for s in stored])
        kept_mean = torch.where(usable, torch.cat([s.mean for s in stored]), 0)
        kept_var = torch.where(usable, torch.cat([s.var for s in stored]), 1)
        ratio = (var / kept_var).clamp_min(1e-8).sqrt()
        return ((mean - kept_mean).square() / kept_var + (ratio - 1).square()) @ torch.cat(weights)


@dataclass(frozen=True, eq=False)
class PaperBatchNormMatch:
    """Deng et al. 2021, Eq. 8: squared distance of batch mean and batch deviation to the stored ones.

    Summed over channels and layers. This term is *coupled over the batch*: the statistics are those
    of all images together, and each image is charged the same.

    Attributes:
        statistics: layer -> stored statistics.
    """

    statistics: Mapping[str, ChannelStatistics]

    @property
    def taps(self) -> tuple[str, ...]:
        """The layers that have statistics."""
        return tuple(self.statistics)

    def __call__(self, trace: Trace) -> Tensor:
        total = trace.embedding.new_zeros(())
        for layer, stored in self.statistics.items():
            mean, var = channel_moments(trace.activations[layer])
            batch_mean = mean.mean(0)
            batch_var = (var + mean.square()).mean(0) - batch_mean.square()
            std = batch_var.clamp_min(1e-12).sqrt()
            cost = (batch_mean - stored.mean).square() + (std - stored.var.clamp_min(0).sqrt()).square()
            total = total + torch.where(stored.usable, cost, 0).sum()
        return total.expand(len(trace.embedding)) / len(trace.embedding)


@dataclass(frozen=True, eq=False)
class LocationMatch:
    """Distance of activations to those usual at their position: ``relu((a - mean)^2 / var - 1)``.

    The mean over channels and positions of a layer, then over layers. Aligned faces share one
    layout, so a channel has its own mean and variance at every position.

    Attributes:
        mean, var: layer -> (C, H, W); smaller maps are enlarged to the activation's size.
    """

    mean: Mapping[str, Tensor]
    var: Mapping[str, Tensor]

    @property
    def taps(self) -> tuple[str, ...]:
        """The layers that have maps."""
        return tuple(self.mean)

    def __call__(self, trace: Trace) -> Tensor:
        if not self.mean:
            raise InputError("expected per-location statistics; calibrate the recognizer first")
        costs = []
        for layer in self.mean:
            x = trace.activations[layer]
            deviation = (x - self.mean[layer]).square() / self.var[layer]
            costs.append(relu(deviation - 1).mean((1, 2, 3)))
        return torch.stack(costs).mean(0)


@dataclass(frozen=True)
class TotalVariation:
    """Mean absolute difference of neighboring pixels, horizontally plus vertically."""

    taps: tuple[str, ...] = ()

    def __call__(self, trace: Trace) -> Tensor:
        image = trace.image
        across = (image[..., 1:] - image[..., :-1]).abs().mean((1, 2, 3))
        down = (image[..., 1:, :] - image[..., :-1, :]).abs().mean((1, 2, 3))
        return across + down


@dataclass(frozen=True)
class ImageL2:
    """Euclidean norm of the image in normalized pixels, ``2 * image - 1``."""

    taps: tuple[str, ...] = ()

    def __call__(self, trace: Trace) -> Tensor:
        return (2 * trace.image - 1).square().sum((1, 2, 3)).clamp_min(1e-12).sqrt()


@dataclass(frozen=True)
class LatentGaussian:
    """Half the squared norm of the whitened coordinates: minus the log-density of a Gaussian.

    With a parameterization whose coordinates are whitened by the residuals of a regression on the
    target, this is -log p(face | embedding) up to a constant.
    """

    taps: tuple[str, ...] = ()

    def __call__(self, trace: Trace) -> Tensor:
        if trace.latent is None:
            raise InputError("this prior needs a parameterization with latent coordinates")
        return trace.latent.square().sum(1) / 2
