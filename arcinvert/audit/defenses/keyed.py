"""Defenses with a key. One key serves the whole store: what an attacker has who took the store, and perhaps its key.

A key is any text. All that is drawn follows from the scheme's name and the key. Where the papers give every user a key
of his own, the accuracy they report is that of the key as well as of the face; here it is the face's alone.
"""

import functools
import hashlib
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize, relu

from arcinvert.audit.defenses.base import Defense, sign
from arcinvert.errors import UsageError


def drawing(scheme: str, key: str) -> np.random.Generator:
    """The generator behind a key."""
    digest = hashlib.sha256(f"{scheme}:{key}".encode("utf-8", "surrogateescape")).digest()
    return np.random.default_rng(np.frombuffer(digest, np.uint32))


def orthogonal(draw: np.random.Generator, size: int) -> Tensor:
    """(size, size) float32, uniform among the orthogonal matrices (Mezzadri 2007)."""
    q, r = np.linalg.qr(draw.standard_normal((size, size)))
    return torch.from_numpy((q * np.sign(np.diag(r))).astype(np.float32))


@dataclass(frozen=True)
class Keyed(Defense):
    """What those with a key share.

    Attributes:
        key: any text.
    """

    key: str

    def __post_init__(self) -> None:
        if not self.key:
            raise UsageError(f"expected a key after {self.scheme()!r}, such as {self.scheme()}:17")

    @classmethod
    def scheme(cls) -> str:
        """Its name."""
        return cls.__name__.lower()

    @property
    def spec(self) -> str:
        return f"{self.scheme()}:{self.key}"

    @property
    def keyed(self) -> bool:
        return True

    def without_key(self, seed: int) -> Self:
        # A text that no one types: it is never the key itself.
        return replace(self, key=f"\x00guess {seed}")


class Rotate(Keyed):
    """A secret rotation: the embedding times a random orthogonal matrix. All cosines stay what they were."""

    def soft(self, embeddings: Tensor) -> Tensor:
        return embeddings @ _rotation("rotate", self.key, embeddings.shape[1]).to(embeddings)

    def estimate(self, templates: Tensor, own: Tensor) -> Tensor:
        return normalize(templates @ _rotation("rotate", self.key, own.shape[1]).to(templates).T)


class BioHash(Keyed):
    """BioHashing (Teoh et al. 2004): signs of the inner products with D random orthonormal vectors, threshold 0."""

    def soft(self, embeddings: Tensor) -> Tensor:
        return sign(embeddings @ _rotation("biohash", self.key, embeddings.shape[1]).to(embeddings))


class PolyProtect(Keyed):
    """PolyProtect (Hahn and Marcel 2022): a polynomial over every five neighboring elements.

    ``p_i = c_1 v_i^e_1 + ... + c_5 v_(i+4)^e_5``: the coefficients c are whole numbers in -50 to 50 without 0, the
    exponents e are 1 to 5 in some order, both of the key. Neighboring fives share two elements; the last is
    filled with zeros. Of the overlaps 0 to 4 that the paper studies this is the middle one.
    """

    def soft(self, embeddings: Tensor) -> Tensor:
        coefficients, exponents = polynomial(self.key)
        step = len(exponents) - OVERLAP
        size = embeddings.shape[1]
        blocks = 1 + max(0, -(-(size - len(exponents)) // step))
        missing = (blocks - 1) * step + len(exponents) - size
        windows = torch.nn.functional.pad(embeddings, (0, missing)).unfold(1, len(exponents), step)
        powers = torch.stack([windows[..., i] ** e for i, e in enumerate(exponents)], -1)
        return powers @ torch.tensor(coefficients, dtype=embeddings.dtype, device=embeddings.device)

    def guessed(self, templates: Tensor, own: Tensor, seed: int) -> Defense:
        """Of 64 keys the one by which the attacker's own faces would be spread most like the templates.

        Of a unit embedding the higher powers are small, so keys differ mostly in the place and the sign of the linear
        element: there are ten of those.
        """
        tried = [self.without_key(seed + number) for number in range(TRIES)]
        return max(tried, key=lambda one: likelihood(templates, one.protect(own, range(len(own)))))


OVERLAP = 2
TRIES = 64


def likelihood(templates: Tensor, known: Tensor) -> float:
    """Mean log density of templates (B, K), up to a constant, under a normal distribution as ``known`` (M, K) has it.

    Of directions: both are made unit first.
    """
    rows, known = normalize(templates).double(), normalize(known).double()
    spread = torch.cov(known.T)
    spread = spread + 1e-4 * spread.diagonal().mean() * torch.eye(len(spread), dtype=spread.dtype, device=spread.device)
    root = torch.linalg.cholesky(spread)
    whitened = torch.linalg.solve_triangular(root, (rows - known.mean(0)).T, upper=False)
    return float(-0.5 * whitened.square().sum(0).mean() - root.diagonal().log().sum())


class MlpHash(Keyed):
    """MLP-Hash (Shahreza et al. 2023): a random network of orthonormal weights, then above or below its output's mean.

    As there three hidden layers of twice the embedding's size with ReLU; D bits, as -1 or 1.
    """

    def soft(self, embeddings: Tensor) -> Tensor:
        size, x = embeddings.shape[1], embeddings
        for layer in range(HIDDEN):
            x = relu(x @ _rotation(f"mlphash {layer}", self.key, 2 * size).to(x)[: x.shape[1]])
        x = x @ _rotation(f"mlphash {HIDDEN}", self.key, 2 * size).to(x)[:, :size]
        return sign(x - x.mean(1, keepdim=True))


HIDDEN = 3


@functools.lru_cache(maxsize=32)
def _rotation(scheme: str, key: str, size: int) -> Tensor:
    return orthogonal(drawing(scheme, key), size)


@functools.lru_cache(maxsize=32)
def polynomial(key: str) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Coefficients and exponents of PolyProtect for a key, five each."""
    draw = drawing("polyprotect", key)
    coefficients = draw.integers(1, 51, 5) * draw.choice([-1, 1], 5)
    return tuple(float(c) for c in coefficients), tuple(int(e) for e in draw.permutation(5) + 1)
