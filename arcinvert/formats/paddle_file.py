"""Reader of the ``.pdparams`` of ArcFace-Paddle: a pickle of numpy arrays, of which nothing is executed.

:mod:`arcinvert.safe_pickle` follows the pickle and runs none of it. Paddle keeps the weight of a linear layer
transposed, and calls the statistics of a BatchNorm ``_mean`` and ``_variance``.
"""

import re
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from arcinvert.errors import CheckpointError, EnvironmentProblem
from arcinvert.safe_pickle import ARRAYS, DAMAGED, numbers, parse

MAX_BYTES = 1 << 31
"""Of a file; an IResNet-200 has 480 MB."""
REMEDY = "export the network with paddle2onnx and open the .onnx"
_ALLOWED = re.compile(rf"{ARRAYS.pattern}|(__builtin__|builtins) tuple")
_NAMES = {"_mean": "running_mean", "_variance": "running_var", "_weight": "weight"}
_TABLE = "StructuredToParameterName@@"


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors by name, as torch names and lays them out.

    Raises:
        CheckpointError: too large, damaged, or it asks for more than arrays.
        EnvironmentProblem: the file cannot be read.
    """
    try:
        size = path.stat().st_size
        content = path.read_bytes() if size <= MAX_BYTES else b""
    except OSError as error:
        raise EnvironmentProblem(f"cannot read {str(path)!r}: {error.strerror or error}") from None
    if size > MAX_BYTES:
        raise CheckpointError(f"expected at most {MAX_BYTES} bytes in {str(path)!r}, got {size}")
    try:
        found = parse(content, _ALLOWED)
        if not isinstance(found, dict):
            raise ValueError(f"expected arrays by name, got {type(found).__name__}")
        state = {str(key): _tensor(value) for key, value in found.items() if key != _TABLE}
    except DAMAGED as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise CheckpointError(
            f"{str(path)!r} is no .pdparams of Paddle with arrays alone: {reason}; {REMEDY}"
        ) from None
    if not state:
        raise CheckpointError(f"expected a network in {str(path)!r}, got no arrays; {REMEDY}")
    return dict(_renamed(key, value) for key, value in state.items())


def _tensor(value: object) -> Tensor:
    """An array; newer versions of Paddle save a tuple of its name and itself."""
    arguments = getattr(value, "arguments", None)
    if getattr(value, "name", "").endswith(" tuple") and isinstance(arguments, tuple) and len(arguments) == 1:
        value = arguments[0]
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str):
        value = value[1]
    array = numbers(value)
    return torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("="), order="C"))


def _renamed(key: str, value: Tensor) -> tuple[str, Tensor]:
    before, _, last = key.rpartition(".")
    name = f"{before}.{_NAMES.get(last, last)}"
    return name, value.T.contiguous() if last == "weight" and value.ndim == 2 else value
