"""Operations that the steps of a :class:`~arcinvert.backbones.graph.Graph` may name: layers and functions of torch."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

_DTYPES = {"float32": torch.float32, "int64": torch.int64, "bool": torch.bool}


class FoldedNorm(nn.Module):
    """An identity that marks where a BatchNorm was folded into the convolution before it.

    It stores no statistics; a calibration can provide them.
    """

    def forward(self, x: Tensor) -> Tensor:
        return x


class Constant(nn.Module):
    """A stored tensor."""

    def __init__(self, shape: Sequence[int], dtype: str = "float32") -> None:
        super().__init__()
        self.value: Tensor
        self.register_buffer("value", torch.zeros(tuple(shape), dtype=_DTYPES[dtype]))

    def forward(self) -> Tensor:
        return self.value


LAYERS: dict[str, Callable[..., nn.Module]] = {
    "conv": nn.Conv2d,
    "batch_norm": nn.BatchNorm2d,
    "batch_norm_1d": nn.BatchNorm1d,
    "prelu": nn.PReLU,
    "linear": nn.Linear,
    "folded_norm": FoldedNorm,
    "constant": Constant,
}
"""Operations with weights, or with statistics kept under their name."""


def _reduced(reduce: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda x, axes, keepdims: reduce(x, dim=tuple(axes), keepdim=keepdims)


def _reshape(x: Tensor, shape: Sequence[int]) -> Tensor:
    """A reshape in which 0 keeps the size of that dimension, as in ONNX."""
    return x.reshape([x.shape[i] if size == 0 else size for i, size in enumerate(shape)])


def _flatten(x: Tensor, axis: int) -> Tensor:
    """A reshape to two dimensions, split before ``axis``."""
    return x.flatten(1) if axis == 1 else x.reshape(x.shape[:axis].numel(), -1)


def _pad(x: Tensor, before: Sequence[int], after: Sequence[int], mode: str, value: float) -> Tensor:
    """A padding whose ``before`` and ``after`` have one number per dimension."""
    pairs = [number for pair in zip(reversed(before), reversed(after), strict=True) for number in pair]
    if mode != "constant":
        while len(pairs) > 2 * (x.ndim - 2) and not any(pairs[-2:]):
            pairs = pairs[:-2]  # torch reflects and replicates the trailing dimensions only
        return F.pad(x, pairs, mode=mode)
    return F.pad(x, pairs, value=value)


def _slice(x: Tensor, starts: Sequence[int], ends: Sequence[int], axes: Sequence[int]) -> Tensor:
    for start, end, axis in zip(starts, ends, axes, strict=True):
        begin, stop, _ = slice(start, end).indices(x.shape[axis])
        x = x.narrow(axis, begin, max(0, stop - begin))
    return x


def _take(x: Tensor, indices: Sequence[int], axis: int) -> Tensor:
    """The slices at these places along ``axis``; negative ones count from the end."""
    places = torch.tensor(indices, device=x.device)
    return x.index_select(axis, torch.where(places < 0, places + x.shape[axis], places))


def _squeeze(x: Tensor, axes: Sequence[int]) -> Tensor:
    return x.squeeze(tuple(axes))


def _unsqueeze(x: Tensor, axes: Sequence[int]) -> Tensor:
    for axis in sorted(axis % (x.ndim + len(axes)) for axis in axes):
        x = x.unsqueeze(axis)
    return x


def _quantize(x: Tensor, scale: Tensor, zero: Tensor, low: int, high: int) -> Tensor:
    """The nearest whole numbers, in single precision; the gradient goes straight through the rounding."""
    x = x / scale
    return (x + (x.round() - x).detach() + zero).clamp(low, high)


def _dynamic_scale(x: Tensor, rows: int) -> Tensor:
    """The scale at which each image, ``rows`` of the first dimension, fills 0 to 255 with 0 among its values.

    (N, 1, ..., 1), without a gradient.
    """
    low, high = _limits(x, rows)
    scale = (high - low) / 255
    return torch.where(scale == 0, 1.0, scale)


def _dynamic_zero(x: Tensor, scale: Tensor, rows: int) -> Tensor:
    """The whole number that stands for 0 of each image at that scale, (N, 1, ..., 1), without a gradient."""
    return (-_limits(x, rows)[0] / scale.detach()).clamp(0, 255).round()


def _limits(x: Tensor, rows: int) -> tuple[Tensor, Tensor]:
    """The smallest and the largest value of each image, 0 among them."""
    images = x.detach().reshape(len(x) // rows, -1)
    limits = images.amin(1).clamp(max=0), images.amax(1).clamp(min=0)
    low, high = (limit.repeat_interleave(rows).reshape(-1, *[1] * (x.ndim - 1)) for limit in limits)
    return low, high


def _expand(x: Tensor, shape: Sequence[int]) -> Tensor:
    """A broadcast to ``shape``; -1 keeps a dimension."""
    return x.expand(tuple(shape))


def _repeat(x: Tensor, image: Tensor, axis: int) -> Tensor:
    """``x`` once for each image, along ``axis``."""
    return x.repeat([len(image) if i == axis % x.ndim else 1 for i in range(x.ndim)])


def _resize(
    x: Tensor, size: Sequence[int] | None, scale: Sequence[float] | None, mode: str, align_corners: bool | None
) -> Tensor:
    scales = None if scale is None else list(scale)
    return F.interpolate(x, None if size is None else list(size), scales, mode=mode, align_corners=align_corners)


def _instance_norm(x: Tensor, weight: Tensor, bias: Tensor, *, eps: float) -> Tensor:
    return F.instance_norm(x, weight=weight, bias=bias, eps=eps)


def _group_norm(x: Tensor, weight: Tensor, bias: Tensor, *, groups: int, eps: float) -> Tensor:
    return F.group_norm(x, groups, weight, bias, eps)


def _layer_norm(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, eps: float) -> Tensor:
    return F.layer_norm(x, weight.shape, weight, bias, eps)


def _clip(x: Tensor, low: float | None, high: float | None) -> Tensor:
    return x.clamp(low, high)


FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "div": torch.div,
    "pow": torch.pow,
    "max": torch.maximum,
    "min": torch.minimum,
    "matmul": torch.matmul,
    "relu": F.relu,
    "leaky_relu": F.leaky_relu,
    "elu": F.elu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "hard_sigmoid": lambda x, alpha, beta: (alpha * x + beta).clamp(0, 1),
    "hard_swish": F.hardswish,
    "softplus": F.softplus,
    "gelu": F.gelu,
    "erf": torch.erf,
    "exp": torch.exp,
    "log": torch.log,
    "sqrt": torch.sqrt,
    "abs": torch.abs,
    "sin": torch.sin,
    "cos": torch.cos,
    "where": torch.where,
    "neg": torch.neg,
    "reciprocal": torch.reciprocal,
    "clip": _clip,
    "quantize": _quantize,
    "dynamic_scale": _dynamic_scale,
    "dynamic_zero": _dynamic_zero,
    "softmax": F.softmax,
    "layer_norm": _layer_norm,
    "instance_norm": _instance_norm,
    "group_norm": _group_norm,
    "mean": _reduced(torch.mean),
    "sum": _reduced(torch.sum),
    "reduce_max": _reduced(torch.amax),
    "norm": _reduced(torch.linalg.vector_norm),
    "average_pool": F.avg_pool2d,
    "max_pool": F.max_pool2d,
    "pad": _pad,
    "transpose": lambda x, perm: x.permute(tuple(perm)),
    "reshape": _reshape,
    "flatten": _flatten,
    "squeeze": _squeeze,
    "unsqueeze": _unsqueeze,
    "slice": _slice,
    "take": _take,
    "expand": _expand,
    "repeat": _repeat,
    "resize": _resize,
    "concat": lambda *parts, axis: torch.cat(parts, axis),
}
"""Operations without weights: tensors first, settings by name."""
