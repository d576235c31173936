"""Arithmetic on the image that a graph begins with, as mean and std of its image contract."""

import math

from arcinvert.backbones.graph import IMAGE
from arcinvert.errors import CheckpointError
from arcinvert.formats.builder import Builder


def take_scaling(builder: Builder) -> tuple[float, float]:
    """Remove leading additions and multiplications by a number from the graph.

    Returns:
        mean and std in the units of the image: the remaining graph expects ``(image - mean) / std``.
    """
    scale, shift = 1.0, 0.0  # scale * image + shift
    value = IMAGE
    while True:
        users = [step for step in builder.steps if value in step["inputs"] and step["op"] != "repeat"]
        if len(users) != 1 or users[0]["op"] not in ("add", "sub", "mul", "div"):
            break
        step = users[0]
        left, right = step["inputs"]
        number = builder.examples[right if left == value else left]
        swapped = left != value and step["op"] in ("sub", "div")
        if left == right or number.numel() != 1 or number.ndim > 4 or swapped:
            break
        if not {left, right} - {value} <= builder.constants:
            break
        x = float(number)
        scale, shift = {
            "add": (scale, shift + x),
            "sub": (scale, shift - x),
            "mul": (scale * x, shift * x),
            "div": (scale / x if x else math.nan, shift / x if x else math.nan),
        }[step["op"]]
        value = step["output"]
    if value == IMAGE:
        return 0.0, 1.0
    if not (math.isfinite(scale) and math.isfinite(shift)) or scale <= 0:
        raise CheckpointError(f"expected an image contract with a positive scale, got {scale:g}")
    for step in builder.steps:
        step["inputs"] = [IMAGE if name == value else name for name in step["inputs"]]
    return -shift / scale, 1 / scale
