"""Operators of int8 graphs: quantize and dequantize (QDQ), and operators on quantized values (QLinear...).

Weights and scales become constants in single precision. Values between quantized operators stay whole numbers, and so
do the sums of a convolution or product, which single precision holds exactly up to 2^24: they do not depend on the
order of addition, so an embedding does not depend on the batch. The gradient goes straight through the rounding.
Dynamic quantization takes its scales of the values themselves: here of each image, as if it were alone in its batch.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from arcinvert.formats.onnx.node import OnnxNode, Operator
from arcinvert.formats.values import BATCH, OTHER_BATCH

RANGES = {torch.uint8: (0, 255), torch.int8: (-128, 127), torch.uint16: (0, 65535), torch.int16: (-32768, 32767)}
SINGLES = ("Sigmoid", "LeakyRelu", "GlobalAveragePool", "AveragePool", "Softmax", "ReduceMean")
MICROSOFT = ("QGemm", "QLinearAdd", "QLinearMul", "QLinearConcat", *(f"QLinear{kind}" for kind in SINGLES))
"""Operators of the domain ``com.microsoft``."""
_OUTPUT_TYPES = {2: torch.uint8, 3: torch.int8, 4: torch.uint16, 5: torch.int16}
"""By number of TensorProto."""


def _along(node: OnnxNode, value: str, parameter: str, axis: int) -> str:
    """A scale or zero point, of one number or one per index of ``axis``, as it broadcasts with ``value``."""
    if parameter not in node.builder.constants:
        if node.builder.shape(parameter) != (node.builder.shape(value)[0], *[1] * (len(node.builder.shape(value)) - 1)):
            raise node.unsupported(f"with scales {node.builder.shape(parameter)} for {node.builder.shape(value)}")
        return parameter
    rank, numbers = len(node.builder.shape(value)), node.builder.known(parameter).float()
    if numbers.numel() > 1:
        if numbers.ndim != 1 or not -rank <= axis < rank or len(numbers) != node.builder.shape(value)[axis]:
            raise node.unsupported(f"with {tuple(numbers.shape)} scales for {node.builder.shape(value)}, axis {axis}")
        numbers = numbers.reshape([-1 if i == axis % rank else 1 for i in range(rank)])
    else:
        numbers = numbers.reshape(())
    return node.builder.constant(numbers, f"{node.name}_along")


def _whole(node: OnnxNode, value: str, zero: str, axis: int = 1) -> str:
    """A quantized value less its zero point: whole numbers, in single precision."""
    if not zero or (zero in node.builder.constants and not bool(node.builder.known(zero).any())):
        return value
    return node.builder.function("sub", [value, _along(node, value, zero, axis)], f"{node.name}_whole")


def _dequantized(node: OnnxNode, values: Sequence[str], axis: int = 1) -> str:
    """A float value of a quantized one, its scale and its zero point."""
    value, scale, zero = values
    value = _whole(node, value, zero, axis)
    found = node.builder.function("mul", [value, _along(node, value, scale, axis)], f"{node.name}_float")
    if scale in node.builder.constants:
        if all(not name or node.builder.known(name).numel() == 1 for name in values[1:]):
            node.builder.stored[found] = (values[0], scale, zero)
        node.builder.dequantized[found] = (value, scale, axis)
    return found


def _quantized(node: OnnxNode, value: str, scale: str, zero: str, axis: int = 1) -> str:
    kind = node.builder.kinds.get(zero) if zero else _OUTPUT_TYPES.get(int(node.get("output_dtype", 2)))
    if kind not in RANGES:
        raise node.unsupported(f"to {str(kind).removeprefix('torch.')}, expected int8, uint8, int16 or uint16")
    low, high = RANGES[kind]
    zero = zero or node.builder.constant(torch.zeros(()), f"{node.name}_zero")
    if bool((node.builder.known(scale) == 0).any()):
        raise node.unsupported("with a scale of 0")
    if (found := node.builder.dequantized.get(value)) and node.builder.known(scale).numel() == 1:
        value, scale = _scaled(node, *found, scale), node.builder.constant(torch.ones(()))
    parameters = [_along(node, value, parameter, axis) for parameter in (scale, zero)]
    if value in node.builder.sums and node.builder.known(scale).numel() == node.builder.known(zero).numel() == 1:
        value = _added(node, node.builder.sums[value], parameters)
        parameters = [node.builder.constant(number) for number in (torch.ones(()), torch.zeros(()))]
    return node.builder.function("quantize", [value, *parameters], node.name, low=low, high=high)


def _at(node: OnnxNode, position: int) -> str:
    return node.values[position] if node.has(position) else ""


def _dequantize(node: OnnxNode) -> str:
    if node.get("block_size", 0):
        raise node.unsupported("with a scale per block")
    return _dequantized(node, [_at(node, i) for i in range(3)], int(node.get("axis", 1)))


def _quantize(node: OnnxNode) -> str:
    if node.get("block_size", 0):
        raise node.unsupported("with a scale per block")
    return _quantized(node, node.values[0], node.values[1], _at(node, 2), int(node.get("axis", 1)))


def _inner(node: OnnxNode, kind: str, values: list[str], apply: Operator) -> str:
    """The result of an operator on dequantized values."""
    inner = OnnxNode(node.file, node.builder, kind, values, node.attributes, f"{node.name}_exact", 1)
    found = apply(inner)
    return found if isinstance(found, str) else found[0]


def _accumulated(
    node: OnnxNode, kind: str, apply: Operator, values: list[str], scales: Sequence[str], axis: int = 1
) -> str:
    """A product of whole numbers, which single precision adds up exactly in any order, in units of the result.

    Args:
        node: the quantized operator.
        kind: the operator on whole numbers.
        apply: adds it.
        values: its inputs.
        scales: of both factors and, where the result is quantized, of the result.
        axis: of the result that a scale per channel belongs to.
    """
    found = _inner(node, kind, values, apply)
    unit = node.builder.constant(_unit(node, *scales[:2]))
    return _scaled(node, found, unit, axis, scales[2] if len(scales) > 2 else "")


def _unit(node: OnnxNode, first: str, second: str) -> Tensor:
    """The product of two scales, flat."""
    return node.builder.known(first).float().flatten() * node.builder.known(second).float().flatten()


def _scaled(node: OnnxNode, value: str, unit: str, axis: int, result: str) -> str:
    """Whole numbers, times their unit, over the scale of the result: one factor, as onnxruntime has it."""
    factor = node.builder.known(unit)
    factor = factor / node.builder.known(result).float() if result else factor
    along = _along(node, value, node.builder.constant(factor), axis)
    found = node.builder.function("mul", [value, along], f"{node.name}_scaled")
    if not result:
        node.builder.dequantized[found] = (value, unit, axis)
    return found


def _rounded(node: OnnxNode, value: str, zero: str) -> str:
    """A value in units of its own scale, as whole numbers of the type of ``zero``."""
    return _quantized(node, value, node.builder.constant(torch.ones(())), zero)


def _convolution(apply: Operator) -> Operator:
    """``x, its scale and zero, w, ..., scale and zero of the result, bias in units of both scales``."""

    def quantized(node: OnnxNode) -> str:
        x, xs, xz, w, ws, wz, ys, yz = node.values[:8]
        values = [_whole(node, x, xz), _whole(node, w, wz, axis=0), *node.values[8:9]]
        return _rounded(node, _accumulated(node, "Conv", apply, values, [xs, ws, ys]), yz)

    return quantized


def _exact_convolution(apply: Operator) -> Operator:
    """A convolution of dequantized values, as graphs of QDQ have it, on their whole numbers."""

    def convolution(node: OnnxNode) -> str | list[str]:
        x, w = (node.builder.dequantized.get(value) for value in node.values[:2])
        if x is None or w is None or node.builder.known(x[1]).numel() > 1:
            return apply(node)
        if node.builder.known(w[1]).numel() > 1 and w[2] != 0:
            return apply(node)
        scales, added = [x[1], w[1]], node.builder.dequantized.get(_at(node, 2))
        if added and torch.equal(node.builder.known(added[1]).flatten(), _unit(node, *scales)):
            return _accumulated(node, "Conv", apply, [x[0], w[0], added[0]], scales)
        found = _accumulated(node, "Conv", apply, [x[0], w[0]], scales)
        if not node.has(2):
            return found
        bias = node.builder.constant(node.known(2).reshape(-1, 1, 1), f"{node.name}_bias")
        return node.builder.function("add", [found, bias], f"{node.name}_biased")

    return convolution


def _exact_sum(apply: Operator) -> Operator:
    """A sum of dequantized values, as graphs of QDQ and QLinearAdd have it."""

    def added(node: OnnxNode) -> str | list[str]:
        found = apply(node)
        if isinstance(found, str) and all(value in node.builder.stored for value in node.values):
            node.builder.sums[found] = (node.values[0], node.values[1])
        return found

    return added


def _added(node: OnnxNode, parts: tuple[str, str], parameters: Sequence[str]) -> str:
    """A sum in units of its result, zero point included, in onnxruntime's order, which decides where ties go."""
    scale, fixed = (node.builder.known(name) for name in parameters)
    found = []
    for part in parts:
        value, own, shift = node.builder.stored[part]
        ratio = node.builder.known(own).float().reshape(()) / scale
        if shift:
            fixed = fixed - ratio * node.builder.known(shift).float().reshape(())
        found.append(node.builder.function("mul", [value, node.builder.constant(ratio)], f"{node.name}_part"))
    second = node.builder.function("add", [found[1], node.builder.constant(fixed)], f"{node.name}_shifted")
    return node.builder.function("add", [found[0], second], f"{node.name}_sum")


def _product(apply: Operator) -> Operator:
    def quantized(node: OnnxNode) -> str:
        a, as_, az, b, bs, bz, ys, yz = node.values[:8]
        values = [_whole(node, a, az, axis=-2), _whole(node, b, bz, axis=-1)]
        if node.builder.known(as_).numel() > 1:
            raise node.unsupported("with a scale per row")
        return _rounded(node, _accumulated(node, "MatMul", apply, values, [as_, bs, ys], axis=-1), yz)

    return quantized


def _dynamic(node: OnnxNode) -> list[str]:
    """Whole numbers from 0 to 255, their scale and their zero point, of each image."""
    x = node.values[0]
    one, two = node.builder.shape(x), node.builder.other_shape(x)
    if x in node.builder.constants or not one or one[0] * OTHER_BATCH != two[0] * BATCH or one[1:] != two[1:]:
        raise node.unsupported(f"of {one}, whose first dimension is not the images'")
    rows = one[0] // BATCH
    scale = node.builder.function("dynamic_scale", [x], f"{node.name}_scale", rows=rows)
    zero = node.builder.function("dynamic_zero", [x, scale], f"{node.name}_zero", rows=rows)
    low, high = RANGES[torch.uint8]
    return [node.builder.function("quantize", [x, scale, zero], node.name, low=low, high=high), scale, zero]


def _integers(kind: str, axes: tuple[int, int], apply: Operator) -> Operator:
    """``a, b, zero of a, zero of b``: the product of the whole numbers; ``axes`` are those of a zero per channel."""

    def product(node: OnnxNode) -> str:
        pairs = zip(node.values[:2], (_at(node, 2), _at(node, 3)), axes, strict=True)
        return _inner(node, kind, [_whole(node, value, zero, axis) for value, zero, axis in pairs], apply)

    return product


def _gemm(apply: Operator) -> Operator:
    def quantized(node: OnnxNode) -> str:
        a, as_, az, b, bs, bz = node.values[:6]
        values = [_whole(node, a, az), _whole(node, b, bz, axis=0 if node.get("transB", 0) else 1)]
        values += node.values[6:7] if node.has(6) else []
        scales = [as_, bs, *(node.values[7:8] if node.has(7) else [])]
        found = _accumulated(node, "Gemm", apply, values, scales)
        return _rounded(node, found, _at(node, 8)) if node.has(7) else found

    return quantized


def _pair(apply: Operator) -> Operator:
    """``a, its scale and zero, b, its scale and zero, scale and zero of the result``."""

    def quantized(node: OnnxNode) -> str:
        values = [_dequantized(node, node.values[0:3]), _dequantized(node, node.values[3:6])]
        return _quantized(
            node, _inner(node, node.kind.removeprefix("QLinear"), values, apply), node.values[6], _at(node, 7)
        )

    return quantized


def _single(apply: Operator) -> Operator:
    """``x, its scale and zero, scale and zero of the result``."""

    def quantized(node: OnnxNode) -> str:
        if node.get("channels_last", 0):
            raise node.unsupported("with channels last")
        x = _dequantized(node, node.values[0:3])
        kind = node.kind.removeprefix("QLinear")
        return _quantized(node, _inner(node, kind, [x], apply), node.values[3], _at(node, 4))

    return quantized


def _concat(node: OnnxNode) -> str:
    values = [_dequantized(node, node.values[i : i + 3]) for i in range(2, len(node.values), 3)]
    found = node.builder.concat(values, int(node.attributes["axis"]), f"{node.name}_exact", batch=node.file.batch)
    return _quantized(node, found, node.values[0], node.values[1])


def quantized_operators(exact: Callable[[str], Operator]) -> dict[str, Operator]:
    """The operators by ``op_type``, those of ``com.microsoft`` too; ``exact`` gives the operator on exact values."""
    return {
        "QuantizeLinear": _quantize,
        "DequantizeLinear": _dequantize,
        "Conv": _exact_convolution(exact("Conv")),
        "QLinearConv": _convolution(exact("Conv")),
        "QLinearMatMul": _product(exact("MatMul")),
        "DynamicQuantizeLinear": _dynamic,
        "ConvInteger": _integers("Conv", (1, 0), exact("Conv")),
        "MatMulInteger": _integers("MatMul", (-2, -1), exact("MatMul")),
        "QGemm": _gemm(exact("Gemm")),
        "Add": _exact_sum(exact("Add")),
        "QLinearAdd": _pair(_exact_sum(exact("Add"))),
        "QLinearMul": _pair(exact("Mul")),
        "QLinearConcat": _concat,
        **{f"QLinear{kind}": _single(exact(kind)) for kind in SINGLES},
    }
