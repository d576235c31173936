"""A sweep over defenses: the accuracy that each keeps, and the rates that an attack through it reaches."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from arcinvert.audit.defenses import Defense, parse_defense
from arcinvert.audit.defenses.accuracy import Accuracy, accuracy
from arcinvert.audit.defenses.unlinkability import Linkability, linkability
from arcinvert.audit.rates import Rate
from arcinvert.audit.types import Cosine, Count

log = logging.getLogger(__name__)
NONE = "none"
"""The spec of the bare templates."""
_NAMED = (
    "none int8 sign noise:0.02 noise:0.05 noise:0.1 noise:0.2 noise:0.3 truncate:256 truncate:128 truncate:64 "
    "truncate:32 pq:64 pq:32 pq:16 pq:8 rotate:1 biohash:1 polyprotect:1 mlphash:1"
)


@dataclass(frozen=True)
class Outcome:
    """The result of one attack through a defense.

    Attributes:
        rates: of each judge at each threshold.
        score: mean score of the attempts by the attacker's own measure, None if it is unknown.
        failed: attempts that gave no image.
    """

    rates: Sequence[Rate]
    score: float | None = None
    failed: int = 0


@dataclass(frozen=True)
class DefenseResult:
    """One defense and one attacker.

    Attributes:
        spec: of the defense.
        key_known: by the attacker; True where there is none.
        accuracy: of the protected templates.
        linkability: between the key and others; between two stores where there is no key.
        rates, score, failed: see :class:`Outcome`.
    """

    spec: str
    key_known: bool
    accuracy: Accuracy
    linkability: Linkability
    rates: tuple[Rate, ...]
    score: Cosine | None
    failed: Count


Attack = Callable[[Defense, bool], Outcome]
"""(fitted defense, whether the attacker knows the key) -> the result of the attack on its templates."""


def specs_for(size: int) -> list[str]:
    """The defenses of a sweep that fit embeddings of ``size`` elements."""

    def fits(spec: str) -> bool:
        scheme, _, number = spec.partition(":")
        return (scheme != "truncate" or int(number) < size) and (scheme != "pq" or size % int(number) == 0)

    return [spec for spec in _NAMED.split() if fits(spec)]


def fit_defenses(specs: Sequence[str], own: Tensor) -> list[Defense]:
    """Parse all specs and fit them to the attacker's own faces ``own`` (M, D), unit norm, which are in no store.

    Raises:
        UsageError: no such defense, or it does not fit the embeddings.
    """
    return [parse_defense(spec).fitted(own) for spec in specs]


def labels_of(defenses: Sequence[Defense]) -> list[str]:
    """Their labels; those of a scheme with several keys are numbered: ``rotate:KEY``, ``rotate:KEY2``."""
    seen: Counter[str] = Counter()
    labels = []
    for defense in defenses:
        seen[defense.label] += 1
        labels.append(defense.label + (str(seen[defense.label]) if seen[defense.label] > 1 else ""))
    return labels


def sweep(defenses: Sequence[Defense], embeddings: Tensor, labels: Tensor, attack: Attack) -> list[DefenseResult]:
    """Try defenses one after the other; a defense with a key is attacked with and without it.

    Args:
        defenses: see :func:`fit_defenses`.
        embeddings, labels: (N, D) unit norm and (N,) integers, several rows an identity, for the accuracy.
        attack: see :data:`Attack`.

    Raises:
        InputError: see :func:`~arcinvert.audit.defenses.accuracy.accuracy`.
    """
    results: list[DefenseResult] = []
    for label, defense in zip(labels_of(defenses), defenses, strict=True):
        kept, linked = accuracy(defense, embeddings, labels), linkability(defense, embeddings, labels)
        for known in (True, False) if defense.keyed else (True,):
            log.info("attacking %s%s", label, "" if known else ", key not known")
            found = attack(defense, known)
            results.append(DefenseResult(label, known, kept, linked, tuple(found.rates), found.score, found.failed))
    return results
