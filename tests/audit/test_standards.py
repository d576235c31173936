"""The table of standards: its fields exist, and it says "not tested" where nothing answers."""

import json
from dataclasses import fields, replace
from pathlib import Path

import pytest

from arcinvert.audit import LeakageReport
from arcinvert.audit.standards import NOT_TESTED, REQUIREMENTS, answers
from arcinvert.cli import run
from arcinvert.cli.auditing import COMMANDS, GROUPS

pytestmark = pytest.mark.usefixtures("as_found")


def test_every_field_and_command_is_there() -> None:
    known = {field.name for field in fields(LeakageReport)}
    commands = {f"arcinvert {command.NAME}" for command in (*COMMANDS, *GROUPS)}
    assert [f for one in REQUIREMENTS for f in one.fields if f not in known | commands] == []
    numbers = [(one.source, one.number) for one in REQUIREMENTS]
    assert len(set(numbers)) == len(numbers)


def test_a_report_answers_what_it_measured(whole_audit: tuple[LeakageReport, Path]) -> None:
    report = whole_audit[0]
    found = {(one.source, one.number): one.value for one in answers(report)}
    (first,) = (r for j in report.judges for r in j.rates if (r.judge, r.kind, r.fmr) == ("other", "type I", 0.01))
    expected = f"other, type I, FMR 0.01: {first.accepted} of {first.tried}"
    assert expected in found["MITRE ATLAS", "AML.T0024.001"]
    assert "int8 (key" in found["OWASP AISVS 1.0", "C11.2.4"]
    for number in ("C11.3.3", "C11.10.2", "C8.1.5"):
        assert found["OWASP AISVS 1.0", number] == NOT_TESTED
    assert found["ISO/IEC 20059:2025", "morphing"] == NOT_TESTED
    bare = replace(report, defenses=(), judges=tuple(judge for judge in report.judges if judge.attacked))
    alone = {(one.source, one.number): one.value for one in answers(bare)}
    assert alone["MITRE ATLAS", "AML.T0024.001"] == NOT_TESTED  # the attacked network alone answers nothing
    assert alone["OWASP AISVS 1.0", "C11.2.4"] == NOT_TESTED


def test_the_command(whole_audit: tuple[LeakageReport, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["audit", "map"]) == 0
    said = capsys.readouterr().out
    assert "| MITRE ATLAS | AML.T0024.001 | Invert the model | `judges` |  |" in said
    assert run(["audit", "map", str(whole_audit[1] / "report.json"), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == len(REQUIREMENTS)
    assert run(["audit", "map", "nothing.json"]) == 3
