"""Rates of parts of the sample: who is in which group, what is merged or withheld, and the page."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from arcinvert.audit import AuditConfig, LeakageReport, groups, open_store
from arcinvert.audit.groups import OTHERS, UNNAMED, Groups, group_rates
from arcinvert.audit.judges import Judge, Threshold
from arcinvert.audit.page import page
from arcinvert.audit.rates import TYPE_I, TYPE_II, References
from arcinvert.cli import run
from arcinvert.cli.auditing.summary import summary
from arcinvert.errors import InputError

N, D = 75, 8


def unit(rows: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(rows, dim=1)


def made(labels: list[str]) -> tuple[Groups, torch.Tensor, Judge]:
    generator = torch.Generator().manual_seed(0)
    enrolled, second, rows = (unit(torch.randn(N, D, generator=generator)) for _ in range(3))
    rows[0] = -torch.inf  # a failed attempt
    second[1] = torch.nan  # nobody's second template
    judge = Judge("j", None, False, (Threshold(1e-2, 0.2, 1000),), torch.empty(0, D))  # type: ignore[arg-type]
    return group_rates("sex", labels, [judge], {"j": References(enrolled, second)}, {"j": rows}), rows, judge


def test_each_group_is_counted_by_itself() -> None:
    labels = ["a"] * 30 + ["b"] * 25 + ["c"] * 12 + ["d"] * 8
    found, _, _ = made(labels)
    assert [(group.name, group.count) for group in found.groups] == [("a", 30), ("b", 25), (OTHERS, 20)]
    assert found.merged == ("c", "d")
    assert found.withheld == 0
    whole, _, _ = made(["all"] * N)
    for kind in (TYPE_I, TYPE_II):
        rates = [rate for group in found.groups for rate in group.rates if rate.kind == kind]
        (over_all,) = (rate for rate in whole.groups[0].rates if rate.kind == kind)
        assert sum(rate.accepted or 0 for rate in rates) == over_all.accepted
        assert sum(rate.tried for rate in rates) == over_all.tried == (N if kind == TYPE_I else N - 1)


def test_small_groups_that_are_few_together_are_withheld() -> None:
    found, _, _ = made(["a"] * 56 + ["b"] * 11 + ["c"] * 8)
    assert [group.name for group in found.groups] == ["a"]
    assert found.withheld == 19


@pytest.fixture
def grouped(audit_store: Path, tmp_path: Path) -> Path:
    stored = np.load(audit_store)
    np.savez(tmp_path / "g.npz", **dict(stored), sex=np.array(["<b>f", "m", ""] * 4), empty=np.array([""] * 12))
    return tmp_path / "g.npz"


def test_an_audit_reports_the_groups_of_a_column(
    grouped: Path, run_audit: Any, audit_config: AuditConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groups, "LEAST", 1)
    column = open_store(str(grouped), identity="sex")
    found: LeakageReport = run_audit(replace(audit_config, sample=6, group="sex"), grouped, groups=column)
    assert found.groups is not None
    counts = {group.name: group.count for group in found.groups.groups}
    assert sum(counts.values()) == 6
    assert set(counts) <= {"<b>f", "m", UNNAMED}
    accepted = sum(
        rate.accepted or 0
        for group in found.groups.groups
        for rate in group.rates
        if (rate.judge, rate.kind, rate.fmr) == ("other", TYPE_I, 1e-2)
    )
    (over_all,) = (
        rate for judge in found.judges for rate in judge.rates
        if (rate.judge, rate.kind, rate.fmr) == ("other", TYPE_I, 1e-2)
    )  # fmt: skip
    assert accepted == over_all.accepted
    shown = page(found)
    assert "Do some people leak more than others?" in shown
    assert "<b>f" not in shown
    if "<b>f" in counts:
        assert "&lt;b&gt;f" in shown
    assert any(line.startswith("| m | ") for line in summary(found))
    with pytest.raises(InputError, match="no sampled row"):
        run_audit(replace(audit_config, group="empty"), grouped, groups=open_store(str(grouped), identity="empty"))


@pytest.mark.usefixtures("as_found")
def test_a_column_that_is_not_there_is_refused(grouped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["audit", str(grouped), "--group", "height"]) == 2
    assert "'height'" in capsys.readouterr().err
