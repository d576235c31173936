import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from arcinvert.recognizer import Recognizer


def test_the_whole_command(
    script: ModuleType,
    tiny_checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for person in range(12):
        (tmp_path / f"id{person:02}").mkdir()
        for number in range(2):
            pixels = np.random.default_rng([person, number]).integers(0, 255, (112, 112, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / f"id{person:02}" / f"{number}.png")
    recognizer = Recognizer.load(tiny_checkpoint)
    recognizer.header = {"data": {"held_out": [f"id{person:02}" for person in range(7, 12)]}}
    monkeypatch.setattr(Recognizer, "load", lambda: recognizer)
    command = ["membership_table.py", "--data", str(tmp_path), "--pictures", "11", "--draws", "4"]
    monkeypatch.setattr(sys, "argv", [*command, "--json", str(tmp_path / "found.json")])
    script.main()
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["people"] == [5, 5]  # of the seven members, five have eleven pictures or fewer together
    assert capsys.readouterr().out == script.table(found) + "\n"
    members, others = script.split(tmp_path, {"id11"}, 1000)
    assert {path.parent.name for path in others[0]} == {"id11"}
    assert len(members[0]) == 22
