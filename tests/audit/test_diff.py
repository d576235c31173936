"""Two audits compared: exact tests, what is not compared, and the exit code."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from arcinvert.audit import LeakageReport
from arcinvert.audit.diff import ALPHA, Count, _chance_of_rise, compare, read_report
from arcinvert.audit.rates import TYPE_I, Rate
from arcinvert.cli import run
from arcinvert.errors import InputError

pytestmark = pytest.mark.usefixtures("as_found")


def with_counts(report: LeakageReport, accepted: int, tried: int, **judge: Any) -> LeakageReport:
    """The report with these counts in every rate of the judge that was not attacked, and without defenses."""
    judges = [
        one
        if one.attacked
        else replace(
            one,
            rates=tuple(Rate.measured(one.name, TYPE_I, fmr, accepted, tried) for fmr in (1e-2, 1e-3)),
            **judge,
        )
        for one in report.judges
    ]
    unsuspected = replace(report.mismatch, suspected=False)
    return replace(report, judges=tuple(judges), defenses=(), mismatch=unsuspected)


@pytest.fixture(scope="module")
def base(whole_audit: tuple[LeakageReport, Path]) -> LeakageReport:
    return whole_audit[0]


def test_the_chance_of_a_rise_is_that_of_a_random_order() -> None:
    # 3 of 4 accepted in the new audit and 1 of 5 in the old: relabel the nine attempts in every way.
    generator, hits, draws = np.random.default_rng(0), 0, 40_000
    accepted = np.array([True] * 4 + [False] * 5)
    for _ in range(draws):
        hits += int(accepted[generator.permutation(9)[:4]].sum() >= 3)
    assert abs(_chance_of_rise(Count(1, 5), Count(3, 4)) - hits / draws) < 0.01
    assert _chance_of_rise(Count(0, 10), Count(0, 10)) == 1.0
    assert _chance_of_rise(Count(0, 0), Count(5, 10)) == 1.0
    assert _chance_of_rise(Count(0, 300), Count(300, 300)) == pytest.approx(0, abs=1e-100)


@pytest.mark.slow
def test_an_unchanged_store_seldom_fails(base: LeakageReport) -> None:
    generator = np.random.default_rng(1)
    failed = sum(
        bool(compare(with_counts(base, int(a), 100), with_counts(base, int(b), 100)).failures)
        for a, b in generator.binomial(100, 0.4, (400, 2))
    )
    assert failed / 400 <= ALPHA


def test_a_rise_beyond_chance_fails_and_a_fall_does_not(base: LeakageReport) -> None:
    low, high = with_counts(base, 5, 100), with_counts(base, 30, 100)
    risen = compare(low, high)
    assert [change.rose for change in risen.changes] == [True, True, False]  # the last: rank 1
    assert "5 of 100 rose to 30 of 100" in risen.failures[0]
    assert compare(high, low).failures == ()
    assert compare(low, with_counts(base, 6, 100)).failures == ()


def test_another_network_of_the_same_name_is_not_compared(base: LeakageReport) -> None:
    found = compare(with_counts(base, 5, 100), with_counts(base, 5, 100, digest="cd" * 32))
    assert len(found.not_compared) == 4
    assert "nothing shows" in found.failures[0]


def test_a_suspected_mismatch_fails_and_what_differs_is_named(base: LeakageReport) -> None:
    old = with_counts(base, 5, 100)
    new = replace(old, mismatch=replace(old.mismatch, suspected=True), attack=replace(old.attack, digest="ef" * 32))
    found = compare(old, new)
    assert any("suspects" in text for text in found.failures)
    assert "the attacked network differs" in found.circumstances


def test_the_command(base: LeakageReport, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, accepted in (("old", 5), ("new", 30)):
        (tmp_path / f"{name}.json").write_text(json.dumps(with_counts(base, accepted, 100).to_json()))
    old, new = str(tmp_path / "old.json"), str(tmp_path / "new.json")
    assert run(["audit", "diff", old, new]) == 10
    said = capsys.readouterr()
    assert "| other, type I | 0.01 | 5 of 100 (5.0%) | 30 of 100 (30.0%) |" in said.out
    assert "rose to 30 of 100" in said.err
    assert run(["-q", "audit", "diff", old, old, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["failures"] == []
    assert found["run"]["command"].startswith("arcinvert -q audit diff ")


def test_what_is_no_report_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"version": 1}')
    (tmp_path / "b.json").write_text("[]")
    for name, expected in (("a.json", "version 1"), ("b.json", "is none"), ("c.json", "No such file")):
        with pytest.raises(InputError, match=expected):
            read_report(tmp_path / name)
