"""ONNX operators that change a shape or type, take parts of a value, or create constants."""

import math

import numpy as np
import torch

from arcinvert.backbones.graph import MAX_ELEMENTS
from arcinvert.formats.onnx.node import INTEGER_TYPES, OnnxNode, Operator


def _pad(node: OnnxNode) -> str:
    pads = node.numbers("pads", 1)
    fill = float(node.known(2)) if node.has(2) else float(node.get("value", 0.0))
    rank = len(node.builder.shape(node.values[0]))
    axes = [a % rank for a in (node.builder.numbers(node.values[3]) if node.has(3) else range(rank))]
    before, after = [0] * rank, [0] * rank
    for axis, low, high in zip(axes, pads[: len(axes)], pads[len(axes) :], strict=True):
        if min(low, high) < 0 or max(low, high) > MAX_ELEMENTS:
            raise node.unsupported(f"by {pads}")
        before[axis], after[axis] = low, high
    modes = {b"constant": "constant", b"reflect": "reflect", b"edge": "replicate"}
    mode = modes.get(node.get("mode", b"constant"))
    if mode is None:
        raise node.unsupported(f"of the mode {node.get('mode')!r}")
    node.values = node.values[:1]
    return node.function("pad", before=before, after=after, mode=mode, value=fill)


def _reshape(node: OnnxNode) -> str:
    shape = node.numbers("shape", 1)
    if node.get("allowzero", 0) and 0 in shape:
        raise node.unsupported(f"to an empty {tuple(shape)}")
    return node.builder.reshape(node.values[0], shape, node.name, batch=node.file.batch)


def _flatten(node: OnnxNode) -> str:
    return node.function("flatten", axis=int(node.get("axis", 1)))


def _shape(node: OnnxNode) -> str:
    # The shape of the example; a reshape treats the example's batch size as the batch.
    shape = node.builder.shape(node.values[0])[int(node.get("start", 0)) : node.get("end")]
    return node.builder.constant(torch.tensor(shape, dtype=torch.int64), node.name)


def _gather(node: OnnxNode) -> str:
    indices, axis = node.known(1).long(), int(node.get("axis", 0))
    if node.values[0] not in node.builder.constants:
        if indices.ndim:
            raise node.unsupported(f"of {indices.numel()} places of a value that depends on the image")
        start, node.values = int(indices), node.values[:1]
        node.values = [node.function("slice", starts=[start], ends=[start + 1 or 1 << 31], axes=[axis])]
        return node.function("squeeze", axes=[axis])
    data = node.known(0)
    if data.numel() * indices.numel() > MAX_ELEMENTS * max(1, data.shape[axis]):
        raise node.unsupported(f"of {indices.numel()} places")
    taken = np.take(data.numpy(), indices.numpy(), axis=axis)
    return node.builder.constant(torch.from_numpy(np.ascontiguousarray(taken)).reshape(taken.shape), node.name)


def _constant(node: OnnxNode) -> str:
    if "value" in node.attributes:
        return node.builder.constant(node.tensor("value"), node.name)
    kind, value = next(iter(node.attributes.items()), ("none", None))
    if kind not in ("value_float", "value_floats", "value_int", "value_ints"):
        raise node.unsupported(f"of the kind {kind!r}")
    return node.builder.constant(torch.tensor(value), node.name)


def _filled(node: OnnxNode) -> str:
    value = node.tensor("value") if "value" in node.attributes else torch.zeros(1)
    sizes = node.builder.numbers(node.values[0])
    if math.prod(sizes) > MAX_ELEMENTS or max(sizes, default=0) > MAX_ELEMENTS or min(sizes, default=0) < 0:
        raise node.unsupported(f"that asks for a tensor of {sizes[:8]}")
    value = value.float() if value.is_floating_point() else value.long()
    # An expanded view of one number: a large constant takes no memory.
    return node.builder.constant(value.reshape(1).expand(sizes or [1]).reshape(sizes), node.name)


def _cast(node: OnnxNode) -> str:
    # Half precision is widened everywhere; integers occur in shapes only.
    if node.values[0] not in node.builder.constants:
        if int(node.attributes["to"]) in INTEGER_TYPES:
            raise node.unsupported("that converts the image to integers")
        return node.values[0]
    known = node.known(0)
    return node.builder.constant(
        known.long() if int(node.attributes["to"]) in INTEGER_TYPES else known.float(), node.name
    )


def _slice(node: OnnxNode) -> str:
    starts, ends = node.numbers("starts", 1), node.numbers("ends", 2)
    axes = node.numbers("axes", 3, list(range(len(starts))))
    steps = node.builder.numbers(node.values[4]) if node.has(4) else [1] * len(starts)
    value = node.values[0]
    if any(step != 1 for step in steps):
        if value not in node.builder.constants:
            raise node.unsupported(f"of steps {steps}")
        array = node.known(0).numpy()
        for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
            end_ = None if step < 0 and end <= -(1 << 31) else end
            array = np.take(array, range(*slice(start, end_, step).indices(array.shape[axis])), axis)
        return node.builder.constant(torch.from_numpy(np.ascontiguousarray(array)), node.name)
    node.values = [value]
    return node.function("slice", starts=starts, ends=ends, axes=axes)


def _split(node: OnnxNode) -> list[str]:
    axis = int(node.get("axis", 0))
    size = node.builder.shape(node.values[0])[axis]
    parts = node.numbers("split", 1)
    if parts is None:
        count = int(node.get("num_outputs", node.outputs))
        each = -(-size // count)
        parts = [min(each, size - each * i) for i in range(count)]
    if sum(parts) != size or min(parts) < 0 or len(parts) != node.outputs:
        raise node.unsupported(f"of {size} into {parts}, with {node.outputs} outputs")
    node.values, found, start = node.values[:1], [], 0
    for part in parts:
        found.append(node.function("slice", starts=[start], ends=[start + part], axes=[axis]))
        start += part
    return found


def _squeeze(node: OnnxNode) -> str:
    shape = node.builder.shape(node.values[0])
    axes = node.numbers("axes", 1, [i for i, size in enumerate(shape) if size == 1])
    node.values = node.values[:1]
    return node.function("squeeze", axes=axes)


def _unsqueeze(node: OnnxNode) -> str:
    axes = node.numbers("axes", 1)
    node.values = node.values[:1]
    return node.function("unsqueeze", axes=axes)


def _transpose(node: OnnxNode) -> str:
    rank = len(node.builder.shape(node.values[0]))
    return node.function("transpose", perm=list(node.get("perm", range(rank - 1, -1, -1))))


SHAPES: dict[str, Operator] = {
    "Pad": _pad,
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Transpose": _transpose,
    "Concat": lambda node: node.function("concat", axis=int(node.attributes["axis"])),
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Cast": _cast,
    "Constant": _constant,
    "ConstantOfShape": _filled,
    "Shape": _shape,
    "Gather": _gather,
}
