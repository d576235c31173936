"""The growth of a job with its targets, on few of them; and that nothing in it grows faster than they do."""

import json
from pathlib import Path
from types import ModuleType

import pytest
import torch

from arcinvert.inverter import Inverter


def test_every_number_of_targets_has_a_row(
    script: ModuleType,
    tiny_inverter: Inverter,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(script.Inverter, "load", lambda device: tiny_inverter)
    words = ["--targets", "24", "--targets", "16", "--whole", "0", "--json", str(tmp_path / "many.json")]
    script.main(words)
    torch.set_flush_denormal(False)
    rows = json.loads((tmp_path / "many.json").read_text())["rows"]
    assert [row["targets"] for row in rows] == [16, 24]
    assert all(100 < row["journal_bytes_a_target"] < 400 for row in rows)
    assert all(0 < row["first"] < 1 and 0 < row["last"] < 1 for row in rows)
    assert capsys.readouterr().out.count("\n") == 4
