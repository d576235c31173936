"""Accuracy kept against acceptance left, as a scatter plot of SVG.

Both axes are shares. Places are percentages of the plot, so it fills its width while text and marks keep
their size; labels avoid each other on the narrowest screen.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from arcinvert.audit.page.markup import Markup, tag
from arcinvert.audit.page.strips import marker
from arcinvert.audit.page.words import percent

SHAPES = ("circle", "square", "triangle", "diamond")
COLORS = 6
CROWDED = 3.0
"""Of a label's height, so many pixels may be covered."""
_NARROW, _HEIGHT = 230, 340
_OFFSETS = ((11, 5), (-11, 5), (0, -11), (0, 20), (11, -8), (-11, -8), (11, 17), (-11, 17))
_STEPS = (0.02, 0.05, 0.1, 0.2, 0.25)

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Point:
    """One measured defense.

    Attributes:
        x, y: accuracy kept and share accepted, in [0, 1].
        low, high: interval of y.
        label: short text beside the mark; may be empty.
        title: what a reader of the text alternative hears.
        series: number of its shape and color.
        hollow: drawn as an outline.
    """

    x: float
    y: float
    low: float | None
    high: float | None
    label: str
    title: str
    series: int = 0
    hollow: bool = False

    @property
    def kind(self) -> str:
        """Shape and color, as :func:`~arcinvert.audit.page.strips.marker` takes them."""
        return f"{SHAPES[self.series % len(SHAPES)]} {self.color}{' hollow' if self.hollow else ''}"

    @property
    def color(self) -> str:
        """Class of its color."""
        return f"series{self.series % COLORS}"


@dataclass(frozen=True)
class Scale:
    """An axis from ``first`` in steps of ``step``, ``count`` of them."""

    first: float
    step: float
    count: int

    @classmethod
    def around(cls, values: Sequence[float]) -> "Scale":
        """The finest scale of two to five steps within [0, 1] that holds all values."""
        low, high = max(0.0, min(values)), min(1.0, max(values))
        for step in _STEPS:
            first = min(math.floor(low / step + 1e-9), round(1 / step) - 2)
            count = max(2, math.ceil(high / step - 1e-9) - first)
            if count <= 5:
                break
        return cls(first * step, step, count)

    @property
    def ticks(self) -> list[float]:
        """Values that are written at the axis."""
        return [self.first + n * self.step for n in range(self.count + 1)]

    def at(self, value: float) -> float:
        """The place of a value: 0 at the first tick, 1 at the last."""
        return (value - self.first) / (self.step * self.count)


def scatter(points: Sequence[Point], *, across: str, up: str, lines: Sequence[Sequence[Point]] = ()) -> Markup:
    """The plot with its axes' names; ``lines`` join the points in their order. At least one point."""
    x = Scale.around([point.x for point in points])
    reach = [value for point in points for value in (point.y, point.high) if value is not None]
    y = Scale.around([0.0, *reach])
    described = "; ".join(f"{point.title}: {percent(point.x)}, {percent(point.y)}" for point in points)
    plot = tag(
        "svg",
        *(_vertical(place, tick) for tick in x.ticks for place in [x.at(tick)]),
        *(_horizontal(y.at(tick), tick) for tick in y.ticks),
        *(_line(a, b, x, y) for path in lines for a, b in pairwise(path)),
        *(_interval(point, x, y) for point in points),
        *(marker(x.at(point.x), _share(1 - y.at(point.y)), point.kind) for point in points),
        *_labels(points, x, y),
        class_="scatter",
        role="img",
        aria_label=f"{across} against {up}. {described}",
        width="100%",
        height=_HEIGHT,
    )
    return tag(
        "figure",
        tag("p", "↑ ", up, class_="axis-name"),
        tag("div", plot, class_="frame"),
        tag("p", across, " →", class_="axis-name across"),
        class_="plot-figure",
    )


def _vertical(at: float, tick: float) -> Markup:
    place = _share(at)
    line = tag("line", x1=place, x2=place, y1="0%", y2="100%", class_="grid")
    return tag("g", line, tag("text", percent(round(tick, 4)), x=place, y="100%", dy=18, text_anchor="middle"))


def _horizontal(at: float, tick: float) -> Markup:
    place = _share(1 - at)
    line = tag("line", y1=place, y2=place, x1="0%", x2="100%", class_="grid")
    return tag("g", line, tag("text", percent(round(tick, 4)), x="0%", y=place, dx=-8, dy=4, text_anchor="end"))


def _line(a: Point, b: Point, x: Scale, y: Scale) -> Markup:
    ends = {"x1": x.at(a.x), "y1": 1 - y.at(a.y), "x2": x.at(b.x), "y2": 1 - y.at(b.y)}
    return tag("line", **{name: _share(value) for name, value in ends.items()}, class_=f"join {a.color}")


def _interval(point: Point, x: Scale, y: Scale) -> Markup | None:
    if point.low is None or point.high is None:
        return None
    place, ends = _share(x.at(point.x)), [_share(1 - y.at(value)) for value in (point.low, point.high)]
    return tag("line", x1=place, x2=place, y1=ends[0], y2=ends[1], class_=f"reach {point.color}")


def _labels(points: Sequence[Point], x: Scale, y: Scale) -> list[Markup]:
    """A label beside each point, where it covers the least of the marks and of the labels before it.

    Where there is no room it is left out: the table has it, and two labels that cover each other say nothing.
    """
    marks = [(_NARROW * x.at(point.x), _HEIGHT * (1 - y.at(point.y))) for point in points]
    taken: list[Box] = [(across - 6, down - 6, across + 6, down + 6) for across, down in marks]
    written = []
    for point, (across, down) in zip(points, marks, strict=True):
        if not point.label:
            continue
        width = 7.5 * len(point.label)
        places = []
        for number, (dx, dy) in enumerate(_OFFSETS):
            left = across + dx - (0 if dx > 0 else width if dx < 0 else width / 2)
            box = (left, down + dy - 12, left + width, down + dy + 2)
            outside = max(0.0, -box[0]) + max(0.0, box[2] - _NARROW - 16) + max(0.0, box[3] - _HEIGHT)
            places.append((sum(_shared(box, other) for other in taken) + 20 * outside, number, box))
        covered, best, box = min(places)
        if covered > CROWDED * width:
            continue
        taken.append(box)
        dx, dy = _OFFSETS[best]
        place = {"x": _share(x.at(point.x)), "y": _share(1 - y.at(point.y)), "dx": dx, "dy": dy}
        anchor = "start" if dx > 0 else "end" if dx < 0 else "middle"
        written.append(tag("text", point.label, **place, text_anchor=anchor, class_=f"label {point.color}"))
    return written


def _shared(a: Box, b: Box) -> float:
    """Area that two boxes (left, top, right, bottom) share."""
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def _share(place: float) -> str:
    return f"{round(100 * place, 2):g}%"
