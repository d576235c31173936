"""An audit that was interrupted, is there already, or is made by somebody else."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from arcinvert.audit import AuditConfig, LeakageReport, attack
from arcinvert.distributed import Processes
from arcinvert.errors import EnvironmentProblem, UsageError
from arcinvert.synthesis import journal

DEFENSES = ("int8", "rotate:17", "int8")
"""Of the whole audit."""


def without_times(report: LeakageReport) -> LeakageReport:
    return replace(report, run=replace(report.run, seconds=0, date=""))


def test_one_that_was_interrupted_ends_with_the_same_report(
    run_audit: Any,
    tmp_path: Path,
    whole_audit: tuple[LeakageReport, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    report, _ = whole_audit
    again = replace(report.config, defenses=DEFENSES)  # a report keeps no key
    real, calls = journal.append, []

    def append(*args: Any) -> None:
        real(*args)
        calls.append(args)
        if len(calls) == 7:  # in the middle of the first defense
            raise KeyboardInterrupt

    monkeypatch.setattr(journal, "append", append)
    with pytest.raises(KeyboardInterrupt):
        run_audit(again, out=tmp_path)
    assert not (tmp_path / "report.json").exists()
    assert len(list((tmp_path / "attack").glob("*/*.png"))) >= 7
    calls.clear()
    monkeypatch.setattr(journal, "append", lambda *args: (real(*args), calls.append(args)))
    assert without_times(run_audit(again, out=tmp_path)) == without_times(report)
    assert len(calls) < 12  # finished attempts are not repeated
    assert not (tmp_path / "attack").exists()


def test_a_report_that_is_there_is_taken_and_another_one_is_refused(
    run_audit: Any,
    audit_config: AuditConfig,
    whole_audit: tuple[LeakageReport, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    report, made = whole_audit
    out = Path(shutil.copytree(made, tmp_path / "out"))
    full = replace(report.config, defenses=DEFENSES)
    with monkeypatch.context() as patched:
        patched.setattr(attack, "synthesize", lambda *a, **s: pytest.fail("attacked again"))
        assert run_audit(replace(full, attack=replace(full.attack, batch_size=3)), out=out) == report
        with pytest.raises(UsageError, match="another audit"):
            run_audit(replace(full, seed=1), out=out)
    (out / "attack" / "bare").mkdir(parents=True)
    (out / "attack" / "bare" / "mine.txt").write_text("mine")
    assert run_audit(audit_config, out=out, force=True, judges={}).config.show_faces is False
    assert sorted(path.name for path in out.iterdir()) == ["attack", "report.html", "report.json"]
    assert [path.name for path in (out / "attack").rglob("*.*")] == ["mine.txt"]  # what is not ours stays
    assert "data:image/png" not in (out / "report.html").read_text()
    for content, message in (
        ("[1]", "not a report"),
        ('{"version": 3}', "not a report"),
        ('{"version": 2}', "version 2"),
        ('{"version": 1}', "version 1"),
    ):
        (out / "report.json").write_text(content)
        with pytest.raises(UsageError, match=message):
            run_audit(audit_config, out=out)


def test_a_second_audit_in_the_same_folder_is_told_so(
    run_audit: Any, audit_config: AuditConfig, tmp_path: Path
) -> None:
    with journal.locked(tmp_path), pytest.raises(EnvironmentProblem, match="locked"):
        run_audit(audit_config, out=tmp_path)


def test_several_processes_need_a_folder(run_audit: Any, audit_config: AuditConfig) -> None:
    with pytest.raises(UsageError, match="a folder"):
        run_audit(audit_config, ranks=Processes(0, 2))
