"""Rates: how many attempts a judge accepts as the enrolled person, with the controls beside them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, Protocol

import torch
from torch import Tensor

from arcinvert.audit.judges import Judge
from arcinvert.audit.thresholds import Threshold
from arcinvert.audit.types import Cosine, Count, Share
from arcinvert.evaluation.intervals import wilson_interval
from arcinvert.faceprior.prior import FacePrior

TYPE_I: Final = "type I"
TYPE_II: Final = "type II"
MEAN: Final = "control: mean face"
RANDOM: Final = "control: random face"
SHUFFLED: Final = "control: shuffled targets"
SECOND: Final = "control: second photo"
Kind = Literal[
    "type I",
    "type II",
    "control: mean face",
    "control: random face",
    "control: shuffled targets",
    "control: second photo",
]

ATTACK: Final = (TYPE_I, TYPE_II)
KNOW_NOTHING: Final = (MEAN, RANDOM, SHUFFLED)
"""Controls that know nothing of the person."""


class WithThresholds(Protocol):
    """What decides at thresholds: a judge, or a system that is known by its embeddings alone."""

    @property
    def name(self) -> str: ...
    @property
    def thresholds(self) -> tuple[Threshold, ...]: ...


@dataclass(frozen=True, eq=False)
class References:
    """One judge's embeddings of what was enrolled; reconstructions are compared with them.

    Attributes:
        enrolled: (N, D), unit norm, of the enrolled image (or the stored template); NaN where there is none.
        second: (N, D) of another image (or template) of the same person; NaN where there is none.
    """

    enrolled: Tensor
    second: Tensor


@dataclass(frozen=True)
class Rate:
    """How often one judge accepts, at one threshold.

    Attributes:
        judge: its name.
        kind: type I (compared with what was enrolled), type II (with another image of the person), or a control.
        fmr: false match rate of the threshold.
        accepted: None where there is no threshold.
        tried: attempts; one that failed counts as tried.
        rate, low, high: ratio and 95 % Wilson interval; None where there is no threshold, or nothing was tried.
        cosine: mean over the attempts that gave an image, None if none did.
        threshold: the cosine from which the judge accepts; None where there is none.
        impostor_identities: people whose pairs fixed it.
        given: whether it is the system's own threshold.
        floor: the highest rate of a control that knows nothing of the person, at this threshold.
        ceiling: the rate of real second photos, at this threshold.
        p_value: adjusted p-value of "no more than chance" (:func:`~arcinvert.audit.claims.with_p_values`); None where
            this was not tested.
    """

    judge: str
    kind: Kind
    fmr: Share
    accepted: Count | None
    tried: Count
    rate: Share | None
    low: Share | None
    high: Share | None
    cosine: Cosine | None
    threshold: float | None = None
    impostor_identities: Count = 0
    given: bool = False
    floor: Share | None = None
    ceiling: Share | None = None
    p_value: Share | None = None

    @classmethod
    def measured(
        cls, judge: str, kind: Kind, fmr: float, accepted: int | None, tried: int, cosine: float | None = None
    ) -> "Rate":
        """From the counts."""
        rate, low, high = (None, None, None) if accepted is None or not tried else ratio(accepted, tried)
        mean = None if cosine is None else round(cosine, 4)
        return cls(judge, kind, fmr, accepted, tried, rate, low, high, mean)


def ratio(accepted: int, tried: int) -> tuple[float, float, float]:
    """``accepted / tried`` and the ends of its 95 % Wilson interval, to six digits."""
    low, high = wilson_interval(accepted, tried)
    return round(accepted / tried, 6), round(low, 6), round(high, 6)


def rates_at_thresholds(judge: WithThresholds, kind: Kind, scores: Tensor) -> list[Rate]:
    """A rate for each threshold of a judge.

    Args:
        judge: whose thresholds.
        kind: what is measured.
        scores: (N,) cosines; NaN was not tried, minus infinity failed.
    """
    tried = scores[~scores.isnan()]
    seen = tried[tried.isfinite()]
    cosine = float(seen.double().mean()) if len(seen) else None
    counts = [None if t.threshold is None else int((tried >= t.threshold).sum()) for t in judge.thresholds]
    return [
        replace(
            Rate.measured(judge.name, kind, t.fmr, count, len(tried), cosine),
            threshold=t.threshold,
            impostor_identities=t.impostor_identities,
            given=t.given,
        )
        for t, count in zip(judge.thresholds, counts, strict=True)
    ]


def with_bounds(rates: Sequence[Rate]) -> list[Rate]:
    """The rates of one judge, those of the attack with the floor and the ceiling at their threshold beside them."""
    found = []
    for rate in rates:
        there = [r for r in rates if (r.fmr, r.given) == (rate.fmr, rate.given) and r.rate is not None]
        floor = max((r.rate for r in there if r.kind in KNOW_NOTHING and r.rate is not None), default=None)
        ceiling = next((r.rate for r in there if r.kind == SECOND), None)
        found.append(replace(rate, floor=floor, ceiling=ceiling) if rate.kind in ATTACK else rate)
    return found


def attack_rates(judge: WithThresholds, references: References, reconstructed: Tensor) -> list[Rate]:
    """Type I and type II.

    Args:
        judge: any.
        references: of this judge.
        reconstructed: (N, D) its embeddings of the reconstructions; minus infinity where the attempt failed.
    """
    pairs: list[tuple[Kind, Tensor]] = [(TYPE_I, references.enrolled), (TYPE_II, references.second)]
    return [
        rate
        for kind, reference in pairs
        for rate in rates_at_thresholds(judge, kind, cosines(reconstructed, reference))
    ]


def embed_attempts(judge: Judge, images: Tensor, failed: Tensor) -> Tensor:
    """(N, D): a judge's embeddings of (N, 112, 112, 3) uint8; minus infinity where ``failed`` (N,)."""
    return judge.embed(images).masked_fill(failed[:, None], -torch.inf)


def cosines(rows: Tensor, reference: Tensor) -> Tensor:
    """(N,) cosines of two sets of (N, D); NaN where either has NaN, else minus infinity where ``rows`` failed."""
    failed = rows.isneginf().any(1)
    cosine = (rows.masked_fill(failed[:, None], 0) * reference).sum(1)
    return cosine.masked_fill(failed & ~reference.isnan().any(1), -torch.inf)


def control_rates(
    judge: Judge, references: References, reconstructed: Tensor, controls: Mapping[Kind, Tensor], others: Sequence[int]
) -> list[Rate]:
    """The rates of images that know nothing of the person, and of a real second photo.

    Args:
        judge, references, reconstructed: see :func:`attack_rates`.
        controls: kind -> (N or 1, 112, 112, 3) uint8, see :func:`control_faces`.
        others: (N,) for each target the row of another person; empty where there is none.
    """
    enrolled = references.enrolled
    scores = {kind: cosines(judge.embed(images).expand_as(enrolled), enrolled) for kind, images in controls.items()}
    if others:
        scores[SHUFFLED] = cosines(reconstructed[list(others)], enrolled)
    scores[SECOND] = cosines(references.second, enrolled)
    return [rate for kind, row in scores.items() for rate in rates_at_thresholds(judge, kind, row)]


def control_faces(prior: FacePrior, count: int, seed: int) -> dict[Kind, Tensor]:
    """The mean face, and ``count`` faces of the prior at random."""
    mean = prior.drawn(torch.zeros(1, prior.size, device=prior.device))
    rows = torch.randint(len(prior), (count,), generator=torch.Generator().manual_seed(seed)).tolist()
    return {MEAN: mean, RANDOM: prior.pictures(rows)}


def other_people(identities: Sequence[str | None] | None, count: int) -> list[int]:
    """For each target the next one of another person; empty if all are of one person.

    Args:
        identities: (N,) names; each row without a name counts as a person of its own.
        count: N.
    """
    found = []
    for row in range(count):
        after = [(row + step) % count for step in range(1, count)]
        name = None if identities is None else identities[row]
        other = [i for i in after if identities is None or name is None or identities[i] != name]
        found.append(other[0] if other else row)
    return found if all(other != row for row, other in enumerate(found)) else []
