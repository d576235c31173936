"""Findings made without any attack, settings, thresholds, what was not shown, and how to read the figures."""

from collections.abc import Mapping
from typing import Any

from arcinvert.audit.page.markup import Markup, join, tag
from arcinvert.audit.page.tables import cards, code, facts, listed, section
from arcinvert.audit.page.words import number, one_in

_ORDER = ("problem", "warning", "info")
_SIGNS = {"problem": "✖ Problem", "warning": "▲ Warning", "info": "● Note"}
_GLOSSARY = (
    ("Reconstruction", "A face computed from a stored template alone."),
    (
        "Judge",
        "A face recognizer that decides whether two pictures show the same person. "
        "Those that count had no part in the attack.",
    ),
    (
        "1 in 1,000 strangers",
        "The judge's threshold: of 1,000 pairs of different people 1 passes (false match rate 0.001). "
        "It was fixed beforehand, on faces that are not in the store.",
    ),
    (
        "Accepted (SAR)",
        "The share of reconstructions that a judge takes for the person. Attempts that failed count as refused.",
    ),
    (
        "Type I, type II",
        "Type I compares with exactly what was enrolled; type II with another picture or template of the same person, "
        "which shows that the reconstruction has the face and not merely the picture.",
    ),
    (
        "95% interval",
        "Where the true rate may well lie, given so few attempts (Wilson 1927); small samples make it wide.",
    ),
    (
        "Controls",
        "The same judgment on pictures that know nothing of the person, which should pass no more often than "
        "strangers do; and on a real second photo, which shows what could be reached.",
    ),
    ("Rank 1", "The reconstruction's nearest template in the whole store is the very one it was made from."),
    (
        "EER, TAR",
        "How well templates still tell people apart: equal error rate (lower is better), true accept rate (higher is).",
    ),
    (
        "D_sys",
        "Whether protected stores with different keys can be linked: 0 not at all, 1 fully "
        "(Gomez-Barrero et al. 2018). Few pairs give some linkability by chance alone.",
    ),
)


def hygiene(report: Mapping[str, Any]) -> Markup:
    """Findings in the store itself, the gravest first."""
    found = sorted(report.get("hygiene") or [], key=lambda entry: _ORDER.index(entry["severity"]))
    if not found:
        return section("State of the store", "hygiene", tag("p", "Nothing was found that needs mention."))
    items = [
        tag(
            "li",
            tag("b", _SIGNS[entry["severity"]], class_="sign"),
            tag("span", entry["text"], class_="said"),
            class_=entry["severity"],
        )
        for entry in found
    ]
    return section("State of the store", "hygiene", tag("ul", *items, class_="findings"))


def mismatch(report: Mapping[str, Any]) -> Markup:
    """Whether the store belongs to the attacked network."""
    found = report.get("mismatch") or {}
    if not found:
        return Markup()
    suspected = found.get("suspected")
    said = (
        "A mismatch is suspected: the templates do not look like this network's. The rates say little about the store."
        if suspected
        else "Nothing that was measured speaks against it, which is no proof."
    )
    figures = [(key.replace("_", " "), number(value)) for key, value in (found.get("figures") or {}).items()]
    return section(
        "Do the templates belong to the attacked network?",
        "mismatch",
        tag("p", said, class_="alarm" if suspected else None),
        listed(found.get("evidence") or []),
        facts(figures) if figures else None,
    )


def settings(report: Mapping[str, Any]) -> Markup:
    """Thresholds of every judge, and all settings."""
    rows = [
        [
            join([f"{judge['name']} ", code(str(judge["digest"])[:16]) if judge.get("digest") else None]),
            "attacked" if judge["attacked"] else "not attacked",
            one_in(float(entry["fmr"])),
            number(entry.get("threshold")),
            number(entry.get("impostor_pairs")),
        ]
        for judge in report.get("judges") or []
        for entry in judge["thresholds"]
    ]
    columns = ["Judge", "Part", "False match rate", "Threshold", "Impostor pairs"]
    table = cards("Thresholds, fixed before the attack on other faces", columns, rows) if rows else None
    listing = [
        (code(key), number(value)) for key, value in (report.get("settings") or {}).items() if key != "authorization"
    ]
    return section("Thresholds and settings", "settings", table, facts(listing) if listing else None)


def not_shown(report: Mapping[str, Any]) -> Markup:
    """The limits of the audit."""
    standing = "A low rate never means that the store is safe."
    items = report.get("not_shown") or []
    return section("What this does not show", "limits", tag("p", tag("b", standing)), listed(items))


def glossary() -> Markup:
    """How to read the figures."""
    return section("How to read this", "words", facts(_GLOSSARY))
