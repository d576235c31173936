"""Importer of ONNX embedders: every node becomes a step of a torch network, so gradients reach the image.

Reads InsightFace packs, the ONNX model zoo's arcfaceresnet100-8, and other graphs of common operators.
External data is read only from a plain file in the same folder.
"""

import errno
import hashlib
import math
from itertools import chain
from pathlib import Path
from typing import Any

from torch import Tensor

from arcinvert.backbones.graph import IMAGE, TORCH_ERRORS
from arcinvert.checkpoint import Checkpoint
from arcinvert.errors import CheckpointError, EnvironmentProblem
from arcinvert.file_bytes import read_bytes
from arcinvert.formats.builder import Builder
from arcinvert.formats.finish import finish
from arcinvert.formats.onnx.folding import FOLDED, fold
from arcinvert.formats.onnx.images import ImageInput, image_input
from arcinvert.formats.onnx.images import contract as image_contract
from arcinvert.formats.onnx.node import MAX_BYTES, ModelFile, OnnxNode, stored_tensor
from arcinvert.formats.onnx.operators import OPERATORS
from arcinvert.formats.onnx.quantized import MICROSOFT
from arcinvert.formats.values import IMAGE_SIZE

_Read = tuple[dict[str, Any], dict[str, Tensor]]


def read(path: Path) -> Checkpoint:
    """Read an ONNX embedder.

    Raises:
        CheckpointError: not ONNX, damaged, with data outside its folder, not an embedder of faces, or with an
            unsupported operator or setting; the message names it.
    """
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError:
        raise EnvironmentProblem("reading ONNX files needs the package onnx: pip install onnx") from None
    try:
        content = read_bytes(path, MAX_BYTES)
    except OSError as error:
        kind = CheckpointError if error.errno == errno.EFBIG else EnvironmentProblem
        raise kind(f"cannot read {str(path)!r}: {error.strerror or error}") from None
    try:
        model = onnx.load_model_from_string(content)
    except (DecodeError, ValueError) as error:
        raise CheckpointError(f"{str(path)!r} is not a whole ONNX file: {' '.join(str(error).split())}") from None
    graph = model.graph
    if not graph.node:
        raise CheckpointError(f"{str(path)!r} is not a whole ONNX file: it holds no network")
    names = [[n.op_type, n.domain, n.name, *n.input, *n.output, *(a.name for a in n.attribute)] for n in graph.node]
    values = [value.name for value in (*graph.input, *graph.output, *graph.initializer)]
    if any(isinstance(name, bytes) for name in chain(values, *names)):
        raise CheckpointError(f"{str(path)!r} is damaged: the name of a node or tensor is not text")
    image = image_input(graph, path)
    opset = max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=1)
    file = ModelFile(path, opset, image.batch)
    stored = {tensor.name: stored_tensor(tensor, file) for tensor in graph.initializer}
    header, weights = _at_any_size(graph, file, image, stored)
    said = {entry.key.lower(): entry.value for entry in model.metadata_props}
    if license := said.get("license") or said.get("licence"):
        header["source"]["license"] = license
    digest = hashlib.sha256(content)
    for place in sorted(file.outer):
        digest.update(hashlib.sha256(file.outer[place]).digest())
    return Checkpoint(header, {f"network.{key}": value for key, value in weights.items()}, digest.hexdigest())


def _at_any_size(graph: Any, file: ModelFile, image: ImageInput, stored: dict[str, Tensor]) -> _Read:
    """The header and weights at the first size of images that fits."""
    for number, size in enumerate(image.sizes, start=1):
        try:
            return _read(graph, file, image, size, stored)
        except CheckpointError:
            if number == len(image.sizes):
                raise
    raise AssertionError


def _read(graph: Any, file: ModelFile, image: ImageInput, size: tuple[int, int], stored: dict[str, Tensor]) -> _Read:
    importer = _Importer(file, size)
    builder = importer.builder
    importer.names[image.name] = (
        builder.function("transpose", [IMAGE], image.name, perm=[0, 2, 3, 1]) if image.last else IMAGE
    )
    for name, tensor in stored.items():
        importer.names[name] = builder.constant(tensor, name)
    for node in graph.node:
        importer.add(node)
    output = _embedding(graph, importer, file.path)
    mean, std, contract, given = image_contract(builder, image.kind)
    settings, weights = finish(builder, output)
    settings |= {"size": list(size)} if size != IMAGE_SIZE else {}
    header: dict[str, Any] = {
        "backbone": "graph",
        "backbone_settings": settings,
        "embedding_size": builder.shape(settings["output"])[-1],
        "preprocessing": {"size": list(size), "color": "RGB", "mean": [mean] * 3, "std": [std] * 3},
        "source": {"format": "ONNX", "file": file.path.name, "contract": contract, "input": given},
    }
    header["source"] |= {"layout": "channels last"} if image.last else {}
    return header, weights


def _embedding(graph: Any, importer: "_Importer", path: Path) -> str:
    """The output that is the embedding; others may hold one number per image, as the norm that AdaFace returns."""
    outputs = {output.name: importer.names.get(output.name) for output in graph.output}
    for name, value in outputs.items():
        if value is None:
            raise CheckpointError(f"{str(path)!r} does not compute its output {name!r}")
    vectors = [v for v in outputs.values() if v and math.prod(importer.builder.shape(v)[1:]) > 1]
    if len(outputs) == 1 or len(vectors) == 1:
        return vectors[0] if vectors else str(outputs[graph.output[0].name])
    shown = ", ".join(repr(name) for name in list(outputs)[:5])
    raise CheckpointError(
        f"expected one output, an embedding, got {len(outputs)} ({shown}): a detector, or a network with several heads"
    )


class _Importer:
    """Adds the nodes of one graph to a :class:`Builder`."""

    def __init__(self, file: ModelFile, size: tuple[int, int]) -> None:
        self.file, self.builder = file, Builder(size)
        self.names: dict[str, str] = {}

    def add(self, node: Any) -> None:
        import onnx

        kind, path = node.op_type, self.file.path
        ours = node.domain in ("", "ai.onnx") or (node.domain == "com.microsoft" and kind in MICROSOFT)
        if (kind not in OPERATORS and kind not in FOLDED) or not ours:
            kind = f"{node.domain}.{kind}" if node.domain else kind
            raise CheckpointError(
                f"{str(path)!r} has the operator {kind!r} (node {node.name!r}), which is not supported"
            )
        if not node.output:
            raise CheckpointError(f"{str(path)!r} is damaged: the {kind} node {node.name!r} has no output")
        try:
            attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            values = [self.names[name] if name else "" for name in node.input]
        except KeyError as error:
            raise CheckpointError(f"{str(path)!r} is damaged: node {node.name!r} lacks {error}") from None
        except ValueError as error:
            reason = " ".join(str(error).split())
            raise CheckpointError(f"{str(path)!r} is damaged: node {node.name!r}: {reason}") from None
        while values and not values[-1]:
            values.pop()
        # A layer is named after its parameters where these end in .weight, else after its output.
        weight = node.input[1] if len(node.input) > 1 else ""
        name = weight.removesuffix(".weight") if weight.endswith(".weight") else node.output[0]
        constant = all(value in self.builder.constants for value in values if value)
        fixed = constant and any(values) and kind in FOLDED
        if not fixed and kind not in OPERATORS:
            raise CheckpointError(
                f"{str(path)!r} has the operator {kind!r} (node {node.name!r}) on values that depend on the image, "
                "which is not supported"
            )
        apply = fold if fixed else OPERATORS[kind]

        def add() -> list[str]:
            found = apply(OnnxNode(self.file, self.builder, kind, list(values), attributes, name, len(node.output)))
            return [found] if isinstance(found, str) else found

        try:
            outputs = add()
            if constant and any(value in self.builder.others for value in values):
                with self.builder.at_other_batch(values):
                    others = add()
                for one, two in zip(outputs, others, strict=True):
                    self.builder.join_batches(one, two)
        except TORCH_ERRORS as error:
            reason = " ".join(str(error).split()) or "no reason given"
            raise CheckpointError(
                f"{str(path)!r} has a {kind} node ({name!r}) that is incomplete or damaged: "
                f"{type(error).__name__}: {reason}"
            ) from None
        for outer, inner in zip(node.output, outputs, strict=False):
            self.names[outer] = inner
