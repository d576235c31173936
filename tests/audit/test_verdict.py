"""The verdict, the gate, the limitations, and the summary for a terminal."""

from dataclasses import replace
from typing import Any

import pytest

from arcinvert.audit import AuditConfig
from arcinvert.audit.checks import Finding
from arcinvert.audit.checks.mismatch import Mismatch, MismatchFigures
from arcinvert.audit.rates import Rate
from arcinvert.audit.report import (
    AttackSummary,
    JudgeResult,
    LeakageReport,
    Reidentification,
    Restarts,
    Run,
    SampleSummary,
    StoreSummary,
)
from arcinvert.audit.verdict import Gate, headline, limitations, verdict
from arcinvert.cli.audit import summary
from arcinvert.errors import UsageError

FINE = Mismatch(False, (), MismatchFigures(16, 16))
SUSPECTED = Mismatch(True, ("the mean points elsewhere",), MismatchFigures(16, 16))


def judge(name: str, wide: int | None, narrow: int | None, *, attacked: bool = False, tried: int = 60) -> JudgeResult:
    counts = ((1e-2, wide), (1e-3, narrow))
    rates = tuple(Rate.measured(name, "type I", fmr, count, tried, 0.5) for fmr, count in counts)
    return JudgeResult(name, "", attacked, (), rates, None)


OWN = judge("own", 60, 60, attacked=True)


def report(*judges: JudgeResult) -> LeakageReport:
    return LeakageReport(
        version=2,
        verdict=verdict(judges, FINE, 60),
        store=StoreSummary("npy", "store.npy", 120, 16, "", 60, None, 0),
        sample=SampleSummary(60, None, 0, ""),
        attack=AttackSummary("own", "", 0.9, 0, 60, 1),
        judges=judges,
        reidentification=Reidentification(30, 60, 0.5, 0.4, 0.6, 120),
        restarts=Restarts(1, "", ()),
        hygiene=(Finding("nan", "problem", "3 rows", 3),),
        mismatch=FINE,
        defenses=(),
        accuracy_on=None,
        attacker_faces=None,
        photos=None,
        config=AuditConfig(),
        run=Run("", "", "", "", "cpu", 1, 1.0),
        limitations=("x",),
        files=(),
    )


def test_the_highest_of_those_that_were_not_attacked_counts() -> None:
    judges = [judge("a", 10, 1), judge("b", 20, 0), OWN]
    found = [headline(judges, fmr) for fmr in (1e-2, 1e-3)]
    assert [pair[0].name for pair in found if pair is not None] == ["b", "a"]


def test_the_attacked_network_counts_only_alone_and_the_verdict_mentions_it() -> None:
    judges = [judge("other", None, None), OWN]
    found = headline(judges, 1e-3)
    assert found is not None
    assert found[0] is OWN
    assert "own, the attacked network itself" in verdict(judges, FINE, 60).text
    assert headline(judges[:1], 1e-3) is None


@pytest.mark.parametrize(
    ("wide", "narrow", "word"),
    [
        (30, 0, "leaks"),  # half at 1e-2
        (5, 6, "leaks"),  # a tenth at 1e-3
        (10, 1, "leaks in part"),
        (3, 0, "leaks in part"),  # Wilson's lower end of 3 in 60 is 0.017
        (0, 1, "leaks in part"),  # and of 1 in 60 0.0029
        (1, 0, "no leak shown by this attack"),
        (0, 0, "no leak shown by this attack"),
        (None, None, "not judged"),
    ],
)
def test_the_word(wide: int | None, narrow: int | None, word: str) -> None:
    judges = [judge("a", wide, narrow)]
    found = verdict(judges if wide is None else [*judges, OWN], FINE, 60)
    assert found.word == word
    assert "safe" not in found.text
    assert ("60 sampled templates" in found.text) == (wide is not None)


def test_a_mismatch_comes_before_any_rate_and_gives_the_reason() -> None:
    found = verdict([judge("a", 60, 60)], SUSPECTED, 60)
    assert found.word == "mismatch suspected"
    assert "the mean points elsewhere" in found.text


def test_a_gate_is_exceeded_only_above_its_limit() -> None:
    found = report(judge("a", 60, 3), OWN)
    assert Gate.parse("sar@1e-3=0.05").check(found)[0] is False  # 3 of 60 are 0.05
    exceeded, line = Gate.parse("sar@0.001=0.049").check(found)
    assert exceeded
    assert "3 of 60" in line
    assert Gate.parse("sar@1e-2=0.99").check(found)[0]
    assert Gate.parse("sar@1e-3=1").check(report(judge("a", 60, None)))[0]  # an unknown rate


@pytest.mark.parametrize("text", ["", "sar@1e-3", "sar@1e-4=0.1", "far@1e-3=0.1", "sar@1e-3=2", "sar@e=e"])
def test_invalid_gates_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"sar@1e-3=0\.05"):
        Gate.parse(text)


def test_each_gap_adds_a_limitation() -> None:
    whole: dict[str, Any] = {"others": True, "photos": True, "restarts": 1, "preset": "fast", "defended": False}
    least = limitations(**whole)
    for name in ("others", "photos", "defended"):
        assert len(limitations(**{**whole, name: not whole[name]})) == len(least) + 1
    assert any("'best' with 3 restarts" in line for line in limitations(**{**whole, "restarts": 3, "preset": "best"}))


def test_the_summary_has_every_row() -> None:
    lines = summary(replace(report(judge("a", 3, None), OWN), limitations=("only this",)))
    assert lines[0].startswith("LEAKS IN PART: ")
    rows = {line for line in lines if line.startswith("|")}
    for start in (
        "| a | type I | 0.01 | 3 of 60 | 0.050 |",
        "| a | type I | 0.001 | - of 60 | - |",
        "| own (attacked) |",
    ):
        assert any(row.startswith(start) for row in rows)
    assert {"problem: 3 rows", "limitation: only this"} < set(lines)
    assert "rank 1 in the whole store of 120: 30 of 60" in lines
