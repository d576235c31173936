"""The trade-off of a defense: what accuracy it keeps against what an attack it leaves."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from arcinvert.audit.defenses import Defense, parse_defense
from arcinvert.audit.defenses.accuracy import Accuracy, accuracy
from arcinvert.audit.defenses.unlinkability import Linkability
from arcinvert.audit.defenses.unlinkability import linkability as linkability
from arcinvert.evaluation.intervals import wilson_interval

_NAMED = (
    "none int8 sign noise:0.02 noise:0.05 noise:0.1 noise:0.2 noise:0.3 truncate:256 truncate:128 truncate:64 "
    "truncate:32 pq:64 pq:32 pq:16 pq:8 rotate:1 biohash:1 polyprotect:1 mlphash:1"
)


@dataclass(frozen=True)
class Left:
    """How often a judge takes reconstructions for the person.

    Attributes:
        judge: its name.
        fmr: that its threshold is for.
        accepted, tried: of how many; attempts that failed are among them.
        what: ``type I`` against the enrolled photo or template, ``type II`` against another one of the person.
    """

    judge: str
    fmr: float
    accepted: int
    tried: int
    what: str = "type I"

    def to_json(self) -> dict[str, Any]:
        """With the rate and its 95 % Wilson interval."""
        low, high = wilson_interval(self.accepted, self.tried)
        rate = self.accepted / self.tried
        return {
            "judge": self.judge,
            "what": self.what,
            "fmr": self.fmr,
            "accepted": self.accepted,
            "tried": self.tried,
            "sar": round(rate, 6),
            "low": round(low, 6),
            "high": round(high, 6),
        }


@dataclass(frozen=True)
class TradeOff:
    """One defense, one attacker.

    Attributes:
        spec: of the defense.
        key_known: by the attacker; True where there is none.
        kept: accuracy.
        linked: between its key and others; between two stores where there is no key.
        left: what the attack reaches, for each judge and FMR.
    """

    spec: str
    key_known: bool
    kept: Accuracy
    linked: Linkability
    left: tuple[Left, ...]

    def to_json(self) -> dict[str, Any]:
        """As in ``report.json``."""
        return {
            "spec": self.spec,
            "key_known": self.key_known,
            **self.kept.to_json(),
            "d_sys": self.linked.to_json(),
            "sar": [left.to_json() for left in self.left],
        }


Attack = Callable[[Defense, bool], Sequence[Left]]
"""(fitted defense, whether the key is known) -> what the attack on its templates reaches."""


def specs_for(size: int) -> list[str]:
    """The defenses of a sweep over embeddings of ``size`` elements: those that fit them."""

    def fits(spec: str) -> bool:
        scheme, _, number = spec.partition(":")
        return (scheme != "truncate" or int(number) < size) and (scheme != "pq" or size % int(number) == 0)

    return [spec for spec in _NAMED.split() if fits(spec)]


def sweep(
    specs: Sequence[str],
    embeddings: Tensor,
    labels: Tensor,
    own: Tensor,
    attack: Attack,
    say: Callable[[str], None] = lambda line: None,
) -> list[TradeOff]:
    """Try defenses one after the other, those with a key against an attacker with and without it.

    Args:
        specs: see :func:`~arcinvert.audit.defenses.parse_defense`; all are parsed and fitted before the first is tried.
        embeddings, labels: (N, D) unit norm and (N,) integers, several rows an identity, for the accuracy.
        own: (M, D), unit norm, of faces that are in no store; codewords are learned from them.
        attack: see :data:`Attack`.
        say: told what is tried.

    Raises:
        UsageError: a spec that is none, or does not fit the embeddings.
        InputError: see :func:`~arcinvert.audit.defenses.accuracy.accuracy`.
    """
    defenses = [parse_defense(spec).fitted(own) for spec in specs]
    rows = []
    for defense in defenses:
        kept, linked = accuracy(defense, embeddings, labels), linkability(defense, embeddings, labels)
        for known in (True, False) if defense.keyed else (True,):
            say(f"{defense.spec}{'' if known else ', key not known'}")
            rows.append(TradeOff(defense.spec, known, kept, linked, tuple(attack(defense, known))))
    return rows
