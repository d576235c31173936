import importlib
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from arcinvert.backbones import BACKBONES
from arcinvert.errors import UsageError

SCRIPTS = Path(__file__).resolve().parents[2] / "benchmarks"
NARROW = {"width": 0.05, "embedding_size": 16, "batch_size": 8}


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The script as a module, judging by two identities."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    module = importlib.import_module("loss_table")
    monkeypatch.setattr(module, "HELD_OUT", 2)
    yield module
    BACKBONES.pop(module.NETWORK)
    sys.modules.pop("loss_table")


def test_a_run_is_judged_and_not_done_twice(script: ModuleType, tiny_faces: Path, tmp_path: Path) -> None:
    config = script.small_config(**NARROW, epochs=1, held_out=2)
    found = script.run_once(tiny_faces, tmp_path / "width-0.5-0", config)
    assert found["images"] == 24
    assert sorted(path.suffix for path in tmp_path.glob("width-0.5-0.*")) == [".json", ".safetensors", ".state"]
    kept = json.loads((tmp_path / "width-0.5-0.json").read_text())
    assert kept["figures"] == found["figures"]
    (tmp_path / "width-0.5-0.safetensors").unlink()
    assert script.run_once(tiny_faces, tmp_path / "width-0.5-0", config) == kept
    assert not (tmp_path / "width-0.5-0.safetensors").exists()
    with pytest.raises(UsageError, match=r"other settings \(margin, seed\)"):
        script.run_once(tiny_faces, tmp_path / "width-0.5-0", replace(config, margin="cosface", seed=1))


def test_the_whole_table(
    script: ModuleType, tiny_faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    whole = script.small_config
    monkeypatch.setattr(script, "small_config", lambda **settings: whole(**{**settings, **NARROW}, held_out=2))
    monkeypatch.setattr(script, "LOSSES", {name: script.LOSSES[name] for name in ("softmax", "cm2")})
    command = ["loss_table.py", "--data", str(tiny_faces), "-o", str(tmp_path), "--epochs", "1"]
    for part in ("1/2", "2/2"):
        monkeypatch.setattr(sys, "argv", [*command, "--part", part])
        script.main()
    lines = (tmp_path / "table.md").read_text().splitlines()
    assert [line.split(" | ")[:2] for line in lines[2:]] == [["| softmax", "2"], ["| cm2", "2"]]
    assert capsys.readouterr().out.endswith("\n".join(lines) + "\n")
    runs = json.loads((tmp_path / "table.json").read_text())
    assert [run["config"]["seed"] for run in runs["cm2"]] == [0, 1]
