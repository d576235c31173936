"""The sweep's trade-off: one line for each scheme and attacker, in the order of the accuracy kept."""

import re
from typing import Any
from xml.etree import ElementTree

import pytest
from page_report import defense

from arcinvert.audit.page import sweep_page


@pytest.fixture
def swept(report: dict[str, Any]) -> dict[str, Any]:
    kept = {0.3: 0.02, 0.02: 0.36, 0.1: 0.25}  # not in order
    report["defenses"] = [defense(f"noise:{sigma}", True, 0.1, tar, round(60 * tar)) for sigma, tar in kept.items()]
    report["defenses"] += [defense("none", True, 0.07, 0.37, 27)]
    report["defenses"] += [defense("biohash:5", known, 0.09, 0.32, 15 * known, 0.03) for known in (True, False)]
    return report


def plot(found: str) -> ElementTree.Element:
    svg = re.search(r"<svg class=\"scatter\".*</svg>(?=</div>)", found)
    assert svg is not None
    return ElementTree.fromstring(svg.group())


def test_lines_join_one_scheme_in_order(swept: dict[str, Any]) -> None:
    joins = [line for line in plot(sweep_page(swept)).iter("line") if line.get("class", "").startswith("join")]
    assert {line.get("class") for line in joins} == {"join series0"}  # only noise has several settings
    places = [float(line.get(end, "")[:-1]) for line in joins for end in ("x1", "x2")]
    assert len(places) == 4
    assert places == sorted(places)


def test_settings_are_written_and_keys_are_not(swept: dict[str, Any]) -> None:
    labels = [e.text for e in plot(sweep_page(swept)).iter("text") if e.get("class", "").startswith("label")]
    assert labels == ["0.3", "0.1", "0.02"]


def test_the_key_names_every_line(swept: dict[str, Any]) -> None:
    found = sweep_page(swept)
    names = re.findall(r"</svg>([^<]+)</li>", found)
    assert names == ["Gaussian noise", "No defense", "BioHashing", "BioHashing without the key"]


def test_a_defense_without_accuracy_is_in_the_table_alone(swept: dict[str, Any]) -> None:
    swept["defenses"][0]["tar"] = {"0.01": 0.5, "0.001": None}
    found = sweep_page(swept)
    marks = [e for e in plot(found).iter("svg") if e.get("class", "").startswith("mark")]
    assert len(marks) == 5
    assert "σ = 0.3" in found


def test_rows_of_a_bare_sweep_are_of_type_one(swept: dict[str, Any]) -> None:
    """Without a report's ``rows``, ``sar`` and a parted D_sys, as ``TradeOff.to_json`` gives them."""
    whole = sweep_page(swept)
    for entry in swept["defenses"]:
        entry["sar"] = [{k: v for k, v in row.items() if k != "what"} for row in entry.pop("rows")]
        entry["d_sys"] = entry.pop("linkability")
    assert sweep_page(swept) == whole


def test_it_does_without_judges_and_sample(swept: dict[str, Any]) -> None:
    bare = {"store": {"kind": "npy", "name": "a.npy"}, "defenses": swept["defenses"]}
    assert "accepted by mobileface-v3" in sweep_page(bare)
