"""ONNX export: ``torch.onnx`` writes the network, this adds the image contract, the metadata and a check.

The file takes (batch, 3, 112, 112) and returns (batch, D), not unit norm. A plain contract, RGB with mean
and std 0.5, stays outside: such a file expects ``(x - 127.5) / 127.5``, which readers assume. Any other
contract becomes the first nodes of the file, named as InsightFace's reader looks for them, and the file
expects RGB in 0..255.

The exporter is the TorchScript one (``dynamo=False``): it needs no further package, while the newer one
needs onnxscript. It also keeps the names of convolutions and BatchNorms and, outside its evaluation mode,
every BatchNorm with its statistics. When torch drops it, :func:`_exported` is the place to change.
"""

import io
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from arcinvert import __version__
from arcinvert.backbones.graph import IMAGE, TORCH_ERRORS, Graph
from arcinvert.checkpoint import Checkpoint, atomic_write, build_network
from arcinvert.errors import EnvironmentProblem, InputError
from arcinvert.formats.license import license_of
from arcinvert.preprocessing import Preprocessing

INPUT, OUTPUT = "input", "embedding"
OPSET = 17
MIN_COSINE = 0.9999
"""The smallest cosine to our own network that a written file may have."""
MAX_BYTES = (1 << 31) - (1 << 24)
"""Bytes of weights: a protobuf file ends at 2 GB."""
_KNOWN_WARNINGS = (
    ("You are using the legacy TorchScript-based ONNX export", DeprecationWarning),
    ("The feature will be removed", DeprecationWarning),
    ("Constant folding - Only steps=1 can be constant folded", UserWarning),  # of the sizes of a padding
    ("It is recommended that constant folding be turned off", UserWarning),  # the BatchNorms are left alone even so
)
"""How torch's warnings about its TorchScript exporter begin, each of which is known and harmless."""


def export_onnx(stored: Checkpoint, path: Path, *, fold: bool = False) -> float:
    """Write a checkpoint's network and image contract as one ONNX file, then check it with onnxruntime.

    Args:
        stored: what :func:`arcinvert.formats.open_checkpoint` returns.
        path: of the new file; an old file stays whole until the new one has passed the check.
        fold: whether each BatchNorm after a convolution is folded into it, as in most published files.

    Returns:
        The smallest cosine between the file's embeddings and our network's, over eight smooth random images.

    Raises:
        InputError: the network cannot be exported, or a cosine is below :data:`MIN_COSINE`; no file is written then.
        EnvironmentProblem: the disk is full, the folder cannot be written, or the package ``onnx`` is missing.
    """
    preprocessing = replace(Preprocessing.from_header(stored.header.get("preprocessing", {})), crop=None)
    network = build_network(stored, f"checkpoint {stored.digest[:12]}").eval().requires_grad_(False)
    total = sum(tensor.nbytes for tensor in network.state_dict().values())
    if total > MAX_BYTES:
        raise InputError(f"expected at most {MAX_BYTES} bytes of weights, which one ONNX file can hold, got {total}")
    properties = {"arcinvert": __version__, "source_sha256": stored.digest}
    properties["license"] = license_of(stored.header, stored.digest)
    generator = torch.Generator().manual_seed(0)
    images = F.interpolate(torch.rand(8, 3, 8, 8, generator=generator), preprocessing.size, mode="bilinear")
    expected = network(preprocessing(images)).double()  # before the export, which folds into the same tensors
    exported = _WithContract(network, preprocessing)
    content = _exported(exported, preprocessing.size, properties, fold=fold)
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)
        found = _run(temporary, images * 255 if exported.contract else images * 2 - 1)
        lengths = found.norm(dim=1) / expected.norm(dim=1)
        cosine = float(F.cosine_similarity(found, expected).min())
        if not cosine >= MIN_COSINE or not bool(((lengths - 1).abs() < 0.01).all()):
            ratios = f"lengths {float(lengths.min()):.4f} to {float(lengths.max()):.4f}"
            raise InputError(f"expected the written file to agree with the network, got cosine {cosine:.6f}, {ratios}")
    return cosine


class _WithContract(nn.Module):
    """A network that applies its image contract to RGB in 0..255, unless the contract is the plain one."""

    mean: Tensor
    scale: Tensor
    color_scale: Tensor
    color_shift: Tensor

    def __init__(self, network: nn.Module, wanted: Preprocessing) -> None:
        super().__init__()
        self.network = network
        steps = network.steps if isinstance(network, Graph) else []
        first = {op for op, inputs, *_ in steps if IMAGE in inputs}
        arithmetic = bool(first & {"add", "sub", "mul", "div"})
        self.contract = wanted != Preprocessing(size=wanted.size) or arithmetic or "batch_norm" in first
        self.bgr = wanted.color == "BGR"
        # A reader adds up leading scalars and takes small ones for a contract of [0, 1], so two scalars stand
        # for the whole contract only where they cannot be mistaken.
        self.short = len({*wanted.mean}) == len({*wanted.std}) == 1 and wanted.std[0] * 255 > 1 and not arithmetic
        mean, std = (wanted.mean[0], wanted.std[0]) if self.short else (0.5, 0.5)
        means, stds = (torch.tensor(part, dtype=torch.float64).view(1, 3, 1, 1) for part in (wanted.mean, wanted.std))
        self.register_buffer("mean", torch.tensor(mean * 255))
        self.register_buffer("scale", torch.tensor(1 / (std * 255)))
        self.register_buffer("color_scale", (0.5 / stds).float())
        self.register_buffer("color_shift", ((0.5 - means) / stds).float())

    def forward(self, image: Tensor) -> Tensor:
        if self.contract:
            image = (image - self.mean) * self.scale
            if self.bgr:
                image = torch.cat([image.narrow(1, channel, 1) for channel in (2, 1, 0)], 1)
            if not self.short:
                image = image * self.color_scale + self.color_shift
        embedding: Tensor = self.network(image)
        return embedding


def _exported(module: _WithContract, size: tuple[int, int], properties: dict[str, str], *, fold: bool) -> bytes:
    """An ONNX file of ``module`` as bytes.

    Raises:
        InputError: an operation has no ONNX form.
        EnvironmentProblem: the package ``onnx`` is missing.
    """
    try:
        import onnx
    except ImportError:
        raise EnvironmentProblem("writing ONNX files needs the package onnx: pip install onnx") from None
    buffer = io.BytesIO()
    mode = torch.onnx.TrainingMode
    try:
        with warnings.catch_warnings():
            for message, category in _KNOWN_WARNINGS:
                warnings.filterwarnings("ignore", message, category)
            torch.onnx.export(
                module,
                (torch.zeros(2, 3, *size),),
                buffer,  # type: ignore[arg-type]  # the TorchScript exporter writes to any file
                dynamo=False,
                opset_version=OPSET,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_axes={INPUT: {0: "batch"}, OUTPUT: {0: "batch"}},
                training=mode.EVAL if fold else mode.PRESERVE,  # EVAL folds BatchNorm into convolutions
            )
    except (torch.onnx.OnnxExporterError, *TORCH_ERRORS) as error:
        raise InputError(f"the network has no ONNX form: {' '.join(str(error).split())[:300]}") from None
    model = onnx.load_model_from_string(buffer.getvalue())
    model.producer_name, model.producer_version = "arcinvert", __version__
    model.graph.name = "arcinvert"
    onnx.helper.set_model_props(model, properties)
    if module.contract:
        for node, name in zip(model.graph.node, ("Sub_mean", "Mul_scale"), strict=False):
            node.name = name
    _name_parameters(model.graph, "network.layers." if isinstance(module.network, Graph) else "network.")
    return bytes(model.SerializeToString())


def _name_parameters(graph: Any, prefix: str) -> None:
    """Give parameters the names that they have in the network itself."""
    names = {tensor.name: tensor.name.removeprefix(prefix) for tensor in graph.initializer}
    for tensor in graph.initializer:
        tensor.name = names[tensor.name]
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]


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
