"""The answer of an audit, and the sentence at its top."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from arcinvert.audit.rates import TYPE_I
from arcinvert.errors import UsageError

VERSION = 1
LEAKS, PARTLY, NOTHING, MISMATCH, UNKNOWN = (
    "leaks",
    "leaks in part",
    "no leak shown by this attack",
    "mismatch suspected",
    "not judged",
)
MANY = {1e-2: 0.5, 1e-3: 0.1}
"""From these type-I rates on, at these false match rates, a store is said to leak."""

Entry = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class LeakageReport:
    """What a store gives away, as far as one attack has shown; ``schema.json`` says what each part holds.

    Attributes:
        verdict: ``word`` and ``text``.
        store, sample, attacked: what was audited.
        judges: each with thresholds, rates, controls.
        reidentification: of the reconstructions in the whole store.
        restarts: best of k by the attacker's own score, and mean.
        hygiene: findings that need no attack.
        mismatch: whether the store belongs to the attacked network.
        defenses: accuracy kept and rates left, with and without the key.
        settings, authorization, photos: of this audit.
        not_shown: what must not be read into it.
        run: what makes two audits the same.
        seconds: it took.
        files: that were written beside it.
    """

    verdict: dict[str, str]
    store: dict[str, Any]
    sample: dict[str, Any]
    attacked: dict[str, Any]
    judges: list[dict[str, Any]]
    reidentification: dict[str, Any]
    restarts: dict[str, Any]
    hygiene: list[dict[str, Any]]
    mismatch: dict[str, Any]
    defenses: list[dict[str, Any]]
    settings: dict[str, Any]
    authorization: str | None
    photos: dict[str, Any] | None
    not_shown: list[str]
    run: str
    seconds: float
    files: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """As ``report.json`` has it."""
        return {"version": VERSION} | {entry.name: getattr(self, entry.name) for entry in fields(self)}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> "LeakageReport":
        """Of what :meth:`to_json` gave."""
        return cls(**{entry.name: found[entry.name] for entry in fields(cls)})

    @property
    def unusable(self) -> int:
        """Rows of the store that were passed over."""
        return int(self.sample.get("unusable") or 0)


def headline(judges: Sequence[Entry], fmr: float) -> tuple[Entry, Entry] | None:
    """The judge that counts and its type-I row: the highest rate of those that were not attacked.

    The attacked one only if no other has a rate at any false match rate; None where there is none at this one.
    """
    rows = [(judge, row) for judge in judges for row in judge["rows"] if row["what"] == TYPE_I]
    known = [(judge, row) for judge, row in rows if row["sar"] is not None]
    counting = [pair for pair in known if not pair[0]["attacked"]] or known
    return max((pair for pair in counting if pair[1]["fmr"] == fmr), key=lambda pair: pair[1]["sar"], default=None)


def verdict(judges: Sequence[Entry], mismatch: Entry, size: int) -> dict[str, str]:
    """The word and the sentence.

    ``leaks``: the headline rate reaches :data:`MANY` and is above chance; ``leaks in part``: it is above
    chance, that is the lower end of its interval is above the false match rate, at either threshold.
    """
    pairs = {fmr: found for fmr in MANY if (found := headline(judges, fmr)) is not None}
    said = "; ".join(
        f"{_counts(row)} at a false match rate of {fmr:g} by {_who(judge)}" for fmr, (judge, row) in pairs.items()
    )
    rates = f"Of the reconstructions of {size} sampled templates were accepted as what was enrolled: {said}."
    if mismatch.get("suspected"):
        evidence = "; ".join(mismatch.get("evidence") or ["no reason given"])
        aside = f" For what it is worth: {rates[0].lower()}{rates[1:]}" if pairs else ""
        text = (
            f"The store does not seem to belong to the attacked network ({evidence}), so its rates say little.{aside}"
        )
        return {"word": MISMATCH, "text": text}
    if not pairs:
        reason = "no judge has a threshold, or nothing to hold reconstructions against"
        return {"word": UNKNOWN, "text": f"The attack was made, but not judged: {reason}."}
    above = {fmr: row["low"] > fmr for fmr, (_, row) in pairs.items()}
    many = any(above[fmr] and row["sar"] >= MANY[fmr] for fmr, (_, row) in pairs.items())
    word = LEAKS if many else PARTLY if any(above.values()) else NOTHING
    close = {
        LEAKS: "Whoever has these templates has pictures that pass for the people.",
        PARTLY: "That is more than chance: some of the people can be impersonated.",
        NOTHING: "That is no more than chance; another attack, or more effort, may do better.",
    }[word]
    return {"word": word, "text": f"{rates} {close}"}


def _counts(row: Entry) -> str:
    return (
        f"{row['accepted']} of {row['tried']} ({row['sar']:.1%}, 95 % interval {row['low']:.1%} to {row['high']:.1%})"
    )


def _who(judge: Entry) -> str:
    return f"{judge['name']}, which was attacked itself: no other judge" if judge["attacked"] else str(judge["name"])


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
        if fmr not in MANY or not 0 <= limit <= 1:
            rates = " or ".join(f"sar@{fmr:g}" for fmr in MANY)
            raise UsageError(f"expected a gate such as sar@1e-3=0.05 ({rates}, a limit in 0 to 1), got {text!r}")
        return cls(fmr, limit)

    def judged(self, report: LeakageReport) -> tuple[bool, str]:
        """Whether it is exceeded, and a line that says so. A rate that is not known exceeds every gate."""
        found = headline(report.judges, self.fmr)
        if found is None:
            return True, f"the gate sar@{self.fmr:g}={self.limit:g} cannot be judged: there is no such rate"
        judge, row = found
        exceeded = bool(row["sar"] > self.limit)
        said = "is exceeded" if exceeded else "holds"
        return exceeded, f"the gate sar@{self.fmr:g}={self.limit:g} {said}: {_counts(row)} by {_who(judge)}"


def not_shown(*, others: bool, photos: bool, restarts: int, preset: str, defended: bool, searched: bool) -> list[str]:
    """What must not be read into an audit."""
    said = [
        "A low rate means: this attack, this budget, these judges. A stronger attack may reach more.",
        f"One attack was tried: the preset {preset!r} with {restarts} restart{'s' if restarts > 1 else ''} a template.",
        "Judges and attack know aligned faces of 112x112; what cameras, liveness tests or people make of a "
        "reconstruction was not tried, and no live system was asked.",
        "Intervals hold for the sample as a random one of the store, at the judges' thresholds as they are.",
    ]
    if not others:
        said.insert(
            0, "No judge but the attacked network had a say: that a picture made to please it does so proves little."
        )
    if not photos:
        said.append(
            "Without --photos nothing but stored templates was compared with, which only the attacked network reads."
        )
    if not searched:
        said.append("Reconstructions were not searched for in the store.")
    if defended:
        said.append(
            "The attacker on a defense knows its scheme; a key he does not know he guesses, he does not search for it."
        )
    return said


def summary(report: LeakageReport) -> list[str]:
    """Lines for a terminal: the verdict, then a Markdown table."""
    lines = [f"{report.verdict['word'].upper()}: {report.verdict['text']}", ""]
    lines += ["| judge | what | FMR | accepted | rate | 95 % | mean cosine |", "|---|---|---|---|---|---|---|"]
    for judge in report.judges:
        name = judge["name"] + (" (attacked)" if judge["attacked"] else "")
        lines += [f"| {name} | {_cells(row)} |" for row in judge["rows"]]
    again = report.reidentification
    if again.get("rank1") is not None:
        lines += ["", f"rank 1 in the whole store of {again['gallery']}: {again['accepted']} of {again['tried']}"]
    if report.defenses:
        lines += ["", "| defense | key | judge | FMR | accepted | EER kept | D_sys |", "|---|---|---|---|---|---|---|"]
    for entry in report.defenses:
        key = "known" if entry["key_known"] else "unknown"
        for row in entry["rows"]:
            if row["what"] == TYPE_I:
                kept = f"{entry['eer']:.4f} | {entry['d_sys']:.2f}"
                counts = f"{row['accepted']} of {row['tried']}"
                lines.append(f"| {entry['spec']} | {key} | {row['judge']} | {row['fmr']:g} | {counts} | {kept} |")
    lines += [""] + [f"{finding['severity']}: {finding['text']}" for finding in report.hygiene]
    return lines + [f"not shown: {text}" for text in report.not_shown]


def _cells(row: Entry) -> str:
    cosine = "-" if row["cosine"] is None else f"{row['cosine']:.3f}"
    if row["sar"] is None:
        return f"{row['what']} | {row['fmr']:g} | - of {row['tried']} | - | - | {cosine}"
    spread = f"{row['low']:.3f} to {row['high']:.3f}"
    return (
        f"{row['what']} | {row['fmr']:g} | {row['accepted']} of {row['tried']} | {row['sar']:.3f} | {spread} | {cosine}"
    )
