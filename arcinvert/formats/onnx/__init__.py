"""Importer of ONNX embedders: every node becomes a step of a torch network, so gradients reach the image.

Reads InsightFace packs, the ONNX model zoo's arcfaceresnet100-8, and other graphs of common operators.
External data is read only from a plain file in the same folder.
"""

import hashlib
from itertools import chain
from pathlib import Path
from typing import Any

from arcinvert.backbones.graph import IMAGE, TORCH_ERRORS
from arcinvert.checkpoint import Checkpoint
from arcinvert.errors import CheckpointError, EnvironmentProblem
from arcinvert.formats.builder import IMAGE_SIZE, Builder
from arcinvert.formats.onnx.node import INTEGER_TYPES, ModelFile, OnnxNode, stored_tensor
from arcinvert.formats.onnx.operators import OPERATORS

QUANTIZED = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "MatMulInteger", "ConvInteger")


def read(path: Path) -> Checkpoint:
    """Read an ONNX embedder.

    Raises:
        CheckpointError: not ONNX, damaged, quantized, with data outside its folder, not an embedder of
            112x112 faces, or with an unsupported operator or setting; the message names it.
    """
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError:
        raise EnvironmentProblem("reading ONNX files needs the package onnx: pip install onnx") from None
    try:
        content = path.read_bytes()
    except OSError as error:
        raise EnvironmentProblem(f"cannot read {str(path)!r}: {error.strerror or error}") from None
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
    kinds = {node.op_type for node in graph.node}
    quantized = sorted(kind for kind in kinds if kind in QUANTIZED or kind.startswith("QLinear"))
    if quantized:
        raise CheckpointError(
            f"{str(path)!r} is quantized to int8 ({', '.join(quantized[:3])}), so no gradient "
            "reaches the image; open the float32 file it was made from"
        )
    if len(graph.output) != 1:
        shown = ", ".join(repr(output.name) for output in list(graph.output)[:5])
        raise CheckpointError(
            f"expected one output, an embedding, got {len(graph.output)} ({shown}): a detector, or a network "
            "with several heads"
        )
    image, batch = _image_input(graph, path)
    opset = max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=1)
    file = ModelFile(path, opset, batch)
    stored = {tensor.name: stored_tensor(tensor, file) for tensor in graph.initializer}
    importer = _Importer(file)
    importer.names[image.name] = IMAGE
    for name, tensor in stored.items():
        importer.names[name] = importer.builder.constant(tensor, name)
    for node in graph.node:
        importer.add(node)
    builder = importer.builder
    output = importer.names.get(graph.output[0].name)
    if output is None:
        raise CheckpointError(f"{str(path)!r} does not compute its output {graph.output[0].name!r}")
    mean, std, contract, given = _contract(builder, image.type.tensor_type.elem_type)
    settings, weights = builder.finish(output)
    header: dict[str, Any] = {
        "backbone": "graph",
        "backbone_settings": settings,
        "embedding_size": builder.shape(settings["output"])[-1],
        "preprocessing": {
            "size": list(IMAGE_SIZE),
            "color": "RGB",
            "mean": [mean] * 3,
            "std": [std] * 3,
        },
        "source": {"format": "ONNX", "file": path.name, "contract": contract, "input": given},
    }
    said = {entry.key.lower(): entry.value for entry in model.metadata_props}
    if license := said.get("license") or said.get("licence"):
        header["source"]["license"] = license
    digest = hashlib.sha256(content)
    for place in sorted(file.outer):
        digest.update(hashlib.sha256(file.outer[place]).digest())
    return Checkpoint(header, {f"network.{key}": value for key, value in weights.items()}, digest.hexdigest())


def _contract(builder: Builder, kind: int) -> tuple[float, float, str, str]:
    """Mean and std of an image in [0, 1], their origin, and the range of the file's own input.

    The origin is ``in the graph`` or ``assumed``; the range is ``0..255``, ``0..1`` or ``-1..1``.

    As in insightface, a graph that begins with arithmetic scales raw pixels itself, and any other expects
    ``(x - 127.5) / 127.5``. In addition, a graph whose arithmetic enlarges its input expects images in
    [0, 1], and an integer input expects raw pixels.
    """
    mean, std = builder.take_scaling()
    if (mean, std) != (0.0, 1.0):
        unit = 1 if std < 1 or (std == 1 and abs(mean) <= 1) else 255
        return mean / unit, std / unit, "in the graph", "0..1" if unit == 1 else "0..255"
    raw = kind in INTEGER_TYPES
    for step in builder.steps:
        if IMAGE not in step["inputs"]:
            continue
        if step["op"] in ("add", "sub", "mul", "div"):
            numbers = [builder.known(value) for value in step["inputs"] if value in builder.constants]
            small = all(float(number.abs().max()) <= 1 for number in numbers)
            if small and step["op"] in ("add", "sub"):
                # One number per color: the mean of images in [0, 1] is below 1, that of raw pixels above.
                return 0.0, 1.0, "in the graph", "0..1"
            return 0.0, 1 / 255, "in the graph", "0..255"
        if step["op"] == "batch_norm":
            raw = raw or bool(builder.weights[f"layers.{step['output']}.running_var"].max() > 1)
    return (0.0, 1 / 255, "in the graph", "0..255") if raw else (0.5, 0.5, "assumed", "-1..1")


def _image_input(graph: Any, path: Path) -> tuple[Any, int | None]:
    """The image input, and the batch size if it is fixed."""
    stored = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in stored]
    if len(inputs) != 1:
        raise CheckpointError(f"expected one input, an image, got {len(inputs)} in {str(path)!r}")
    sizes = [d.dim_value if d.HasField("dim_value") else 0 for d in inputs[0].type.tensor_type.shape.dim]
    shown = tuple(size if size > 0 else "N" for size in sizes)
    fits = len(sizes) == 4 and all(s <= 0 or s == e for s, e in zip(sizes[1:], (3, *IMAGE_SIZE), strict=True))
    if not fits:
        hint = "; channels come last, export it with channels first" if sizes[-1:] == [3] else ""
        raise CheckpointError(f"expected an image input (N, 3, {IMAGE_SIZE[0]}, {IMAGE_SIZE[1]}), got {shown}{hint}")
    return inputs[0], sizes[0] if sizes[0] > 0 else None


class _Importer:
    """Adds the nodes of one graph to a :class:`Builder`."""

    def __init__(self, file: ModelFile) -> None:
        self.file, self.builder = file, Builder()
        self.names: dict[str, str] = {}

    def add(self, node: Any) -> None:
        import onnx

        kind, path = node.op_type, self.file.path
        if kind not in OPERATORS or node.domain not in ("", "ai.onnx"):
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
        try:
            found = OPERATORS[kind](OnnxNode(self.file, self.builder, kind, values, attributes, name, len(node.output)))
        except TORCH_ERRORS as error:
            reason = " ".join(str(error).split()) or "no reason given"
            raise CheckpointError(
                f"{str(path)!r} has a {kind} node ({name!r}) that is incomplete or damaged: "
                f"{type(error).__name__}: {reason}"
            ) from None
        outputs = [found] if isinstance(found, str) else found
        for outer, inner in zip(node.output, outputs, strict=False):
            self.names[outer] = inner
