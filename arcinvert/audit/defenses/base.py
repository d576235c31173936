"""What a defense is: how templates are kept, how they are compared, and what an attacker makes of them."""

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

    The attacker knows the scheme, and the key unless :meth:`without_key` took it away: he has :meth:`soft`, so his
    gradient goes through the defense to the pixels.
    """

    @property
    @abstractmethod
    def spec(self) -> str:
        """As :func:`~arcinvert.audit.defenses.parse_defense` reads it, such as ``rotate:17``."""

    @abstractmethod
    def soft(self, embeddings: Tensor) -> Tensor:
        """(B, D) unit norm -> (B, V), whose cosine to :meth:`values` of a template is the score; with a gradient.

        A step that has none of use (sign, rounding, choice of a codeword) keeps its result and is given one
        ("straight-through", Bengio et al. 2013).
        """

    def fitted(self, own: Tensor) -> "Defense":
        """The defense ready for embeddings like ``own`` (M, D), unit norm; what is learned, is learned from them.

        Raises:
            UsageError: it does not fit embeddings of this size.
        """
        return self

    def protect(self, embeddings: Tensor, ids: Sequence[int]) -> Tensor:
        """(N, D) unit norm -> (N, K) templates as stored; ``ids`` (N) decide what is drawn anew for every record."""
        with torch.no_grad():
            return self.soft(embeddings)

    def values(self, templates: Tensor) -> Tensor:
        """(B, K) templates -> (B, V) vectors that are compared by their cosine."""
        return templates

    def compare(self, a: Tensor, b: Tensor) -> Tensor:
        """Templates (N, K) and (M, K) -> (N, M) scores in [-1, 1], higher is more alike."""
        a, b = self.values(a), self.values(b)
        # Divided after the product: of bits and whole numbers it is exact, and scores that should tie do.
        lengths = torch.linalg.vector_norm(a, dim=1)[:, None] * torch.linalg.vector_norm(b, dim=1)
        scores: Tensor = (a @ b.T) / lengths.clamp_min(1e-30)
        return scores.clamp(-1, 1)

    def term(self, templates: Tensor) -> Term:
        """1 - score between a reconstruction and the stored templates (B, K), as a term of an inversion."""
        return TemplateMatch(self, normalize(self.values(templates)))

    def estimate(self, templates: Tensor, own: Tensor) -> Tensor:
        """The attacker's best guess of the embeddings behind templates.

        By ridge regression: he protects his own faces as the store does and learns the way back.

        Args:
            templates: (B, K).
            own: (M, D), unit norm, of the attacker's own faces, at least 10.

        Returns:
            (B, D), unit norm.
        """
        known = normalize(self.values(self.protect(own, range(len(own)))))
        return fit_regression(known, own, unit_norm=True).predict(normalize(self.values(templates)))

    def without_key(self, seed: int) -> "Defense":
        """What an attacker assumes who does not know the key: some other key; the same where there is none."""
        return self

    def guessed(self, templates: Tensor, own: Tensor, seed: int) -> "Defense":
        """What an attacker who does not know the key assumes once he has seen the templates (B, K).

        :meth:`without_key`, where there are too many keys that differ for trying some to be of use.

        Args:
            templates: (B, K).
            own: (M, D), unit norm, of the attacker's own faces.
            seed: of what he tries.
        """
        return self.without_key(seed)

    @property
    def keyed(self) -> bool:
        """Whether there is a key to know."""
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


@dataclass(frozen=True, eq=False)
class DrawnMatch:
    """A match to the template, and by ``share`` to what calibration expects of the face drawn in the face basis.

    What ``fast`` and ``best`` do by matching a point between the two (:func:`arcinvert.inversion.presets.halfway`):
    without it the last of the match is false detail, that deceives only the attacked network.

    Attributes:
        match: to the template.
        drawn: (B, D), unit norm: ``calibration.drawn`` of the estimate.
        share: 0 is the match alone.
    """

    match: Term
    drawn: Tensor
    share: float = 0.6

    @property
    def taps(self) -> tuple[str, ...]:
        """Those of the match."""
        return self.match.taps

    def __call__(self, trace: Trace) -> Tensor:
        drawn = 1 - (trace.embedding * self.drawn.to(trace.embedding)).sum(1)
        return (1 - self.share) * self.match(trace) + self.share * drawn


class _Sign(torch.autograd.Function):
    """-1 or 1, 0 counting as positive; backward the slope of tanh, at the scale of the row."""

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
