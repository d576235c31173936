"""The thresholds of a judge: on which faces they are fixed, and how surely.

Impostor scores of synthetic faces are higher or lower than those of photographs, so a threshold belongs to the domain
that it was fixed on. In this order: photos (or templates) of the audited domain, a public set of photographs on which
the same network was measured, and, as a last resort, synthetic faces.
"""

import functools
import importlib.resources
import json
from dataclasses import dataclass, replace
from typing import Literal

from arcinvert.audit.impostors import LIMIT, TAIL_MODEL, FixedThreshold, ImpostorScores
from arcinvert.audit.types import Count, Share
from arcinvert.evaluation.metrics import allowed_false_matches

FMRS = (1e-2, 1e-3, 1e-4)
LEAST_PEOPLE = 5
"""Fewer people of the audited domain fix no threshold."""
Basis = Literal["photos", "templates", "public set", "synthetic faces"]
SYNTHETIC_WARNING = (
    "The thresholds were fixed on SYNTHETIC faces. On photographs the same thresholds may accept a hundredth of the "
    "strangers that is stated, and leakage is then under-reported several times."
)


@dataclass(frozen=True)
class Threshold:
    """The cosine from which a judge accepts.

    Attributes:
        fmr: the false match rate it allows; of a threshold that was given, the one measured there.
        threshold: the lowest cosine that keeps this rate; None if the pairs are too few.
        impostor_pairs, impostor_identities: that fixed it.
        reason: why there is no threshold, or on what model it rests, else None.
        basis: what those pairs show.
        low, high: its 95 % interval over resampled identities; None where it is not known.
        effective_pairs: so many independent pairs would know the false match rate equally well; None if not known.
        extrapolated: whether the pairs are too few to count and a tail model takes their place.
        given: whether it is the system's own threshold, given by the auditor.
    """

    fmr: Share
    threshold: float | None
    impostor_pairs: Count
    reason: str | None = None
    impostor_identities: Count = 0
    basis: Basis = "synthetic faces"
    low: float | None = None
    high: float | None = None
    effective_pairs: float | None = None
    extrapolated: bool = False
    given: bool = False


@dataclass(frozen=True, eq=False)
class Fixed:
    """The thresholds of one judge, one for each of :data:`FMRS`, and what they were fixed on, in words."""

    thresholds: tuple[Threshold, ...]
    source: str

    @property
    def basis(self) -> Basis:
        """What the impostor pairs show."""
        return self.thresholds[0].basis


def fix(scores: ImpostorScores, basis: Basis, source: str) -> Fixed:
    """Thresholds at each of :data:`FMRS`."""
    found = zip(FMRS, scores.thresholds(FMRS), strict=True)
    return Fixed(tuple(_threshold(fmr, one, scores, basis) for fmr, one in found), source)


def _threshold(fmr: float, found: FixedThreshold | None, scores: ImpostorScores, basis: Basis) -> Threshold:
    allowed = allowed_false_matches(fmr, scores.pairs)
    few = f"{scores.pairs} impostor pairs of {scores.people} people allow {allowed} false matches"
    known = Threshold(fmr, None, scores.pairs, impostor_identities=scores.people, basis=basis)
    if found is None:
        return replace(known, reason=f"{few}; fewer than 3 fix no threshold")
    if found.value > 1:
        return replace(known, reason=f"{few}; {TAIL_MODEL}; {LIMIT}: {found.value:.2f}, above every cosine")
    model = f"{few}; {TAIL_MODEL}" + (f"; extrapolated: {LIMIT}" if found.extrapolated else "")
    return replace(
        known,
        threshold=found.value,
        low=round(found.low, 6),
        high=round(found.high, 6),
        effective_pairs=round(found.effective_pairs, 1),
        extrapolated=found.extrapolated,
        reason=None if found.counted else model,
    )


def given(value: float, scores: ImpostorScores, basis: Basis) -> Threshold:
    """The system's own threshold, with the false match rate that it has on these pairs."""
    fmr, sure = scores.false_match_rate(value)
    return Threshold(
        round(fmr, 8),
        value,
        scores.pairs,
        impostor_identities=scores.people,
        basis=basis,
        effective_pairs=round(sure, 1),
        given=True,
    )


@functools.cache
def _public() -> dict[str, tuple[str, list[dict[str, float]]]]:
    text = (importlib.resources.files("arcinvert") / "data" / "thresholds.json").read_text(encoding="utf-8")
    found = json.loads(text)
    return {row["digest"]: (found["set"], row["thresholds"]) for row in found["networks"]}


def public_thresholds(digest: str) -> Fixed | None:
    """The thresholds of a network, by the SHA-256 of its file, on the public set it was measured on; None if unknown.

    ``benchmarks/real_store.py --figures`` writes the table.
    """
    if digest not in _public():
        return None
    name, rows = _public()[digest]
    return Fixed(tuple(_of_table(row) for row in rows), f"{name} (a table in the package)")


def _of_table(row: dict[str, float]) -> Threshold:
    return Threshold(
        row["fmr"],
        row["threshold"],
        int(row["impostor_pairs"]),
        impostor_identities=int(row["impostor_identities"]),
        basis="public set",
        low=row["low"],
        high=row["high"],
        effective_pairs=row["effective_pairs"],
    )
