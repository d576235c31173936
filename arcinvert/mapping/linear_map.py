"""A linear map between the embeddings of two recognizers, and its file: safetensors with a JSON header."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from arcinvert.checkpoint import atomic_write, file_digest
from arcinvert.errors import InputError

Rows = NDArray[np.float32]

HEADER_KEY, FORMAT = "arcinvert-map", 1
LARGEST_FILE = 512 << 20
"""Bytes; 8192 x 8192 numbers are 256 MiB."""
BLOCK = 8192
"""Rows that are mapped at a time."""


@dataclass(frozen=True, eq=False)
class LinearMap:
    """A linear map from embeddings of D numbers to embeddings of K numbers: ``(x - mean_from) weight + mean_to``.

    Attributes:
        weight: (D, K) float32.
        mean_from: (D,) float32, the mean of the embeddings that it was fitted to.
        mean_to: (K,) float32, the mean of the other recognizer's embeddings of the same pictures.
        header: what is known of its origin: ``to`` (SHA-256 of the recognizer), ``pairs`` and ``pictures`` (SHA-256 of
            the embeddings and of the pictures), ``ridge`` and ``quality``.
    """

    weight: Rows
    mean_from: Rows
    mean_to: Rows
    header: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shapes = (self.mean_from.shape, self.mean_to.shape)
        if self.weight.ndim != 2 or shapes != ((self.weight.shape[0],), (self.weight.shape[1],)):
            raise InputError(f"expected a map (D, K) with means (D,) and (K,), got {self.weight.shape} and {shapes}")

    @property
    def sizes(self) -> tuple[int, int]:
        """D and K."""
        return self.weight.shape[0], self.weight.shape[1]

    def apply(self, rows: Rows) -> Rows:
        """(N, D) -> (N, K), unit norm; rows are normalized first. A row without a direction becomes NaN.

        Raises:
            InputError: rows of another size.
        """
        if rows.ndim != 2 or rows.shape[1] != self.sizes[0]:
            raise InputError(f"expected embeddings (N, {self.sizes[0]}) for the map, got {rows.shape}")
        found = np.empty((len(rows), self.sizes[1]), np.float32)
        with np.errstate(over="ignore", invalid="ignore"):  # a map of huge numbers gives no direction
            offset = self.mean_to - self.mean_from @ self.weight
            for start in range(0, len(rows), BLOCK):
                part = slice(start, start + BLOCK)
                found[part] = _unit(_unit(rows[part]) @ self.weight + offset)
        return found

    def save(self, path: Path) -> None:
        """Write it; the old file stays until the new one is complete."""
        tensors = {"weight": self.weight, "mean_from": self.mean_from, "mean_to": self.mean_to}
        ready = {name: np.ascontiguousarray(value, np.float32) for name, value in tensors.items()}
        with atomic_write(path) as temporary:
            header = {"format": FORMAT, **self.header}
            temporary.write_bytes(save(ready, {HEADER_KEY: json.dumps(header, sort_keys=True)}))

    @classmethod
    def load(cls, path: Path) -> "LinearMap":
        """Read what :meth:`save` wrote; ``header["digest"]`` is the SHA-256 of the file.

        Raises:
            InputError: no such file, not a map, damaged, or with numbers that are not finite.
        """
        name = repr(str(path))
        if not path.is_file():
            raise InputError(f"expected a map of embeddings, found no file at {name}")
        if path.stat().st_size > LARGEST_FILE:
            raise InputError(f"expected a map of at most {LARGEST_FILE >> 20} MiB, {name} is larger")
        try:
            with safe_open(path, framework="numpy") as file:
                header = json.loads((file.metadata() or {}).get(HEADER_KEY, "null"))
                if not isinstance(header, dict) or header.get("format") != FORMAT:
                    raise InputError(f"{name} is no map of embeddings that this version reads")
                weight, *means = parts = [file.get_tensor(key) for key in ("weight", "mean_from", "mean_to")]
        except (SafetensorError, OSError, ValueError, RecursionError, TypeError) as error:
            raise InputError(f"{name} is not a whole map of embeddings: {str(error)[:200]}") from None
        if any(part.dtype != np.float32 or not np.isfinite(part).all() for part in parts):
            raise InputError(f"expected finite numbers in float32, the map {name} has others")
        return cls(weight, means[0], means[1], header | {"digest": file_digest(path)})


def _unit(rows: Rows) -> Rows:
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        norms = np.sqrt(np.einsum("nd,nd->n", rows, rows, dtype=np.float64))[:, None]
        return np.asarray(np.where((norms > 0) & np.isfinite(norms), rows / norms, np.nan), np.float32)
