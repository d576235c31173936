"""How large a step of a :class:`~arcinvert.backbones.graph.Graph` would be, without running it."""

import math
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

MAX_ELEMENTS = 1 << 26
"""Elements of one value, for a few images; an IResNet at 112x112 has at most 800 thousand per image."""
MAX_WEIGHTS = 1 << 29
"""Elements of all weights together; an IResNet-200 has 118 million."""
SIZES = ("in_channels", "out_channels", "in_features", "out_features", "num_features", "num_parameters")
"""Settings of layers that are a number of channels or features."""


def most_elements(op: str, settings: Mapping[str, Any], shapes: Sequence[Sequence[int]]) -> int:
    """An upper bound of the elements of a step's result, from the shapes of its inputs, without running it."""
    first = list(shapes[0]) if shapes else []
    if op == "constant":
        return math.prod(_integer(size) for size in settings["shape"])
    if op == "conv":
        padding = settings.get("padding", 0)
        pads = [0 if isinstance(padding, str) else abs(p) for p in _pair(padding)]
        maps = [n + 2 * p for n, p in zip(first[-2:], pads, strict=True)]
        steps = [max(1, abs(s)) for s in _pair(settings.get("stride", 1))]
        outputs = abs(_integer(settings["out_channels"]))
        return math.prod(first[:-3]) * outputs * math.prod(n // s + 1 for n, s in zip(maps, steps, strict=True))
    if op == "linear":
        return math.prod(first[:-1]) * abs(_integer(settings["out_features"]))
    if op == "pad":
        added = [
            abs(_integer(a)) + abs(_integer(b)) for a, b in zip(settings["before"], settings["after"], strict=True)
        ]
        return math.prod(n + more for n, more in zip_longest(first, added, fillvalue=1))
    if op == "concat":
        return sum(math.prod(shape) for shape in shapes)
    if op == "repeat" and len(shapes) == 2:
        return math.prod(first) * shapes[1][0]
    if op == "expand":
        return math.prod(_broadcast(first, [max(1, _integer(size)) for size in settings["shape"]]))
    if op == "take":
        return math.prod(first) // max(1, first[_integer(settings["axis"])]) * len(settings["indices"])
    if op == "resize":
        grown = settings["scale"] or [n / max(1, m) for n, m in zip(settings["size"], first[2:], strict=True)]
        return math.prod(first[:2]) * math.prod(int(n * abs(by)) + 1 for n, by in zip(first[2:], grown, strict=True))
    if op == "matmul" and len(shapes) == 2:
        left, right = [1, *shapes[0]], [*shapes[1], 1] if len(shapes[1]) == 1 else list(shapes[1])
        return math.prod(_broadcast(left[:-2], right[:-2])) * left[-2] * math.prod(right[-1:])
    return math.prod(_broadcast(*shapes))


def _broadcast(*shapes: Sequence[int]) -> list[int]:
    return [max(sizes) for sizes in zip_longest(*(list(reversed(shape)) for shape in shapes), fillvalue=1)]


def _integer(number: object) -> int:
    if type(number) is not int:
        raise TypeError(f"expected an integer, got {number!r}")
    return number


def _pair(numbers: Any) -> list[int]:
    if isinstance(numbers, str):
        return [0, 0]
    found = [_integer(number) for number in numbers] if isinstance(numbers, list | tuple) else [_integer(numbers)]
    return found * 2 if len(found) == 1 else found


def count_weights(op: str, settings: Mapping[str, Any]) -> int:
    """The number of weights of a layer, without building it."""
    own = {key: abs(_integer(settings[key])) for key in SIZES if key in settings}
    if op == "conv":
        groups = max(1, abs(_integer(settings.get("groups", 1))))
        window = math.prod(abs(k) for k in _pair(settings["kernel_size"]))
        return own["in_channels"] * own["out_channels"] * window // groups + own["out_channels"]
    if op == "constant":
        return most_elements(op, settings, [])
    return math.prod(own.values()) * 4
