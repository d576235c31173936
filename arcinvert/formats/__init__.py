"""Importers of foreign weight files, one module per format; each returns one of our checkpoints."""

import json
from pathlib import Path

from arcinvert.checkpoint import HEADER_KEY, Checkpoint, load_checkpoint
from arcinvert.errors import CheckpointError, EnvironmentProblem
from arcinvert.formats.hub import locate
from arcinvert.formats.other_frameworks import refuse_other_framework

FORMATS = (
    "arcinvert or CVLFace safetensors, ONNX, arcface_torch or AdaFace .pth/.pt/.ckpt, MXNet -symbol.json + .params"
)

_ONNX_FIELDS = (b"\x12", b"\x1a", b"\x22", b"\x28", b"\x32", b"\x3a", b"\x42")
"""Field tags that may follow the version at the start of an ONNX file: producer, domain, model version, graph..."""


def open_checkpoint(name: Path | str) -> Checkpoint:
    """Read a weight file of any supported format; the content decides the format, and else the name.

    Args:
        name: path of the file, or name of a known recognizer (see :func:`~arcinvert.formats.hub.locate`).

    Raises:
        CheckpointError: no such file, of no supported format, damaged or refused.
        EnvironmentProblem: the file cannot be read, or a package is missing.
    """
    path = locate(name)
    if not path.is_file():
        raise CheckpointError(f"expected a checkpoint file, found none at {str(path)!r}")
    suffix = path.suffix.lower()
    try:
        with open(path, "rb") as file:
            start = file.read(16)
    except OSError as error:
        raise EnvironmentProblem(f"cannot read {str(path)!r}: {error.strerror or error}") from None
    refuse_other_framework(path, start)
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") < 1 << 27:
        if _is_ours(path):
            return load_checkpoint(path)
        kind = "torch"
    elif start[:4] == b"PK\x03\x04" or start[:1] == b"\x80":
        kind = "torch"
    elif start[:1] == b"\x08" and start[1:2] < b"\x20" and start[2:3] in _ONNX_FIELDS:
        kind = "onnx"
    else:
        # The name decides for MXNet's two files, damaged files and rarer layouts.
        kind = {".onnx": "onnx", ".params": "mxnet", ".safetensors": "ours"}.get(suffix, "")
        kind = "torch" if suffix in (".pth", ".pt", ".ckpt", ".bin", ".tar", ".pdparams") else kind
        kind = "mxnet" if path.name.endswith("-symbol.json") else kind
    if kind == "onnx":
        from arcinvert.formats import onnx as onnx_file
        from arcinvert.formats.layouts import as_iresnet

        return as_iresnet(onnx_file.read(path))
    if kind == "mxnet":
        from arcinvert.formats import mxnet as mxnet_file
        from arcinvert.formats.layouts import as_iresnet

        return as_iresnet(mxnet_file.read(path))
    if kind == "torch":
        from arcinvert.formats import torch_file

        return torch_file.read(path)
    if kind == "ours":
        return load_checkpoint(path)  # raises the error that fits
    raise CheckpointError(f"{str(path)!r} is of no supported format; expected {FORMATS}")


def _is_ours(path: Path) -> bool:
    """Whether a file that looks like safetensors has our header, or is too damaged to tell."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        try:
            header = json.loads(file.read(length))
        except (ValueError, RecursionError):
            return True
    metadata = header.get("__metadata__") if isinstance(header, dict) else None
    return not isinstance(header, dict) or (isinstance(metadata, dict) and HEADER_KEY in metadata)
