"""Importer of MXNet checkpoints, ``NAME-symbol.json`` and ``NAME-0000.params``, without MXNet.

Reads InsightFace's model zoo (LResNet*E-IR, MobileFaceNet) and other embedders of common operators.
"""

import hashlib
import re
from pathlib import Path

from arcinvert.backbones.graph import IMAGE
from arcinvert.checkpoint import Checkpoint, file_digest
from arcinvert.errors import CheckpointError
from arcinvert.formats.builder import Builder
from arcinvert.formats.finish import finish
from arcinvert.formats.mxnet.operators import add_node
from arcinvert.formats.mxnet.params import read_params
from arcinvert.formats.mxnet.symbol import output_of, read_symbol
from arcinvert.formats.scaling import take_scaling
from arcinvert.formats.values import IMAGE_SIZE


def read(path: Path) -> Checkpoint:
    """Read an MXNet embedder, given either of its two files; the other lies beside it.

    Given the symbol, the ``.params`` of the highest epoch is used. If a symbol has several outputs or is
    one for training, the node ``fc1`` is the embedding, as in InsightFace.

    Raises:
        CheckpointError: a file is missing or damaged, not an embedder of 112x112 faces, or an operator
            or setting is not supported; the message names it.
    """
    symbol, params = _both(path)
    stored = read_params(params)
    nodes, heads = read_symbol(symbol)
    last, entry = output_of(nodes, heads, symbol)
    needed = {last}
    for number in range(last, -1, -1):
        if number in needed:
            needed |= {source for source, _ in nodes[number].inputs}
    loose = [nodes[n] for n in sorted(needed) if nodes[n].kind == "null" and nodes[n].name not in stored]
    if len(loose) != 1:
        names = ", ".join(node.name for node in loose[:5])
        raise CheckpointError(f"expected one input that {params.name!r} does not store, got {len(loose)} ({names})")
    sizes = loose[0].integers("__shape__") or [0, 3, *IMAGE_SIZE]
    if len(sizes) != 4 or any(s not in (0, -1, e) for s, e in zip(sizes[1:], (3, *IMAGE_SIZE), strict=True)):
        raise CheckpointError(f"expected an image input (N, 3, {IMAGE_SIZE[0]}, {IMAGE_SIZE[1]}), got {tuple(sizes)}")
    builder = Builder()
    values: dict[int, list[str]] = {}
    for number in sorted(needed):
        node = nodes[number]
        if node.kind == "null":
            values[number] = [IMAGE if node is loose[0] else builder.constant(stored[node.name], node.name)]
        else:
            values[number] = add_node(builder, node, values, stored, symbol)
    if entry >= len(values[last]):
        raise CheckpointError(f"the {nodes[last].kind} node {nodes[last].name!r} has no output {entry}")
    mean, std, contract = _contract(builder)
    settings, weights = finish(builder, values[last][entry])
    header = {
        "backbone": "graph",
        "backbone_settings": settings,
        "embedding_size": builder.shape(settings["output"])[-1],
        "preprocessing": {"size": list(IMAGE_SIZE), "color": "RGB", "mean": [mean / 255] * 3, "std": [std / 255] * 3},
        "source": {"format": "MXNet", "file": path.name, "contract": contract},
    }
    digest = hashlib.sha256((file_digest(symbol) + file_digest(params)).encode()).hexdigest()
    return Checkpoint(header, {f"network.{key}": value for key, value in weights.items()}, digest)


def _both(path: Path) -> tuple[Path, Path]:
    """The paths of the symbol and of the parameters, given one of them."""
    stem, _, last = path.name.rpartition("-")
    if not stem or not re.fullmatch(r"symbol\.json|\d{4,}\.params", last):
        raise CheckpointError(f"expected a file named NAME-symbol.json or NAME-0000.params, got {path.name!r}")
    symbol, params = path.with_name(f"{stem}-symbol.json"), path
    if last == "symbol.json":
        named = re.compile(re.escape(stem) + r"-(\d{4,})\.params")
        epochs = [(int(m[1]), p) for p in path.parent.glob("*.params") if (m := named.fullmatch(p.name))]
        params = max(epochs)[1] if epochs else path.with_name(f"{stem}-0000.params")
    for file in (symbol, params):
        if not file.is_file():
            raise CheckpointError(
                f"an MXNet network is two files: expected {str(file)!r} for {path.name!r}, found none"
            )
    return symbol, params


def _contract(builder: Builder) -> tuple[float, float, str]:
    """Mean and std of an image in 0..255, and their origin; removes them from the graph if they are there."""
    mean, std = take_scaling(builder)
    if (mean, std) != (0.0, 1.0):
        return mean, std, "in the graph"
    for step in builder.steps:
        if IMAGE in step["inputs"]:
            # An image in -1..1 needs no arithmetic, and none of its variances exceeds 1.
            raw = step["op"] in ("add", "sub", "mul", "div")
            if step["op"] == "batch_norm":
                raw = bool(builder.weights[f"layers.{step['output']}.running_var"].max() > 1)
            if raw:
                return 0.0, 1.0, "in the graph"
    return 127.5, 127.5, "assumed"
