"""The image input of an ONNX graph: its size, its layout, and the range of its pixels."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arcinvert.backbones.graph import IMAGE, MAX_SIDE, MIN_SIDE
from arcinvert.errors import CheckpointError
from arcinvert.formats.builder import Builder
from arcinvert.formats.onnx.node import INTEGER_TYPES
from arcinvert.formats.scaling import take_scaling
from arcinvert.formats.values import IMAGE_SIZE

SIZES = (IMAGE_SIZE, (160, 160), (224, 224), (96, 96), (128, 128), (150, 150))
"""Heights and widths that are tried, in this order, where the file names none."""


@dataclass(frozen=True)
class ImageInput:
    """The image input of a graph.

    Attributes:
        name: of the input.
        batch: the number of images if the file fixes it.
        sizes: heights and widths that it may have.
        last: whether channels come last.
        kind: type of its elements, a number of TensorProto.
    """

    name: str
    batch: int | None
    sizes: tuple[tuple[int, int], ...]
    last: bool
    kind: int


def image_input(graph: Any, path: Path) -> ImageInput:
    """Find the image input.

    Raises:
        CheckpointError: several inputs, or no image of three channels and a usual size.
    """
    stored = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in stored]
    if len(inputs) != 1:
        raise CheckpointError(f"expected one input, an image, got {len(inputs)} in {str(path)!r}")
    found = inputs[0].type.tensor_type
    sizes = [d.dim_value if d.HasField("dim_value") else 0 for d in found.shape.dim]
    shown = tuple(size if size > 0 else "N" for size in sizes)
    last = len(sizes) == 4 and sizes[3] == 3 and sizes[1] != 3
    height, width = sizes[1:3] if last else sizes[2:] if len(sizes) == 4 else (-1, -1)
    possible = tuple(
        size for size in SIZES if all(n <= 0 or n == m for n, m in zip((height, width), size, strict=True))
    )
    if min(height, width) > 0:
        possible = ((height, width),) if MIN_SIDE <= min(height, width) <= max(height, width) <= MAX_SIDE else ()
    if len(sizes) != 4 or (not last and sizes[1] > 0 and sizes[1] != 3) or not possible:
        sides = f"height and width of {MIN_SIDE} to {MAX_SIDE}"
        raise CheckpointError(f"expected an image input (N, 3, H, W) or (N, H, W, 3), {sides}, got {shown}")
    return ImageInput(inputs[0].name, sizes[0] if sizes[0] > 0 else None, possible, last, found.elem_type)


def contract(builder: Builder, kind: int) -> tuple[float, float, str, str]:
    """Mean and std of an image in [0, 1], their origin, and the range of the file's own input.

    The origin is ``in the graph`` or ``assumed``; the range is ``0..255``, ``0..1`` or ``-1..1``.

    As in insightface, a graph that begins with arithmetic scales raw pixels itself, and any other expects
    ``(x - 127.5) / 127.5``. In addition, a graph whose arithmetic enlarges its input expects images in
    [0, 1], and an integer input expects raw pixels.
    """
    mean, std = take_scaling(builder)
    if (mean, std) != (0.0, 1.0):
        unit = 1 if std < 1 or (std == 1 and abs(mean) <= 1) else 255
        return mean / unit, std / unit, "in the graph", "0..1" if unit == 1 else "0..255"
    raw = kind in INTEGER_TYPES
    images = {IMAGE}
    for step in builder.steps:
        if not images & set(step["inputs"]) or step["op"] == "repeat":
            continue
        if step["op"] == "transpose":
            images.add(step["output"])
        if step["op"] in ("add", "sub", "mul", "div"):
            numbers = [builder.known(value) for value in step["inputs"] if value in builder.constants]
            small = all(float(number.abs().max()) <= 1 for number in numbers)
            if small and step["op"] in ("add", "sub"):
                # One number per color: the mean of images in [0, 1] is below 1, that of raw pixels above.
                return 0.0, 1.0, "in the graph", "0..1"
            return 0.0, 1 / 255, "in the graph", "0..255"
        if step["op"] == "batch_norm":
            raw = raw or bool(builder.weights[f"layers.{step['output']}.running_var"].max() > 1)
    return (0.0, 1 / 255, "in the graph", "0..255") if raw else (0.5, 0.5, "assumed", "-1..1")
