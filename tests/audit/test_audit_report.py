"""The verdict, the gate, and what is said beside them."""

from typing import Any

import pytest

from arcinvert.audit.rates import Row
from arcinvert.audit.report import Gate, LeakageReport, headline, not_shown, summary, verdict
from arcinvert.errors import UsageError

FINE: dict[str, Any] = {"suspected": False, "evidence": [], "figures": {}}


def judge(
    name: str, wide: int | None, narrow: int | None, *, attacked: bool = False, tried: int = 60
) -> dict[str, Any]:
    rows = [Row("type I", fmr, n, tried, 0.5).to_json() for fmr, n in ((1e-2, wide), (1e-3, narrow))]
    return {"name": name, "attacked": attacked, "rows": rows, "digest": "", "thresholds": []}


def report(judges: list[dict[str, Any]], mismatch: dict[str, Any] = FINE) -> LeakageReport:
    sample = {"unusable": 0}
    again = {"rank1": 0.5, "accepted": 30, "tried": 60, "gallery": 120}
    finding = {"code": "nan", "severity": "problem", "text": "3 rows", "count": 3}
    return LeakageReport(
        verdict(judges, mismatch, 60),
        {},
        sample,
        {},
        judges,
        again,
        {},
        [finding],
        mismatch,
        [],
        {},
        None,
        None,
        ["x"],
        "r",
        1.0,
    )


def test_the_highest_of_those_that_were_not_attacked_counts() -> None:
    judges = [judge("a", 10, 1), judge("b", 20, 0), judge("own", 60, 60, attacked=True)]
    wide, narrow = headline(judges, 1e-2), headline(judges, 1e-3)
    assert wide is not None
    assert narrow is not None
    assert (wide[0]["name"], narrow[0]["name"]) == ("b", "a")


def test_alone_the_attacked_network_counts_and_that_is_said() -> None:
    judges = [judge("other", None, None), judge("own", 60, 60, attacked=True)]
    found = headline(judges, 1e-3)
    assert found is not None
    assert found[0]["name"] == "own"
    assert "own, which was attacked itself: no other judge" in verdict(judges, FINE, 60)["text"]
    assert headline([judge("other", None, None)], 1e-3) is None


@pytest.mark.parametrize(
    ("wide", "narrow", "word"),
    [
        (55, 25, "leaks"),
        (30, 0, "leaks"),  # half at 1e-2
        (5, 6, "leaks"),  # a tenth at 1e-3
        (10, 1, "leaks in part"),
        (3, 0, "leaks in part"),  # Wilson's lower end of 3 in 60 is 0.017
        (0, 1, "leaks in part"),  # and of 1 in 60 0.0029
        (1, 0, "no leak shown by this attack"),
        (0, 0, "no leak shown by this attack"),
    ],
)
def test_the_word(wide: int, narrow: int, word: str) -> None:
    found = verdict([judge("a", wide, narrow), judge("own", 60, 60, attacked=True)], FINE, 60)
    assert found["word"] == word
    assert "60 sampled templates" in found["text"]


def test_a_mismatch_comes_before_any_rate_and_says_why() -> None:
    mismatch = {"suspected": True, "evidence": ["the mean points elsewhere"], "figures": {}}
    found = verdict([judge("a", 0, 0)], mismatch, 60)
    assert found["word"] == "mismatch suspected"
    assert "the mean points elsewhere" in found["text"]


def test_without_a_rate_there_is_no_verdict() -> None:
    assert verdict([judge("a", None, None)], FINE, 60)["word"] == "not judged"


def test_the_word_safe_is_never_used_of_a_store() -> None:
    for judges in ([judge("a", 0, 0)], [judge("a", None, None)], [judge("a", 60, 60)]):
        for mismatch in (FINE, {"suspected": True, "evidence": ["e"]}):
            assert "safe" not in str(verdict(judges, mismatch, 60)).lower()


# --- the gate


def test_a_gate_is_exceeded_only_above_its_limit() -> None:
    found = report([judge("a", 60, 3), judge("own", 60, 60, attacked=True)])
    assert Gate.parse("sar@1e-3=0.05").judged(found)[0] is False  # 3 of 60 are 0.05
    exceeded, line = Gate.parse("sar@0.001=0.049").judged(found)
    assert exceeded
    assert "3 of 60" in line
    assert Gate.parse("sar@1e-2=0.99").judged(found)[0]


def test_a_rate_that_is_not_known_passes_no_gate() -> None:
    exceeded, line = Gate.parse("sar@1e-3=1").judged(report([judge("a", 60, None)]))
    assert exceeded
    assert "cannot be judged" in line


@pytest.mark.parametrize(
    "text", ["", "sar", "sar@1e-3", "sar@1e-4=0.1", "far@1e-3=0.1", "sar@1e-3=2", "sar@e=e", "sar@1e-3=-1"]
)
def test_what_is_no_gate(text: str) -> None:
    with pytest.raises(UsageError, match=r"sar@1e-3=0\.05"):
        Gate.parse(text)


# --- beside it


def test_what_is_not_shown_is_listed() -> None:
    whole = {"others": True, "photos": True, "restarts": 1, "preset": "fast", "defended": False, "searched": True}
    least = not_shown(**whole)  # type: ignore[arg-type]
    for name, value in {"others": False, "photos": False, "defended": True, "searched": False}.items():
        assert len(not_shown(**{**whole, name: value})) == len(least) + 1  # type: ignore[arg-type]
    assert any("'best' with 3 restarts" in line for line in not_shown(**{**whole, "restarts": 3, "preset": "best"}))  # type: ignore[arg-type]


def test_json_and_back() -> None:
    found = report([judge("a", 3, 1)])
    told = found.to_json()
    assert told["version"] == 1
    assert LeakageReport.from_json(told).to_json() == told


def test_the_summary_has_every_row() -> None:
    lines = summary(report([judge("a", 3, None), judge("own", 60, 60, attacked=True)]))
    assert lines[0].startswith("LEAKS IN PART: ")
    assert any(line.startswith("| a | type I | 0.01 | 3 of 60 | 0.050 |") for line in lines)
    assert any(line.startswith("| a | type I | 0.001 | - of 60 | - |") for line in lines)
    assert any(line.startswith("| own (attacked) |") for line in lines)
    assert "problem: 3 rows" in lines
    assert "rank 1 in the whole store of 120: 30 of 60" in lines
