"""An adapter: a small network that maps stored embeddings to embeddings that compare better, or to another space.

It needs no images. :mod:`arcinvert.training.adapter` trains one on labeled embeddings. Its file is one of ours
(safetensors), whose header has ``kind: adapter``.

Deng et al. 2021, section 4.3: a perceptron of three layers on the embeddings of videos (iQIYI-VID).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import normalize

from arcinvert.checkpoint import load_checkpoint, load_strictly
from arcinvert.errors import CheckpointError, InputError

KIND = "adapter"
MAX_WIDTH = 1 << 14
"""Width of a layer that a file may ask for."""
AT_ONCE = 8192
"""Embeddings in one forward pass."""


class Perceptron(nn.Module):
    """Three linear layers, two of them followed by BatchNorm and PReLU.

    Where input and output have one size, the input is added to the output, so that a new network is the identity.

    Args:
        size: D of the input.
        hidden: width of both hidden layers.
        out: D of the output.
    """

    def __init__(self, size: int, hidden: int, out: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(size, hidden, bias=False),
            nn.BatchNorm1d(hidden),
            nn.PReLU(hidden),
            nn.Linear(hidden, hidden, bias=False),
            nn.BatchNorm1d(hidden),
            nn.PReLU(hidden),
            nn.Linear(hidden, out),
        )
        self.skips = size == out
        if self.skips:
            last = self.layers[-1]
            assert isinstance(last, nn.Linear)
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(self, embeddings: Tensor) -> Tensor:
        """(B, D), unit norm -> (B, D'), of any norm."""
        # Components of unit vectors are about 1 / sqrt(D); the layers get some of about 1.
        moved: Tensor = self.layers(embeddings * embeddings.shape[1] ** 0.5)
        return embeddings + moved if self.skips else moved


@dataclass(frozen=True, eq=False)
class Adapter:
    """A trained adapter.

    Attributes:
        network: in eval mode.
        size: D of the embeddings that it takes.
        embedding_size: D of those that it gives.
        header: of the file: ``recognizer`` is the digest of the network that the embeddings are of, if it is known.
        digest: SHA-256 of the file.
    """

    network: Perceptron = field(repr=False)
    size: int
    embedding_size: int
    header: Mapping[str, Any] = field(repr=False)
    digest: str

    @classmethod
    def load(cls, path: Path) -> "Adapter":
        """Read an adapter.

        Raises:
            CheckpointError: no such file, damaged, or no adapter.
        """
        stored = load_checkpoint(path)
        header = stored.header
        if header.get("kind") != KIND:
            raise CheckpointError(f"expected an adapter, got {header.get('kind', 'a recognizer')} in {str(path)!r}")
        widths = [header.get(key) for key in ("size", "hidden", "embedding_size")]
        if any(type(width) is not int or not 0 < width <= MAX_WIDTH for width in widths):
            raise CheckpointError(f"expected widths of 1 to {MAX_WIDTH} in the adapter {str(path)!r}, got {widths}")
        size, hidden, out = (int(width) for width in widths if width is not None)
        network = Perceptron(size, hidden, out)
        load_strictly(network, stored.section("network"), repr(str(path)))
        if any(not bool(torch.isfinite(value).all()) for value in network.state_dict().values()):
            raise CheckpointError(f"the adapter {str(path)!r} has weights that are not finite")
        return cls(network.eval().requires_grad_(False), size, out, header, stored.digest)

    @torch.no_grad()
    def __call__(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, D) unit norm -> (N, D') float32, unit norm.

        Raises:
            InputError: embeddings of another dimension.
        """
        if rows.ndim != 2 or rows.shape[1] != self.size:
            raise InputError(f"the adapter takes {self.size}-d embeddings, got {rows.shape[-1]}-d")
        parts = [torch.from_numpy(rows[i : i + AT_ONCE]) for i in range(0, len(rows), AT_ONCE)]
        found = [normalize(self.network(part)) for part in parts]
        return torch.cat(found).numpy() if found else np.empty((0, self.embedding_size), np.float32)
