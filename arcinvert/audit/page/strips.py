"""A rate and its interval as a strip of SVG, and tables of such rates.

All horizontal places are percentages, so a strip fills whatever width it gets while text and marks keep
their size. Readings are filled circles, controls hollow diamonds: the shape says what the color says.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from arcinvert.audit.page.markup import Markup, join, tag
from arcinvert.audit.page.words import one_in, percent, share, span

TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)
_HEIGHT, _MIDDLE = 24, 12
_NAMES = {
    "type I": ("Reconstruction against what was enrolled", "type I"),
    "type II": ("Reconstruction against another picture of the person", "type II"),
    "control: mean face": ("Mean face", "control, expected near chance"),
    "control: random face": ("Random face", "control, expected near chance"),
    "control: shuffled targets": ("Reconstruction of somebody else", "control, expected near chance"),
    "control: second photo": ("Real second photo of the person", "control, what could be reached"),
}
UPPER = "control: second photo"


def strip(value: float, low: float | None, high: float | None, *, control: bool = False, chance: float = 0.0) -> Markup:
    """One rate in [0, 1] with its interval, a grid, and a dashed line where chance alone would be (0: none)."""
    grid = [_upright(tick, "grid") for tick in TICKS]
    dashed = _upright(chance, "chance") if chance > 0 else None
    band = None
    label = percent(value)
    if low is not None and high is not None:
        band = tag("rect", class_="band", x=_at(low), width=_at(max(high - low, 0.004)), y=_MIDDLE - 5, height=10, rx=3)
        label += f", interval {span(low, high)}"
    return tag(
        "svg",
        *grid,
        dashed,
        band,
        marker(value, _MIDDLE, "diamond hollow" if control else "circle"),
        class_="strip control" if control else "strip",
        role="img",
        aria_label=label,
        width="100%",
        height=_HEIGHT,
    )


def marker(x: float, y: float | str, kind: str) -> Markup:
    """A mark at share x of the width; kind: a shape, and ``hollow`` or a color's class after it."""
    shape = {
        "circle": tag("circle", r=5.5),
        "diamond": tag("path", d="M0-6.5 6.5 0 0 6.5-6.5 0Z"),
        "square": tag("rect", x=-5, y=-5, width=10, height=10),
        "triangle": tag("path", d="M0-6.5 6.5 5-6.5 5Z"),
    }[kind.split()[0]]
    return tag("svg", shape, x=_at(x), y=y, width=1, height=1, class_=f"mark {kind}")


def axis() -> Markup:
    """The scale above a column of strips."""
    labels = [tag("text", percent(t), x=_at(t), y=11, text_anchor="middle") for t in TICKS]
    return tag("svg", *labels, class_="strip axis", width="100%", height=14, aria_hidden="true")


def rates(
    caption: object,
    rows: Sequence[Mapping[str, Any]],
    *,
    shown: str = "What the judge was shown",
    hit: str = "Accepted",
) -> Markup:
    """A table of rates at one threshold: what was shown, the strip, and the figures in words.

    Args:
        caption: of the table.
        rows: ``what, fmr, accepted, tried, sar, low, high``; a null ``sar`` is said, with its ``reason``.
        shown, hit: heads of the first and the last column.
    """
    head = tag(
        "tr",
        _cell("th", shown, scope="col"),
        _cell("th", tag("span", f"{hit}: share and 95% interval", class_="unseen"), axis(), scope="col", class_="plot"),
        _cell("th", hit, scope="col", class_="figure"),
        role="row",
    )
    return tag(
        "table",
        tag("caption", caption),
        tag("thead", head, role="rowgroup"),
        tag("tbody", *map(_row, rows), role="rowgroup"),
        class_="rates",
        role="table",
    )


def _row(row: Mapping[str, Any]) -> Markup:
    what = str(row["what"])
    control = what.startswith("control")
    name, note = _NAMES.get(what, (what, None))
    value, low, high, fmr = share(row), row.get("low"), row.get("high"), float(row.get("fmr") or 0.0)
    figures: list[object]
    if value is None:
        drawn, figures = None, [tag("span", f"not measured: {row.get('reason') or 'nothing to try'}", class_="sub")]
    else:
        drawn = strip(value, low, high, control=control, chance=fmr)
        figures = [tag("b", percent(value)), tag("span", counted(row), class_="sub")]
        if control and what != UPPER and low is not None and low > fmr:
            figures.append(tag("span", f"above chance ({one_in(fmr)}): read the rates with care", class_="sub alarm"))
    label = join([name, None if note is None else tag("span", note, class_="sub")])
    return tag(
        "tr",
        _cell("th", label, scope="row", role="rowheader"),
        _cell("td", drawn, class_="plot"),
        _cell("td", *figures, class_="figure"),
        role="row",
        class_="control" if control else None,
    )


def counted(row: Mapping[str, Any]) -> str:
    """The counts behind a rate and its interval: "36 of 40; 77% to 96%"."""
    tried = row.get("tried")
    counts = "" if tried is None else f"{tried:,} tried"
    if row.get("accepted") is not None and tried is not None:
        counts = f"{row['accepted']:,} of {tried:,}"
    return "; ".join(part for part in (counts, span(row.get("low"), row.get("high"))) if part)


def _cell(name: str, *children: object, **attributes: object) -> Markup:
    return tag(name, *children, **({"role": "cell" if name == "td" else "columnheader"} | attributes))


def _upright(place: float, kind: str) -> Markup:
    return tag("line", class_=kind, x1=_at(place), x2=_at(place), y1=0, y2=_HEIGHT)


def _at(share_of_width: float) -> str:
    return f"{round(100 * share_of_width, 2):g}%"
