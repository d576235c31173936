"""Terms that know the target."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from arcinvert.errors import InputError
from arcinvert.features import pooled
from arcinvert.inversion.terms import Terms, all_taps
from arcinvert.recognizer import Recognizer, Trace


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
    """The ArcFace loss of the right class, over the scale: the close set of Deng et al. 2021, section 3.3.

    ``-log softmax(s cos(theta + m), s cos(theta_j)) / s``: unlike a cosine it also drives the image away
    from every other class. Beyond ``theta = pi - m``, where the formula turns back, ``cos(theta)`` lowered
    by a constant takes its place.

    Attributes:
        centres: (C, D), unit norm, of all classes.
        labels: (B,) int64, the class of each image.
        margin: m, radians.
        scale: s.
    """

    centres: Tensor
    labels: Tensor
    margin: float = 0.5
    scale: float = 64.0
    taps: tuple[str, ...] = ()

    def __call__(self, trace: Trace) -> Tensor:
        if trace.embedding.shape != (len(self.labels), self.centres.shape[1]):
            raise InputError(f"expected {len(self.labels)} embeddings, got {tuple(trace.embedding.shape)}")
        cosine = (trace.embedding @ self.centres.T).clamp(-1, 1)
        right = cosine.gather(1, self.labels[:, None])
        sine = (1 - right.square()).clamp_min(1e-9).sqrt()
        turned = right * math.cos(self.margin) - sine * math.sin(self.margin)
        beyond = right - math.cos(math.pi - self.margin) - 1
        turned = torch.where(right > math.cos(math.pi - self.margin), turned, beyond)
        logits = self.scale * cosine.scatter(1, self.labels[:, None], turned)
        return cross_entropy(logits, self.labels, reduction="none") / self.scale


@dataclass(frozen=True, eq=False)
class ExpectedMatch:
    """Distance of pooled maps to what the target's embedding foretells of them, in units of their deviation.

    Per layer, the mean of ``((map - expected) / deviation)^2``; then the mean over layers: 1 for a face with the
    target's embedding. Without layers, 0.

    Attributes:
        expected: layer -> (B, C, h, w); see :class:`~arcinvert.features.ExpectedFeatures`.
        deviation: layer -> (C, h, w).
        share: (B,) that each image is charged of this, 0 to 1; None charges all of it.
    """

    expected: Mapping[str, Tensor]
    deviation: Mapping[str, Tensor]
    share: Tensor | None = None

    @property
    def taps(self) -> tuple[str, ...]:
        """The layers that something is expected of."""
        return tuple(self.expected)

    def __call__(self, trace: Trace) -> Tensor:
        cost = trace.embedding.new_zeros(len(trace.embedding))
        for layer, expected in self.expected.items():
            apart = (pooled(trace.activations[layer].float()) - expected) / self.deviation[layer]
            cost = cost + apart.square().mean((1, 2, 3)) / len(self.expected)
        return cost if self.share is None else cost * self.share


@dataclass(eq=False)
class AuxiliaryMatch:
    """What terms say of a second network's trace of the image, looked at every so many steps only.

    In between, the cost is the one last seen (0 before the first look) and has no gradient: a pass through a
    second network at each step would take half as long again.

    Attributes:
        recognizer: the second network.
        terms: name -> (weight, term), of its trace; a weight of 0 leaves a term out.
        every: how many steps there are for one look; the first is after half of them.
    """

    recognizer: Recognizer
    terms: Terms
    every: int = 1
    taps: tuple[str, ...] = ()
    steps: int = field(default=0, init=False)
    last: Tensor | None = field(default=None, init=False)

    def __call__(self, trace: Trace) -> Tensor:
        looks = self.steps % self.every == self.every // 2
        self.steps += 1
        if looks:
            seen = self.recognizer.trace(trace.image.float(), taps=all_taps(self.terms), latent=trace.latent)
            cost = torch.stack([weight * term(seen) for weight, term in self.terms.values() if weight]).sum(0)
            self.last = cost.detach()
            return cost
        return trace.image.new_zeros(len(trace.image)) if self.last is None else self.last


def _aligned(trace: Trace, target: Tensor) -> Tensor:
    if trace.embedding.shape != target.shape:
        raise InputError(f"expected targets {tuple(trace.embedding.shape)}, got {tuple(target.shape)}")
    return trace.embedding
