"""Margin functions: they map the target cosine to the smaller one that the loss is given.

The combined margin of Deng et al. 2019, Eq. 4, replaces the target cosine cos(theta) by
``cos(m1 * theta + m2) - m3``. Its special cases:

===========  ====  ====  ====  =======================
name         m1    m2    m3    source
===========  ====  ====  ====  =======================
softmax      1     0     0     Deng et al. 2019, Eq. 2 (norm-softmax: no bias, all of unit norm)
arcface      1     0.5   0     Deng et al. 2019, Eq. 3
cosface      1     0     0.35  Wang et al. 2018
sphereface   1.35  0     0     Liu et al. 2017, by arccos and without annealing
cm1          1     0.3   0.2   Deng et al. 2019, Table 2
cm2          0.9   0.4   0.15  Deng et al. 2019, Table 2
===========  ====  ====  ====  =======================

:class:`AdaFace` gives every image an m2 and an m3 of its own. Angles are in radians.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from arcinvert.errors import UsageError

PAST_PI = ("monotone", "easy", "plain")
"""The choices of :func:`combined_margin` for angles past the one where the formula turns."""


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

    def __call__(self, cosine: Tensor, *, past_pi: str = "monotone") -> Tensor:
        """:func:`combined_margin` with these margins."""
        return combined_margin(cosine, self.m1, self.m2, self.m3, past_pi=past_pi)


@dataclass(frozen=True)
class AdaFace:
    """The adaptive margin of Kim et al. 2022 (CVPR), which takes the norm of the features for the image's quality.

    With ``z = clip(h * (norm - mean) / (deviation + 0.001), -1, 1)``, where mean and deviation are running ones
    over the batches, an image has ``m2 = -m * z`` radians and ``m3 = m * z + m`` in :func:`combined_margin`. The norm
    has no gradient. The methods are pure: the head keeps mean and deviation. (Past pi the authors' code holds the
    value at -1 - m3, without gradient; here ``past_pi`` decides.)

    Attributes:
        m: size of both margins, at least 0 and below pi.
        h: factor on the norms' spread, above 0.
        momentum: weight of the old mean and deviation in an update, in [0, 1).
    """

    m: float = 0.4
    h: float = 0.333
    momentum: float = 0.99

    def __post_init__(self) -> None:
        if not 0 <= self.m < math.pi or not 0 < self.h < math.inf or not 0 <= self.momentum < 1:
            raise UsageError(
                f"expected 0 <= m < pi, a finite h > 0 and 0 <= momentum < 1, got m={self.m}, h={self.h}, "
                f"momentum={self.momentum}"
            )

    def margins(self, norms: Tensor, mean: Tensor, deviation: Tensor) -> tuple[Tensor, Tensor]:
        """m2 (radians) and m3 of images with these norms (B,), both (B,), without gradient."""
        scaled = self.h * (norms.detach().clamp(1e-3, 100.0) - mean) / (deviation + 1e-3)
        scaled = scaled.clamp(-1.0, 1.0)
        return -self.m * scaled, self.m * scaled + self.m

    def running(self, norms: Tensor, mean: Tensor, deviation: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and (unbiased) deviation after a batch with these norms (B,); one norm alone changes neither."""
        if len(norms) < 2:
            return mean, deviation
        norms, rate = norms.detach().clamp(1e-3, 100.0), 1 - self.momentum
        return torch.lerp(mean, norms.mean(), rate), torch.lerp(deviation, norms.std(), rate)


MARGINS: dict[str, Margin] = {
    "softmax": Margin(),
    "arcface": Margin(m2=0.5),
    "cosface": Margin(m3=0.35),
    "sphereface": Margin(m1=1.35),
    "cm1": Margin(m2=0.3, m3=0.2),
    "cm2": Margin(m1=0.9, m2=0.4, m3=0.15),
}

ALL_MARGINS: dict[str, Margin | AdaFace | None] = {**MARGINS, "adaface": AdaFace(), "softmax-bias": None}
"""The margins by name. None: softmax with a bias, without normalization (Deng et al. 2019, Eq. 1)."""


def check_past_pi(past_pi: str) -> None:
    """Raises UsageError for a name that is not in :data:`PAST_PI`."""
    if past_pi not in PAST_PI:
        raise UsageError(f"expected past_pi out of {', '.join(PAST_PI)}, got {past_pi!r}")


def angle(cosine: Tensor) -> Tensor:
    """Radians in [0, pi], of the same shape; float32 at least.

    The slope of arccos is infinite at +-1. There the cosine is held 1e-7 away (float64: 1e-12), so
    that it is finite: a cosine of exactly 1 gives 0.0005 radians (1.4e-6) and no gradient.
    """
    return torch.acos(_inside(cosine))


def combined_margin(
    cosine: Tensor,
    m1: float = 1.0,
    m2: float | Tensor = 0.0,
    m3: float | Tensor = 0.0,
    *,
    past_pi: str = "monotone",
) -> Tensor:
    """``cos(m1 * theta + m2) - m3`` (Deng et al. 2019, Eq. 4), by default monotone over all theta in [0, pi].

    At the angle where ``m1 * theta + m2`` reaches pi the formula turns: the cosine would rise again. ``past_pi``
    decides what follows.

    - ``monotone``: the value continues to fall, with slope 1 in the cosine:
      ``-1 - m3 + (cos(theta) - cos((pi - m2) / m1))``, so that it is continuous, non-increasing
      in theta and differentiable everywhere but at that one angle.
    - ``easy``: the angle has a margin only up to 90 degrees, above it the value is ``cos(theta) - m3``
      (the easy margin of the first ArcFace release). It jumps at 90 degrees.
    - ``plain``: the formula as it stands, also where it rises again.

    Where a negative m2 would make the angle negative, it counts as 0, as in AdaFace's own code.

    Args:
        cosine: any shape, in [-1, 1]; values outside are clamped.
        m1: factor on the angle.
        m2: added to the angle, radians; a number, or a tensor that broadcasts with the cosine.
        m3: subtracted from the cosine; likewise.
        past_pi: see above.

    Returns:
        The same shape; float32 at least, because arccos is steep at both ends.

    Raises:
        UsageError: an unknown ``past_pi``.
    """
    check_past_pi(past_pi)
    cosine = cosine.float() if cosine.dtype in (torch.float16, torch.bfloat16) else cosine
    if m1 == 1.0 and not isinstance(m2, Tensor) and m2 == 0.0:
        return cosine.clamp(-1.0, 1.0) - m3
    m2 = m2 if isinstance(m2, Tensor) else cosine.new_full((), m2)
    return _moved(_inside(cosine), m1, m2, past_pi) - m3


def _moved(inside: Tensor, m1: float, m2: Tensor, past_pi: str) -> Tensor:
    if m1 == 1.0:
        value = inside * torch.cos(m2) - (1 - inside * inside).sqrt() * torch.sin(m2)
    else:
        value = torch.cos(m1 * torch.acos(inside) + m2)
    start = torch.cos((-m2 / m1).clamp(0, math.pi))
    value = torch.where(inside > start, torch.ones_like(value), value)
    if past_pi == "easy":
        return torch.where(inside > 0, value, inside)
    if past_pi == "monotone":
        turn = torch.cos(((math.pi - m2) / m1).clamp(max=math.pi))
        return torch.where(inside > turn, value, inside - turn - 1)
    return value


def _inside(cosine: Tensor) -> Tensor:
    cosine = cosine.float() if cosine.dtype in (torch.float16, torch.bfloat16) else cosine
    eps = 1e-7 if cosine.dtype == torch.float32 else 1e-12
    return cosine.clamp(-1 + eps, 1 - eps)
