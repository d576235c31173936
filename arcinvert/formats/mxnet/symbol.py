"""Reader of MXNet's ``-symbol.json``: its nodes, the embedding among them, and a node with its inputs."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from arcinvert.errors import CheckpointError
from arcinvert.file_bytes import read_bytes
from arcinvert.formats.builder import Builder

MAX_BYTES = 1 << 28
"""Largest size of a symbol."""
LOSSES = {"SoftmaxOutput", "Softmax", "SVMOutput", "MakeLoss", "make_loss", "softmax_cross_entropy"} | {
    f"{kind}RegressionOutput" for kind in ("Linear", "Logistic", "MAE")
}


@dataclass(frozen=True)
class Node:
    """One node of a symbol; each of ``inputs`` is the number of a node and of one of its outputs."""

    kind: str
    name: str
    attributes: dict[str, str]
    inputs: list[tuple[int, int]]

    def integers(self, name: str) -> list[int]:
        """An attribute such as ``(3, 3)``, ``[3L]`` or ``3``; empty if it is missing or ``None``."""
        return [int(number) for number in re.findall(r"-?\d+", self.attributes.get(name, ""))]


def read_symbol(path: Path) -> tuple[list[Node], list[tuple[int, int]]]:
    """The nodes in order, and the outputs of the symbol.

    Raises:
        CheckpointError: the file cannot be read, or is not a symbol.
    """
    try:
        content = json.loads(read_bytes(path, MAX_BYTES))
        nodes = []
        for position, node in enumerate(content["nodes"]):
            # "param" and "attr" are what MXNet before 1.0 called them.
            found = [node.get(key) or {} for key in ("attr", "param", "attrs")]
            attributes = {key: str(value) for entry in found for key, value in entry.items()}
            inputs = [(int(entry[0]), int(entry[1])) for entry in node["inputs"]]
            if any(not 0 <= source < position or entry < 0 for source, entry in inputs):
                raise ValueError(f"node {position} comes before its inputs")
            nodes.append(Node(str(node["op"]), str(node["name"]), attributes, inputs))
        heads = [(int(entry[0]), int(entry[1])) for entry in content["heads"]]
        if not heads or any(not 0 <= head < len(nodes) or entry < 0 for head, entry in heads):
            raise ValueError("its heads are no nodes")
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError, OSError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise CheckpointError(f"{str(path)!r} is not a whole MXNet symbol: {reason}") from None
    return nodes, heads


def output_of(nodes: list[Node], heads: list[tuple[int, int]], path: Path) -> tuple[int, int]:
    """The number of the node, and of its output, that is the embedding.

    Raises:
        CheckpointError: there is no clear one.
    """
    if len(heads) == 1 and nodes[heads[0][0]].kind not in LOSSES:
        return heads[0]
    for number, node in enumerate(nodes):
        if node.name == "fc1" and node.kind != "null":
            return number, 0
    names = ", ".join(f"{nodes[head].name} ({nodes[head].kind})" for head, _ in heads[:5])
    raise CheckpointError(
        f"expected one output, an embedding, or a node fc1, got {len(heads)} in {str(path)!r} ({names}): "
        "a training symbol, a detector, or a network with several heads"
    )


class BoundNode:
    """A node with its inputs as values of the builder."""

    def __init__(self, builder: Builder, node: Node, values: dict[int, list[str]], stored: dict[str, Tensor]) -> None:
        self.builder, self.node, self.stored, self.name = builder, node, stored, node.name
        self.values = [values[source][entry] for source, entry in node.inputs]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.builder.shape(self.values[0])

    def text(self, name: str, default: str) -> str:
        return self.node.attributes.get(name, default)

    def flag(self, name: str, default: bool = False) -> bool:
        return self.text(name, str(default)).lower() in ("true", "1")

    def integer(self, name: str, default: int) -> int:
        return int(self.text(name, str(default)))

    def number(self, name: str, default: float | None = None) -> float:
        return float(self.node.attributes[name] if default is None else self.text(name, str(default)))

    def window(self, name: str, default: int | None = None) -> list[int]:
        """The height and width of a window on a feature map."""
        sizes = self.node.integers(name) or ([] if default is None else [default] * 2)
        if len(self.shape) != 4 or len(sizes) != 2:
            raise self.unsupported(f"of {name} {tuple(sizes)} on {len(self.shape)} dimensions")
        return sizes

    def known(self, position: int) -> Tensor:
        return self.builder.known(self.values[position])

    def unsupported(self, what: str) -> CheckpointError:
        return CheckpointError(f"the {self.node.kind} node {self.name!r} is one {what}, which is not supported")

    def function(self, op: str, *values: str, **settings: Any) -> str:
        """Add a step on ``values``, by default the inputs of the node."""
        return self.builder.function(op, values or self.values, self.name, **settings)

    def layer(self, op: str, settings: dict[str, Any], **weights: Tensor) -> str:
        return self.builder.layer(op, self.values[0], self.name, settings, **weights)
