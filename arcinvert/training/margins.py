"""Margin functions: from the cosine to the right class to the cosine the loss is given.

The combined margin of Deng et al. 2019, Eq. 4, replaces the target cosine cos(theta) by
``cos(m1 * theta + m2) - m3``. Its special cases:

===========  ====  ====  ====  =======================
name         m1    m2    m3    source
===========  ====  ====  ====  =======================
softmax      1     0     0     Deng et al. 2019, Eq. 2
arcface      1     0.5   0     Deng et al. 2019, Eq. 3
cosface      1     0     0.35  Wang et al. 2018
sphereface   1.35  0     0     Liu et al. 2017
cm1          1     0.3   0.2   Deng et al. 2019, Table 2
cm2          0.9   0.4   0.15  Deng et al. 2019, Table 2
===========  ====  ====  ====  =======================

Angles are in radians.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from arcinvert.errors import UsageError


@dataclass(frozen=True)
class Margin:
    """The three margins: multiplicative angle, additive angle (radians), additive cosine."""

    m1: float = 1.0
    m2: float = 0.0
    m3: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.m1 < math.inf or not 0 <= self.m2 < math.pi or not math.isfinite(self.m3):
            raise UsageError(
                f"expected a finite m1 > 0, 0 <= m2 < pi and a finite m3, got m1={self.m1}, m2={self.m2}, m3={self.m3}"
            )

    def __call__(self, cosine: Tensor) -> Tensor:
        """:func:`combined_margin` with these settings."""
        return combined_margin(cosine, self.m1, self.m2, self.m3)


MARGINS: dict[str, Margin] = {
    "softmax": Margin(),
    "arcface": Margin(m2=0.5),
    "cosface": Margin(m3=0.35),
    "sphereface": Margin(m1=1.35),
    "cm1": Margin(m2=0.3, m3=0.2),
    "cm2": Margin(m1=0.9, m2=0.4, m3=0.15),
}


def combined_margin(cosine: Tensor, m1: float = 1.0, m2: float = 0.0, m3: float = 0.0) -> Tensor:
    """``cos(m1 * theta + m2) - m3``, monotone over the whole of theta in [0, pi].

    The function is followed up to the angle where ``m1 * theta + m2`` reaches pi and the cosine
    would rise again. Beyond it the value falls on with slope 1 in the cosine:
    ``-1 - m3 + (cos(theta) - cos((pi - m2) / m1))``, so that it is continuous, non-increasing in
    theta and differentiable everywhere but at that one angle. The gradient is the exact one.

    Args:
        cosine: any shape, in [-1, 1]; values beyond are clamped.
        m1: factor on the angle.
        m2: added to the angle, radians.
        m3: taken from the cosine.

    Returns:
        The same shape; float32 at least, because arccos is steep at both ends.
    """
    cosine = cosine.float() if cosine.dtype in (torch.float16, torch.bfloat16) else cosine
    if m1 == 1.0 and m2 == 0.0:
        return cosine.clamp(-1.0, 1.0) - m3
    # The derivative of arccos is infinite at +-1. A clamp inside keeps it finite.
    eps = 1e-7 if cosine.dtype == torch.float32 else 1e-12
    inside = cosine.clamp(-1 + eps, 1 - eps)
    if m1 == 1.0:
        moved = inside * math.cos(m2) - (1 - inside * inside).sqrt() * math.sin(m2)
    else:
        moved = torch.cos(m1 * torch.acos(inside) + m2)
    turn = math.cos(min(math.pi, (math.pi - m2) / m1))
    return torch.where(inside > turn, moved, inside - turn - 1) - m3
