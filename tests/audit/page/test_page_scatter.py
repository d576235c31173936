"""The scatter plot, and the sweep's curves, read back from their SVG."""

import re
from collections.abc import Sequence
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from page_report import defense, example

from arcinvert.audit.page import sweep_page
from arcinvert.audit.page.environment import environment
from arcinvert.audit.page.scatter import Point, Scale, Scatter
from arcinvert.audit.report import LeakageReport

MACROS = environment("arcinvert.audit.page").get_template("common.html").module


def read(html: str) -> ElementTree.Element:
    svg = re.search(r"<svg class=\"scatter\".*</svg>(?=</div>)", html, re.S)
    assert svg is not None
    return ElementTree.fromstring(svg.group())


def drawn(*points: Point, lines: Sequence[Sequence[Point]] = ()) -> ElementTree.Element:
    return read(MACROS.scatter(Scatter(points, tuple(map(tuple, lines)), "kept", "left")))


def point(x: float, y: float, label: str = "", series: int = 0) -> Point:
    return Point(x, y, y, y, f"point {label}", label, series)


def at(share: str) -> float:
    assert share.endswith("%")
    return float(share[:-1]) / 100


def classed(found: ElementTree.Element, tag: str, name: str) -> list[ElementTree.Element]:
    return [element for element in found.iter(tag) if name in element.get("class", "").split()]


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


def test_marks_are_where_the_axes_say() -> None:
    found = drawn(point(0.2, 0.0), point(0.3, 0.15))
    assert [at(mark.get(axis, "")) for mark in classed(found, "svg", "mark") for axis in "xy"] == [0, 1, 1, 0]
    assert {"20%", "30%", "0%", "15%"} <= {text.text for text in found.iter("text")}


def test_intervals_and_lines() -> None:
    one, two = Point(0.2, 0.2, 0.0, 0.4, "one"), Point(0.4, 0.4, 0.4, 0.4, "two")
    found = drawn(one, two, lines=((one, two),))
    assert len(classed(found, "line", "series-line")) == 1
    first, second = classed(found, "line", "interval")
    assert [at(first.get(end, "")) for end in ("x1", "x2", "y1", "y2")] == [0, 0, 1, 0]
    assert second.get("y1") == second.get("y2") == "0%"


def test_series_differ_in_shape_and_not_in_color_alone() -> None:
    found = drawn(*(point(0.1 * n, 0.5, series=n) for n in range(8)))
    kinds = {tuple(mark.get("class", "").split()[1:3]) for mark in classed(found, "svg", "mark")}
    assert len(kinds) == 8
    assert len({shape for shape, _ in kinds}) == 4


def test_labels_of_close_points_are_apart() -> None:
    found = drawn(*(point(0.5, 0.5, str(n)) for n in range(4)), point(0.0, 0.0), point(1.0, 1.0))
    labels = classed(found, "text", "label")
    assert [label.text for label in labels] == ["0", "1", "2", "3"]
    assert len({(label.get("dx"), label.get("dy")) for label in labels}) == 4


def test_the_text_alternative_names_every_point() -> None:
    assert drawn(point(0.25, 0.5, "7")).get("aria-label") == "kept against left. point 7: 25%, 50%"


@pytest.fixture
def swept() -> LeakageReport:
    kept = {0.3: 0.02, 0.02: 0.36, 0.1: 0.25}  # not in order
    entries = [defense(f"noise:{sigma}", True, 0.1, tar, round(60 * tar)) for sigma, tar in kept.items()]
    entries += [defense("none", True, 0.07, 0.37, 27)]
    entries += [defense("biohash:5", known, 0.09, 0.32, 15 * known, 0.03) for known in (True, False)]
    return example(defenses=tuple(entries))


def test_a_sweep_joins_the_settings_of_a_scheme_in_order(swept: LeakageReport) -> None:
    found = sweep_page(swept)
    lines = classed(read(found), "line", "series-line")
    assert {line.get("class") for line in lines} == {"series-line series0"}  # only noise has several settings
    ends = [at(line.get(end, "")) for line in lines for end in ("x1", "x2")]
    assert len(ends) == 4
    assert ends == sorted(ends)
    # Labels are settings, never keys; the legend names every line.
    assert [label.text for label in classed(read(found), "text", "label")] == ["0.3", "0.1", "0.02"]
    legend = re.findall(r"</svg>\s*([^<]+)</li>", found)
    assert legend == ["Gaussian noise", "No defense", "BioHashing", "BioHashing without the key"]


def test_a_defense_without_accuracy_is_in_the_table_alone(swept: LeakageReport) -> None:
    first = defense("noise:0.3", True, 0.1, None, 2)
    found = sweep_page(replace(swept, defenses=(first, *swept.defenses[1:])))
    assert len(classed(read(found), "svg", "mark")) == 5
    assert "σ = 0.3" in found


def test_a_sweep_without_judges(swept: LeakageReport) -> None:
    assert "accepted by mobileface-v3" in sweep_page(replace(swept, judges=()))
