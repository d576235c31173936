"""ONNX from a checkpoint: every backbone of ours as steps, and every step as ONNX nodes.

Parameters carry the names of the modules they come from (``layer1.0.bn1.weight``). The file takes
(batch, 3, 112, 112) and gives (batch, D), not unit norm. Without nodes for the image contract it
expects RGB as ``(x - 127.5) / 127.5``, which every reader assumes then; with a Sub and a Mul in
front, named as InsightFace's reader looks for them, it expects RGB in 0..255.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from arcinvert import __version__
from arcinvert.backbones.graph import IMAGE, MISFITS, Graph
from arcinvert.checkpoint import Checkpoint, atomic_write
from arcinvert.errors import EnvironmentProblem, InputError
from arcinvert.formats.export.model import INPUT, OUTPUT, Model
from arcinvert.formats.export.operators import OPERATORS, Step
from arcinvert.formats.export.steps import fold_norms, steps_of
from arcinvert.preprocessing import Preprocessing
from arcinvert.recognizer import build_network

__all__ = ["OPERATORS", "export_onnx", "fold_norms", "onnx_model", "steps_of"]

OPSET, IR_VERSION = 17, 8
AGREEMENT = 0.9999
"""The smallest cosine to our own network that a written file may have."""
LARGEST = (1 << 31) - (1 << 24)
"""Bytes of weights: protobuf ends at 2 GB."""


def onnx_model(
    settings: Mapping[str, Any], weights: Mapping[str, Tensor], preprocessing: Preprocessing, **properties: str
) -> Any:
    """An ``onnx.ModelProto`` of a network given by its steps.

    Args:
        settings: as :func:`steps_of` gives them.
        weights: likewise.
        preprocessing: the image contract; ``size`` is that of the file's input.
        properties: the file's metadata.

    Raises:
        InputError: steps that do not fit each other, a setting without an ONNX form, or weights beyond 2 GB.
        EnvironmentProblem: the package ``onnx`` is missing.
    """
    try:
        from onnx import TensorProto, helper
    except ImportError:
        raise EnvironmentProblem("writing ONNX files needs the package onnx: pip install onnx") from None
    total = sum(tensor.nbytes for tensor in weights.values())
    if total > LARGEST:
        raise InputError(f"expected at most {LARGEST} bytes of weights, which one ONNX file can hold, got {total}")
    model, shown = Model(), _shapes(settings, preprocessing.size)
    values = {IMAGE: model.contract(preprocessing, {s["op"] for s in settings["steps"] if IMAGE in s["inputs"]})}
    for step in settings["steps"]:
        name = step["output"]
        inputs, examples = [values[key] for key in step["inputs"]], [shown[key] for key in step["inputs"]]
        call = Step(model, name, step.get("path", name), inputs, examples, shown[name], weights)
        try:
            values[name] = OPERATORS[step["op"]](call, **step.get("settings", {}))
        except (TypeError, ValueError, KeyError) as error:
            raise InputError(f"the {step['op']} step {name!r} has no ONNX form: {error}") from None
    model.finish(values[settings["output"]])
    sizes = shown[settings["output"]].shape[1:]
    graph = helper.make_graph(
        model.nodes,
        "arcinvert",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["batch", 3, *preprocessing.size])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", *sizes])],
        model.tensors,
    )
    versions = {"opset_imports": [helper.make_opsetid("", OPSET)], "ir_version": IR_VERSION}
    made = helper.make_model(graph, **versions, producer_name="arcinvert", producer_version=__version__)
    helper.set_model_props(made, properties)
    return made


def _shapes(settings: Mapping[str, Any], size: tuple[int, int]) -> dict[str, Tensor]:
    """Every value of two pictures, as a tensor without contents."""
    try:
        with torch.device("meta"), torch.no_grad():
            image = torch.empty(2, 3, *size)
            return {IMAGE: image, **dict(Graph(**settings).eval().values(image))}
    except MISFITS as error:
        raise InputError(f"the steps of the network do not fit each other: {' '.join(str(error).split())}") from None


def export_onnx(stored: Checkpoint, path: Path, *, fold: bool = False) -> float:
    """Write a checkpoint's network and image contract as one ONNX file, then check it with onnxruntime.

    Args:
        stored: what :func:`arcinvert.formats.open_checkpoint` gives.
        path: of the new file; an old one stays whole until the new one has passed.
        fold: whether each BatchNorm behind a convolution goes into it, as in most published files.

    Returns:
        The smallest cosine between the file's embeddings and our network's, over eight smooth random images.

    Raises:
        InputError: the network cannot be written, or a cosine is below :data:`AGREEMENT`; there is no new file then.
        EnvironmentProblem: the disk is full, the folder cannot be written, or the package ``onnx`` is missing.
    """
    preprocessing = Preprocessing.from_header(stored.header.get("preprocessing", {}))
    network = build_network(stored, f"checkpoint {stored.digest[:12]}").eval()
    settings, weights = steps_of(network)
    if fold:
        settings, weights = fold_norms(settings, weights)
    properties = {"arcinvert": __version__, "source_sha256": stored.digest}
    if "license" in stored.header:
        properties["license"] = str(stored.header["license"])
    model = onnx_model(settings, weights, preprocessing, **properties)
    raw = any(node.name == "Sub_mean" for node in model.graph.node)
    generator = torch.Generator().manual_seed(0)
    images = F.interpolate(torch.rand(8, 3, 8, 8, generator=generator), preprocessing.size, mode="bilinear")
    with atomic_write(path) as temporary, torch.no_grad():
        temporary.write_bytes(model.SerializeToString())
        found = _run(temporary, images * 255 if raw else images * 2 - 1)
        expected = network(preprocessing(images)).double()
        lengths = found.norm(dim=1) / expected.norm(dim=1)
        cosine = float(F.cosine_similarity(found, expected).min())
        if not cosine >= AGREEMENT or not bool(((lengths - 1).abs() < 0.01).all()):
            ratios = f"lengths {float(lengths.min()):.4f} to {float(lengths.max()):.4f}"
            raise InputError(f"expected the written file to agree with the network, got cosine {cosine:.6f}, {ratios}")
    return cosine


def _run(path: Path, images: Tensor) -> Tensor:
    """The file's embeddings (B, D) by onnxruntime: one image alone, then the others together."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        parts = [session.run(None, {INPUT: part.numpy()})[0] for part in (images[:1], images[1:])]
    except Exception as error:  # onnxruntime raises classes of its own, without a common base
        raise InputError(f"expected a file that onnxruntime runs, got: {' '.join(str(error).split())}") from None
    return torch.from_numpy(np.concatenate(parts)).double()
