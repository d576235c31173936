"""Terms: the costs of an inversion, and their weights.

A term maps a :class:`~arcinvert.recognizer.Trace` to a cost per image, (B,), lower is better. An
*objective* knows the target, a *prior* does not; both are terms. Weights stay outside: a recipe is
a mapping name -> (weight, term), and the history keeps the names.
"""

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from arcinvert.recognizer import Trace


class Term(Protocol):
    """A cost per image.

    Attributes:
        taps: the layers whose activations it reads.
    """

    @property
    def taps(self) -> tuple[str, ...]:
        """Layers the trace must have tapped."""
        ...

    def __call__(self, trace: Trace) -> Tensor:
        """(B,) cost."""
        ...


Terms = Mapping[str, tuple[float, Term]]


def all_taps(terms: Terms) -> tuple[str, ...]:
    """Every layer that some term of non-zero weight reads, in order, once."""
    return tuple(dict.fromkeys(tap for weight, term in terms.values() if weight for tap in term.taps))


class _Moments(torch.autograd.Function):
    """First and second moment over positions, with one fused pass backward."""

    @staticmethod
    def forward(ctx, x: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[no-untyped-def]
        # A row per position: in channels-last memory this is a view, and both sums run along it.
        rows = x.permute(0, 2, 3, 1).flatten(1, 2)
        ctx.save_for_backward(x)
        return rows.sum(1) / rows.shape[1], (rows * rows).sum(1) / rows.shape[1]

    @staticmethod
    def backward(ctx, grad_first: Tensor, grad_second: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        (x,) = ctx.saved_tensors
        count = x.shape[2] * x.shape[3]
        shift = (grad_first / count)[:, :, None, None]
        return torch.addcmul(shift, x, (grad_second * (2 / count))[:, :, None, None])


def channel_moments(activation: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and *biased* variance over the positions of each image and channel, each (B, C), float32.

    The variance is the second moment less the squared mean, floored at 0.

    Args:
        activation: (B, C, H, W).
    """
    first, second = _Moments.apply(activation.float())
    return first, (second - first * first).clamp_min(0)
