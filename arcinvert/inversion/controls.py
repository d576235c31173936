"""Controls: pose, expression and light of a reconstruction, as attributes of a face of the face prior.

The attributes are :data:`~arcinvert.faceprior.prior.ATTRIBUTES`. Angles are in degrees and approximate: the tip of the
nose is taken to stand half the distance of the eyes before the plane of eyes and mouth. Positive yaw turns the nose to
the right side of the image, positive pitch lifts it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from arcinvert.errors import UsageError

POSES = {"frontal": (0.0, 0.0), "left": (-25.0, 0.0), "right": (25.0, 0.0), "up": (0.0, 15.0), "down": (0.0, -15.0)}
"""Name -> (yaw, pitch), degrees."""
EXPRESSIONS = {"neutral": 0.80, "smile": 0.98}
"""Name -> width of the mouth over the distance of the eyes."""
LIGHTS = {"even": 0.0, "left": -0.15, "right": 0.15}
"""Name -> gray level (0 to 1) of the right half of the face less that of the left half."""
LARGEST = (35.0, 20.0)
"""Degrees of yaw and of pitch beyond which the faces behind the face prior do not reach."""
NOSE, LEVEL, FALL = 0.5, 0.60, 0.45
"""Reach of the nose in eye distances; its place between eyes and mouth in a level face, and how it goes with pitch."""
YAW_GAIN, PITCH_GAIN, SMILE_GAIN = 1.75, 2.2, 2.0
"""How far a latent is moved, in units of its linear attribute, so that a detector measures one unit on the result."""
LATENT_AHEAD, LATENT_LEVEL, USUAL_SMILE = 0.03, 0.545, 0.88
"""The linear yaw and pitch of faces that a detector finds looking ahead, and the smile that most faces have."""
VARIED = ("pose", "expression", "light", "color")
"""What variations differ in unless they are asked for alike; ``color`` also has hair, skin's tint and background."""
CAN_VARY = (*VARIED, "age")
"""What they can be asked to differ in. Age is a part of who somebody is: images that differ in it match less well."""


@dataclass(frozen=True)
class Controls:
    """The pose, the expression and the light that a face must have; None leaves them free.

    Attributes:
        pose: (yaw, pitch), degrees.
        smile: width of the mouth over the distance of the eyes.
        light: see :data:`LIGHTS`.
    """

    pose: tuple[float, float] | None = None
    smile: float | None = None
    light: float | None = None

    @classmethod
    def parse(cls, pose: str | None = None, expression: str | None = None, light: str | None = None) -> "Controls":
        """From ``frontal``, ``left``, ... or ``YAW,PITCH``, from ``neutral`` or ``smile``, and from ``left``, ...

        Raises:
            UsageError: anything else, or angles beyond :data:`LARGEST`.
        """
        for name, value, known in (("expression", expression, EXPRESSIONS), ("light", light, LIGHTS)):
            if value is not None and value not in known:
                raise UsageError(f"expected {name} out of {', '.join(known)}, got {value!r}")
        return cls(
            None if pose is None else _angles(pose),
            None if expression is None else EXPRESSIONS[expression],
            None if light is None else LIGHTS[light],
        )

    def attributes(self) -> tuple[float, ...]:
        """Yaw, pitch, smile, light and brightness to move a latent to, in the face prior's units; NaN where free."""
        yaw, pitch = (math.nan, math.nan) if self.pose is None else self.pose
        return (
            LATENT_AHEAD + YAW_GAIN * NOSE * math.tan(math.radians(yaw)),
            LATENT_LEVEL - PITCH_GAIN * FALL * math.tan(math.radians(pitch)),
            math.nan if self.smile is None else USUAL_SMILE + SMILE_GAIN * (self.smile - USUAL_SMILE),
            math.nan if self.light is None else self.light,
            math.nan,
        )


def asked(attributes: Mapping[str, float]) -> dict[str, float]:
    """What was asked, of attributes that a latent was moved to, by name.

    Yaw and pitch in degrees, smile as the width of the mouth over the distance of the eyes, light and brightness in
    gray levels (0 to 1).
    """
    plain = dict(attributes)
    if "yaw" in plain:
        plain["yaw"] = (plain["yaw"] - LATENT_AHEAD) / YAW_GAIN
    if "pitch" in plain:
        plain["pitch"] = LEVEL + (plain["pitch"] - LATENT_LEVEL) / PITCH_GAIN
    if "smile" in plain:
        plain["smile"] = USUAL_SMILE + (plain["smile"] - USUAL_SMILE) / SMILE_GAIN
    return {**plain, **in_degrees(plain)}


def in_degrees(attributes: Mapping[str, float]) -> dict[str, float]:
    """``yaw`` and ``pitch`` in degrees, of those that are there, from the units of the face prior."""
    found = {}
    if (yaw := attributes.get("yaw")) is not None:
        found["yaw"] = math.degrees(math.atan(yaw / NOSE))
    if (pitch := attributes.get("pitch")) is not None:
        found["pitch"] = math.degrees(math.atan((LEVEL - pitch) / FALL))
    return found


def varied(
    controls: Controls,
    variation: Sequence[int],
    generators: Sequence[torch.Generator],
    vary: Sequence[str] = VARIED,
) -> Tensor:
    """Attributes (B, 5) of a target's variations: the controls; from variation 1 on, what varies is drawn at random.

    Pose, expression and light are each drawn from one half of their range, by the variation's number, so that even a
    few variations look to both sides, smile and do not, and are lit from both sides: yaw of 6 to 18 degrees to either
    side, pitch of -10 to 10, smile of 0.74 to 0.84 or 0.90 to 1.00, light of 0.05 to 0.15 from either side, brightness
    of 0.3 to 0.6.

    Args:
        controls: of every image.
        variation: (B,) 0 for the first image of a target.
        generators: one per image.
        vary: some of :data:`CAN_VARY`; age is no attribute, see :func:`years_older`.
    """
    rows = []
    for number, generator in zip(variation, generators, strict=True):
        asked = controls.attributes()
        yaw, pitch, smile, light, bright = torch.rand(5, generator=generator).tolist()
        right, wide, lit = number % 2, number // 2 % 2, (number + number // 2) % 2
        pose = ((2 * right - 1) * (6 + 12 * yaw), 20 * pitch - 10) if "pose" in vary else None
        drawn = [*Controls(pose, 0.74 + 0.16 * wide + 0.1 * smile, (lit - 0.5) * (0.1 + 0.2 * light)).attributes()]
        drawn[4] = 0.3 + 0.3 * bright
        free = ["pose" in vary, "pose" in vary, "expression" in vary, "light" in vary, "light" in vary]
        rows.append(
            [d if number > 0 and one and math.isnan(a) else a for a, d, one in zip(asked, drawn, free, strict=True)]
        )
    return torch.tensor(rows)


def years_older(variation: Sequence[int], generators: Sequence[torch.Generator], vary: Sequence[str]) -> Tensor:
    """(B,) how much older than the person each image is to look, NaN where age does not vary.

    10 to 20 years older for odd variations, younger for even ones. The arguments are those of :func:`varied`.
    """
    if "age" not in vary:
        return torch.full((len(variation),), math.nan)
    drawn = [
        math.nan if number == 0 else (1 if number % 2 else -1) * (10 + 10 * float(torch.rand((), generator=generator)))
        for number, generator in zip(variation, generators, strict=True)
    ]
    return torch.tensor(drawn)


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
