"""Which requirement of which standard a report answers, and with which field; what nothing answers is "not tested".

It is a table of places to look, and no legal advice.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from arcinvert.audit.defenses.sweep import NONE
from arcinvert.audit.rates import TYPE_I, TYPE_II, Rate
from arcinvert.audit.report import LeakageReport

NOT_TESTED = "not tested"


@dataclass(frozen=True)
class Requirement:
    """One requirement.

    Attributes:
        source, number: of the document and in it.
        asks: in our words.
        fields: of ``report.json``, or commands, that answer it; empty where nothing does.
        answer: what a report says; None where it has nothing.
    """

    source: str
    number: str
    asks: str
    fields: tuple[str, ...]
    answer: Callable[[LeakageReport], str | None]


@dataclass(frozen=True)
class Answer:
    """A requirement and what one report says; ``value`` is :data:`NOT_TESTED` where it has nothing."""

    source: str
    number: str
    asks: str
    fields: tuple[str, ...]
    value: str


def answers(report: LeakageReport | None) -> tuple[Answer, ...]:
    """The whole table; without a report, the values are empty where a field would answer."""
    found = []
    for one in REQUIREMENTS:
        value = NOT_TESTED if not one.fields else "" if report is None else one.answer(report) or NOT_TESTED
        found.append(Answer(one.source, one.number, one.asks, one.fields, value))
    return tuple(found)


def _nothing(report: LeakageReport) -> None:
    return None


def _counts(rates: Sequence[Rate]) -> str | None:
    known = [f"{r.judge}, {r.kind}, FMR {r.fmr:g}: {r.accepted} of {r.tried}" for r in rates if r.accepted is not None]
    return "; ".join(known) or None


def _independent(report: LeakageReport) -> list[Rate]:
    judges = [judge for judge in report.judges if not judge.attacked]
    return [rate for judge in judges for rate in judge.rates if rate.kind in (TYPE_I, TYPE_II)]


def _attack(report: LeakageReport) -> str | None:
    return _counts(_independent(report))


def _defenses(report: LeakageReport) -> str | None:
    tried = [entry for entry in report.defenses if entry.spec != NONE]
    names = [f"{entry.spec} ({'key known' if entry.key_known else 'key unknown'})" for entry in tried]
    return ", ".join(names) or None


def _linkability(report: LeakageReport) -> str | None:
    return "; ".join(f"{entry.spec}: D_sys {entry.linkability.d_sys:.2f}" for entry in report.defenses) or None


def _accuracy(report: LeakageReport) -> str | None:
    return "; ".join(f"{entry.spec}: EER {entry.accuracy.eer:.4f}" for entry in report.defenses) or None


def _groups(report: LeakageReport) -> str | None:
    found = report.groups
    if found is None or not found.groups:
        return None
    return f"{len(found.groups)} groups by {found.column}, {found.withheld} templates withheld"


def _models(report: LeakageReport) -> str | None:
    mixed = [f.text for f in report.hygiene if f.code in ("mixed-models", "ragged")]
    state = "a mismatch is suspected" if report.mismatch.suspected else "no mismatch is suspected"
    return "; ".join([state, *mixed])


def _search(report: LeakageReport) -> str | None:
    again = report.reidentification
    problems = sum(finding.severity == "problem" for finding in report.hygiene)
    return f"rank 1: {again.accepted} of {again.tried}; problems of the store: {problems}"


def _intervals(report: LeakageReport) -> str | None:
    rates = [rate for judge in report.judges for rate in judge.rates if rate.low is not None]
    return f"{len(rates)} rates with counts and 95 % intervals" if rates else None


def _marking(report: LeakageReport) -> str | None:
    kept = sum(name.endswith(".png") for name in report.files)
    return f"{kept} kept images say in their PNG text that they are synthetic" if kept else "no image was kept"


_RATES = ("judges",)
_AISVS, _ATLAS = "OWASP AISVS 1.0", "MITRE ATLAS"
_MEMBERSHIP, _CANARY = ("arcinvert audit membership",), ("arcinvert audit canary",)
REQUIREMENTS = (
    Requirement(
        _AISVS,
        "C8.4.1",
        "Leakage of embeddings is measured, and changes are gated by tests",
        ("judges", "arcinvert audit diff"),
        _attack,
    ),
    Requirement(_AISVS, "C8.1.2", "Embeddings of different models are told apart", ("mismatch", "hygiene"), _models),
    Requirement(_AISVS, "C8.1.5", "Canaries show where a leaked store came from", _CANARY, _nothing),
    Requirement(_AISVS, "C11.2.4", "Defenses are tested by attackers who adapt", ("defenses",), _defenses),
    Requirement(_AISVS, "C11.3.3", "Membership inference is measured", _MEMBERSHIP, _nothing),
    Requirement(_AISVS, "C11.10.2", "Privacy is measured for subgroups", ("groups",), _groups),
    Requirement(_ATLAS, "AML.T0024.000", "Infer membership in the training data", _MEMBERSHIP, _nothing),
    Requirement(_ATLAS, "AML.T0024.001", "Invert the model", _RATES, _attack),
    Requirement(
        "OWASP LLM Top 10",
        "LLM08:2025",
        "Weaknesses of vectors and embeddings",
        ("reidentification", "hygiene"),
        _search,
    ),
    Requirement(
        "NIST AI 100-2", "privacy: reconstruction", "Reconstruct data from what a model reveals", _RATES, _attack
    ),
    Requirement("NIST AI 100-2", "privacy: membership", "Infer membership", _MEMBERSHIP, _nothing),
    Requirement(
        "ISO/IEC 24745:2022", "irreversibility", "The biometric cannot be had from the template", _RATES, _attack
    ),
    Requirement(
        "ISO/IEC 24745:2022",
        "unlinkability",
        "Templates under different keys do not match",
        ("defenses",),
        _linkability,
    ),
    Requirement(
        "ISO/IEC 24745:2022",
        "renewability",
        "A new key makes a new template of the same person",
        ("defenses",),
        _linkability,
    ),
    Requirement("ISO/IEC 30136:2018", "accuracy", "The accuracy that protection keeps", ("defenses",), _accuracy),
    Requirement("ISO/IEC 30136:2018", "attack", "The empirical probability of a successful attack", _RATES, _attack),
    Requirement("ISO/IEC 19795-1:2021", "uncertainty", "Rates come with counts and intervals", _RATES, _intervals),
    Requirement("ISO/IEC 29794-5:2025", "quality", "The quality of face images", (), _nothing),
    Requirement("ISO/IEC 20059:2025", "morphing", "Resistance to morphed images", (), _nothing),
    Requirement(
        "EDPB Opinion 11/2024", "storage", "Who holds the key of centrally stored templates", ("defenses",), _defenses
    ),
    Requirement(
        "EU AI Act", "Art. 50(2)", "Generated images are marked so that machines can tell", ("files",), _marking
    ),
)
