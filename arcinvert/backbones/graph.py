"""A network as a list of steps, for imported graphs whose layout is not one of ours.

A step is a mapping ``{"op", "inputs", "output"}``, with ``settings`` where the operation has any.
``inputs`` name the outputs of earlier steps, or ``image``. Operations with weights are layers of
torch, named after their step; the others are functions. The list is plain JSON, so it is stored in
the header of a checkpoint, and running it needs nothing of the foreign format.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

IMAGE = "image"
MAX_ELEMENTS = 1 << 26
"""Elements of one value, for a few images; an IResNet at 112x112 has at most 800 thousand per image."""
MAX_WEIGHTS = 1 << 29
"""Elements of all weights together; an IResNet-200 has 118 million."""
TORCH_ERRORS = (RuntimeError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError, AssertionError)
"""The exceptions that torch raises where settings or shapes do not fit."""
_NOT_SETTINGS = {"inplace", "out", "device"}
_SIZES = ("in_channels", "out_channels", "in_features", "out_features", "num_features", "num_parameters")
_DTYPES = {"float32": torch.float32, "int64": torch.int64, "bool": torch.bool}


class FoldedNorm(nn.Module):
    """An identity that marks where a BatchNorm was folded into the convolution before it.

    It stores no statistics; a calibration can provide them.
    """

    def forward(self, x: Tensor) -> Tensor:
        return x


class Constant(nn.Module):
    """A stored tensor."""

    def __init__(self, shape: Sequence[int], dtype: str = "float32") -> None:
        super().__init__()
        self.value: Tensor
        self.register_buffer("value", torch.zeros(tuple(shape), dtype=_DTYPES[dtype]))

    def forward(self) -> Tensor:
        return self.value


LAYERS: dict[str, Callable[..., nn.Module]] = {
    "conv": nn.Conv2d,
    "batch_norm": nn.BatchNorm2d,
    "batch_norm_1d": nn.BatchNorm1d,
    "prelu": nn.PReLU,
    "linear": nn.Linear,
    "folded_norm": FoldedNorm,
    "constant": Constant,
}
"""Operations with weights, or with statistics kept under their name."""


def _reduced(reduce: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda x, axes, keepdims: reduce(x, dim=tuple(axes), keepdim=keepdims)


def _reshape(x: Tensor, shape: Sequence[int]) -> Tensor:
    """A reshape in which 0 keeps the size of that dimension, as in ONNX."""
    return x.reshape([x.shape[i] if size == 0 else size for i, size in enumerate(shape)])


def _flatten(x: Tensor, axis: int) -> Tensor:
    """A reshape to two dimensions, split before ``axis``."""
    return x.flatten(1) if axis == 1 else x.reshape(x.shape[:axis].numel(), -1)


def _pad(x: Tensor, before: Sequence[int], after: Sequence[int], mode: str, value: float) -> Tensor:
    """A padding whose ``before`` and ``after`` have one number per dimension."""
    pairs = [number for pair in zip(reversed(before), reversed(after), strict=True) for number in pair]
    if mode != "constant":
        while len(pairs) > 2 * (x.ndim - 2) and not any(pairs[-2:]):
            pairs = pairs[:-2]  # torch reflects and replicates the trailing dimensions only
        return F.pad(x, pairs, mode=mode)
    return F.pad(x, pairs, value=value)


def _slice(x: Tensor, starts: Sequence[int], ends: Sequence[int], axes: Sequence[int]) -> Tensor:
    for start, end, axis in zip(starts, ends, axes, strict=True):
        begin, stop, _ = slice(start, end).indices(x.shape[axis])
        x = x.narrow(axis, begin, max(0, stop - begin))
    return x


def _squeeze(x: Tensor, axes: Sequence[int]) -> Tensor:
    return x.squeeze(tuple(axes))


def _unsqueeze(x: Tensor, axes: Sequence[int]) -> Tensor:
    for axis in sorted(axis % (x.ndim + len(axes)) for axis in axes):
        x = x.unsqueeze(axis)
    return x


def _layer_norm(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, eps: float) -> Tensor:
    return F.layer_norm(x, weight.shape, weight, bias, eps)


def _clip(x: Tensor, low: float | None, high: float | None) -> Tensor:
    return x.clamp(low, high)


FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "div": torch.div,
    "pow": torch.pow,
    "max": torch.maximum,
    "min": torch.minimum,
    "matmul": torch.matmul,
    "relu": F.relu,
    "leaky_relu": F.leaky_relu,
    "elu": F.elu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "hard_sigmoid": lambda x, alpha, beta: (alpha * x + beta).clamp(0, 1),
    "hard_swish": F.hardswish,
    "softplus": F.softplus,
    "gelu": F.gelu,
    "erf": torch.erf,
    "exp": torch.exp,
    "log": torch.log,
    "sqrt": torch.sqrt,
    "abs": torch.abs,
    "neg": torch.neg,
    "reciprocal": torch.reciprocal,
    "clip": _clip,
    "softmax": F.softmax,
    "layer_norm": _layer_norm,
    "mean": _reduced(torch.mean),
    "sum": _reduced(torch.sum),
    "reduce_max": _reduced(torch.amax),
    "norm": _reduced(torch.linalg.vector_norm),
    "average_pool": F.avg_pool2d,
    "max_pool": F.max_pool2d,
    "pad": _pad,
    "transpose": lambda x, perm: x.permute(tuple(perm)),
    "reshape": _reshape,
    "flatten": _flatten,
    "squeeze": _squeeze,
    "unsqueeze": _unsqueeze,
    "slice": _slice,
    "concat": lambda *parts, axis: torch.cat(parts, axis),
}
"""Operations without weights: tensors first, settings by name."""


class Graph(nn.Module):
    """The steps, run in order.

    Args:
        steps: see the module.
        output: the step whose result, (B, D), the network returns.

    Raises:
        ValueError: an unknown operation, an input that no earlier step computes, or settings that do not fit.
    """

    def __init__(self, *, steps: Sequence[Mapping[str, Any]], output: str) -> None:
        super().__init__()
        self.embedding_size = 0  # set once :func:`graph` has run the steps
        self.output = output
        self.layers = nn.ModuleDict()
        self.steps: list[tuple[str, tuple[str, ...], str, dict[str, Any]]] = []
        known = {IMAGE}
        for step in steps:
            op, inputs, name = step["op"], tuple(step["inputs"]), step["output"]
            settings = dict(step.get("settings", {}))
            if op not in LAYERS and op not in FUNCTIONS:
                raise ValueError(f"{op!r} is not an operation")
            if not set(inputs) <= known or name in known or not isinstance(name, str):
                raise ValueError(f"step {name!r} is out of order")
            known.add(name)
            foreign = settings.keys() & (_NOT_SETTINGS if op == "constant" else {*_NOT_SETTINGS, "dtype"})
            if foreign or any(settings.get(key) == 0 for key in _SIZES):
                raise ValueError(f"step {name!r} has settings that do not fit: {settings}")
            if op in LAYERS:
                self.layers[name] = LAYERS[op](**settings)
                settings = {}
            self.steps.append((op, inputs, name, settings))
        if output not in known:
            raise ValueError(f"no step computes the output {output!r}")
        last = {name: number for number, step in enumerate(self.steps) for name in step[1]}
        self.spent = [
            [name for name in {*step[1], step[2]} if last.get(name, n) == n] for n, step in enumerate(self.steps)
        ]

    def forward(self, x: Tensor) -> Tensor:
        """What ``image`` is -> (B, D)."""
        found = x
        for name, value in self.values(x):
            if name == self.output:
                found = value
        return found

    def values(self, x: Tensor, before: Callable[[str], None] | None = None) -> Iterator[tuple[str, Tensor]]:
        """The result of each step by its name, in order; nothing is kept longer than a later step needs it.

        Args:
            x: what ``image`` is.
            before: called with the name of each step before it is run.
        """
        values = {IMAGE: x}
        for (op, inputs, name, settings), spent in zip(self.steps, self.spent, strict=True):
            if before is not None:
                before(name)
            arguments = [values[key] for key in inputs]
            if op in LAYERS:
                values[name] = self.layers[name](*arguments)
            else:
                values[name] = FUNCTIONS[op](*arguments, **settings)
            yield name, values[name]
            for key in spent:
                del values[key]


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


def _count_weights(op: str, settings: Mapping[str, Any]) -> int:
    """The number of weights of a layer, without building it."""
    own = {key: abs(_integer(settings[key])) for key in _SIZES if key in settings}
    if op == "conv":
        groups = max(1, abs(_integer(settings.get("groups", 1))))
        window = math.prod(abs(k) for k in _pair(settings["kernel_size"]))
        return own["in_channels"] * own["out_channels"] * window // groups + own["out_channels"]
    if op == "constant":
        return most_elements(op, settings, [])
    return math.prod(own.values()) * 4


def graph(**settings: Any) -> Graph:
    """Build a network from its steps and run it on two images; one that needs more memory than an embedder is refused.

    Raises:
        ValueError: the steps do not fit each other or (B, 3, 112, 112), or are too large.
    """
    name = IMAGE
    try:
        weights = sum(_count_weights(step["op"], step.get("settings", {})) for step in settings.get("steps", []))
        if weights > MAX_WEIGHTS:
            raise ValueError(f"it has {weights} weights, expected at most {MAX_WEIGHTS}")
        network = Graph(**settings).eval()
        made = {step["output"]: step for step in settings["steps"]}
        shapes: dict[str, tuple[int, ...]] = {IMAGE: (2, 3, 112, 112)}
        found = torch.zeros(shapes[IMAGE])
        with torch.no_grad():
            for name, value in network.values(found, partial(_allow, made, shapes)):
                shapes[name] = tuple(value.shape)
                found = value if name == network.output else found
    except TORCH_ERRORS as error:
        raise ValueError(f"at step {name!r}: {' '.join(str(error).split())}") from None
    if found.ndim != 2 or len(found) != 2 or not found.is_floating_point():
        raise ValueError(f"expected a vector per image, got {tuple(found.shape)}")
    network.embedding_size = found.shape[1]
    return network.train()


def _allow(made: Mapping[str, Mapping[str, Any]], shapes: Mapping[str, Sequence[int]], name: str) -> None:
    step = made[name]
    numbers = most_elements(step["op"], step.get("settings", {}), [shapes[value] for value in step["inputs"]])
    if numbers > MAX_ELEMENTS:
        raise ValueError(f"the result of step {name!r} has {numbers} elements, more than an embedder's")
