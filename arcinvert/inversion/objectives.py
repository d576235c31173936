"""Terms that know the target."""

from dataclasses import dataclass

from torch import Tensor

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


def _aligned(trace: Trace, target: Tensor) -> Tensor:
    if trace.embedding.shape != target.shape:
        raise InputError(f"expected targets {tuple(trace.embedding.shape)}, got {tuple(target.shape)}")
    return trace.embedding
