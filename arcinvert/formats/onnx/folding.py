"""Nodes whose inputs are all constants, such as the arithmetic on shapes that exporters leave in a graph.

They are computed once, at import, by the reference implementation of the package ``onnx``. Only operators of the
table are, each with a bound of its result's size that is checked first.
"""

import math
from collections.abc import Callable
from itertools import zip_longest

import numpy as np
import torch

from arcinvert.backbones.sizes import MAX_ELEMENTS
from arcinvert.formats.onnx.node import OnnxNode


def _broadcast(node: OnnxNode) -> int:
    shapes = [reversed(node.builder.shape(value)) for value in node.values if value]
    return math.prod(max(1, *sizes) for sizes in zip_longest(*shapes, fillvalue=1))


def _expanded(node: OnnxNode) -> int:
    sizes = [abs(size) for size in node.builder.numbers(node.values[1])]
    return math.prod(max(1, *pair) for pair in zip_longest(reversed(sizes), reversed(node.known(0).shape), fillvalue=1))


def _tiled(node: OnnxNode) -> int:
    return node.known(0).numel() * math.prod(abs(n) for n in node.builder.numbers(node.values[1]))


def _range(node: OnnxNode) -> int:
    start, limit, step = (float(node.known(i)) for i in range(3))
    return math.ceil(abs((limit - start) / step)) if step else MAX_ELEMENTS + 1


def _scattered(node: OnnxNode) -> int:
    return node.known(0).numel() + node.known(2).numel()


def _gathered(node: OnnxNode) -> int:
    data = node.known(0).shape
    return node.known(1).numel() * (math.prod(data[1:]) if node.kind == "GatherND" else 1)


_ALIKE = (
    *("Not", "And", "Or", "Xor", "Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Where", "Mod", "Sign"),
    *("Floor", "Ceil", "Round", "CumSum", "ReduceProd", "ReduceMin", "Trilu", "Size", "IsNaN", "IsInf"),
)
FOLDED: dict[str, Callable[[OnnxNode], int]] = {
    **dict.fromkeys(_ALIKE, _broadcast),
    "Expand": _expanded,
    "Tile": _tiled,
    "Range": _range,
    "ScatterND": _scattered,
    "ScatterElements": _scattered,
    "GatherND": _gathered,
    "GatherElements": _gathered,
    "NonZero": lambda node: node.known(0).numel() * max(1, node.known(0).ndim),
}
"""The largest number of elements of the result, by ``op_type``."""


def fold(node: OnnxNode) -> str:
    """Compute a node of :data:`FOLDED` whose inputs are constants; returns the constant."""
    from onnx import TensorProto, helper
    from onnx.reference import ReferenceEvaluator

    if FOLDED[node.kind](node) > MAX_ELEMENTS:
        raise node.unsupported("whose result is larger than an embedder's")
    names = [f"x{i}" if value else "" for i, value in enumerate(node.values)]
    arrays = {name: node.known(i).numpy() for i, name in enumerate(names) if name}
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in arrays]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    inner = helper.make_node(node.kind, names, ["y"], **node.attributes)
    model = helper.make_model(
        helper.make_graph([inner], "constant", inputs, [output]),
        opset_imports=[helper.make_opsetid("", max(7, node.file.opset))],
    )
    with np.errstate(all="ignore"):
        (found,) = ReferenceEvaluator(model).run(None, arrays)
    return node.builder.constant(torch.from_numpy(np.array(found, order="C")), node.name)
