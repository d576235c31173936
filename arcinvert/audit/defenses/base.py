"""The interface of a defense: how templates are stored, how they are compared, and how they are attacked."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.functional import normalize

from arcinvert.calibration.regression import fit_regression
from arcinvert.errors import InputError
from arcinvert.inversion.terms import Term
from arcinvert.recognizer import Trace


class Defense(ABC):
    """A way to store embeddings. D is the size of an embedding, K that of a stored template.

    The attacker knows the scheme, and the key unless :meth:`without_key` replaced it. So :meth:`soft` is known, and the
    gradient of the attack goes through the defense to the pixels.
    """

    @property
    @abstractmethod
    def spec(self) -> str:
        """As :func:`~arcinvert.audit.defenses.parse_defense` reads it, such as ``rotate:17``."""

    @property
    def label(self) -> str:
        """The spec as it is printed and reported: without the key."""
        return self.spec

    @property
    def fingerprint(self) -> str:
        """What tells the defense from others in the files of a run: without the key."""
        return self.spec

    @abstractmethod
    def soft(self, embeddings: Tensor) -> Tensor:
        """(B, D) unit norm -> (B, V), whose cosine to :meth:`values` of a template is the score; differentiable.

        A step without a useful gradient (sign, rounding, choice of a codeword) keeps its result and gets a substitute
        gradient ("straight-through", Bengio et al. 2013).
        """

    def fitted(self, own: Tensor) -> "Defense":
        """The defense, ready for embeddings like ``own`` (M, D), unit norm; it learns from them what it has to learn.

        Raises:
            UsageError: it does not fit embeddings of this size.
        """
        return self

    def protect(self, embeddings: Tensor, ids: Sequence[int]) -> Tensor:
        """(N, D) unit norm -> (N, K) templates as stored; ``ids`` (N) seed the randomness of each record."""
        with torch.no_grad():
            return self.soft(embeddings)

    def values(self, templates: Tensor) -> Tensor:
        """(B, K) templates -> (B, V) vectors that are compared by cosine."""
        return templates

    def compare(self, a: Tensor, b: Tensor) -> Tensor:
        """Templates (N, K) and (M, K) -> (N, M) scores in [-1, 1], higher is more alike."""
        a, b = self.values(a), self.values(b)
        # Division comes after the product, which is exact for bits and whole numbers: equal scores stay equal.
        lengths = torch.linalg.vector_norm(a, dim=1)[:, None] * torch.linalg.vector_norm(b, dim=1)
        scores: Tensor = (a @ b.T) / lengths.clamp_min(1e-30)
        return scores.clamp(-1, 1)

    def term(self, templates: Tensor) -> Term:
        """1 - score between a reconstruction and the stored templates (B, K), as a term of an inversion."""
        return TemplateMatch(self, normalize(self.values(templates)))

    def estimate(self, templates: Tensor, own: Tensor) -> Tensor:
        """The attacker's best guess of the embeddings behind templates.

        Ridge regression from protected templates to embeddings, fitted to the attacker's own faces.

        Args:
            templates: (B, K).
            own: (M, D), unit norm, of the attacker's own faces, at least 10.

        Returns:
            (B, D), unit norm.
        """
        known = normalize(self.values(self.protect(own, range(len(own)))))
        return fit_regression(known, own, len(own) // 5, unit_norm=True).predict(normalize(self.values(templates)))

    def without_key(self, seed: int) -> "Defense":
        """The defense with another key, as an attacker assumes who does not know it; itself where there is no key."""
        return self

    def guessed(self, templates: Tensor, own: Tensor, seed: int) -> "Defense":
        """The defense that an attacker without the key assumes after seeing the templates (B, K).

        :meth:`without_key`, unless the scheme has so few different keys that trying some helps.

        Args:
            templates: (B, K).
            own: (M, D), unit norm, of the attacker's own faces.
            seed: of the keys that are tried.
        """
        return self.without_key(seed)

    @property
    def keyed(self) -> bool:
        """Whether there is a key."""
        return False


@dataclass(frozen=True, eq=False)
class TemplateMatch:
    """``1 - cos(soft(embedding), template)``, in [0, 2].

    Attributes:
        defense: of the templates.
        target: (B, V), unit norm, their values.
    """

    defense: Defense
    target: Tensor
    taps: tuple[str, ...] = ()

    def __call__(self, trace: Trace) -> Tensor:
        found = normalize(self.defense.soft(trace.embedding))
        if found.shape != self.target.shape:
            raise InputError(f"expected templates {tuple(found.shape)}, got {tuple(self.target.shape)}")
        return 1 - (found * self.target.to(found)).sum(1)


class _Sign(torch.autograd.Function):
    """-1 or 1, 1 for 0; the backward pass uses the slope of tanh at the scale of the row."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.where(x >= 0, 1.0, -1.0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        scale = x.square().mean(1, keepdim=True).sqrt().clamp_min(1e-12)
        slope: Tensor = grad * (1 - torch.tanh(x / scale).square()) / scale
        return slope


def sign(x: Tensor) -> Tensor:
    """(B, K) -> -1 or 1, with the gradient of tanh."""
    return cast(Tensor, _Sign.apply(x))


def straight_through(x: Tensor, result: Tensor) -> Tensor:
    """``result``, with the gradient of ``x`` (same shape)."""
    return x + (result - x).detach()
