"""Accuracy kept against acceptance left: the scales and labels of a scatter plot, which a template draws.

Both axes are shares. Coordinates are percentages of the plot, so that it fills its width while text and marks keep
their size. Labels avoid each other on the narrowest screen.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from arcinvert.audit.page.formatting import percent

SHAPES = ("circle", "square", "triangle", "diamond")
COLORS = 6
CROWDED = 3.0
"""Pixels of a label, per pixel of its width, that may be covered."""
_NARROW = 230
_OFFSETS = ((11, 5), (-11, 5), (0, -11), (0, 20), (11, -8), (-11, -8), (11, 17), (-11, 17))
_STEPS = (0.02, 0.05, 0.1, 0.2, 0.25)

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Point:
    """One measured defense.

    Attributes:
        x, y: accuracy kept and share accepted, in [0, 1].
        low, high: interval of y.
        title: text for a screen reader.
        label: short text beside the mark; may be empty.
        series: number of its shape and color.
        hollow: drawn as an outline.
    """

    x: float
    y: float
    low: float
    high: float
    title: str
    label: str = ""
    series: int = 0
    hollow: bool = False

    @property
    def kind(self) -> str:
        """Shape and color of its mark."""
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
        """The coordinate of a value: 0 at the first tick, 1 at the last."""
        return (value - self.first) / (self.step * self.count)


@dataclass(frozen=True)
class Label:
    """The text of a point, moved by (dx, dy) pixels."""

    point: Point
    dx: int
    dy: int

    @property
    def anchor(self) -> str:
        """SVG's ``text-anchor``."""
        return "start" if self.dx > 0 else "end" if self.dx < 0 else "middle"


@dataclass(frozen=True)
class Scatter:
    """The plot: at least one point, lines that connect points in their order, names of the axes."""

    points: tuple[Point, ...]
    lines: tuple[tuple[Point, ...], ...]
    across: str
    up: str
    height: ClassVar[int] = 340

    @property
    def x(self) -> Scale:
        """The scale of the accuracy."""
        return Scale.around([point.x for point in self.points])

    @property
    def y(self) -> Scale:
        """The scale of the acceptance; it begins at 0 and holds the intervals."""
        return Scale.around([0.0, *(max(point.y, point.high) for point in self.points)])

    @property
    def segments(self) -> list[tuple[Point, Point]]:
        """Neighbors on a line."""
        return [pair for line in self.lines for pair in pairwise(line)]

    @property
    def description(self) -> str:
        """The plot as text."""
        listed = "; ".join(f"{point.title}: {percent(point.x)}, {percent(point.y)}" for point in self.points)
        return f"{self.across} against {self.up}. {listed}"

    @property
    def labels(self) -> list[Label]:
        """A label beside each point, where it covers the least of the marks and of the labels before it.

        Where there is no room it is left out: the table has it, and labels that cover each other cannot be read.
        """
        x, y = self.x, self.y
        marks = [(_NARROW * x.at(point.x), self.height * (1 - y.at(point.y))) for point in self.points]
        taken: list[Box] = [(across - 6, down - 6, across + 6, down + 6) for across, down in marks]
        labels = []
        for point, (across, down) in zip(self.points, marks, strict=True):
            width = 7.5 * len(point.label)
            places = []
            for number, (dx, dy) in enumerate(_OFFSETS if point.label else ()):
                left = across + dx - (0 if dx > 0 else width if dx < 0 else width / 2)
                box = (left, down + dy - 12, left + width, down + dy + 2)
                outside = max(0.0, -box[0]) + max(0.0, box[2] - _NARROW - 16) + max(0.0, box[3] - self.height)
                places.append((sum(_overlap(box, other) for other in taken) + 20 * outside, number, box))
            if places and min(places)[0] <= CROWDED * width:
                _, best, box = min(places)
                taken.append(box)
                labels.append(Label(point, *_OFFSETS[best]))
        return labels


def _overlap(a: Box, b: Box) -> float:
    """Area that two boxes (left, top, right, bottom) share."""
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
