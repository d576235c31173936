"""The whole page, read by a parser: what it shows, and what it must never contain."""

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from page_report import FMRS, PNG, defense, hostile

from arcinvert.audit.groups import Group, Groups
from arcinvert.audit.page import page, sweep_page
from arcinvert.audit.rates import TYPE_I, TYPE_II, Rate
from arcinvert.audit.report import JudgeResult, LeakageReport, Restarts, Verdict
from arcinvert.audit.thresholds import Threshold
from arcinvert.errors import InputError

VOID = {"meta", "img", "br", "hr"}
KNOWN = """html head meta title style body main footer header section div span p h1 h2 h3 ul li dl dt dd a b code
figure figcaption img table caption thead tbody tr th td svg g line rect circle path text"""
ALLOWED = frozenset(KNOWN.split())


class Tree(HTMLParser):
    """Checks that tags are balanced and known; collects tags, attributes and text."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(markup)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in ALLOWED, f"unexpected <{tag}>"
        assert len(dict(attrs)) == len(attrs), f"an attribute twice in <{tag}>"
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text.append(data)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def test_no_script_no_event_no_address_outside(report: LeakageReport) -> None:
    for found in (page(report), page(report, {"r": {"face": PNG}}), page(hostile(report)), sweep_page(hostile(report))):
        tree = Tree(found)
        for name, attributes in tree.elements:
            assert not [key for key in attributes if key.startswith("on") or key in ("style", "srcset", "action")], name
            for key in ("src", "href"):
                assert (attributes.get(key) or "#").startswith(("#", "data:image/")), name
        assert not re.search(r"url\(|@import|expression\(", found)
        assert "\x1b" not in found
        assert "\u202e" not in found


def test_the_policy_allows_this_style_and_nothing_else(report: LeakageReport) -> None:
    found = page(report)
    style = re.search(r"<style>(.*?)</style>", found, re.S)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style.group(1).encode()).digest()).decode()
    policy = next(m["content"] for m in Tree(found).all("meta") if m.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert "default-src 'none'" in policy
    assert f"style-src 'sha256-{digest}'" in policy
    assert "script" not in policy


def test_the_verdict_comes_first(report: LeakageReport) -> None:
    words = Tree(page(report)).words
    places = [
        words.index(part) for part in ("people.sqlite", "Verdict leaks", "A judge that had", "45%", "Do the recon")
    ]
    assert places[1:] == sorted(places[1:])


def test_rates_have_counts_interval_threshold_and_pairs(report: LeakageReport) -> None:
    words = Tree(page(report)).words
    assert "45% 27 of 60; 33% to 58%" in words  # Wilson's interval of 27 of 60 is 0.331 to 0.575
    assert "threshold 0.412 (0.402 to 0.422), fixed beforehand on 176,130 impostor pairs of 594 people, photos" in words
    assert "controls at most 0%; second photos 58%; p = " in words
    assert "95% 57 of 60; 86% to 98%" in words
    for control in ("Mean face", "Random face", "Reconstruction of another person", "Real second photo of the person"):
        assert words.count(control) == 4  # two judges, two thresholds


def test_the_attacked_network_comes_last_and_is_marked(report: LeakageReport) -> None:
    assert report.judges[0].attacked
    words = Tree(page(report)).words
    tables = words.index("Do the reconstructions pass?")
    assert words.index("mobileface-v3 Thresholds fixed", tables) < words.index("mobilefacenet-y1 (attacked)", tables)
    assert "lets 1 in 1,000 strangers pass" in words


def test_a_control_above_chance_has_a_warning(report: LeakageReport) -> None:
    assert Tree(page(report)).words.count("above chance (1 in 100)") == 1


def test_tables_have_captions_and_scopes(report: LeakageReport) -> None:
    tree = Tree(page(report) + sweep_page(report))
    tables = [n for n, (name, _) in enumerate(tree.elements) if name == "table"]
    assert (
        len(tables) == 2 * 2 + 1 + 1 + 1 + 1 + 1 + 2
    )  # judges x thresholds, rank 1, a group, defenses, restarts, thresholds; sweep
    assert all(tree.elements[n + 1][0] == "caption" for n in tables)
    assert all(th.get("scope") in ("row", "col") for th in tree.all("th"))
    drawn = [svg for svg in tree.all("svg") if svg.get("role") == "img"]
    assert drawn
    assert all(svg.get("aria-label") for svg in drawn)


def test_headings_descend_by_one_and_anchors_exist(report: LeakageReport) -> None:
    tree = Tree(page(report))
    levels = [int(name[1]) for name, _ in tree.elements if re.fullmatch("h[1-6]", name)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    names = [attributes["id"] for _, attributes in tree.elements if "id" in attributes]
    assert len(names) == len(set(names))
    assert {(link["href"] or "")[1:] for link in tree.all("a")} <= set(names)
    assert [section["aria-labelledby"] for section in tree.all("section")] == names


def test_it_says_safe_only_to_deny_it(report: LeakageReport) -> None:
    words = Tree(page(report)).words
    assert re.findall(r"[^.]*\bsafe\b", words) == [
        " What this does not show A low rate never means that the store is safe"
    ]


def changed(report: LeakageReport, **changes: object) -> LeakageReport:
    """Another judge that was not attacked."""
    judges = tuple(judge if judge.attacked else replace(judge, **changes) for judge in report.judges)
    return replace(report, judges=judges)


def independent(report: LeakageReport) -> JudgeResult:
    return next(judge for judge in report.judges if not judge.attacked)


def test_a_mismatch_comes_before_the_rates(report: LeakageReport) -> None:
    mismatch = replace(report.mismatch, suspected=True, evidence=("its mean points elsewhere",))
    verdict = Verdict("mismatch suspected", "The store does not seem to belong to the network.")
    words = Tree(page(replace(report, verdict=verdict, mismatch=mismatch))).words
    assert words.index("its mean points elsewhere") < words.index("Do the reconstructions pass?")
    assert words.count("Do the templates belong") == 1
    words = Tree(page(report)).words
    assert words.index("Do the templates belong") > words.index("Do the reconstructions pass?")


def test_a_missing_rate_has_its_reason(report: LeakageReport) -> None:
    loose, strict = independent(report).thresholds
    thresholds = (loose, Threshold(strict.fmr, None, 900, "900 impostor pairs fix no threshold"))
    rates = [
        rate if rate.fmr == loose.fmr else Rate.measured(rate.judge, rate.kind, rate.fmr, None, rate.tried)
        for rate in independent(report).rates
    ]
    words = Tree(page(changed(report, thresholds=thresholds, rates=tuple(rates)))).words
    assert "no threshold, fixed beforehand" in words
    assert words.count("not measured: 900 impostor pairs fix no threshold") == 6
    assert "by mobileface-v3, which lets 1 in 100 strangers pass" in words


def test_a_judge_without_references_is_shown_with_the_reason(report: LeakageReport) -> None:
    words = Tree(page(changed(report, rates=(), note="this judge needs --photos"))).words
    assert "this judge needs --photos" in words
    assert "by mobilefacenet-y1, the attacked network itself, which lets" in words


def test_the_smallest_report(report: LeakageReport) -> None:
    least = replace(
        report,
        store=replace(report.store, norms=None, identities=0, skipped_rows=0),
        attack=replace(report.attack, cosine=None, digest=""),
        judges=(),
        hygiene=(),
        defenses=(),
        limitations=(),
        photos=None,
        restarts=Restarts(1, "", ()),
    )
    tree = Tree(page(least))
    assert "judged by the attacked network alone" in tree.words
    assert "No problem was found." in tree.words
    assert not {"defenses", "restarts", "faces", "rates"} & {h.get("id") for h in tree.all("h2")}
    assert "No defense was measured." in Tree(sweep_page(least)).words


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("/srv/data/people.npy", "people.npy"),
        ("folder/lance/", "lance"),
        ("postgresql://host/faces, table 'public.people'", "postgresql://host/faces, table 'public.people'"),
        ("", "sqlite"),
    ],
)
def test_the_title_is_the_name_without_folders(report: LeakageReport, name: str, shown: str) -> None:
    tree = Tree(page(replace(report, store=replace(report.store, name=name))))
    assert f"Leakage audit: {shown} Leakage audit of a store of face embeddings {shown} " in tree.words


def test_groups_are_rows_of_a_table_for_each_judge(report: LeakageReport) -> None:
    def group(name: str, accepted: int) -> Group:
        rates = [Rate.measured("mobileface-v3", kind, fmr, accepted, 30) for kind in (TYPE_I, TYPE_II) for fmr in FMRS]
        return Group(name, 30, tuple(rates))

    groups = Groups("site", (group("north", 12), group("south", 3)), 20, (), 0)
    words = Tree(page(replace(report, groups=groups))).words
    north = "north 30 templates 40% 12 of 30; 25% to 58% 40% 12 of 30; 25% to 58% not measured"
    assert f"Accepted by mobileface-v3 Group Type I Type II Real second photo (control) {north} south" in words
    assert words.count("30 templates") == 2  # at the operating point, by the one judge with rates


def test_it_says_when_and_with_what_it_was_made(report: LeakageReport) -> None:
    for found in (page(report), sweep_page(report)):
        words = Tree(found).words
        for part in ("2026-01-31 13:45 UTC", "arcinvert 0.3.0", "--defense rotate:KEY -o audit", "mobileface-v3: MIT"):
            assert part in words
        for judge in report.judges:
            assert f"{judge.name} SHA-256 {judge.digest if not judge.attacked else report.attack.digest}" in words


def test_defenses_with_and_without_their_key(report: LeakageReport) -> None:
    words = Tree(page(report)).words
    assert "7. Secret rotation rotate:17 7.7% 37% 0% 0 of 60; 0% to 6.0% mobilefacenet-y1: 10% 45% 27 of 60" in words
    assert "1. No defense none 7.7% 37% has no key 45% 27 of 60" in words
    assert "2. Gaussian noise, σ = 0.05 noise:0.05 8.3% 35% has no key 37% 22 of 60" in words
    assert "0.04 by chance 0.03" in words


def test_a_defense_that_was_not_measured(report: LeakageReport) -> None:
    blind = defense("rotate:17", False, 0.077, None, 0)
    words = Tree(page(replace(report, defenses=(blind,)))).words
    assert "Secret rotation rotate:17 7.7% not measured 0% 0 of 60" in words
    assert words.count("Accuracy kept: genuine") == 0  # no plot
    rates = tuple(Rate.measured("mobileface-v3", "type I", fmr, None, 60) for fmr in FMRS)
    assert "not measured" in Tree(page(replace(report, defenses=(replace(blind, rates=rates),)))).words


def test_findings_most_severe_first(report: LeakageReport) -> None:
    words = Tree(page(report)).words
    assert words.index("Problem Names stand") < words.index("Warning Templates") < words.index("Note The templates")


def test_images_only_when_given(report: LeakageReport) -> None:
    assert not Tree(page(report)).all("img")
    tree = Tree(page(report, {"record 17": {"reconstruction": PNG, "enrolled photo": b"\xff\xd8\xff\xe0rest"}}))
    first, second = tree.all("img")
    assert first["alt"] == "reconstruction of record 17"
    assert base64.b64decode((first["src"] or "").removeprefix("data:image/png;base64,")) == PNG
    assert (second["src"] or "").startswith("data:image/jpeg;base64,")


def test_other_bytes_are_not_an_image(report: LeakageReport) -> None:
    with pytest.raises(InputError, match=r"PNG, JPEG or WebP, .*'face' of 'r'"):
        page(report, {"r": {"face": b"<svg onload='x'/>"}})


def test_the_same_report_gives_the_same_page(report: LeakageReport) -> None:
    assert page(report) == page(report)
    page(hostile(report)).encode("utf-8")
