"""The benchmark of training runs and says what it should; its figures are not judged here."""

import json
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest
import torch

from arcinvert.distributed import SINGLE_PROCESS


def test_the_three_loops_and_the_head(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "report.json"
    small = ["--width", "0.05", "--batch", "4", "--identities", "10", "--rounds", "2", "--steps", "1"]
    threads = str(torch.get_num_threads())
    monkeypatch.setattr(sys, "argv", ["train.py", "--only", "step", *small, "--threads", threads, "--json", str(out)])
    script.main()
    torch.set_flush_denormal(False)
    report = json.loads(out.read_text())["step"]
    others = {name for name in script.OTHERS if find_spec(name) is not None}
    assert set(report["images_per_second"]) == {"bare", "trainer", "plain"} | others
    assert report["range"][0] <= report["trainer_to_bare"] <= report["range"][1]
    assert "trainer / bare" in capsys.readouterr().out
    found = script.head_steps(SINGLE_PROCESS, 1000, 0.1, 1)
    assert 0 < found["seconds"] < 60
    assert found["bytes"] > 1e7
