"""A network as steps: what its modules and functions are, and BatchNorms folded into convolutions."""

import operator
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from arcinvert.backbones.graph import IMAGE, LAYERS, MISFITS, Constant, FoldedNorm, Graph
from arcinvert.errors import InputError


def steps_of(network: nn.Module) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What a :class:`~arcinvert.backbones.graph.Graph` needs to compute the same as ``network`` in eval mode.

    A step with the weights of a module that is called otherwise names it under ``path``, dots and all.

    Returns:
        settings (``steps`` and ``output``) and weights (``layers.<step>.<parameter>``).

    Raises:
        InputError: a module, function or setting that no step stands for; it is named.
    """
    steps: list[dict[str, Any]] = []
    if isinstance(network, Graph):
        for op, inputs, name, settings in network.steps:
            settings = _layer(network.layers[name], name)[1] if op in LAYERS else settings
            steps.append({"op": op, "inputs": list(inputs), "output": name, "settings": settings})
        return {"steps": steps, "output": network.output}, network.state_dict()
    try:
        traced = _Tracer().trace(network)
    except MISFITS as error:
        raise InputError(f"{type(network).__name__} is no list of steps: {' '.join(str(error).split())}") from None
    weights, names = dict[str, Tensor](), dict[fx.Node, str]()
    for node in traced.nodes:
        inputs = tuple(names[value] for value in node.args if isinstance(value, fx.Node))
        names[node] = IMAGE if node.op == "placeholder" else node.name
        step = {"inputs": list(inputs), "output": node.name}
        if node.op == "call_module":
            layer = network.get_submodule(str(node.target))
            op, settings = _layer(layer, str(node.target))
            if op == "identity":
                names[node] = inputs[0]
                continue
            steps.append({"op": op, **step, "settings": settings, "path": node.target})
            weights |= {f"layers.{node.name}.{key}": value for key, value in layer.state_dict().items()}
        elif node.target in (operator.add, torch.add) and len(inputs) == len(node.args) == 2 and not node.kwargs:
            steps.append({"op": "add", **step})
        elif node.target in ("flatten", torch.flatten) and node.args[1:] == (1,) and not node.kwargs:
            steps.append({"op": "flatten", **step, "settings": {"axis": 1}})
        elif node.op == "output" and len(inputs) == 1:
            return {"steps": steps, "output": inputs[0]}, weights
        elif node.op != "placeholder":
            name = getattr(node.target, "__name__", node.target)
            raise InputError(f"expected additions and flatten(1) between modules, got {name!r} at {node.name!r}")
    raise InputError(f"expected a network with an output, got {type(network).__name__}")


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return next(m.children(), None) is None and not isinstance(m, nn.Sequential)


def _layer(layer: nn.Module, path: str) -> tuple[str, dict[str, Any]]:
    """The operation a module is, and the settings that make it again."""

    def read(*keys: str) -> dict[str, Any]:
        found = {key: getattr(layer, key) for key in keys}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in found.items()}

    match layer:
        case nn.Conv2d(padding_mode="zeros", padding=tuple()):
            kept = read("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups")
            return "conv", kept | {"bias": layer.bias is not None}
        case nn.BatchNorm2d(affine=True, track_running_stats=True):
            return "batch_norm", read("num_features", "eps")
        case nn.BatchNorm1d(affine=True, track_running_stats=True):
            return "batch_norm_1d", read("num_features", "eps")
        case nn.PReLU():
            return "prelu", read("num_parameters")
        case nn.Linear():
            return "linear", read("in_features", "out_features") | {"bias": layer.bias is not None}
        case nn.Dropout() | nn.Identity() | nn.MaxPool2d(kernel_size=1, stride=1, padding=0, return_indices=False):
            return "identity", {}
        case nn.MaxPool2d(return_indices=False):
            pairs = {key: pair(value) for key, value in read("kernel_size", "stride", "padding", "dilation").items()}
            return "max_pool", pairs | read("ceil_mode")
        case nn.Flatten(start_dim=1, end_dim=-1):
            return "flatten", {"axis": 1}
        case FoldedNorm():
            return "folded_norm", {}
        case Constant():
            value = layer.value
            return "constant", {"shape": list(value.shape), "dtype": str(value.dtype).removeprefix("torch.")}
    raise InputError(f"expected a module that is a step, got {' '.join(str(layer).split())} at {path!r}")


def pair(value: int | Sequence[int]) -> list[int]:
    """A setting for height and width, of which torch takes one for both."""
    return [value, value] if isinstance(value, int) else [int(number) for number in value]


def fold_norms(settings: Mapping[str, Any], weights: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Puts every BatchNorm that alone follows a convolution into its weight and bias, computed in float64.

    Args:
        settings: as :func:`steps_of` gives them.
        weights: likewise.
    """
    users: dict[str, list[str]] = {settings["output"]: [""]}
    for step in settings["steps"]:
        for value in step["inputs"]:
            users.setdefault(value, []).append(step["op"])
    steps, weights, convolutions = [], dict(weights), set[str]()
    for step in settings["steps"]:
        name, before = step["output"], "".join(step["inputs"][:1])
        if step["op"] == "conv" and users.get(name) == ["batch_norm"]:
            convolutions.add(name)
            step = {**step, "settings": {**step["settings"], "bias": True}}
        elif before in convolutions:
            keys = ("weight", "bias", "running_mean", "running_var")
            scale, shift, mean, var = (weights.pop(f"layers.{name}.{key}").double() for key in keys)
            weights.pop(f"layers.{name}.num_batches_tracked", None)
            scale = scale / (var + step["settings"]["eps"]).sqrt()
            kernel = weights[f"layers.{before}.weight"]
            bias = weights.get(f"layers.{before}.bias", torch.zeros_like(mean)).double()
            weights[f"layers.{before}.weight"] = (kernel.double() * scale.view(-1, 1, 1, 1)).to(kernel)
            weights[f"layers.{before}.bias"] = ((bias - mean) * scale + shift).to(kernel)
            step = {"op": "folded_norm", "inputs": [before], "output": name}
        steps.append(step)
    return {"steps": steps, "output": settings["output"]}, weights
