import importlib
import json
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from arcinvert.backbones import BACKBONES
from arcinvert.errors import UsageError
from arcinvert.training.data.clean_list import read_clean_list

SCRIPTS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The script as a module; two of the six identities judge, and the network is narrow."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    table = importlib.import_module("loss_table")
    monkeypatch.setattr(table, "HELD_OUT", 2)
    module = importlib.import_module("purify_table")
    narrow = {"width": 0.05, "embedding_size": 16, "batch_size": 8, "lr": 0.05, "held_out": 2}
    monkeypatch.setattr(module, "SETTINGS", {**module.SETTINGS, **narrow})
    yield module
    BACKBONES.pop(table.NETWORK)
    sys.modules.pop("loss_table")
    sys.modules.pop("purify_table")


def test_the_whole_table(
    script: ModuleType, tiny_faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    command = ["purify_table.py", "--data", str(tiny_faces), "-o", str(tmp_path), "--epochs", "2"]
    monkeypatch.setattr(sys, "argv", [*command, "--retrain-epochs", "1", "--only", "sub-centers"])
    script.main()
    assert not (tmp_path / "table.md").exists()
    monkeypatch.setattr(sys, "argv", [*command, "--retrain-epochs", "1"])
    script.main()
    table = json.loads((tmp_path / "table.json").read_text())
    assert tuple(table["runs"]) == script.TRAININGS
    said, runs = table["purified"], table["runs"]
    assert said["wrong"] == 10  # 0.4 of 24
    assert said["images"] == runs["noisy"]["images"] == runs["true"]["images"] == 24
    assert len(read_clean_list(tmp_path / "clean.txt")) == said["kept"] == runs["clean"]["images"]
    assert runs["clean"]["config"]["epochs"] == round(24 / said["kept"])  # as many steps
    found = list(said["at_degrees"].values())
    assert all(a["wrong_found"] >= b["wrong_found"] for a, b in pairwise(found))
    with pytest.raises(UsageError, match="another angle"):
        script.keep_clean(tmp_path, 20.0)
    text = capsys.readouterr().out
    assert text == (tmp_path / "table.md").read_text()
    assert text.count("\n| ") == 12
