"""The defenses: accuracy each keeps, acceptance each leaves, with and without the key."""

from collections.abc import Mapping, Sequence
from typing import Any

from arcinvert.audit.page.head import headline
from arcinvert.audit.page.markup import Markup, join, tag
from arcinvert.audit.page.scatter import Point, scatter
from arcinvert.audit.page.strips import counted
from arcinvert.audit.page.tables import cards, code, section
from arcinvert.audit.page.words import NOT_MEASURED, one_in, percent, scheme, share
from arcinvert.audit.rates import TYPE_I

Entry = Mapping[str, Any]
GOOD = "A good defense stands at the lower right: it still tells people apart, and leaves little to reconstruct."


def defenses(report: Mapping[str, Any]) -> Markup:
    """Table and plot of every defense that was attacked; nothing without any."""
    entries = report.get("defenses") or []
    judge = judge_of(report)
    if judge is None:
        return Markup()
    fmr = strictest_fmr(entries)
    intro = (
        "Each defense was attacked by somebody who knows it and adapts to it; one with a secret key both by somebody "
        f"who has the key and by somebody who has not. {GOOD}"
    )
    places = {spec: str(place) for place, spec in enumerate(specs_of(entries), 1)}
    points = [
        point
        for entry in entries
        if (point := as_point(entry, judge, places[entry["spec"]], fmr, series=not entry["key_known"])) is not None
    ]
    pairs = [[a, b] for a in points for b in points if a.label == b.label and a.hollow and not b.hollow]
    caption = "Numbers are rows of the table. Filled: attacked with the key, or there is none. Hollow: without the key."
    plot = None
    if points:
        plot = tag("div", drawn(points, judge, fmr, pairs), tag("p", caption, class_="sub"))
    return section("Do defenses help?", "defenses", tag("p", intro), plot, table(entries, judge, fmr))


def table(entries: Sequence[Entry], judge: str, fmr: float) -> Markup:
    """A row for each scheme, numbered from 1; its acceptance with and without the key."""
    at = one_in(fmr)
    columns = ["Defense", "EER", f"TAR at {at}", "Accepted, key unknown", "Accepted, key known", "Linkability D_sys"]
    rows = []
    for place, spec in enumerate(specs_of(entries), 1):
        mine = [entry for entry in entries if entry["spec"] == spec]
        known = next((entry for entry in mine if entry["key_known"]), None)
        blind = next((entry for entry in mine if not entry["key_known"]), None)
        rows.append(
            [
                join([f"{place}. {scheme(spec)} ", code(spec)]),
                percent(mine[0].get("eer")),
                percent(tar(mine[0], fmr)),
                tag("span", "has no key", class_="bare") if blind is None else _accepted(blind, judge, fmr),
                NOT_MEASURED if known is None else _accepted(known, judge, fmr),
                _linked(mine[0]),
            ]
        )
    measured = {str(entry["accuracy_on"]): None for entry in entries if entry.get("accuracy_on")}
    explained = "EER: lower is better; TAR: higher. D_sys: 0 unlinkable, 1 linkable."
    explained += f" Accuracy measured on {'; '.join(measured)}." if measured else ""
    caption = join(
        [
            f"Accuracy kept, and type-I acceptance left by {judge}, letting {at} strangers pass",
            tag("span", explained, class_="sub"),
        ]
    )
    return cards(caption, columns, rows)


def drawn(points: Sequence[Point], judge: str, fmr: float, lines: Sequence[Sequence[Point]]) -> Markup:
    """The trade-off plot with the names of its axes."""
    across = f"Accuracy kept: genuine pairs accepted (TAR), letting {one_in(fmr)} strangers pass"
    return scatter(points, across=across, up=f"Leakage left: reconstructions accepted by {judge}", lines=lines)


def as_point(entry: Entry, judge: str, label: str, fmr: float, *, series: int = 0) -> Point | None:
    """A defense in the plot; None if its accuracy or its acceptance was not measured."""
    kept, row = tar(entry, fmr), left(entry, judge, fmr)
    rate = None if row is None else share(row)
    if kept is None or row is None or rate is None:
        return None
    blind = not entry["key_known"]
    title = scheme(entry["spec"]) + (" without the key" if blind else "")
    return Point(kept, rate, row.get("low"), row.get("high"), label, title, series, blind)


def tar(entry: Entry, fmr: float) -> float | None:
    """Share of genuine pairs accepted at a false match rate, None if it was not measured."""
    found = [value for key, value in (entry.get("tar") or {}).items() if float(key) == fmr]
    return None if not found or found[0] is None else float(found[0])


def left(entry: Entry, judge: str, fmr: float) -> Mapping[str, Any] | None:
    """The row of a judge at a false match rate."""
    found = [row for row in rows_of(entry) if row["judge"] == judge and float(row["fmr"]) == fmr]
    return found[0] if found else None


def rows_of(entry: Entry) -> list[Mapping[str, Any]]:
    """Its type-I rows by all judges: ``rows`` of a report, or ``sar`` of a sweep, whose rows are all of type I."""
    return [row for row in entry.get("rows", entry.get("sar")) or [] if row.get("what", TYPE_I) == TYPE_I]


def judge_of(report: Mapping[str, Any]) -> str | None:
    """The headline judge's name; without judges, the first that any defense was judged by."""
    found = headline(report)
    named = [str(row["judge"]) for entry in report.get("defenses") or [] for row in rows_of(entry)]
    return None if not named else str(found["name"]) if found is not None else named[0]


def specs_of(entries: Sequence[Entry]) -> list[str]:
    """Every defense once, in their order."""
    return list(dict.fromkeys(entry["spec"] for entry in entries))


def strictest_fmr(entries: Sequence[Entry]) -> float:
    """The smallest false match rate of any row that a threshold could be had for."""
    found = (float(row["fmr"]) for entry in entries for row in rows_of(entry) if row["sar"] is not None)
    return min(found, default=1e-3)


def _accepted(entry: Entry, judge: str, fmr: float) -> Markup:
    """The judge's rate with its counts, and other judges' below it."""
    row = left(entry, judge, fmr)
    rate = None if row is None else share(row)
    lines: list[object] = [NOT_MEASURED]
    if row is not None and rate is not None:
        lines = [tag("b", percent(rate)), tag("span", counted(row), class_="sub")]
    for name in dict.fromkeys(str(row["judge"]) for row in rows_of(entry)):
        other = left(entry, name, fmr)
        if name != judge and other is not None:
            lines.append(tag("span", f"{name}: {percent(share(other))}", class_="sub"))
    return join(lines)


def _linked(entry: Entry) -> Markup | str:
    """D_sys with what it is by chance; a number of a report, or the parts that a sweep gives."""
    found = entry.get("d_sys")
    parts = found if isinstance(found, Mapping) else {"d_sys": found} | dict(entry.get("linkability") or {})
    if parts.get("d_sys") is None:
        return NOT_MEASURED
    chance = parts.get("chance")
    return join(
        [f"{parts['d_sys']:.2f}", None if chance is None else tag("span", f"by chance {chance:.2f}", class_="sub")]
    )
