"""The only reader and writer of our weights: safetensors with a JSON header.

The tensors of the network are named ``network.*``, those of a calibration ``calibration.*``,
class centers, where they are kept, ``head.centers``. The header describes the network and its image
contract. A network's weights may be kept in 8 bits or fewer: then ``network.NAME`` is int8, and
``unit.NAME`` is its scale (:mod:`arcinvert.quantize`).
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from arcinvert.backbones import build_backbone
from arcinvert.backbones.graph import Graph
from arcinvert.errors import CheckpointError, EnvironmentProblem
from arcinvert.locking import temporary_file
from arcinvert.quantize import dequantize, quantize

HEADER_KEY = "arcinvert"
FORMAT = 2
UNSTATED = "not stated"
"""The license of weights whose file states none."""
MAX_LICENSE = 300
"""Characters of a license line that are kept."""


@dataclass(frozen=True)
class Checkpoint:
    """The content of a weight file.

    Attributes:
        header: the JSON header.
        tensors: every tensor by its full name, as stored.
        digest: SHA-256 of the file, hexadecimal.
    """

    header: dict[str, Any]
    tensors: dict[str, Tensor] = field(repr=False)
    digest: str

    def network(self) -> dict[str, Tensor]:
        """The tensors of the network, without the prefix; int8 weights are dequantized.

        Raises:
            CheckpointError: int8 weights whose scale is missing or does not fit.
        """
        tensors, units = self.section("network"), self.section("unit")
        for name, value in tensors.items():
            if value.dtype == torch.int8:
                try:
                    tensors[name] = dequantize(value, units[name])
                except (KeyError, ValueError):
                    raise CheckpointError(f"the int8 weights {name} have no scale that fits; it is damaged") from None
        return tensors

    def section(self, name: str) -> dict[str, Tensor]:
        """The tensors named ``name.*``, without the prefix."""
        return section(self.tensors, name)


def section(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """The tensors named ``name.*``, without the prefix."""
    prefix = name + "."
    return {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place when the block ends without an error.

    What a killed writer of ``path`` left is removed with it; see :func:`~arcinvert.locking.temporary_file`.

    Raises:
        EnvironmentProblem: the disk is full, or the folder cannot be written.
    """
    temporary: Path | None = None
    handle: int | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary, handle = temporary_file(path)
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        os.replace(temporary, path)
        temporary = None
    except OSError as error:
        raise EnvironmentProblem(f"cannot write {str(path)!r}: {error.strerror or error}") from None
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        if handle is not None:
            os.close(handle)


def stated_license(header: Mapping[str, Any]) -> str:
    """The license that a header states, of the file itself or of the file it was made from, in one line."""
    source = header.get("source")
    for place in (header, source if isinstance(source, Mapping) else {}):
        text = place.get("license")
        line = " ".join(text.split())[:MAX_LICENSE] if isinstance(text, str) else ""
        if line and line != UNSTATED:
            return line
    return UNSTATED


def save_checkpoint(path: Path, header: dict[str, Any], tensors: dict[str, Tensor]) -> str:
    """Write a checkpoint; the old file stays whole until the new one is complete.

    Every header has a ``license``: the one that ``header`` states (see :func:`stated_license`), or "not stated".

    Returns:
        The SHA-256 digest of the new file.
    """
    ready = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    with atomic_write(path) as temporary:
        metadata = {
            HEADER_KEY: json.dumps({"format": FORMAT, **header, "license": stated_license(header)}, sort_keys=True)
        }
        temporary.write_bytes(save(ready, metadata))  # safetensors' own writer hides a full disk in its error
        return file_digest(temporary)


def quantized(weights: dict[str, Tensor], *, bits: int = 8) -> dict[str, Tensor]:
    """Weights of a network as stored in few bits: ``network.NAME`` and ``unit.NAME``; see :meth:`Checkpoint.network`.

    Args:
        weights: (C, ...) each, by its name in the network.
        bits: of a number, from 2 to 8; see :func:`~arcinvert.quantize.quantize`.
    """
    tensors = {}
    for name, value in weights.items():
        tensors[f"network.{name}"], tensors[f"unit.{name}"] = quantize(value, bits)
    return tensors


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint that :func:`save_checkpoint` wrote.

    Raises:
        CheckpointError: no such file, not safetensors, damaged, or without our header.
    """
    if not path.is_file():
        raise CheckpointError(f"expected a checkpoint file, found none at {str(path)!r}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{str(path)!r} is not a whole safetensors file: {error}") from None
    if HEADER_KEY not in metadata:
        raise CheckpointError(f"{str(path)!r} is a safetensors file, but carries no arcinvert header")
    try:
        header = json.loads(metadata[HEADER_KEY])
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"the header of {str(path)!r} is not JSON: {error}") from None
    if not isinstance(header, dict) or header.get("format") not in (1, FORMAT):
        found = header.get("format") if isinstance(header, dict) else header
        raise CheckpointError(f"{str(path)!r} has header format {found!r}, this version reads 1 to {FORMAT}")
    if header["format"] == 1:
        header, tensors = _from_format_1(header, tensors)
    return Checkpoint(header, tensors, file_digest(path))


def load_strictly(module: torch.nn.Module, tensors: dict[str, Tensor], source: str) -> None:
    """Load ``tensors`` into ``module`` (float16 is widened); every name and shape must agree.

    Raises:
        CheckpointError: lists the first five disagreements.
    """
    expected = module.state_dict()
    wrong = [f"{key} is missing" for key in expected if key not in tensors]
    wrong += [f"{key} is not part of the network" for key in tensors if key not in expected]
    wrong += [
        f"{key} is {tuple(tensors[key].shape)}, expected {tuple(value.shape)}"
        for key, value in expected.items()
        if key in tensors and tensors[key].shape != value.shape
    ]
    if wrong:
        raise CheckpointError(f"{source} does not fit its network ({len(wrong)} mismatches): {'; '.join(wrong[:5])}")
    module.load_state_dict({key: value.to(expected[key].dtype) for key, value in tensors.items()})


def build_network(stored: Checkpoint, source: str) -> torch.nn.Module:
    """The network of a checkpoint with its weights, not frozen; ``source`` names it in errors.

    Raises:
        CheckpointError: the header describes no network, or the weights do not fit it.
    """
    header = stored.header
    backbone, settings, size = (header.get(key) for key in ("backbone", "backbone_settings", "embedding_size"))
    if not isinstance(backbone, str) or not isinstance(settings, dict) or type(size) is not int:
        raise CheckpointError(f"the header of {source!r} does not describe a network")
    if settings.get("embedding_size", size) != size:
        raise CheckpointError(f"expected a {size}-d network in {source!r}, got {settings['embedding_size']}-d")
    network = build_backbone(backbone, **settings)
    load_strictly(network, stored.network(), source)
    if isinstance(network, Graph) and network.embedding_size != size:
        raise CheckpointError(f"expected a {size}-d network in {source!r}, got {network.embedding_size}-d")
    return network


def file_digest(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _from_format_1(header: dict[str, Any], tensors: dict[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Names of format 1, whose spelling was British, as those of format 2."""

    def renamed(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {{"colour": "color", "licence": "license"}.get(key, key): renamed(v) for key, v in value.items()}

    centers = {"head.centers": tensors["head.centres"]} if "head.centres" in tensors else {}
    return renamed(header), {key: v for key, v in tensors.items() if key != "head.centres"} | centers
