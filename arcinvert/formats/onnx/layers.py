"""ONNX operators with weights, poolings and reductions."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from arcinvert.formats.onnx.node import OnnxNode, Operator


def _pads(node: OnnxNode, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]) -> list[int]:
    """The padding: top, left, bottom, right."""
    shape = node.builder.shape(node.values[0])
    pads, automatic = [int(p) for p in node.get("pads", [0] * 4)], node.get("auto_pad", b"NOTSET")
    if any(len(numbers) != 2 for numbers in (kernel, stride, dilation, shape[2:])) or len(pads) != 4:
        raise node.unsupported("that does not work on feature maps")
    if min(*kernel, *stride, *dilation) < 1:
        raise node.unsupported(f"of the kernel {list(kernel)} and the stride {list(stride)}")
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


def _pad_first(node: OnnxNode, pads: Sequence[int], fill: float) -> None:
    """Add a separate step for a padding that the torch layer does not support."""
    if any(pads):
        settings = {"before": [0, 0, *pads[:2]], "after": [0, 0, *pads[2:]], "mode": "constant", "value": fill}
        node.values[0] = node.builder.function("pad", [node.values[0]], f"{node.name}_pad", **settings)


def _conv(node: OnnxNode) -> str:
    weight = node.known(1)
    kernel = list(weight.shape[2:])
    if node.get("kernel_shape", kernel) != kernel:
        raise node.unsupported(f"of the kernel {node.get('kernel_shape')} with a weight {tuple(weight.shape)}")
    stride, dilation = list(node.get("strides", [1, 1])), list(node.get("dilations", [1, 1]))
    groups = int(node.get("group", 1))
    pads = _pads(node, kernel, stride, dilation)
    if pads[:2] != pads[2:]:
        _pad_first(node, pads, 0.0)
        pads = [0] * 4
    settings = {
        "in_channels": weight.shape[1] * groups,
        "out_channels": weight.shape[0],
        "kernel_size": kernel,
        "stride": stride,
        "padding": pads[:2],
        "dilation": dilation,
        "groups": groups,
        "bias": node.has(2),
    }
    bias = {"bias": node.known(2)} if node.has(2) else {}
    return node.builder.layer("conv", node.values[0], node.name, settings, weight=weight, **bias)


def _batch_norm(node: OnnxNode) -> str:
    weight, bias, mean, var = (node.known(i) for i in range(1, 5))
    rank = len(node.builder.shape(node.values[0]))
    if rank not in (2, 4) or weight.ndim != 1:
        raise node.unsupported(f"on {rank} dimensions with a weight {tuple(weight.shape)}")
    if node.get("training_mode", 0) or node.outputs > 1 or (node.file.opset < 7 and not node.get("is_test", 0)):
        raise node.unsupported("in training mode: an image's embedding would depend on the others in its batch")
    settings = {"num_features": len(weight), "eps": _eps(node)}
    op = "batch_norm" if rank == 4 else "batch_norm_1d"
    return node.builder.layer(
        op, node.values[0], node.name, settings, weight=weight, bias=bias, running_mean=mean, running_var=var
    )


def _eps(node: OnnxNode) -> float:
    """The eps as a decimal number: files hold it in single precision."""
    return float(f"{node.get('epsilon', 1e-5):.6g}")


def _prelu(node: OnnxNode) -> str:
    slope, rank = node.known(1), len(node.builder.shape(node.values[0]))
    channels = node.builder.shape(node.values[0])[1]
    per_channel = (channels, *[1] * (rank - 2))
    fits = tuple(slope.shape) in (per_channel, (1, *per_channel), (channels,))
    if slope.numel() != 1 and not fits:
        raise node.unsupported(f"with a slope {tuple(slope.shape)} on {channels} channels")
    per_last = rank > 2 and slope.ndim == 1 and slope.numel() > 1  # by the standard, a slope of the last dimension
    if per_last and node.builder.shape(node.values[0])[-1] == channels:
        raise node.unsupported(f"whose slope {tuple(slope.shape)} fits both the channels and the columns")
    settings = {"num_parameters": slope.numel()}
    return node.builder.layer("prelu", node.values[0], node.name, settings, weight=slope.flatten())


def _gemm(node: OnnxNode) -> str:
    if node.get("transA", 0):
        raise node.unsupported("with transA")
    weight = node.known(1)
    if weight.ndim != 2 or len(node.builder.shape(node.values[0])) != 2:
        raise node.unsupported(f"of {node.builder.shape(node.values[0])} and {tuple(weight.shape)}")
    weight = weight if node.get("transB", 0) else weight.T
    bias = {}
    if node.has(2):
        added = node.known(2)
        if added.numel() != 1 and (added.numel(), added.shape[-1]) != (len(weight), len(weight)):
            raise node.unsupported(f"that adds {tuple(added.shape)}")
        bias["bias"] = added.flatten().expand(len(weight)) * node.get("beta", 1.0)
    return _linear(node, weight * node.get("alpha", 1.0), bias)


def _linear(node: OnnxNode, weight: Tensor, bias: dict[str, Tensor]) -> str:
    settings = {"in_features": weight.shape[1], "out_features": weight.shape[0], "bias": bool(bias)}
    return node.builder.layer("linear", node.values[0], node.name, settings, weight=weight, **bias)


def _matmul(node: OnnxNode) -> str:
    left, right = (value in node.builder.constants for value in node.values[:2])
    if right and not left and node.known(1).ndim == 2:
        return _linear(node, node.known(1).T, {})
    return node.function("matmul")


def _pool(node: OnnxNode) -> str:
    kernel = [int(k) for k in node.attributes["kernel_shape"]]
    stride, dilation = ([int(n) for n in node.get(name, [1] * len(kernel))] for name in ("strides", "dilations"))
    pads, ceiling = _pads(node, kernel, stride, dilation), bool(node.get("ceil_mode", 0))
    node.values = node.values[:1]
    if kernel == stride == [1, 1] and not any(pads):
        return node.values[0]  # as in the shortcuts of CVLFace and AdaFace that keep their size
    inside = pads[:2] == pads[2:] and all(2 * p <= k for p, k in zip(pads, kernel, strict=False))
    settings: dict[str, Any] = {"kernel_size": kernel, "stride": stride, "ceil_mode": ceiling}
    if node.kind == "MaxPool":
        if not inside:
            _pad_first(node, pads, torch.finfo(torch.float32).min)
        return node.function("max_pool", **settings, padding=pads[:2] if inside else [0, 0], dilation=dilation)
    if dilation != [1, 1]:
        raise node.unsupported(f"of the dilation {dilation}")
    counted = bool(node.get("count_include_pad", 0))
    if inside:
        return node.function("average_pool", **settings, padding=pads[:2], count_include_pad=counted)
    ones = node.builder.constant(torch.ones(1, 1, *node.builder.shape(node.values[0])[2:]), f"{node.name}_ones")
    _pad_first(node, pads, 0.0)
    found = node.function("average_pool", **settings, padding=[0, 0])
    if counted:
        return found
    node.values = [ones]
    _pad_first(node, pads, 0.0)
    fraction = node.function("average_pool", **settings, padding=[0, 0])  # of each window on the map
    return node.builder.function("div", [found, fraction], node.name)


def _reduce(op: str) -> Callable[[OnnxNode], str]:
    def reduce(node: OnnxNode) -> str:
        rank = len(node.builder.shape(node.values[0]))
        axes = node.numbers("axes", 1, [])
        node.values = node.values[:1]
        if not axes and node.get("noop_with_empty_axes", 0):
            return node.values[0]
        axes = axes or list(range(rank))
        return node.function(op, axes=axes, keepdims=bool(node.get("keepdims", 1)))

    return reduce


def _global(op: str) -> Callable[[OnnxNode], str]:
    def reduce(node: OnnxNode) -> str:
        axes = list(range(2, len(node.builder.shape(node.values[0]))))
        return node.function(op, axes=axes, keepdims=True)

    return reduce


def _layer_norm(node: OnnxNode) -> str:
    shape = node.builder.shape(node.values[0])
    axis = int(node.get("axis", -1)) % len(shape)
    if node.known(1).shape != shape[axis:] or node.outputs > 1:
        raise node.unsupported(f"over the axes from {axis} of {shape} with a weight {tuple(node.known(1).shape)}")
    return node.function("layer_norm", eps=_eps(node))


def _instance_norm(node: OnnxNode) -> str:
    return node.function("instance_norm", eps=_eps(node))


def _group_norm(node: OnnxNode) -> str:
    channels, groups = node.builder.shape(node.values[0])[1], int(node.attributes["num_groups"])
    for i in (1, 2):
        if node.known(i).numel() == groups != channels:  # before opset 21, a number per group
            spread = node.known(i).repeat_interleave(channels // max(1, groups))
            node.values[i] = node.builder.constant(spread, f"{node.name}_{i}")
    return node.function("group_norm", groups=groups, eps=_eps(node))


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
    "InstanceNormalization": _instance_norm,
    "GroupNormalization": _group_norm,
    "ReduceMean": _reduce("mean"),
    "ReduceSum": _reduce("sum"),
    "ReduceMax": _reduce("reduce_max"),
    "ReduceL2": _reduce("norm"),
}
