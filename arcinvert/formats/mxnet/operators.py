"""The steps of each operator of an MXNet symbol."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from arcinvert.errors import CheckpointError
from arcinvert.formats.builder import Builder
from arcinvert.formats.mxnet.symbol import BoundNode, Node

LAYOUTS = ("None", "NCHW")


def add_node(
    builder: Builder, node: Node, values: dict[int, list[str]], stored: dict[str, Tensor], path: Path
) -> list[str]:
    """Add the steps of a node to the builder; returns the values of its outputs.

    Raises:
        CheckpointError: its operator or a setting is not supported, or it does not fit its inputs.
    """
    if node.kind not in OPERATORS:
        raise CheckpointError(f"{str(path)!r} has the operator {node.kind!r} ({node.name}), which is not supported")
    try:
        found = OPERATORS[node.kind](BoundNode(builder, node, values, stored))
    except (LookupError, ValueError, TypeError, ArithmeticError) as error:
        reason = " ".join(repr(error).split())
        raise CheckpointError(f"{str(path)!r} has a {node.kind} node ({node.name}) that is damaged: {reason}") from None
    return [found] if isinstance(found, str) else found


def _convolution(call: BoundNode) -> str:
    weight, groups = call.known(1), call.integer("num_group", 1)
    kernel, stride, padding = call.window("kernel"), call.window("stride", 1), call.window("pad", 0)
    dilation = call.window("dilate", 1)
    if list(weight.shape[2:]) != kernel or call.text("layout", "None") not in LAYOUTS or groups < 1:
        raise call.unsupported(f"with a kernel {kernel} and a weight {tuple(weight.shape)}")
    settings = {
        "in_channels": weight.shape[1] * groups,
        "out_channels": weight.shape[0],
        "kernel_size": kernel,
        "stride": stride,
        "padding": padding,
        "dilation": dilation,
        "groups": groups,
    }
    return call.layer("conv", {**settings, "bias": not call.flag("no_bias")}, weight=weight, **_bias(call))


def _bias(call: BoundNode) -> dict[str, Tensor]:
    """The bias of a layer, if it has one."""
    return {} if call.flag("no_bias") else {"bias": call.known(2)}


def _fully_connected(call: BoundNode) -> str:
    weight, rank = call.known(1), len(call.shape)
    if call.flag("flatten", True) and rank != 2:
        call.values[0] = call.builder.function("flatten", call.values[:1], f"{call.name}_flat", axis=1)
    settings = {"in_features": weight.shape[1], "out_features": weight.shape[0], "bias": not call.flag("no_bias")}
    return call.layer("linear", settings, weight=weight, **_bias(call))


def _batch_norm(call: BoundNode) -> str:
    rank, weight, bias = len(call.shape), call.known(1), call.known(2)
    if rank not in (2, 4) or call.integer("axis", 1) % rank != 1:
        raise call.unsupported(f"along axis {call.text('axis', '1')} of {rank} dimensions")
    # MXNet before 0.9 does not list the statistics among the inputs.
    statistics = [
        call.known(i) if len(call.values) > i else call.stored[f"{call.name}_moving_{what}"]
        for i, what in ((3, "mean"), (4, "var"))
    ]
    return call.layer(
        "batch_norm" if rank == 4 else "batch_norm_1d",
        {"num_features": len(weight), "eps": call.number("eps", 1e-3)},
        weight=torch.ones_like(weight) if call.flag("fix_gamma", True) else weight,
        bias=bias,
        running_mean=statistics[0],
        running_var=statistics[1],
    )


def _leaky_relu(call: BoundNode) -> str:
    kind, slope = call.text("act_type", "leaky"), call.number("slope", 0.25)
    if kind == "prelu":
        return call.layer("prelu", {"num_parameters": call.known(1).numel()}, weight=call.known(1).flatten())
    if kind not in ("leaky", "elu"):
        raise call.unsupported(f"of the kind {kind!r}")
    return call.function("leaky_relu", negative_slope=slope) if kind == "leaky" else call.function("elu", alpha=slope)


def _activation(call: BoundNode) -> str:
    kind = call.text("act_type", "")
    if kind not in ("relu", "sigmoid", "tanh", "softrelu"):
        raise call.unsupported(f"of the kind {kind!r}")
    return call.function("softplus" if kind == "softrelu" else kind)


def _pooling(call: BoundNode) -> str:
    kind, convention = call.text("pool_type", "max"), call.text("pooling_convention", "valid")
    if kind not in ("max", "avg") or convention not in ("valid", "full") or len(call.shape) != 4:
        raise call.unsupported(f"of the kind {kind!r} and convention {convention!r} on {len(call.shape)} dimensions")
    if call.text("layout", "None") not in LAYOUTS:
        raise call.unsupported(f"of the layout {call.text('layout', '')}")
    if call.flag("global_pool"):
        return call.function("mean" if kind == "avg" else "reduce_max", axes=[2, 3], keepdims=True)
    kernel, stride, padding = call.window("kernel"), call.window("stride", 1), call.window("pad", 0)
    settings = {"kernel_size": kernel, "stride": stride, "padding": padding, "ceil_mode": convention == "full"}
    if kind == "max":
        found = call.function("max_pool", **settings)
    else:
        found = call.function("average_pool", **settings, count_include_pad=call.flag("count_include_pad", True))
    if convention == "full":  # torch leaves out a last window that lies wholly in the padding
        geometry = zip(call.shape[2:], kernel, stride, padding, strict=True)
        if call.builder.shape(found)[2:] != tuple(-((k - n - 2 * p) // s) + 1 for n, k, s, p in geometry):
            raise call.unsupported("whose last window lies wholly in the padding")
    return found


def _scalar(op: str, *, number_first: bool = False) -> Callable[[BoundNode], str]:
    def apply(call: BoundNode) -> str:
        number = call.builder.constant(torch.tensor(call.number("scalar")), f"{call.name}_scalar")
        return call.function(op, *((number, call.values[0]) if number_first else (call.values[0], number)))

    return apply


def _sum(call: BoundNode) -> str:
    value = call.values[0]
    for other in call.values[1:]:
        value = call.function("add", value, other)
    return value


def _reshape(call: BoundNode) -> str:
    shape = call.node.integers("shape")
    if not shape or min(shape) < -1 or call.flag("reverse"):
        raise call.unsupported(f"to {tuple(shape)}{' in reverse' if call.flag('reverse') else ''}")
    return call.builder.reshape(call.values[0], shape, call.name)


def _concat(call: BoundNode) -> str:
    return call.function("concat", axis=call.integer("dim", 1))


def _l2_normalization(call: BoundNode) -> str:
    axes = {"instance": range(1, len(call.shape)), "channel": [1], "spatial": range(2, len(call.shape))}
    squares = call.function("mul", call.values[0], call.values[0])
    total = call.function("sum", squares, axes=list(axes[call.text("mode", "instance")]), keepdims=True)
    eps = call.builder.constant(torch.tensor(call.number("eps", 1e-10)), f"{call.name}_eps")
    return call.function("div", call.values[0], call.function("sqrt", call.function("add", total, eps)))


def _reduce(op: str) -> Callable[[BoundNode], str]:
    def reduce(call: BoundNode) -> str:
        rank = len(call.shape)
        axes = [axis % rank for axis in call.node.integers("axis") or range(rank)]
        if call.flag("exclude"):
            axes = [axis for axis in range(rank) if axis not in axes]
        return call.function(op, axes=axes, keepdims=call.flag("keepdims"))

    return reduce


def _transpose(call: BoundNode) -> str:
    return call.function("transpose", perm=call.node.integers("axes") or list(range(len(call.shape)))[::-1])


def _slice_axis(call: BoundNode) -> str:
    axis = call.integer("axis", 0)
    end = call.node.integers("end") or [call.shape[axis]]
    return call.function("slice", starts=[call.integer("begin", 0)], ends=end, axes=[axis])


def _slice_channel(call: BoundNode) -> list[str]:
    axis, parts = call.integer("axis", 1), call.integer("num_outputs", 0)
    each, rest = divmod(call.shape[axis], parts) if parts > 0 else (0, 1)
    if rest:
        raise call.unsupported(f"of {parts} parts of {call.shape}")
    cuts = [(each * i, each * (i + 1)) for i in range(parts)]
    found = [call.function("slice", starts=[start], ends=[end], axes=[axis]) for start, end in cuts]
    return [call.function("squeeze", part, axes=[axis]) for part in found] if call.flag("squeeze_axis") else found


def _pad(call: BoundNode) -> str:
    widths, modes = call.node.integers("pad_width"), {"constant": "constant", "edge": "replicate", "reflect": "reflect"}
    if len(widths) != 2 * len(call.shape) or min(widths) < 0:
        raise call.unsupported(f"of {tuple(widths)} on {len(call.shape)} dimensions")
    value = call.number("constant_value", 0.0)
    return call.function("pad", before=widths[::2], after=widths[1::2], mode=modes[call.text("mode", "")], value=value)


def _cast(call: BoundNode) -> str:
    if not call.text("dtype", "float32").startswith("float"):
        raise call.unsupported(f"to {call.text('dtype', '')}")
    return call.values[0]


def _through(call: BoundNode) -> str:
    return call.values[0]


def _plain(op: str) -> Callable[[BoundNode], str]:
    return lambda call: call.function(op)


OPERATORS: dict[str, Callable[[BoundNode], str | list[str]]] = {
    "Convolution": _convolution,
    "FullyConnected": _fully_connected,
    "BatchNorm": _batch_norm,
    "LeakyReLU": _leaky_relu,
    "Activation": _activation,
    "Pooling": _pooling,
    "Reshape": _reshape,
    "Concat": _concat,
    "L2Normalization": _l2_normalization,
    "transpose": _transpose,
    "slice_axis": _slice_axis,
    "SliceChannel": _slice_channel,
    "Pad": _pad,
    "Cast": _cast,
    "clip": lambda call: call.function("clip", low=call.number("a_min"), high=call.number("a_max")),
    "Flatten": lambda call: call.function("flatten", axis=1),
    **dict.fromkeys(("Dropout", "identity", "_copy", "BlockGrad"), _through),
    **dict.fromkeys(("elemwise_add", "_plus", "_Plus", "_add", "broadcast_add", "broadcast_plus"), _plain("add")),
    **dict.fromkeys(("elemwise_sub", "_minus", "_Minus", "_sub", "broadcast_sub", "broadcast_minus"), _plain("sub")),
    **dict.fromkeys(("elemwise_mul", "_mul", "_Mul", "broadcast_mul"), _plain("mul")),
    **dict.fromkeys(("elemwise_div", "_div", "_Div", "broadcast_div"), _plain("div")),
    **dict.fromkeys(("add_n", "ElementWiseSum"), _sum),
    **dict.fromkeys(("_plus_scalar", "_PlusScalar"), _scalar("add")),
    **dict.fromkeys(("_minus_scalar", "_MinusScalar"), _scalar("sub")),
    **dict.fromkeys(("_mul_scalar", "_MulScalar"), _scalar("mul")),
    **dict.fromkeys(("_div_scalar", "_DivScalar"), _scalar("div")),
    **dict.fromkeys(("_power_scalar", "_PowerScalar"), _scalar("pow")),
    **dict.fromkeys(("_rminus_scalar", "_RMinusScalar"), _scalar("sub", number_first=True)),
    **dict.fromkeys(("_rdiv_scalar", "_RDivScalar"), _scalar("div", number_first=True)),
    **{name: _plain(name) for name in ("relu", "sigmoid", "tanh", "sqrt", "exp", "log", "abs")},
    "mean": _reduce("mean"),
    "sum": _reduce("sum"),
    "max": _reduce("reduce_max"),
}
