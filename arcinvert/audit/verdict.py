"""The verdict of an audit: its word and sentences, the headline rate, the gate for pipelines, and the limitations."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from arcinvert.audit.checks.mismatch import Mismatch
from arcinvert.audit.rates import TYPE_I, Rate
from arcinvert.audit.report import JudgeResult, LeakageReport, Verdict, Word
from arcinvert.errors import UsageError

LEAKING = {1e-2: 0.5, 1e-3: 0.1}
"""A store leaks if the type I rate at one of these false match rates reaches this value."""


def headline(judges: Sequence[JudgeResult], fmr: float) -> tuple[JudgeResult, Rate] | None:
    """The judge with the highest type I rate among those that were not attacked, and this rate.

    The attacked one only if no other has a rate at any false match rate; None where there is none at this one.
    """
    known = [(j, rate) for j in judges for rate in j.rates if rate.kind == TYPE_I and rate.rate is not None]
    independent = [pair for pair in known if not pair[0].attacked] or known
    return max((pair for pair in independent if pair[1].fmr == fmr), key=lambda pair: pair[1].rate or 0, default=None)


def verdict(judges: Sequence[JudgeResult], mismatch: Mismatch, size: int) -> Verdict:
    """The word and the sentences, for a sample of ``size`` templates.

    ``leaks``: the headline rate reaches :data:`LEAKING` and is above chance; ``leaks in part``: it is above chance,
    that is the lower end of its interval is above the false match rate, at either threshold.
    """
    pairs = {fmr: found for fmr in LEAKING if (found := headline(judges, fmr)) is not None}
    counts = "; ".join(f"{_by(judge, rate)} at a false match rate of {fmr:g}" for fmr, (judge, rate) in pairs.items())
    rates = f"Accepted reconstructions of {size} sampled templates: {counts}."
    if mismatch.suspected:
        evidence = "; ".join(mismatch.evidence)
        text = f"The store does not seem to belong to the attacked network ({evidence}), so its rates mean little."
        return Verdict("mismatch suspected", f"{text} {rates}" if pairs else text)
    if not pairs:
        text = "The attack has no rate: no judge has both a threshold and anything to compare reconstructions with."
        return Verdict("not judged", text)
    above = {fmr: (rate.low or 0) > fmr for fmr, (_, rate) in pairs.items()}
    word: Word = "no leak shown by this attack"
    close = "That is no more than chance; another attack, or more effort, may reach more."
    if any(above[fmr] and (rate.rate or 0) >= LEAKING[fmr] for fmr, (_, rate) in pairs.items()):
        word, close = "leaks", "Whoever has these templates has images that pass for the people."
    elif any(above.values()):
        word, close = "leaks in part", "That is more than chance: some of the people can be impersonated."
    return Verdict(word, f"{rates} {close}")


def _by(judge: JudgeResult, rate: Rate) -> str:
    who = f"{judge.name}, the attacked network itself, as there is no other judge" if judge.attacked else judge.name
    return (
        f"{rate.accepted} of {rate.tried} ({rate.rate or 0:.1%}, 95 % interval {rate.low or 0:.1%} to "
        f"{rate.high or 0:.1%}) by {who}"
    )


@dataclass(frozen=True)
class Gate:
    """``sar@1e-3=0.05``: the headline rate at a false match rate must not exceed a limit.

    Attributes:
        fmr: one of those that are measured.
        limit: in [0, 1].
    """

    fmr: float
    limit: float

    @classmethod
    def parse(cls, text: str) -> "Gate":
        """Read it.

        Raises:
            UsageError: another form, another false match rate, or a limit that is no rate.
        """
        found = re.fullmatch(r"sar@([0-9.e+-]+)=([0-9.e+-]+)", text.strip())
        try:
            fmr, limit = (float(part) for part in found.groups()) if found else (0.0, 0.0)
        except ValueError:
            fmr, limit = 0.0, 0.0
        if fmr not in LEAKING or not 0 <= limit <= 1:
            rates = " or ".join(f"sar@{fmr:g}" for fmr in LEAKING)
            raise UsageError(f"expected a gate such as sar@1e-3=0.05 ({rates}, a limit in 0 to 1), got {text!r}")
        return cls(fmr, limit)

    def check(self, report: LeakageReport) -> tuple[bool, str]:
        """Whether the report exceeds the gate, and a line that says so. An unknown rate exceeds every gate."""
        name, found = f"the gate sar@{self.fmr:g}={self.limit:g}", headline(report.judges, self.fmr)
        if found is None:
            return True, f"{name} cannot be judged: there is no such rate"
        exceeded = (found[1].rate or 0) > self.limit
        return exceeded, f"{name} {'is exceeded' if exceeded else 'is kept'}: {_by(*found)}"


def limitations(*, others: bool, photos: bool, restarts: int, preset: str, defended: bool) -> tuple[str, ...]:
    """What must not be concluded from an audit."""
    found = [
        "A low rate means: this attack, this budget, these judges. A stronger attack may reach more.",
        f"One attack was tried: the preset {preset!r} with {restarts} restart{'s' if restarts > 1 else ''} a template.",
        "Judges and attack know aligned faces of 112x112. Cameras, liveness tests, people and live systems were not "
        "tried.",
        "The intervals are valid for the sample as a random one of the store, at the judges' thresholds as they are.",
    ]
    if not others:
        found.insert(
            0, "Only the attacked network judged. The images were optimized for it, so its acceptance proves little."
        )
    if not photos:
        found.append(
            "Without --photos, reconstructions were compared with stored templates only, which only the attacked "
            "network reads."
        )
    if defended:
        found.append("The attacker on a defense knows its scheme; an unknown key is guessed, not searched for.")
    return tuple(found)
