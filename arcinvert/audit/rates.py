"""Success attack rates: how many of the attempts a judge accepts, with the controls beside them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from arcinvert.audit.judges import Judge
from arcinvert.evaluation.intervals import wilson_interval
from arcinvert.faceprior.prior import FacePrior
from arcinvert.inversion.invert import to_bytes

TYPE_I, TYPE_II = "type I", "type II"
MEAN, RANDOM, SHUFFLED, SECOND = (
    "control: mean face",
    "control: random face",
    "control: shuffled targets",
    "control: second photo",
)


@dataclass(frozen=True, eq=False)
class Held:
    """What one judge holds reconstructions against: its embeddings of what was enrolled.

    Attributes:
        first: (N, D), unit norm, of the enrolled picture (or the stored template); NaN where there is none.
        second: (N, D) of another picture (or template) of the same person; NaN where there is none.
    """

    first: Tensor
    second: Tensor


@dataclass(frozen=True)
class Row:
    """A success attack rate.

    Attributes:
        what: type I, type II or a control.
        fmr: at the threshold for this false match rate.
        accepted, tried: attempts; one that failed counts as tried.
        cosine: mean over the attempts that gave a picture, None if none did.
    """

    what: str
    fmr: float
    accepted: int | None
    tried: int
    cosine: float | None

    def to_json(self) -> dict[str, Any]:
        """With rate and 95 % Wilson interval; null where there is no threshold, or nothing was tried."""
        known = self.accepted is not None and self.tried > 0
        low, high = wilson_interval(self.accepted or 0, self.tried) if known else (None, None)
        rate = (self.accepted or 0) / self.tried if known else None
        ends = {"sar": rate, "low": low, "high": high}
        return {
            "what": self.what,
            "fmr": self.fmr,
            "accepted": self.accepted,
            "tried": self.tried,
            **{name: None if value is None else round(value, 6) for name, value in ends.items()},
            "cosine": None if self.cosine is None else round(self.cosine, 4),
        }


def rates(judge: Judge, what: str, scores: Tensor) -> list[Row]:
    """A row for each threshold.

    Args:
        judge: whose thresholds.
        what: is measured.
        scores: (N,) cosines; NaN was not tried, minus infinity failed.
    """
    tried = scores[~scores.isnan()]
    seen = tried[tried.isfinite()]
    cosine = float(seen.double().mean()) if len(seen) else None
    return [
        Row(what, t.fmr, None if t.threshold is None else int((tried >= t.threshold).sum()), len(tried), cosine)
        for t in judge.thresholds
    ]


def attack_rows(judge: Judge, held: Held, reconstructed: Tensor) -> list[Row]:
    """Type I and type II.

    Args:
        judge: who judges.
        held: its references.
        reconstructed: (N, D) its embeddings of the reconstructions; minus infinity where the attempt failed.
    """
    return [
        row
        for what, reference in ((TYPE_I, held.first), (TYPE_II, held.second))
        for row in rates(judge, what, scored(reconstructed, reference))
    ]


def judged(judge: Judge, images: Tensor, failed: Tensor) -> Tensor:
    """(N, D): a judge's embeddings of (N, 112, 112, 3) uint8; minus infinity where ``failed`` (N,)."""
    return judge.embed(images).masked_fill(failed[:, None], -torch.inf)


def scored(rows: Tensor, reference: Tensor) -> Tensor:
    """(N,) cosines of two sets of (N, D); NaN where either has NaN, else minus infinity where ``rows`` failed."""
    failed = rows.isneginf().any(1)
    cosine = (rows.masked_fill(failed[:, None], 0) * reference).sum(1)
    return cosine.masked_fill(failed & ~reference.isnan().any(1), -torch.inf)


def control_rows(
    judge: Judge, held: Held, reconstructed: Tensor, controls: Mapping[str, Tensor], others: Sequence[int]
) -> list[Row]:
    """What pictures reach that know nothing of the person, and what a real second picture reaches.

    Args:
        judge, held, reconstructed: see :func:`attack_rows`.
        controls: name -> (N or 1, 112, 112, 3) uint8, see :func:`control_faces`.
        others: (N,) for each target the row of another person; empty where there is none.
    """
    found = [
        row
        for what, images in controls.items()
        for row in rates(judge, what, scored(judge.embed(images).expand_as(held.first), held.first))
    ]
    if others:
        found += rates(judge, SHUFFLED, scored(reconstructed[list(others)], held.first))
    return found + rates(judge, SECOND, scored(held.second, held.first))


def control_faces(prior: FacePrior, count: int, seed: int) -> dict[str, Tensor]:
    """The mean face, and ``count`` faces of the prior drawn at random."""
    with torch.no_grad():
        mean = to_bytes(prior.render(torch.zeros(1, prior.size, device=prior.mean.device))).cpu()
        drawn = torch.randint(len(prior), (count,), generator=torch.Generator().manual_seed(seed))
        parts = []
        for rows in torch.split(drawn.to(prior.codes.device), 32):
            parts.append(to_bytes(prior.render(prior.codes[rows].to(prior.code_scale) * prior.code_scale)).cpu())
    return {MEAN: mean, RANDOM: torch.cat(parts)}


def someone_else(identities: Sequence[str | None] | None, count: int) -> list[int]:
    """For each target the next one that is of somebody else; empty if all are of one person.

    Args:
        identities: (N,) names; who is not named is taken for a person of its own.
        count: N.
    """
    found = []
    for row in range(count):
        after = [(row + step) % count for step in range(1, count)]
        name = None if identities is None else identities[row]
        other = [i for i in after if identities is None or name is None or identities[i] != name]
        found.append(other[0] if other else row)
    return found if all(other != row for row, other in enumerate(found)) else []
