"""How well signals tell members from nonmembers: ROC figures with intervals over people."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arcinvert.audit.membership.signals import Floats, Signals
from arcinvert.errors import InputError
from arcinvert.evaluation.metrics import auc, threshold_at_fmr

FPR = 1e-2
DRAWS = 400
FOLDS = 5
COMBINED = "all together"
SHRINKAGE = 0.1
"""Weight of the mean variance in the covariance of the combined test, which may have as many features as people."""
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class SignalResult:
    """How one signal tells members from nonmembers.

    Attributes:
        name: of the signal.
        unit: ``pictures``, or ``people`` with the mean over each person's pictures.
        auc: probability that a member has the higher value; 0.5 is chance.
        auc_low, auc_high: 95 % bootstrap interval, people drawn.
        tpr: share of the members above the threshold that :data:`FPR` of the nonmembers pass; None where the
            nonmembers are too few, see :func:`~arcinvert.evaluation.metrics.threshold_at_fmr`.
        tpr_low, tpr_high: 95 % bootstrap interval, the threshold drawn anew with the nonmembers; None as ``tpr``.
        members, nonmembers: counts of units.
    """

    name: str
    unit: str
    auc: float
    auc_low: float
    auc_high: float
    tpr: float | None
    tpr_low: float | None
    tpr_high: float | None
    members: int
    nonmembers: int


@dataclass(frozen=True)
class Measured:
    """All signals.

    Attributes:
        fpr: false positive rate of the thresholds.
        results: a row for each signal and unit.
        people: members and nonmembers.
        digests: SHA-256 of the pictures of members and nonmembers.
        cannot_tell: what must not be concluded, in sentences.
    """

    fpr: float
    results: tuple[SignalResult, ...]
    people: tuple[int, int]
    digests: tuple[str, str]
    cannot_tell: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """As plain dicts and lists."""
        return asdict(self)


def measure(members: Signals, nonmembers: Signals, *, seed: int = 0, draws: int = DRAWS) -> Measured:
    """Compare pictures that are supposed to be members with pictures that are not.

    The direction of each signal is fixed beforehand. The combined test is Fisher's linear discriminant of all features,
    fitted on other people than those it judges (five folds): it shows what an attacker reaches who knows some members.

    Args:
        members, nonmembers: of the same recognizer.
        seed: of folds and bootstrap.
        draws: of the bootstrap.

    Raises:
        InputError: fewer than five people on a side, or pictures in both.
    """
    sides = (members, nonmembers)
    people = tuple(len(np.unique(side.people)) for side in sides)
    if min(people) < FOLDS:
        raise InputError(f"expected at least {FOLDS} people on each side, got {people[0]} and {people[1]}")
    if members.digest == nonmembers.digest:
        raise InputError("expected other pictures as nonmembers, got the same ones")
    scores = {name: (members.named[name], nonmembers.named[name]) for name in members.named}
    scores[COMBINED] = _combined(members, nonmembers, seed)
    results: list[SignalResult] = []
    for unit in ("pictures", "people"):
        for name, pair in scores.items():
            rows = [(pair[i], sides[i].people) for i in range(2)]
            if unit == "people":
                rows = [(_means(values, who), np.arange(len(np.unique(who)))) for values, who in rows]
            results.append(_result(name, unit, rows, seed, draws))
    return Measured(FPR, tuple(results), (people[0], people[1]), (members.digest, nonmembers.digest), CANNOT_TELL)


CANNOT_TELL = (
    "The two folders must differ in membership alone. If they differ in camera, age, light or cropping, these figures "
    "measure that.",
    "A value near chance means that these tests find nothing. Attacks that train many networks of the same kind "
    "(shadow models) were not tried and may find more.",
    "A picture that is taken for a member may be another picture of a member, or of somebody who looks alike.",
    "One network on one pair of folders was measured; another training of it may differ.",
)


def _result(name: str, unit: str, rows: Sequence[tuple[Floats, Labels]], seed: int, draws: int) -> SignalResult:
    (member, who), (other, others) = rows
    threshold = threshold_at_fmr(FPR, impostor=other)
    generator = np.random.default_rng(seed)
    areas, rates = np.empty(draws), np.full(draws, np.nan)
    for draw in range(draws):
        one, two = _drawn(member, who, generator), _drawn(other, others, generator)
        areas[draw] = auc(genuine=one, impostor=two)
        edge = threshold_at_fmr(FPR, impostor=two)
        rates[draw] = np.nan if edge is None else (one >= edge).mean()
    low, high = np.quantile(areas, [0.025, 0.975])
    ends = [None, None] if threshold is None else [round(float(x), 4) for x in np.nanquantile(rates, [0.025, 0.975])]
    return SignalResult(
        name,
        unit,
        round(auc(genuine=member, impostor=other), 4),
        round(float(low), 4),
        round(float(high), 4),
        None if threshold is None else round(float((member >= threshold).mean()), 4),
        ends[0],
        ends[1],
        len(member),
        len(other),
    )


def _drawn(values: Floats, people: Labels, generator: np.random.Generator) -> Floats:
    """The values of as many people as there are, drawn with replacement."""
    count = int(people.max()) + 1
    weight = np.bincount(generator.integers(0, count, count), minlength=count)
    return np.repeat(values, weight[people])


def _means(values: Floats, people: Labels) -> Floats:
    """(P,): each person's mean."""
    return np.bincount(people, values) / np.bincount(people)


def _combined(members: Signals, nonmembers: Signals, seed: int) -> tuple[Floats, Floats]:
    features = np.concatenate([members.features, nonmembers.features])
    label = np.repeat([True, False], [len(members.features), len(nonmembers.features)])
    person = np.concatenate([members.people, nonmembers.people + members.people.max() + 1])
    generator = np.random.default_rng(seed)
    fold = np.empty(person.max() + 1, np.int64)
    for side in (label, ~label):  # both sides in every fold
        who = generator.permutation(np.unique(person[side]))
        fold[who] = np.arange(len(who)) % FOLDS
    scores = np.empty(len(features))
    for number in range(FOLDS):
        out = fold[person] == number
        scores[out] = _discriminant(features[~out], label[~out], features[out])
    return scores[label], scores[~label]


def _discriminant(known: Floats, label: NDArray[np.bool_], rows: Floats) -> Floats:
    """Fisher's linear discriminant with a shrunk covariance, fitted on ``known``; the values of ``rows``.

    The middle between both means has the value 0, and their distance is 1, so that folds are comparable.
    """
    center, scale = known.mean(0), known.std(0)
    scale[scale < 1e-9] = 1  # a constant, such as the norm behind a network that normalizes
    known, rows = (known - center) / scale, (rows - center) / scale
    means = np.stack([known[label].mean(0), known[~label].mean(0)])
    within = known - means[np.where(label, 0, 1)]
    covariance = within.T @ within / len(known)
    mean_variance = np.trace(covariance) / len(covariance) + 1e-12
    covariance = (1 - SHRINKAGE) * covariance + SHRINKAGE * mean_variance * np.eye(len(covariance))
    gap = means[0] - means[1]
    weights = np.linalg.solve(covariance, gap)
    found: Floats = (rows - means.mean(0)) @ weights / max(float(gap @ weights), 1e-12)
    return found
