"""The verdict, the limitations, and the summary for a terminal."""

from dataclasses import replace
from typing import Any

import pytest
from verdict_report import FINE, OWN, SUSPECTED, judge, report

from arcinvert.audit.checks.mismatch import Mismatch, MismatchFigures
from arcinvert.audit.claims import with_p_values
from arcinvert.audit.rates import SECOND, SHUFFLED
from arcinvert.audit.verdict import headline, limitations, operating_fmr, verdict
from arcinvert.cli.auditing.summary import summary


def test_the_highest_of_those_that_were_not_attacked_counts() -> None:
    judges = [judge("a", 10, 1), judge("b", 20, 0), OWN]
    found = [headline(judges, fmr) for fmr in (1e-2, 1e-3)]
    assert [pair[0].name for pair in found if pair is not None] == ["b", "a"]


def test_a_judge_that_accepts_controls_is_headline_only_alone() -> None:
    blind = judge("blind", 60, 60, controls={SHUFFLED: 40})
    for judges, name in (([blind, judge("b", 20, 3)], "b"), ([blind, OWN], "blind")):
        found = headline(with_p_values(judges), 1e-2)
        assert found is not None
        assert found[0].name == name


@pytest.mark.parametrize(
    ("wide", "narrow", "word"),
    [
        (30, 0, "leaks in part"),  # the operating point is 1e-3
        (5, 6, "leaks"),  # a tenth at 1e-3
        (10, 2, "leaks in part"),
        (5, 0, "leaks in part"),  # p = 4e-4, times 4 tests
        (3, 0, "no leak shown by this attack"),  # p = 0.02, times 4
        (0, 1, "no leak shown by this attack"),  # a single image
        (0, 0, "no leak shown by this attack"),
        (None, None, "not judged independently"),
    ],
)
def test_the_word(wide: int | None, narrow: int | None, word: str) -> None:
    judges = [judge("a", wide, narrow, second=(0, 0)), OWN]
    found = verdict(judges, FINE, 60)
    assert found.word == word
    assert "safe" not in found.text
    assert "60 templates were sampled" in found.text


def test_one_chance_hit_in_14_is_no_leak() -> None:
    for counts in ((1, 0), (0, 1), (1, 1)):
        found = verdict([judge("a", *counts, second=(0, 0), tried=14), OWN], FINE, 14)
        assert found.word == "no leak shown by this attack"


def test_the_attacked_network_alone_never_says_that_a_store_leaks() -> None:
    found = verdict([OWN], FINE, 60)
    assert found.word == "not judged independently"
    assert "own, the attacked network itself, accepted 60 of 60" in found.text
    assert verdict([judge("a", None, None)], FINE, 60).word == "not judged"


@pytest.mark.parametrize("accepted", [6, 40])
def test_a_judge_that_accepts_shuffled_targets_supports_no_conclusion(accepted: int) -> None:
    blind = judge("blind", 60, 60, controls={SHUFFLED: accepted})
    found = verdict([blind, OWN], FINE, 60)
    assert found.word == "no conclusion"
    assert f"it accepts {accepted} of 60 of the 'control: shuffled targets'" in found.text
    assert verdict([blind, judge("a", 40, 20), OWN], FINE, 60).word == "leaks"  # by the other judge


def test_a_mismatch_comes_before_any_rate_and_gives_the_reason() -> None:
    found = verdict([judge("a", 60, 60)], SUSPECTED, 60)
    assert found.word == "mismatch suspected"
    assert "the mean points elsewhere" in found.text


def test_the_operating_point_comes_first_and_depends_on_thresholds_alone() -> None:
    counted = judge("a", 40, 20, controls={SECOND: 50})
    found = verdict([counted, OWN], FINE, 60)
    assert found.operating_fmr == 1e-3
    for sentence in (
        "a accepted 20 of 60 reconstructions (33 %, 95 % CI 23 to 46 %) as the enrolled person.",
        "Of images that know nothing of the person it accepts at most 0 of 60.",
        "a takes for 20 of 60 of the people (33 %, 95 % CI 23 to 46 %) at a false match rate of 1 in 1,000.",
    ):
        assert sentence in found.text
    assert "It accepts 50 of 60 real second photos at that point." in found.text
    rates = tuple(replace(rate, threshold=0.42, impostor_identities=60) for rate in counted.rates)
    fixed = verdict([replace(counted, rates=rates), OWN], FINE, 60)
    assert "At a false match rate of 1 in 1,000 (a cosine of 0.420, fixed on the pairs of 60 people), a" in fixed.text
    few = replace(counted, thresholds=tuple(replace(t, extrapolated=t.fmr < 1e-2) for t in counted.thresholds))
    assert operating_fmr([few, OWN]) == 1e-2
    assert verdict([few, OWN], FINE, 60).word == "leaks"
    assert "At a false match rate of 1 in 100, a accepted 40 of 60" in verdict([few, OWN], FINE, 60).text


def test_an_uncertain_threshold_takes_more_to_claim() -> None:
    sure = judge("a", 5, 0, second=(0, 0))
    unsure = replace(sure, thresholds=tuple(replace(t, effective_pairs=30) for t in sure.thresholds))
    assert verdict([sure], FINE, 60).word == "leaks in part"
    assert verdict([unsure], FINE, 60).word == "no leak shown by this attack"


def test_doubts_are_said() -> None:
    synthetic = judge("a", 40, 20, basis="synthetic faces")
    unshown = Mismatch(False, False, ("few",), MismatchFigures(16, 16))
    found = verdict([synthetic, OWN], unshown, 60)
    assert len(found.warnings) == 2
    assert "SYNTHETIC" in found.warnings[0]
    assert all(warning in found.text for warning in found.warnings)
    assert verdict([judge("a", 40, 20), OWN], FINE, 60).warnings == ()


def test_each_gap_adds_a_limitation() -> None:
    whole: dict[str, Any] = {"others": True, "photos": True, "restarts": 1, "preset": "fast", "defended": False}
    least = limitations(**whole)
    for name in ("others", "photos", "defended"):
        assert len(limitations(**{**whole, name: not whole[name]})) == len(least) + 1
    assert any("'best' with 3 restarts" in line for line in limitations(**{**whole, "restarts": 3, "preset": "best"}))


def test_the_summary_has_every_row() -> None:
    lines = summary(replace(report(judge("a", 5, None), OWN), limitations=("only this",)))
    assert lines[0].startswith("LEAKS IN PART: ")
    rows = {line for line in lines if line.startswith("|")}
    for start in (
        "| a | type I | 0.01 | 5 of 60 | 0.083 |",
        "| a | type I | 0.001 | - of 60 | - |",
        "| own (attacked) |",
    ):
        assert any(row.startswith(start) for row in rows)
    assert {"problem: 3 rows", "limitation: only this"} < set(lines)
    assert "rank 1 in the whole store of 120: 30 of 60" in lines
