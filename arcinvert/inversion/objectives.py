"""Objectives: terms that hold an image to its target."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from arcinvert.calibration.age import AgeRegression
from arcinvert.calibration.maps import pooled
from arcinvert.errors import InputError
from arcinvert.recognizer import Trace


@dataclass(frozen=True, eq=False)
class CosineMatch:
    """``1 - cos(embedding, target)``, in [0, 2].

    Attributes:
        target: (B, D), unit norm.
    """

    target: Tensor
    taps: tuple[str, ...] = ()

    def __call__(self, trace: Trace) -> Tensor:
        return 1 - (_aligned(trace, self.target) * self.target).sum(1)


@dataclass(frozen=True, eq=False)
class L2Match:
    """Euclidean distance of unit embeddings, in [0, 2] (Deng et al. 2021, section 3.3, open set).

    Attributes:
        target: (B, D), unit norm.
    """

    target: Tensor
    taps: tuple[str, ...] = ()

    def __call__(self, trace: Trace) -> Tensor:
        # The root has no slope at 0; the floor keeps the gradient finite when the match is exact.
        return (_aligned(trace, self.target) - self.target).square().sum(1).clamp_min(1e-12).sqrt()


@dataclass(frozen=True, eq=False)
class MarginMatch:
    """The ArcFace loss of the right class, over the scale: the closed set of Deng et al. 2021, section 3.3.

    ``-log softmax(s cos(theta + m), s cos(theta_j)) / s``: unlike a cosine it also drives the image away
    from every other class. Beyond ``theta = pi - m``, where the formula turns back, ``cos(theta)`` lowered
    by a constant takes its place.

    Attributes:
        centers: (C, D), unit norm, of all classes.
        labels: (B,) int64, the class of each image.
        margin: m, radians.
        scale: s.
    """

    centers: Tensor
    labels: Tensor
    margin: float = 0.5
    scale: float = 64.0
    taps: tuple[str, ...] = ()

    def __call__(self, trace: Trace) -> Tensor:
        if trace.embedding.shape != (len(self.labels), self.centers.shape[1]):
            raise InputError(f"expected {len(self.labels)} embeddings, got {tuple(trace.embedding.shape)}")
        cosine = (trace.embedding @ self.centers.T).clamp(-1, 1)
        right = cosine.gather(1, self.labels[:, None])
        sine = (1 - right.square()).clamp_min(1e-9).sqrt()
        turned = right * math.cos(self.margin) - sine * math.sin(self.margin)
        beyond = right - math.cos(math.pi - self.margin) - 1
        turned = torch.where(right > math.cos(math.pi - self.margin), turned, beyond)
        logits = self.scale * cosine.scatter(1, self.labels[:, None], turned)
        return cross_entropy(logits, self.labels, reduction="none") / self.scale


@dataclass(frozen=True, eq=False)
class MapMatch:
    """Distance of pooled maps to those predicted from the target's embedding, in units of their deviation.

    Per layer, the mean of ``((map - predicted) / deviation)^2``; then the mean over layers: 1 for a face with the
    target's embedding. Without layers, 0.

    Attributes:
        predicted: layer -> (B, C, h, w); see :mod:`arcinvert.calibration.maps`.
        deviation: layer -> (C, h, w).
        share: (B,) factor on the cost of each image, 0 to 1; None leaves the cost as it is.
    """

    predicted: Mapping[str, Tensor]
    deviation: Mapping[str, Tensor]
    share: Tensor | None = None

    @property
    def taps(self) -> tuple[str, ...]:
        """The layers whose maps are predicted."""
        return tuple(self.predicted)

    def __call__(self, trace: Trace) -> Tensor:
        cost = trace.embedding.new_zeros(len(trace.embedding))
        for layer, predicted in self.predicted.items():
            apart = (pooled(trace.activations[layer].float()) - predicted) / self.deviation[layer]
            cost = cost + apart.square().mean((1, 2, 3)) / len(self.predicted)
        return cost if self.share is None else cost * self.share


@dataclass(frozen=True, eq=False)
class AgeMatch:
    """``((age - wanted) / 10)^2``, the age in years as the auxiliary network's embedding tells it.

    Attributes:
        age: the regression.
        wanted: (B,) years; the cost of an image where it is NaN is 0.
    """

    age: AgeRegression
    wanted: Tensor
    taps: tuple[str, ...] = ()

    def __call__(self, trace: Trace) -> Tensor:
        off = self.age.years(trace.embedding.float()) - self.wanted
        return (off / 10).nan_to_num(0.0).square()


def _aligned(trace: Trace, target: Tensor) -> Tensor:
    if trace.embedding.shape != target.shape:
        raise InputError(f"expected targets {tuple(trace.embedding.shape)}, got {tuple(target.shape)}")
    return trace.embedding
