"""The ONNX operators that have weights, the pools and the reductions."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from arcinvert.formats.onnx.node import Call, Operator


def _pads(call: Call, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]) -> list[int]:
    """Top, left, bottom, right."""
    shape = call.builder.shape(call.values[0])
    pads, automatic = [int(p) for p in call.get("pads", [0] * 4)], call.get("auto_pad", b"NOTSET")
    if any(len(numbers) != 2 for numbers in (kernel, stride, dilation, shape[2:])) or len(pads) != 4:
        raise call.refuse("that does not work on maps")
    if min(*kernel, *stride, *dilation) < 1:
        raise call.refuse(f"of the kernel {list(kernel)} and the stride {list(stride)}")
    if automatic == b"VALID":
        return [0] * 4
    if automatic in (b"SAME_UPPER", b"SAME_LOWER"):
        missing = [
            max(0, (math.ceil(n / s) - 1) * s + (k - 1) * d + 1 - n)
            for n, k, s, d in zip(shape[2:], kernel, stride, dilation, strict=True)
        ]
        less, more = [m // 2 for m in missing], [m - m // 2 for m in missing]
        return [*less, *more] if automatic == b"SAME_UPPER" else [*more, *less]
    return pads


def _pad_first(call: Call, pads: Sequence[int], fill: float) -> None:
    """A step of its own for a padding that the layer of torch cannot do."""
    if any(pads):
        settings = {"before": [0, 0, *pads[:2]], "after": [0, 0, *pads[2:]], "mode": "constant", "value": fill}
        call.values[0] = call.builder.function("pad", [call.values[0]], f"{call.name}_pad", **settings)


def _conv(call: Call) -> str:
    weight = call.known(1)
    kernel = list(weight.shape[2:])
    if call.get("kernel_shape", kernel) != kernel:
        raise call.refuse(f"of the kernel {call.get('kernel_shape')} with a weight {tuple(weight.shape)}")
    stride, dilation = list(call.get("strides", [1, 1])), list(call.get("dilations", [1, 1]))
    groups = int(call.get("group", 1))
    pads = _pads(call, kernel, stride, dilation)
    if pads[:2] != pads[2:]:
        _pad_first(call, pads, 0.0)
        pads = [0] * 4
    settings = {
        "in_channels": weight.shape[1] * groups,
        "out_channels": weight.shape[0],
        "kernel_size": kernel,
        "stride": stride,
        "padding": pads[:2],
        "dilation": dilation,
        "groups": groups,
        "bias": call.has(2),
    }
    bias = {"bias": call.known(2)} if call.has(2) else {}
    return call.builder.layer("conv", call.values[0], call.name, settings, weight=weight, **bias)


def _batch_norm(call: Call) -> str:
    weight, bias, mean, var = (call.known(i) for i in range(1, 5))
    rank = len(call.builder.shape(call.values[0]))
    if rank not in (2, 4) or weight.ndim != 1:
        raise call.refuse(f"on {rank} dimensions with a weight {tuple(weight.shape)}")
    if call.get("training_mode", 0) or call.outputs > 1 or (call.file.opset < 7 and not call.get("is_test", 0)):
        raise call.refuse("in training mode: an image's embedding would depend on the others in its batch")
    settings = {"num_features": len(weight), "eps": _eps(call)}
    op = "batch_norm" if rank == 4 else "batch_norm_1d"
    return call.builder.layer(
        op, call.values[0], call.name, settings, weight=weight, bias=bias, running_mean=mean, running_var=var
    )


def _eps(call: Call) -> float:
    """As it was meant: files hold it in single precision."""
    return float(f"{call.get('epsilon', 1e-5):.6g}")


def _prelu(call: Call) -> str:
    slope, rank = call.known(1), len(call.builder.shape(call.values[0]))
    channels = call.builder.shape(call.values[0])[1]
    per_channel = (channels, *[1] * (rank - 2))
    fits = tuple(slope.shape) in (per_channel, (1, *per_channel), (channels,))
    if slope.numel() != 1 and not fits:
        raise call.refuse(f"with a slope {tuple(slope.shape)} on {channels} channels")
    per_last = rank > 2 and slope.ndim == 1 and slope.numel() > 1  # by the letter, a slope of the last dimension
    if per_last and call.builder.shape(call.values[0])[-1] == channels:
        raise call.refuse(f"whose slope {tuple(slope.shape)} fits both the channels and the columns")
    settings = {"num_parameters": slope.numel()}
    return call.builder.layer("prelu", call.values[0], call.name, settings, weight=slope.flatten())


def _gemm(call: Call) -> str:
    if call.get("transA", 0):
        raise call.refuse("with transA")
    weight = call.known(1)
    if weight.ndim != 2 or len(call.builder.shape(call.values[0])) != 2:
        raise call.refuse(f"of {call.builder.shape(call.values[0])} and {tuple(weight.shape)}")
    weight = weight if call.get("transB", 0) else weight.T
    bias = {}
    if call.has(2):
        added = call.known(2)
        if added.numel() != 1 and (added.numel(), added.shape[-1]) != (len(weight), len(weight)):
            raise call.refuse(f"that adds {tuple(added.shape)}")
        bias["bias"] = added.flatten().expand(len(weight)) * call.get("beta", 1.0)
    return _linear(call, weight * call.get("alpha", 1.0), bias)


def _linear(call: Call, weight: Tensor, bias: dict[str, Tensor]) -> str:
    settings = {"in_features": weight.shape[1], "out_features": weight.shape[0], "bias": bool(bias)}
    return call.builder.layer("linear", call.values[0], call.name, settings, weight=weight, **bias)


def _matmul(call: Call) -> str:
    left, right = (value in call.builder.constants for value in call.values[:2])
    if right and not left and call.known(1).ndim == 2:
        return _linear(call, call.known(1).T, {})
    return call.function("matmul")


def _pool(call: Call) -> str:
    kernel = [int(k) for k in call.attributes["kernel_shape"]]
    stride, dilation = ([int(n) for n in call.get(name, [1] * len(kernel))] for name in ("strides", "dilations"))
    pads, ceiling = _pads(call, kernel, stride, dilation), bool(call.get("ceil_mode", 0))
    call.values = call.values[:1]
    if kernel == stride == [1, 1] and not any(pads):
        return call.values[0]  # as CVLFace and AdaFace have it in a shortcut that keeps its size
    inside = pads[:2] == pads[2:] and all(2 * p <= k for p, k in zip(pads, kernel, strict=False))
    settings: dict[str, Any] = {"kernel_size": kernel, "stride": stride, "ceil_mode": ceiling}
    if call.kind == "MaxPool":
        if not inside:
            _pad_first(call, pads, torch.finfo(torch.float32).min)
        return call.function("max_pool", **settings, padding=pads[:2] if inside else [0, 0], dilation=dilation)
    if dilation != [1, 1]:
        raise call.refuse(f"of the dilation {dilation}")
    counted = bool(call.get("count_include_pad", 0))
    if inside:
        return call.function("average_pool", **settings, padding=pads[:2], count_include_pad=counted)
    ones = call.builder.constant(torch.ones(1, 1, *call.builder.shape(call.values[0])[2:]), f"{call.name}_ones")
    _pad_first(call, pads, 0.0)
    found = call.function("average_pool", **settings, padding=[0, 0])
    if counted:
        return found
    call.values = [ones]
    _pad_first(call, pads, 0.0)
    share = call.function("average_pool", **settings, padding=[0, 0])  # of each window that lies on the map
    return call.builder.function("div", [found, share], call.name)


def _reduce(op: str) -> Callable[[Call], str]:
    def reduce(call: Call) -> str:
        rank = len(call.builder.shape(call.values[0]))
        axes = call.numbers("axes", 1, [])
        call.values = call.values[:1]
        if not axes and call.get("noop_with_empty_axes", 0):
            return call.values[0]
        axes = axes or list(range(rank))
        return call.function(op, axes=axes, keepdims=bool(call.get("keepdims", 1)))

    return reduce


def _global(op: str) -> Callable[[Call], str]:
    def reduce(call: Call) -> str:
        axes = list(range(2, len(call.builder.shape(call.values[0]))))
        return call.function(op, axes=axes, keepdims=True)

    return reduce


def _layer_norm(call: Call) -> str:
    if call.known(1).ndim != 1 or int(call.get("axis", -1)) not in (-1, len(call.builder.shape(call.values[0])) - 1):
        raise call.refuse("over more than the last dimension")
    return call.function("layer_norm", eps=_eps(call))


LAYERS: dict[str, Operator] = {
    "Conv": _conv,
    "BatchNormalization": _batch_norm,
    "PRelu": _prelu,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "MaxPool": _pool,
    "AveragePool": _pool,
    "GlobalAveragePool": _global("mean"),
    "GlobalMaxPool": _global("reduce_max"),
    "LayerNormalization": _layer_norm,
    "ReduceMean": _reduce("mean"),
    "ReduceSum": _reduce("sum"),
    "ReduceMax": _reduce("reduce_max"),
    "ReduceL2": _reduce("norm"),
}
