"""The key of some canaries: what was planted, and the distribution it was drawn from."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from arcinvert.checkpoint import atomic_write
from arcinvert.errors import InputError

HEADER_KEY, FORMAT = "arcinvert-canaries", 1
LARGEST = 1 << 27
"""Bytes of a key: 4 MiB for each thousand canaries of 1024 numbers and for their distribution."""
Rows = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class CanaryKey:
    """What finds the canaries again. Whoever has it can also remove them from a dump: keep it apart from the store.

    Attributes:
        templates: (K, D) as they were planted.
        mean, factor: (D,) and (D, D): canaries are ``mean + g @ factor`` with standard normal ``g`` (D,), then scaled
            to the norm of a random template.
        seed: of the decoys.
        store: SHA-256 of the usable templates of the store that they were made for.
    """

    templates: Rows
    mean: Rows
    factor: Rows
    seed: int
    store: str

    def draw(self, count: int, generator: np.random.Generator) -> Rows:
        """(count, D) more of the same distribution, unit norm."""
        rows = self.mean + generator.standard_normal((count, len(self.mean)), np.float32) @ self.factor
        return unit_rows(rows)

    def save(self, path: Path) -> None:
        """Write the key, readable by its owner alone.

        Raises:
            EnvironmentProblem: the file cannot be written.
        """
        header = json.dumps({"format": FORMAT, "seed": f"{self.seed:x}", "store": self.store})
        tensors = {name: torch.from_numpy(np.ascontiguousarray(getattr(self, name))) for name in _SHAPES}
        with atomic_write(path) as temporary:
            temporary.write_bytes(save(tensors, {HEADER_KEY: header}))
        path.chmod(0o600)

    @classmethod
    def load(cls, path: Path) -> "CanaryKey":
        """Read a key.

        Raises:
            InputError: no such file, damaged, or no key.
        """
        try:
            if path.stat().st_size > LARGEST:
                raise InputError(f"expected a key of at most {LARGEST} bytes, {str(path)!r} has {path.stat().st_size}")
            with safe_open(path, framework="pt") as file:
                header = json.loads((file.metadata() or {})[HEADER_KEY])
                tensors = {name: file.get_tensor(name).numpy() for name in _SHAPES}
            key = cls(**tensors, seed=int(header["seed"], 16), store=str(header["store"]))
        except OSError as error:
            raise InputError(f"cannot read {str(path)!r}: {error.strerror or error}") from None
        except (SafetensorError, KeyError, ValueError, TypeError, RecursionError):
            raise InputError(f"expected the key of canaries, {str(path)!r} is none, or damaged") from None
        size = key.mean.shape[-1] if key.mean.ndim == 1 else 0
        shapes = {name: getattr(key, name).shape for name in _SHAPES}
        expected = {"templates": (len(key.templates), size), "mean": (size,), "factor": (size, size)}
        if not size or not len(key.templates) or shapes != expected or key.templates.dtype != np.float32:
            raise InputError(f"expected the key of canaries, {str(path)!r} has tensors of shapes {shapes}")
        return key


_SHAPES = ("templates", "mean", "factor")


def unit_rows(rows: Rows) -> Rows:
    """(N, D) scaled to unit norm."""
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)
