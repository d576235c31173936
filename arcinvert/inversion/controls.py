"""Controls: the pose and the expression of a reconstruction, as attributes of a face of the face prior.

Attributes are those of :mod:`arcinvert.faceprior.detail`: yaw, pitch, smile, as a detector's five points show
them. Angles are in degrees and approximate: the tip of the nose is taken to stand half the distance
of the eyes before the plane of eyes and mouth. Positive yaw turns the nose to the right side of
the image, positive pitch lifts it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from arcinvert.errors import UsageError

POSES = {"frontal": (0.0, 0.0), "left": (-25.0, 0.0), "right": (25.0, 0.0), "up": (0.0, 15.0), "down": (0.0, -15.0)}
"""Name -> (yaw, pitch), degrees."""
EXPRESSIONS = {"neutral": 0.80, "smile": 0.98}
"""Name -> width of the mouth over the distance of the eyes."""
LARGEST = (30.0, 20.0)
"""Degrees of yaw and of pitch beyond which the faces behind the face prior do not reach."""
NOSE, LEVEL, FALL = 0.5, 0.60, 0.45
"""Reach of the nose in eye distances; its place between eyes and mouth in a level face, and how it goes with pitch."""


@dataclass(frozen=True)
class Controls:
    """The pose and the expression that a face must have; None leaves them free.

    Attributes:
        pose: (yaw, pitch), degrees.
        smile: width of the mouth over the distance of the eyes.
    """

    pose: tuple[float, float] | None = None
    smile: float | None = None

    @classmethod
    def parse(cls, pose: str | None = None, expression: str | None = None) -> "Controls":
        """From ``frontal``, ``left``, ... or ``YAW,PITCH``, and from ``neutral`` or ``smile``.

        Raises:
            UsageError: anything else, or angles beyond :data:`LARGEST`.
        """
        if expression is not None and expression not in EXPRESSIONS:
            raise UsageError(f"expected an expression out of {', '.join(EXPRESSIONS)}, got {expression!r}")
        return cls(None if pose is None else _angles(pose), None if expression is None else EXPRESSIONS[expression])

    def attributes(self) -> tuple[float, float, float]:
        """Yaw, pitch and smile in the face prior's units; NaN where free."""
        yaw, pitch = (math.nan, math.nan) if self.pose is None else self.pose
        return (
            NOSE * math.tan(math.radians(yaw)),
            LEVEL - FALL * math.tan(math.radians(pitch)),
            math.nan if self.smile is None else self.smile,
        )


def varied(controls: Controls, variation: Sequence[int], generators: Sequence[torch.Generator]) -> Tensor:
    """Attributes (B, 3) of a target's variations: the controls; from variation 1 on, free ones are drawn at random.

    Args:
        controls: of every image.
        variation: (B,) 0 for the first image of a target.
        generators: one per image.
    """
    rows = []
    for number, generator in zip(variation, generators, strict=True):
        asked = controls.attributes()
        drawn = torch.rand(3, generator=generator).tolist()
        free = Controls((50 * drawn[0] - 25, 20 * drawn[1] - 10), 0.78 + 0.22 * drawn[2]).attributes()
        rows.append([d if number > 0 and math.isnan(a) else a for a, d in zip(asked, free, strict=True)])
    return torch.tensor(rows)


def _angles(pose: str) -> tuple[float, float]:
    if pose in POSES:
        return POSES[pose]
    try:
        yaw, pitch = (float(part) for part in pose.split(","))
    except ValueError:
        raise UsageError(f"expected a pose out of {', '.join(POSES)}, or YAW,PITCH in degrees, got {pose!r}") from None
    if not (abs(yaw) <= LARGEST[0] and abs(pitch) <= LARGEST[1]):
        raise UsageError(f"expected at most {LARGEST[0]:g} degrees of yaw and {LARGEST[1]:g} of pitch, got {pose!r}")
    return yaw, pitch
