"""From the steps of a :class:`~arcinvert.formats.builder.Builder` to a network: its settings and weights."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from arcinvert.backbones.graph import IMAGE, TORCH_ERRORS, Graph
from arcinvert.errors import CheckpointError
from arcinvert.formats.builder import Builder
from arcinvert.formats.values import BATCH, DTYPES


def finish(builder: Builder, output: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Settings and weights of a :class:`~arcinvert.backbones.graph.Graph` that returns ``output``.

    Every convolution that no BatchNorm follows gets a ``folded_norm`` after it.

    Raises:
        CheckpointError: the output is not (B, D), does not depend on the image, or rows depend on each other.
    """
    shape = builder.shape(output)
    size = max(shape[1:], default=0)
    if output in builder.constants or shape[:1] != (BATCH,) or math.prod(shape[1:]) != size or size < 2:
        shown = ("N", *shape[1:]) if shape[:1] == (BATCH,) else shape
        raise CheckpointError(f"expected an output of one vector per image, got ({', '.join(map(str, shown))})")
    if len(shape) > 2:
        output = builder.function("reshape", [output], "embedding", shape=[-1, size])
    _materialize_constants(builder)
    needed, steps = {output}, []
    for step in reversed(builder.steps):
        if step["output"] in needed:
            needed |= set(step["inputs"])
            steps.append(step)
    steps = _mark_folded_norms(builder, steps[::-1])
    weights = {key: tensor for key, tensor in builder.weights.items() if key.split(".")[1] in needed}
    settings = {"steps": steps, "output": output}
    _check_rows(builder, settings, weights)
    return settings, weights


def _materialize_constants(builder: Builder) -> None:
    """Add a step for each constant that a step uses."""
    used = {value for step in builder.steps for value in step["inputs"]} & builder.constants
    constants = []
    for name in sorted(used):
        tensor = builder.examples[name].contiguous().clone()
        settings = {"shape": list(tensor.shape), "dtype": DTYPES[tensor.dtype]}
        constants.append({"op": "constant", "inputs": [], "output": name, "settings": settings})
        builder.weights[f"layers.{name}.value"] = tensor
    builder.steps = constants + builder.steps
    builder.constants -= used


def _mark_folded_norms(builder: Builder, steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    users: dict[str, list[str]] = {}
    for step in steps:
        for value in step["inputs"]:
            users.setdefault(value, []).append(step["op"])
    found: list[dict[str, Any]] = []
    renamed: dict[str, str] = {}
    for step in steps:
        found.append({**step, "inputs": [renamed.get(value, value) for value in step["inputs"]]})
        name = step["output"]
        if step["op"] == "conv" and users.get(name) != ["batch_norm"]:
            renamed[name] = builder.unique_name(f"{name}_norm")
            builder.examples[renamed[name]] = builder.examples[name]
            found.append({"op": "folded_norm", "inputs": [name], "output": renamed[name]})
    return found


@torch.no_grad()
def _check_rows(builder: Builder, settings: dict[str, Any], weights: dict[str, Tensor]) -> None:
    network = Graph(**settings).eval()
    network.load_state_dict(weights)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and module.running_var is not None:
            # Damaged statistics must not hide rows that depend on each other.
            module.running_var.copy_(module.running_var.nan_to_num(1, 1, 1).clamp_min(module.eps))
    image = builder.examples[IMAGE]
    try:
        # One image, three, and four, which a size computed from three does not fit.
        alone, together, more = (network(part) for part in (image[:1], image, torch.cat((image, image[:1]))))
    except TORCH_ERRORS as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"the network accepts no batch size but the file's: {reason}") from None
    if [len(rows) for rows in (alone, together, more)] != [1, BATCH, BATCH + 1]:
        raise CheckpointError("the network accepts no batch size but the file's: the number of rows differs")
    for rows, same in ((together[:1], alone), (more[:BATCH], together), (more[BATCH:], alone)):
        rows, same = rows.nan_to_num(), same.nan_to_num()
        if (rows - same).norm() > 1e-3 * same.norm() + 1e-6:
            raise CheckpointError("the embedding of an image depends on the other images in its batch")
