"""A node of an ONNX graph with its inputs, and the tensors stored in the file or beside it."""

import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from arcinvert.backbones.graph import TORCH_ERRORS
from arcinvert.errors import CheckpointError
from arcinvert.file_bytes import read_bytes
from arcinvert.formats.builder import Builder

MAX_BYTES = 2 << 30
"""Largest size of a file: that of a message of protobuf, and of one with external data."""
INTEGER_TYPES = (2, 3, 4, 5, 6, 7, 9, 12, 13)
"""The integer types and bool, as numbers of TensorProto."""


@dataclass(frozen=True)
class ModelFile:
    """The ONNX file that a node belongs to.

    Attributes:
        path: of the file.
        opset: version of its operators.
        batch: the batch size if it is fixed.
        outer: contents of the files beside it that hold its external tensors.
    """

    path: Path
    opset: int
    batch: int | None
    outer: dict[Path, bytes] = field(default_factory=dict)


def stored_tensor(tensor: Any, file: ModelFile) -> Tensor:
    """A stored tensor; external data is read only from a plain file in the same folder."""
    import onnx

    path = file.path
    try:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            tensor = _with_outer_data(tensor, file)
        if any(size < 0 for size in tensor.dims):
            raise ValueError(f"its shape is {list(tensor.dims)[:8]}")
        array = onnx.numpy_helper.to_array(tensor)
        if array.dtype.name == "bfloat16":
            array = array.astype(np.float32)
    except (*TORCH_ERRORS, OSError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{str(path)!r} is damaged: tensor {tensor.name!r}: {reason}") from None
    if array.dtype.kind not in "fiub" or array.dtype.isbuiltin != 1:  # 1: numpy's own; float8_e5m2 says "f", too
        raise CheckpointError(f"tensor {tensor.name!r} of {str(path)!r} holds {array.dtype}, expected numbers")
    return torch.from_numpy(np.array(array, order="C"))


def _with_outer_data(tensor: Any, file: ModelFile) -> Any:
    """The tensor with its external data included."""
    import onnx

    path, read = file.path, file.outer
    where = {entry.key: entry.value for entry in tensor.external_data}
    place = where.get("location", "")
    outer = path.parent / place
    plain = place not in ("", ".", "..") and Path(place).name == place and "\\" not in place
    if not plain or not outer.exists() or not stat.S_ISREG(outer.lstat().st_mode) or outer.lstat().st_nlink != 1:
        raise CheckpointError(
            f"{str(path)!r} has its tensor {tensor.name!r} in {place!r}; only a plain file beside it is opened"
        )
    if outer not in read:
        try:
            read[outer] = read_bytes(outer, MAX_BYTES)
        except OSError as error:
            raise CheckpointError(
                f"cannot read the data {place!r} of {str(path)!r}: {error.strerror or error}"
            ) from None
    offset, size = int(where.get("offset", 0)), len(read[outer])
    length = int(where.get("length", size - offset))
    if not 0 <= offset <= offset + length <= size:
        raise CheckpointError(f"{str(path)!r} needs bytes {offset} to {offset + length} of {place!r}, which has {size}")
    inner = onnx.TensorProto()
    inner.CopyFrom(tensor)
    inner.ClearField("external_data")
    inner.data_location = onnx.TensorProto.DEFAULT
    inner.raw_data = read[outer][offset : offset + length]
    return inner


@dataclass
class OnnxNode:
    """A node with its inputs as values of the builder.

    Attributes:
        file: the file it belongs to.
        builder: receives its steps.
        kind: the operator, such as ``Conv``.
        values: its inputs; "" for an omitted one.
        attributes: of the node.
        name: of its step.
        outputs: the number of its outputs.
    """

    file: ModelFile
    builder: Builder
    kind: str
    values: list[str]
    attributes: dict[str, Any]
    name: str
    outputs: int

    def get(self, name: str, default: Any = None) -> Any:
        return self.attributes.get(name, default)

    def has(self, position: int) -> bool:
        return len(self.values) > position and bool(self.values[position])

    def known(self, position: int) -> Tensor:
        return self.builder.known(self.values[position])

    def numbers(self, name: str, position: int, default: Any = None) -> Any:
        """A list of integers, which is an attribute in old opsets and an input in new ones."""
        if name in self.attributes:
            return [int(number) for number in self.attributes[name]]
        return self.builder.numbers(self.values[position]) if self.has(position) else default

    def other(self, position: int) -> Tensor:
        """A stored tensor as it is for the other batch of the builder."""
        with self.builder.at_other_batch([self.values[position]]):
            return self.known(position)

    def other_numbers(self, position: int) -> list[int]:
        """A list of integers as it is for the other batch of the builder."""
        return [int(number) for number in self.other(position).flatten()]

    def tensor(self, name: str) -> Tensor:
        """A tensor attribute."""
        return stored_tensor(self.attributes[name], self.file)

    def unsupported(self, what: str) -> CheckpointError:
        return CheckpointError(f"{str(self.file.path)!r} has a {self.kind} node ({self.name!r}) {what}")

    def function(self, op: str, **settings: Any) -> str:
        return self.builder.function(op, self.values, self.name, **settings)


Operator = Callable[[OnnxNode], str | list[str]]
"""Adds the steps of a node to the builder; returns the values of its outputs."""
