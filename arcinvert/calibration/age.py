"""Age: how old a face looks, in years, as the auxiliary network's embedding tells it.

Ridge regression from the embeddings of the face prior's synthetic faces to the ages that another network read off
their pictures. ``scripts/make_age.py`` makes the file and says how far off it is.
"""

import functools
import importlib.resources
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import normalize

from arcinvert.calibration.auxiliary import SIZE
from arcinvert.checkpoint import load_checkpoint
from arcinvert.device import OnDevice
from arcinvert.errors import CheckpointError

AGES = (2.0, 80.0)
"""Years between which a face can be asked to look: those of the faces behind the regression."""


@dataclass(frozen=True, eq=False)
class AgeRegression(OnDevice):
    """A linear map from the auxiliary network's embeddings to years, and the way back.

    Attributes:
        weight: (128,).
        bias: ().
        year: (128,) what an embedding of somebody one year older has in addition, on average.
    """

    weight: Tensor
    bias: Tensor
    year: Tensor

    def years(self, embeddings: Tensor) -> Tensor:
        """(B, 128), unit norm -> (B,) years."""
        return embeddings @ self.weight + self.bias

    def at(self, embeddings: Tensor, years: Tensor) -> Tensor:
        """(B, 128), unit norm: the embeddings of the same people at ``years`` (B,); NaN leaves one as it is."""
        missing = (years - self.years(embeddings)).nan_to_num(0.0)
        return normalize(embeddings + missing[:, None] * self.year)


def load_age(path: Path) -> AgeRegression:
    """Read a regression of age.

    Raises:
        CheckpointError: not one, or damaged.
    """
    stored = load_checkpoint(path)
    if stored.header.get("kind") != "age":
        raise CheckpointError(f"{str(path)!r} is not a regression of age")
    shapes = {"weight": (SIZE,), "bias": (), "year": (SIZE,)}
    found = {name: stored.tensors[name].float() for name in shapes if name in stored.tensors}
    if {name: tuple(value.shape) for name, value in found.items()} != shapes:
        raise CheckpointError(f"the parts of the regression of age {str(path)!r} do not fit each other")
    if not all(bool(torch.isfinite(value).all()) for value in found.values()):
        raise CheckpointError(f"the regression of age {str(path)!r} is not finite")
    return AgeRegression(**found)


def default_age(device: torch.device | str = "cpu") -> AgeRegression:
    """The regression that ships with arcinvert, read once for each device."""
    return _default(str(device))


@functools.cache
def _default(device: str) -> AgeRegression:
    path = Path(str(importlib.resources.files("arcinvert") / "data" / "age.safetensors"))
    return load_age(path).to(device)
