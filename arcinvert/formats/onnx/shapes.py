"""The ONNX operators that give a value another shape or type, take parts of it, or make constants."""

import math

import numpy as np
import torch

from arcinvert.backbones.graph import LARGEST
from arcinvert.formats.onnx.node import WHOLE, Call, Operator


def _pad(call: Call) -> str:
    pads = call.numbers("pads", 1)
    fill = float(call.known(2)) if call.has(2) else float(call.get("value", 0.0))
    rank = len(call.builder.shape(call.values[0]))
    axes = [a % rank for a in (call.builder.numbers(call.values[3]) if call.has(3) else range(rank))]
    before, after = [0] * rank, [0] * rank
    for axis, low, high in zip(axes, pads[: len(axes)], pads[len(axes) :], strict=True):
        if min(low, high) < 0 or max(low, high) > LARGEST:
            raise call.refuse(f"by {pads}")
        before[axis], after[axis] = low, high
    modes = {b"constant": "constant", b"reflect": "reflect", b"edge": "replicate"}
    mode = modes.get(call.get("mode", b"constant"))
    if mode is None:
        raise call.refuse(f"of the mode {call.get('mode')!r}")
    call.values = call.values[:1]
    return call.function("pad", before=before, after=after, mode=mode, value=fill)


def _reshape(call: Call) -> str:
    shape = call.numbers("shape", 1)
    if call.get("allowzero", 0) and 0 in shape:
        raise call.refuse(f"to an empty {tuple(shape)}")
    return call.builder.reshape(call.values[0], shape, call.name, batch=call.file.batch)


def _flatten(call: Call) -> str:
    return call.function("flatten", axis=int(call.get("axis", 1)))


def _shape(call: Call) -> str:
    # Known with the example's batch; a reshape takes that size for the batch it stands for.
    shape = call.builder.shape(call.values[0])[int(call.get("start", 0)) : call.get("end")]
    return call.builder.constant(torch.tensor(shape, dtype=torch.int64), call.name)


def _gather(call: Call) -> str:
    indices, axis = call.known(1).long(), int(call.get("axis", 0))
    if call.values[0] not in call.builder.constants:
        if indices.ndim:
            raise call.refuse(f"of {indices.numel()} places of a value that depends on the image")
        start, call.values = int(indices), call.values[:1]
        call.values = [call.function("slice", starts=[start], ends=[start + 1 or 1 << 31], axes=[axis])]
        return call.function("squeeze", axes=[axis])
    data = call.known(0)
    if data.numel() * indices.numel() > LARGEST * max(1, data.shape[axis]):
        raise call.refuse(f"of {indices.numel()} places")
    taken = np.take(data.numpy(), indices.numpy(), axis=axis)
    return call.builder.constant(torch.from_numpy(np.ascontiguousarray(taken)).reshape(taken.shape), call.name)


def _constant(call: Call) -> str:
    if "value" in call.attributes:
        return call.builder.constant(call.tensor("value"), call.name)
    kind, value = next(iter(call.attributes.items()), ("none", None))
    if kind not in ("value_float", "value_floats", "value_int", "value_ints"):
        raise call.refuse(f"of the kind {kind!r}")
    return call.builder.constant(torch.tensor(value), call.name)


def _filled(call: Call) -> str:
    value = call.tensor("value") if "value" in call.attributes else torch.zeros(1)
    sizes = call.builder.numbers(call.values[0])
    if math.prod(sizes) > LARGEST or max(sizes, default=0) > LARGEST or min(sizes, default=0) < 0:
        raise call.refuse(f"that wants a tensor of {sizes[:8]}")
    value = value.float() if value.is_floating_point() else value.long()
    # One number seen from everywhere: however many nodes want a large tensor, none takes memory.
    return call.builder.constant(value.reshape(1).expand(sizes or [1]).reshape(sizes), call.name)


def _cast(call: Call) -> str:
    # Half precision is widened everywhere; whole numbers occur in shapes only.
    if call.values[0] not in call.builder.constants:
        if int(call.attributes["to"]) in WHOLE:
            raise call.refuse("that makes whole numbers of the image")
        return call.values[0]
    known = call.known(0)
    return call.builder.constant(known.long() if int(call.attributes["to"]) in WHOLE else known.float(), call.name)


def _slice(call: Call) -> str:
    starts, ends = call.numbers("starts", 1), call.numbers("ends", 2)
    axes = call.numbers("axes", 3, list(range(len(starts))))
    steps = call.builder.numbers(call.values[4]) if call.has(4) else [1] * len(starts)
    value = call.values[0]
    if any(step != 1 for step in steps):
        if value not in call.builder.constants:
            raise call.refuse(f"of steps {steps}")
        array = call.known(0).numpy()
        for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
            end_ = None if step < 0 and end <= -(1 << 31) else end
            array = np.take(array, range(*slice(start, end_, step).indices(array.shape[axis])), axis)
        return call.builder.constant(torch.from_numpy(np.ascontiguousarray(array)), call.name)
    call.values = [value]
    return call.function("slice", starts=starts, ends=ends, axes=axes)


def _split(call: Call) -> list[str]:
    axis = int(call.get("axis", 0))
    size = call.builder.shape(call.values[0])[axis]
    parts = call.numbers("split", 1)
    if parts is None:
        count = int(call.get("num_outputs", call.outputs))
        each = -(-size // count)
        parts = [min(each, size - each * i) for i in range(count)]
    if sum(parts) != size or min(parts) < 0 or len(parts) != call.outputs:
        raise call.refuse(f"of {size} into {parts}, with {call.outputs} outputs")
    call.values, found, start = call.values[:1], [], 0
    for part in parts:
        found.append(call.function("slice", starts=[start], ends=[start + part], axes=[axis]))
        start += part
    return found


def _squeeze(call: Call) -> str:
    shape = call.builder.shape(call.values[0])
    axes = call.numbers("axes", 1, [i for i, size in enumerate(shape) if size == 1])
    call.values = call.values[:1]
    return call.function("squeeze", axes=axes)


def _unsqueeze(call: Call) -> str:
    axes = call.numbers("axes", 1)
    call.values = call.values[:1]
    return call.function("unsqueeze", axes=axes)


def _transpose(call: Call) -> str:
    rank = len(call.builder.shape(call.values[0]))
    return call.function("transpose", perm=list(call.get("perm", range(rank - 1, -1, -1))))


SHAPES: dict[str, Operator] = {
    "Pad": _pad,
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Transpose": _transpose,
    "Concat": lambda call: call.function("concat", axis=int(call.attributes["axis"])),
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
