"""One node of an ONNX graph with its inputs, and the tensors that are stored in a file or beside it."""

import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from arcinvert.backbones.graph import MISFITS
from arcinvert.errors import CheckpointError
from arcinvert.formats.builder import Builder

WHOLE = (2, 3, 4, 5, 6, 7, 9, 12, 13)
"""Integer types and bool, by their numbers in TensorProto."""


@dataclass(frozen=True)
class File:
    """Of which file a node is.

    Attributes:
        path: of the file.
        opset: the version of its operators.
        batch: the batch size if the file fixes it.
        outer: whole files beside it that were read for its tensors.
    """

    path: Path
    opset: int
    batch: int | None
    outer: dict[Path, bytes] = field(default_factory=dict)


def stored_tensor(tensor: Any, file: File) -> Tensor:
    """A stored tensor; its data may lie in another plain file of the same folder, and nowhere else."""
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
    except (*MISFITS, OSError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{str(path)!r} is damaged: tensor {tensor.name!r}: {reason}") from None
    if array.dtype.kind not in "fiub" and array.dtype != np.bool_:
        raise CheckpointError(f"tensor {tensor.name!r} of {str(path)!r} holds {array.dtype}, expected numbers")
    return torch.from_numpy(np.array(array, order="C"))


def _with_outer_data(tensor: Any, file: File) -> Any:
    """The tensor with its data in it."""
    import onnx

    path, read = file.path, file.outer
    where = {entry.key: entry.value for entry in tensor.external_data}
    place = where.get("location", "")
    outer = path.parent / place
    plain = place not in ("", ".", "..") and Path(place).name == place and "\\" not in place
    if not plain or not outer.exists() or not stat.S_ISREG(outer.lstat().st_mode) or outer.lstat().st_nlink != 1:
        raise CheckpointError(
            f"{str(path)!r} wants its tensor {tensor.name!r} from {place!r}; only a plain file beside it is opened"
        )
    if outer not in read:
        read[outer] = outer.read_bytes()
    offset, size = int(where.get("offset", 0)), len(read[outer])
    length = int(where.get("length", size - offset))
    if not 0 <= offset <= offset + length <= size:
        raise CheckpointError(f"{str(path)!r} wants bytes {offset} to {offset + length} of {place!r}, which has {size}")
    inner = onnx.TensorProto()
    inner.CopyFrom(tensor)
    inner.ClearField("external_data")
    inner.data_location = onnx.TensorProto.DEFAULT
    inner.raw_data = read[outer][offset : offset + length]
    return inner


@dataclass
class Call:
    """A node with its inputs as values of the builder.

    Attributes:
        file: where it stands.
        builder: what it is told to.
        kind: of the node, like ``Conv``.
        values: its inputs; "" where one is left out.
        attributes: of the node.
        name: what its step is called.
        outputs: how many it has.
    """

    file: File
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
        """A list of integers that is an attribute in old opsets and an input in new ones."""
        if name in self.attributes:
            return [int(number) for number in self.attributes[name]]
        return self.builder.numbers(self.values[position]) if self.has(position) else default

    def tensor(self, name: str) -> Tensor:
        """An attribute that is a tensor."""
        return stored_tensor(self.attributes[name], self.file)

    def refuse(self, what: str) -> CheckpointError:
        return CheckpointError(f"{str(self.file.path)!r} has a {self.kind} node ({self.name!r}) {what}")

    def function(self, op: str, **settings: Any) -> str:
        return self.builder.function(op, self.values, self.name, **settings)


Operator = Callable[[Call], str | list[str]]
"""Tells the builder what a node is; returns its outputs."""
