"""ONNX operators that act element by element, and the table of all supported operators."""

from collections.abc import Callable
from typing import Any

from arcinvert.formats.onnx.layers import LAYERS
from arcinvert.formats.onnx.node import OnnxNode, Operator
from arcinvert.formats.onnx.quantized import quantized_operators
from arcinvert.formats.onnx.shapes import SHAPES


def _clip(node: OnnxNode) -> str:
    low = float(node.known(1)) if node.has(1) else node.get("min")
    high = float(node.known(2)) if node.has(2) else node.get("max")
    node.values = node.values[:1]
    if low is None and high is None:
        return node.values[0]
    return node.function("clip", low=low, high=high)


def _many(op: str) -> Callable[[OnnxNode], str]:
    """An operator with any number of inputs: Max, Min and Sum."""

    def apply(node: OnnxNode) -> str:
        value = node.values[0]
        for other in node.values[1:]:
            value = node.builder.function(op, [value, other], node.name)
        return value

    return apply


def _division(node: OnnxNode) -> str:
    if all(
        value in node.builder.constants and not node.known(i).is_floating_point() for i, value in enumerate(node.values)
    ):
        return node.builder.constant(node.known(0) // node.known(1), node.name)
    return _arithmetic("div")(node)


def _softmax(node: OnnxNode) -> str:
    old = node.file.opset < 13
    axis = int(node.get("axis", 1 if old else -1))
    if old and axis not in (-1, len(node.builder.shape(node.values[0])) - 1):
        raise node.unsupported("that flattens its input first")
    return node.function("softmax", dim=axis)


def _unit(node: OnnxNode) -> str:
    settings = {"axes": [int(node.get("axis", -1))], "keepdims": True}
    if int(node.get("p", 2)) != 2:
        raise node.unsupported("of another norm than 2")
    length = node.builder.function("norm", node.values, f"{node.name}_length", **settings)
    return node.builder.function("div", [node.values[0], length], node.name)


def _plain(op: str, **settings: Any) -> Callable[[OnnxNode], str]:
    return lambda node: node.function(op, **settings)


def _with(op: str, **defaults: tuple[str, Any]) -> Callable[[OnnxNode], str]:
    """An operator whose attributes have other names: setting=(attribute, default)."""
    return lambda node: node.function(op, **{k: node.get(name, value) for k, (name, value) in defaults.items()})


def _arithmetic(op: str) -> Callable[[OnnxNode], str]:
    def apply(node: OnnxNode) -> str:
        if node.get("broadcast", 0) and "axis" in node.attributes:
            raise node.unsupported("that broadcasts along an axis, as before opset 7")
        return node.function(op)

    return apply


def _through(node: OnnxNode) -> str:
    return node.values[0]


def _dropout(node: OnnxNode) -> str:
    old = node.file.opset < 7 and not node.get("is_test", 0)
    ratio = float(node.known(1)) if node.has(1) else float(node.get("ratio", 0.5))
    if ratio and (old or (node.has(2) and bool(node.known(2))) or node.get("training_mode", 0)):
        raise node.unsupported("in training mode: the embedding would be random")
    return node.values[0]


OPERATORS: dict[str, Operator] = {
    **LAYERS,
    **SHAPES,
    "Clip": _clip,
    "Add": _arithmetic("add"),
    "Sub": _arithmetic("sub"),
    "Mul": _arithmetic("mul"),
    "Div": _division,
    "Pow": _arithmetic("pow"),
    "Max": _many("max"),
    "Min": _many("min"),
    "Sum": _many("add"),
    "Relu": _plain("relu"),
    "LeakyRelu": _with("leaky_relu", negative_slope=("alpha", 0.01)),
    "Elu": _with("elu", alpha=("alpha", 1.0)),
    "Sigmoid": _plain("sigmoid"),
    "HardSigmoid": _with("hard_sigmoid", alpha=("alpha", 0.2), beta=("beta", 0.5)),
    "HardSwish": _plain("hard_swish"),
    "Softplus": _plain("softplus"),
    "Tanh": _plain("tanh"),
    "Erf": _plain("erf"),
    "Gelu": lambda node: node.function("gelu", approximate=node.get("approximate", b"none").decode()),
    "Exp": _plain("exp"),
    "Log": _plain("log"),
    "Sqrt": _plain("sqrt"),
    "Abs": _plain("abs"),
    "Sin": _plain("sin"),
    "Cos": _plain("cos"),
    "Where": _plain("where"),
    "Neg": _plain("neg"),
    "Reciprocal": _plain("reciprocal"),
    "Softmax": _softmax,
    "LpNormalization": _unit,
    "Identity": _through,
    "Dropout": _dropout,
}
OPERATORS |= quantized_operators(OPERATORS.__getitem__)
"""By ``op_type``; the quantized ones of the domain ``com.microsoft`` too."""
