"""ONNX operators that change a shape or type, take parts of a value, or create constants."""

import math

import numpy as np
import torch
from torch import Tensor

from arcinvert.backbones.sizes import MAX_ELEMENTS
from arcinvert.formats.onnx.node import INTEGER_TYPES, OnnxNode, Operator
from arcinvert.formats.values import BATCH

MAX_TAKEN = 4096
"""Places that a Gather takes of a value that depends on the image."""


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
    other = node.other_numbers(1) if "shape" not in node.attributes else shape
    return node.builder.reshape(node.values[0], shape, node.name, batch=node.file.batch, other=other)


def _flatten(node: OnnxNode) -> str:
    return node.function("flatten", axis=int(node.get("axis", 1)))


def _shape(node: OnnxNode) -> str:
    part = slice(int(node.get("start", 0)), node.get("end"))
    shapes = (node.builder.shape(node.values[0])[part], node.builder.other_shape(node.values[0])[part])
    one, two = (torch.tensor(shape, dtype=torch.int64) for shape in shapes)
    return node.builder.constant(one, node.name, other=two)


def _expand(node: OnnxNode) -> str:
    value, batch = node.values[0], node.file.batch
    known, shape, other = node.builder.shape(value), node.numbers("shape", 1), node.other_numbers(1)
    rank = max(len(known), len(shape))
    known = (*[1] * (rank - len(known)), *known)
    shape, other = ([1] * (rank - len(sizes)) + list(sizes) for sizes in (shape, other))
    sizes = []
    for own, one, two in zip(known, shape, other, strict=True):
        same = one in (1, own) or (own == BATCH and one == batch)
        if not same and (own != 1 or one != two):
            raise node.unsupported(f"of {known} to {tuple(shape)}")
        sizes.append(-1 if same else one)
    node.values = node.values[:1]
    if rank > len(node.builder.shape(value)):
        sizes = [own if size == -1 else size for own, size in zip(known, sizes, strict=True)]
    return value if set(sizes) <= {-1} else node.function("expand", shape=sizes)


def _resize(node: OnnxNode) -> str:
    rank = len(node.builder.shape(node.values[0]))
    if rank != 4:
        raise node.unsupported(f"of {rank} dimensions")
    old = node.kind == "Upsample" or node.file.opset < 11  # inputs: X, scales; later X, roi, scales, sizes
    place = 1 if old else 2
    axes = [axis % rank for axis in node.get("axes", range(rank))]
    numbers = node.known(place).tolist() if node.has(place) else node.get("scales", [])
    scales = dict(zip(axes, numbers, strict=False))
    sizes = dict(zip(axes, node.builder.numbers(node.values[3]), strict=False)) if node.has(3) else {}
    if any(scales.get(axis, 1) != 1 for axis in (0, 1)) or (not scales and not sizes):
        raise node.unsupported(f"by {[scales.get(axis, 1) for axis in range(rank)]}")
    mode = node.get("mode", b"nearest").decode()
    place_of = node.get("coordinate_transformation_mode", b"asymmetric" if old else b"half_pixel").decode()
    rounding = node.get("nearest_mode", b"floor" if old else b"round_prefer_floor").decode()
    known = {
        ("nearest", "asymmetric"): ("nearest", None),
        ("linear", "half_pixel"): ("bilinear", False),
        ("linear", "pytorch_half_pixel"): ("bilinear", False),
        ("linear", "align_corners"): ("bilinear", True),
        ("cubic", "half_pixel"): ("bicubic", False),
        ("cubic", "pytorch_half_pixel"): ("bicubic", False),
        ("cubic", "align_corners"): ("bicubic", True),
    }
    found = known.get((mode, place_of))
    policy = node.get("keep_aspect_ratio_policy", b"stretch").decode()
    fits = found and policy == "stretch" and not node.get("antialias", 0) and not node.get("exclude_outside", 0)
    if not found or not fits or (mode == "nearest" and rounding != "floor"):
        raise node.unsupported(f"of the mode {mode}, {place_of}, {rounding}")
    node.values = node.values[:1]
    settings = {"mode": found[0], "align_corners": found[1]}
    if scales:
        return node.function("resize", size=None, scale=[scales.get(axis, 1.0) for axis in (2, 3)], **settings)
    shape = node.builder.shape(node.values[0])
    return node.function("resize", size=[sizes.get(axis, shape[axis]) for axis in (2, 3)], scale=None, **settings)


def _concat(node: OnnxNode) -> str:
    axis = int(node.attributes["axis"])
    return node.builder.concat(node.values, axis, node.name, batch=node.file.batch)


def _in_order(node: OnnxNode, indices: Tensor) -> bool:
    """Whether the places are those of a flattened value in their order, which changes its shape alone.

    The newer exporter writes the ``as_strided`` of torch so, the pooling of a ConvNeXt's head for example.
    """
    shape, other = node.builder.shape(node.values[0]), node.other(1).flatten()
    # A file for one image, or for a fixed number, names the places of those alone.
    numbers = {math.prod(shape), math.prod(shape) // BATCH * (node.file.batch or BATCH)}
    return (
        len(shape) == 1
        and indices.ndim > 1
        and indices.numel() in numbers
        and all(torch.equal(places, torch.arange(len(places))) for places in (indices.flatten(), other))
    )


def _gather(node: OnnxNode) -> str:
    indices, axis = node.known(1).long(), int(node.get("axis", 0))
    if node.values[0] not in node.builder.constants:
        if indices.ndim == 1 and 0 < indices.numel() <= MAX_TAKEN:
            node.values = node.values[:1]
            return node.function("take", indices=indices.tolist(), axis=axis)
        if _in_order(node, indices):
            other = list(node.other(1).shape)
            return node.builder.reshape(
                node.values[0], list(indices.shape), node.name, batch=node.file.batch, other=other
            )
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
    others = ends if "ends" in node.attributes else node.other_numbers(2)
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
    if value not in node.builder.constants:  # the whole of a dimension, which may be the batch
        shape = node.builder.shape(value)
        two, batch = node.builder.other_shape(value), node.file.batch

        def whole(start: int, end: int, other: int, axis: int) -> bool:
            if batch and shape[axis] == BATCH and two[axis] != BATCH:
                return start == 0 and end >= batch  # in a file with a fixed batch, that many are all images
            return start == 0 and end >= shape[axis] and other >= two[axis]

        if len(starts) != len(ends) or len(starts) != len(axes):
            raise node.unsupported(f"that does not fit: from {starts} to {ends}, axes {axes}")
        rows = zip(starts, ends, others, axes, strict=True)
        parts = [(start, end, axis) for start, end, other, axis in rows if not whole(start, end, other, axis)]
        if not parts:
            return value
        starts, ends, axes = (list(numbers) for numbers in zip(*parts, strict=True))
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
    "Concat": _concat,
    "Expand": _expand,
    "Resize": _resize,
    "Upsample": _resize,
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
