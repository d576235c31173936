"""The ONNX operators that go number by number, and the table of all that are known."""

from collections.abc import Callable
from typing import Any

from arcinvert.formats.onnx.layers import LAYERS
from arcinvert.formats.onnx.node import Call, Operator
from arcinvert.formats.onnx.shapes import SHAPES


def _clip(call: Call) -> str:
    low = float(call.known(1)) if call.has(1) else call.get("min")
    high = float(call.known(2)) if call.has(2) else call.get("max")
    call.values = call.values[:1]
    if low is None and high is None:
        return call.values[0]
    return call.function("clip", low=low, high=high)


def _many(op: str) -> Callable[[Call], str]:
    """Max, Min and Sum take any number of inputs."""

    def apply(call: Call) -> str:
        value = call.values[0]
        for other in call.values[1:]:
            value = call.builder.function(op, [value, other], call.name)
        return value

    return apply


def _division(call: Call) -> str:
    if all(
        value in call.builder.constants and not call.known(i).is_floating_point() for i, value in enumerate(call.values)
    ):
        return call.builder.constant(call.known(0) // call.known(1), call.name)
    return _arithmetic("div")(call)


def _softmax(call: Call) -> str:
    old = call.file.opset < 13
    axis = int(call.get("axis", 1 if old else -1))
    if old and axis not in (-1, len(call.builder.shape(call.values[0])) - 1):
        raise call.refuse("that flattens its input first")
    return call.function("softmax", dim=axis)


def _unit(call: Call) -> str:
    settings = {"axes": [int(call.get("axis", -1))], "keepdims": True}
    if int(call.get("p", 2)) != 2:
        raise call.refuse("of another norm than 2")
    length = call.builder.function("norm", call.values, f"{call.name}_length", **settings)
    return call.builder.function("div", [call.values[0], length], call.name)


def _plain(op: str, **settings: Any) -> Callable[[Call], str]:
    return lambda call: call.function(op, **settings)


def _with(op: str, **defaults: tuple[str, Any]) -> Callable[[Call], str]:
    """An operator whose attributes only have other names: setting=(attribute, default)."""
    return lambda call: call.function(op, **{k: call.get(name, value) for k, (name, value) in defaults.items()})


def _arithmetic(op: str) -> Callable[[Call], str]:
    def apply(call: Call) -> str:
        if call.get("broadcast", 0) and "axis" in call.attributes:
            raise call.refuse("that broadcasts along an axis, as before opset 7")
        return call.function(op)

    return apply


def _through(call: Call) -> str:
    return call.values[0]


def _dropout(call: Call) -> str:
    old = call.file.opset < 7 and not call.get("is_test", 0)
    ratio = float(call.known(1)) if call.has(1) else float(call.get("ratio", 0.5))
    if ratio and (old or (call.has(2) and bool(call.known(2))) or call.get("training_mode", 0)):
        raise call.refuse("in training mode: an embedding would be another each time")
    return call.values[0]


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
    "Gelu": lambda call: call.function("gelu", approximate=call.get("approximate", b"none").decode()),
    "Exp": _plain("exp"),
    "Log": _plain("log"),
    "Sqrt": _plain("sqrt"),
    "Abs": _plain("abs"),
    "Neg": _plain("neg"),
    "Reciprocal": _plain("reciprocal"),
    "Softmax": _softmax,
    "LpNormalization": _unit,
    "Identity": _through,
    "Dropout": _dropout,
}
"""By ``op_type``."""
