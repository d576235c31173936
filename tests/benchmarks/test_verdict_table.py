"""The simulation of whole verdicts: false alarms at most 5 %, and the power to find a leak."""

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.mark.parametrize("size", [4, 14, 50, 200])
def test_false_alarms_and_power(script: ModuleType, size: int) -> None:
    assert script.share(size, 0.0, 20) <= 0.1  # 2 of 20; of 20 at 5 % each, 3 or more are rarer than 8 %
    assert script.share(size, 0.6, 8) >= {4: 0, 14: 0.4, 50: 0.9, 200: 1}[size]


@pytest.mark.slow
@pytest.mark.parametrize("size", [4, 14, 50, 200])
def test_at_most_one_false_alarm_in_twenty(script: ModuleType, size: int) -> None:
    assert script.share(size, 0.0, 400, seed=1) <= 0.05


def test_the_whole_command(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(script, "SIZES", (4,))
    monkeypatch.setattr(sys, "argv", ["verdict_table.py", "--draws", "1", "--json", f"{tmp_path}/found.json"])
    script.main()
    found = json.loads((tmp_path / "found.json").read_text())
    assert list(found["leaks"]) == ["4"]
    assert capsys.readouterr().out == script.table(found) + "\n"
