"""A sweep over defenses as a page: the trade-off curve of each scheme, and the table behind it."""

from collections.abc import Mapping
from typing import Any

from arcinvert.audit.page import head, notes
from arcinvert.audit.page.defenses import GOOD, as_point, drawn, judge_of, strictest_fmr, table
from arcinvert.audit.page.document import document
from arcinvert.audit.page.markup import Markup, tag
from arcinvert.audit.page.scatter import Point
from arcinvert.audit.page.strips import marker
from arcinvert.audit.page.tables import section
from arcinvert.audit.page.words import family, setting


def sweep_page(report: Mapping[str, Any]) -> str:
    """The trade-off of a sweep as a self-contained HTML page.

    Each scheme is one line through its settings, ordered by the accuracy they keep.

    Args:
        report: ``store`` and ``defenses`` as in an audit's report, and whichever of its other keys are known.
    """
    store = report["store"]
    return document(
        f"Defenses: {head.title(store)}",
        tag(
            "header",
            tag("p", "Accuracy against leakage, for a store of face embeddings", class_="kicker"),
            tag("h1", head.title(store)),
        ),
        trade_off(report),
        notes.not_shown(report),
        head.about(report) if report.get("sample") else None,
        notes.settings(report),
        notes.glossary(),
        footer="Written by arcinvert. The same figures are in the JSON file beside this page.",
    )


def trade_off(report: Mapping[str, Any]) -> Markup:
    """The curve of every scheme over its settings, its key, and the table."""
    entries = report.get("defenses") or []
    judge = judge_of(report)
    if judge is None:
        return section("Trade-off", "trade-off", tag("p", "No defense was measured."))
    fmr = strictest_fmr(entries)
    lines: dict[tuple[str, bool], list[Point]] = {}
    names = list(dict.fromkeys(family(entry["spec"]) for entry in entries))
    for entry in entries:
        name = family(entry["spec"])
        point = as_point(entry, judge, setting(entry["spec"]), fmr, series=names.index(name))
        if point is not None:
            lines.setdefault((name, point.hollow), []).append(point)
    ordered = {key: sorted(line, key=lambda point: point.x) for key, line in lines.items()}
    points = [point for line in ordered.values() for point in line]
    key = tag("ul", *(_key(*name, line[0]) for name, line in ordered.items()), class_="key")
    plot = [key, drawn(points, judge, fmr, list(ordered.values()))] if points else []
    return section("Trade-off", "trade-off", tag("p", GOOD), *plot, table(entries, judge, fmr))


def _key(name: str, blind: bool, point: Point) -> Markup:
    mark = tag("svg", marker(0.5, "50%", point.kind), width=14, height=14, aria_hidden="true")
    return tag("li", mark, f"{name} without the key" if blind else name)
