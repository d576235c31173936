"""What each operation of a graph is as ONNX nodes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from arcinvert.formats.export.model import ARITHMETIC, Model
from arcinvert.formats.export.steps import pair


@dataclass(frozen=True)
class Step:
    """A step on its way into nodes: what goes in by its ONNX names, and what everything looks like."""

    model: Model
    name: str
    path: str
    inputs: list[str]
    shown: list[Tensor]
    result: Tensor
    weights: Mapping[str, Tensor]

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Of ``inputs``, or those of the step if none are given."""
        return self.model.node(kind, inputs or self.inputs, self.name, **attributes)

    def weight(self, key: str) -> Tensor:
        return self.weights[f"layers.{self.name}.{key}"]

    def stored(self, *keys: str) -> list[str]:
        """The layer's tensors under their own names."""
        return [self.model.tensor(self.weight(key), f"{self.path}.{key}") for key in keys]

    def numbers(self, key: str, values: Sequence[int]) -> str:
        return self.model.tensor([int(value) for value in values], f"{self.name}.{key}")

    def scalar(self, key: str, value: float) -> str:
        return self.model.tensor(torch.tensor(value, dtype=self.result.dtype), f"{self.name}.{key}")

    def alike(self) -> list[str]:
        """The inputs in the result's type: torch mixes types, ONNX does not."""
        kind = {torch.float32: 1, torch.int64: 7, torch.bool: 9}[self.result.dtype]
        pairs = zip(self.inputs, self.shown, strict=True)
        return [v if s.dtype == self.result.dtype else self.node("Cast", v, to=kind) for v, s in pairs]


def _conv(call: Step, *, kernel_size: Any, stride: Any, padding: Any, dilation: Any, groups: int, **rest: Any) -> str:
    sizes = {"kernel_shape": kernel_size, "strides": stride, "pads": padding * 2, "dilations": dilation}
    return call.node("Conv", *call.inputs, *call.stored("weight", *["bias"] * rest["bias"]), group=groups, **sizes)


def _batch_norm(call: Step, *, num_features: int, eps: float) -> str:
    weights = call.stored("weight", "bias", "running_mean", "running_var")
    return call.node("BatchNormalization", *call.inputs, *weights, epsilon=eps)


def _prelu(call: Step, *, num_parameters: int) -> str:
    slope = call.weight("weight").view(-1, *[1] * (call.result.ndim - 2))
    return call.node("PRelu", *call.inputs, call.model.tensor(slope, f"{call.path}.weight"))


def _linear(call: Step, *, in_features: int, out_features: int, bias: bool) -> str:
    if call.result.ndim == 2:
        return call.node("Gemm", *call.inputs, *call.stored("weight", *["bias"] * bias), transB=1)
    weight = call.model.tensor(call.weight("weight").T, f"{call.path}.weight")
    value = call.node("MatMul", *call.inputs, weight)
    return call.node("Add", value, *call.stored("bias")) if bias else value


def _pool(kind: str) -> Callable[..., str]:
    def write(
        call: Step,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> str:
        own: dict[str, Any] = (
            {"dilations": pair(dilation)} if kind == "MaxPool" else {"count_include_pad": int(count_include_pad)}
        )
        own |= {"kernel_shape": pair(kernel_size), "strides": pair(stride or kernel_size), "pads": pair(padding) * 2}
        return call.node(kind, ceil_mode=int(ceil_mode), **own)

    return write


def _plain(kind: str, **settings: tuple[str, Any]) -> Callable[..., str]:
    """A node whose attributes only have other names: setting=(attribute, torch's default)."""

    def write(call: Step, **given: Any) -> str:
        if not given.keys() <= settings.keys():
            raise TypeError(f"it has the settings {', '.join(given)}")
        found = {name: type(default)(given.get(key, default)) for key, (name, default) in settings.items()}
        return call.node(kind, **found)

    return write


def _mixed(kind: str) -> Callable[..., str]:
    """A node whose inputs must be of one type."""
    return lambda call, **attributes: call.node(kind, *call.alike(), **attributes)


def _reduce(kind: str) -> Callable[..., str]:
    def write(call: Step, axes: Sequence[int], keepdims: bool) -> str:
        axes = [int(axis) for axis in axes] or list(range(call.shown[0].ndim))
        if kind == "ReduceSum":  # the first whose axes became an input
            return call.node(kind, *call.inputs, call.numbers("axes", axes), keepdims=int(keepdims))
        return call.node(kind, axes=axes, keepdims=int(keepdims))

    return write


def _gelu(call: Step, approximate: str = "none") -> str:
    """In parts: the operator came with opset 20."""
    (x,) = call.inputs
    half, one = call.scalar("half", 0.5), call.scalar("one", 1.0)
    if approximate == "none":
        inner = call.node("Erf", call.node("Mul", x, call.scalar("scale", 0.5**0.5)))
    else:
        cube = call.node("Mul", call.node("Pow", x, call.scalar("three", 3.0)), call.scalar("cubic", 0.044715))
        inner = call.node("Mul", call.node("Add", x, cube), call.scalar("scale", (2 / torch.pi) ** 0.5))
        inner = call.node("Tanh", inner)
    return call.node("Mul", call.node("Mul", x, half), call.node("Add", inner, one))


def _clip(call: Step, low: float | None, high: float | None) -> str:
    ends = ["" if end is None else call.scalar(key, end) for key, end in (("low", low), ("high", high))]
    return call.node("Clip", *call.inputs, *ends)


def _pad(call: Step, before: Sequence[int], after: Sequence[int], mode: str, value: float) -> str:
    kind = {"constant": "constant", "reflect": "reflect", "replicate": "edge"}[mode]
    pads = call.numbers("pads", [*before, *after])
    return call.node("Pad", *call.inputs, pads, call.scalar("value", value), mode=kind)


def _slice(call: Step, starts: Sequence[int], ends: Sequence[int], axes: Sequence[int]) -> str:
    parts = {"starts": starts, "ends": ends, "axes": axes}
    return call.node("Slice", *call.inputs, *(call.numbers(key, values) for key, values in parts.items()))


def _listed(kind: str, key: str) -> Callable[..., str]:
    """A node whose one setting, a list of integers, is an input."""
    return lambda call, **settings: call.node(kind, *call.inputs, call.numbers(key, settings[key]))


OPERATORS: dict[str, Callable[..., str]] = {
    **{op: _mixed(kind) for op, kind in ARITHMETIC.items()},
    "conv": _conv,
    "batch_norm": _batch_norm,
    "batch_norm_1d": _batch_norm,
    "prelu": _prelu,
    "linear": _linear,
    "folded_norm": lambda call: call.inputs[0],
    "constant": lambda call, shape, dtype: call.model.tensor(call.weight("value"), call.name),
    "pow": _mixed("Pow"),
    "max": _mixed("Max"),
    "min": _mixed("Min"),
    "matmul": _mixed("MatMul"),
    "concat": _mixed("Concat"),
    "relu": _plain("Relu"),
    "leaky_relu": _plain("LeakyRelu", negative_slope=("alpha", 0.01)),
    "elu": _plain("Elu", alpha=("alpha", 1.0)),
    "sigmoid": _plain("Sigmoid"),
    "tanh": _plain("Tanh"),
    "hard_sigmoid": _plain("HardSigmoid", alpha=("alpha", 0.2), beta=("beta", 0.5)),
    "hard_swish": _plain("HardSwish"),
    "softplus": _plain("Softplus"),
    "gelu": _gelu,
    **{op: _plain(op.capitalize()) for op in ("erf", "exp", "log", "sqrt", "abs", "neg", "reciprocal")},
    "clip": _clip,
    "softmax": _plain("Softmax", dim=("axis", -1)),
    "layer_norm": lambda call, eps: call.node("LayerNormalization", axis=-call.shown[1].ndim, epsilon=eps),
    "mean": _reduce("ReduceMean"),
    "sum": _reduce("ReduceSum"),
    "reduce_max": _reduce("ReduceMax"),
    "norm": _reduce("ReduceL2"),
    "average_pool": _pool("AveragePool"),
    "max_pool": _pool("MaxPool"),
    "pad": _pad,
    "transpose": _plain("Transpose", perm=("perm", [])),
    "reshape": _listed("Reshape", "shape"),
    "flatten": _plain("Flatten", axis=("axis", 1)),
    "squeeze": _listed("Squeeze", "axes"),
    "unsqueeze": _listed("Unsqueeze", "axes"),
    "slice": _slice,
}
"""Operation -> what writes it; the keys of LAYERS and FUNCTIONS."""
