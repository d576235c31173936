"""Defenses with a key. One key protects the whole store; an attacker may steal it together with the store.

A key is any text. The scheme's name and the key seed all random numbers. Where a paper gives every user an own key, its
accuracy is that of key and face together; here it is that of the face alone.
"""

import functools
import hashlib
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize, relu

from arcinvert.audit.defenses.base import Defense, sign
from arcinvert.errors import UsageError


def generator_of(scheme: str, key: str) -> np.random.Generator:
    """The random generator that a key seeds."""
    digest = hashlib.sha256(f"{scheme}:{key}".encode("utf-8", "surrogateescape")).digest()
    return np.random.default_rng(np.frombuffer(digest, np.uint32))


def orthogonal(draw: np.random.Generator, size: int) -> Tensor:
    """(size, size) float32, uniform among the orthogonal matrices (Mezzadri 2007)."""
    q, r = np.linalg.qr(draw.standard_normal((size, size)))
    return torch.from_numpy((q * np.sign(np.diag(r))).astype(np.float32))


@dataclass(frozen=True)
class Keyed(Defense):
    """A defense with a key.

    Attributes:
        key: any text.
    """

    key: str = field(repr=False)

    def __post_init__(self) -> None:
        if not self.key:
            raise UsageError(f"expected a key after {self.scheme()!r}, such as {self.scheme()}:17")

    @classmethod
    def scheme(cls) -> str:
        """The name of the scheme."""
        return cls.__name__.lower()

    @property
    def spec(self) -> str:
        return f"{self.scheme()}:{self.key}"

    @property
    def label(self) -> str:
        return f"{self.scheme()}:KEY"

    @property
    def fingerprint(self) -> str:
        # A slow hash: a key that a person made up would be found from a fast one by trying.
        key = self.key.encode("utf-8", "surrogateescape")
        return f"{self.scheme()}:{hashlib.scrypt(key, salt=b'arcinvert', n=1 << 14, r=8, p=1, dklen=16).hex()}"

    @property
    def keyed(self) -> bool:
        return True

    def without_key(self, seed: int) -> Self:
        # Nobody can type this text, so it is never the true key.
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
    exponents e are 1 to 5 in some order; the key determines both. Neighboring fives share two elements, the middle one
    of the overlaps 0 to 4 that the paper studies; zeros fill the last five.
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
        """The one of 64 keys under which the attacker's own faces are distributed most like the templates.

        The higher powers of a unit embedding are small, so keys differ mostly in place and sign of the linear element:
        ten possibilities.
        """
        tried = [self.without_key(seed + number) for number in range(TRIES)]
        return max(tried, key=lambda one: likelihood(templates, one.protect(own, range(len(own)))))


OVERLAP = 2
TRIES = 64


def likelihood(templates: Tensor, known: Tensor) -> float:
    """Mean log density of templates (B, K), up to a constant, under a normal distribution fitted to ``known`` (M, K).

    Both are normalized first.
    """
    rows, known = normalize(templates).double(), normalize(known).double()
    spread = torch.cov(known.T)
    spread = spread + 1e-4 * spread.diagonal().mean() * torch.eye(len(spread), dtype=spread.dtype, device=spread.device)
    root = torch.linalg.cholesky(spread)
    whitened = torch.linalg.solve_triangular(root, (rows - known.mean(0)).T, upper=False)
    return float(-0.5 * whitened.square().sum(0).mean() - root.diagonal().log().sum())


class MlpHash(Keyed):
    """MLP-Hash (Shahreza et al. 2023): a random network of orthonormal weights; a bit for each output above its mean.

    As in the paper, three hidden layers of twice the embedding's size with ReLU; D bits, as -1 or 1.
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
    return orthogonal(generator_of(scheme, key), size)


@functools.lru_cache(maxsize=32)
def polynomial(key: str) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Coefficients and exponents of PolyProtect for a key, five each."""
    draw = generator_of("polyprotect", key)
    coefficients = draw.integers(1, 51, 5) * draw.choice([-1, 1], 5)
    return tuple(float(c) for c in coefficients), tuple(int(e) for e in draw.permutation(5) + 1)
