"""The scatter plot, read back from its SVG."""

import re
from xml.etree import ElementTree

import pytest

from arcinvert.audit.page.scatter import Point, Scale, scatter


def drawn(*points: Point, lines: tuple[tuple[Point, ...], ...] = ()) -> ElementTree.Element:
    svg = re.search(r"<svg class=\"scatter\".*</svg>(?=</div>)", scatter(points, across="kept", up="left", lines=lines))
    assert svg is not None
    return ElementTree.fromstring(svg.group())


def at(share: str) -> float:
    assert share.endswith("%")
    return float(share[:-1]) / 100


def point(x: float, y: float, label: str = "", **more: object) -> Point:
    return Point(x, y, None, None, label, f"point {label}", **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([0.24, 0.37], [0.2, 0.25, 0.3, 0.35, 0.4]),
        ([0.0, 1.0], [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        ([0.0, 0.58], [0, 0.2, 0.4, 0.6]),
        ([0.0], [0, 0.02, 0.04]),
        ([1.0], [0.96, 0.98, 1.0]),
        ([0.5, 0.53], [0.5, 0.52, 0.54]),
    ],
)
def test_scales_are_round_and_hold_the_values(values: list[float], ticks: list[float]) -> None:
    scale = Scale.around(values)
    assert scale.ticks == pytest.approx(ticks)
    assert all(-1e-9 <= scale.at(value) <= 1 + 1e-9 for value in values)


def test_marks_stand_where_the_axes_say() -> None:
    found = drawn(point(0.2, 0.0), point(0.3, 0.15))
    marks = [mark for mark in found.iter("svg") if "mark" in mark.get("class", "").split()]
    assert [at(mark.get(axis, "")) for mark in marks for axis in "xy"] == pytest.approx([0, 1, 1, 0])
    words = [word.text for word in found.iter("text")]
    assert {"20%", "30%", "0%", "15%"} <= set(words)


def test_intervals_and_lines() -> None:
    one, two = Point(0.2, 0.2, 0.0, 0.4, "", "one"), Point(0.4, 0.4, None, None, "", "two")
    found = drawn(one, two, lines=((one, two),))
    lines = {name: [e for e in found.iter("line") if name in e.get("class", "")] for name in ("join", "reach")}
    assert len(lines["join"]) == 1
    reach = lines["reach"]
    assert [(at(e.get("y1", "")), at(e.get("y2", ""))) for e in reach] == [(1.0, 0.0)]
    assert reach[0].get("x1") == reach[0].get("x2") == "0%"


def test_series_differ_in_shape_and_not_in_color_alone() -> None:
    found = drawn(*(point(0.1 * n, 0.5, series=n) for n in range(8)))
    kinds = [
        mark.get("class", "").split()[1:3] for mark in found.iter("svg") if "mark" in mark.get("class", "").split()
    ]
    assert len({tuple(kind) for kind in kinds}) == 8
    assert len({shape for shape, _ in kinds}) == 4


def test_labels_of_points_that_lie_together_are_apart() -> None:
    found = drawn(*(point(0.5, 0.5, str(n)) for n in range(4)), point(0.0, 0.0), point(1.0, 1.0))
    labels = [e for e in found.iter("text") if e.get("class", "").startswith("label")]
    assert [e.text for e in labels] == ["0", "1", "2", "3"]
    assert len({(e.get("dx"), e.get("dy")) for e in labels}) == 4


def test_the_text_alternative_names_every_point() -> None:
    label = drawn(point(0.25, 0.5, "7")).get("aria-label", "")
    assert label == "kept against left. point 7: 25%, 50%"
