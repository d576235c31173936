import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from arcinvert.recognizer import Recognizer
from arcinvert.training.data.faces import load_faces


def embeddings(seed: int, count: int, size: int = 64) -> np.ndarray:
    """Of one model whatever the seed: few directions, and a mean."""
    mixing = np.random.default_rng(5).normal(size=(16, size))
    rows = np.random.default_rng(seed).normal(size=(count, 16)) @ mixing + 2 * mixing[0]
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_every_draw_is_counted(script: ModuleType) -> None:
    people = [embeddings(100 + i, 3) for i in range(40)]
    foreign = [np.random.default_rng(i).normal(size=(3, 70)).astype(np.float32) for i in range(40)]
    found = script.judged(embeddings(1, 300), people, [foreign], 30, 4)
    other = "columns of another recognizer"
    assert found == {name: [0, 4, 4] for name in ("as it is", "signs")} | {
        name: [4, 0, 4] for name in ("rotated", "shuffled", "random", other)
    }


def test_the_whole_command(
    script: ModuleType,
    tiny_faces: Path,
    tiny_checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    load = Recognizer.load
    there = SimpleNamespace(header={"data": {"held_out": ["id2", "id3", "id4", "id5"]}})
    monkeypatch.setattr(Recognizer, "load", lambda path=None: there if path is None else load(path))
    pictures = load_faces(tiny_faces, [f"id{i}" for i in range(6)]).images
    monkeypatch.setattr(script, "prior_faces", lambda prior: SimpleNamespace(images=pictures))
    assert len(script.first_pictures(tiny_faces, ["id1", "id4"], 3)) == 6
    command = ["mismatch_table.py", "--data", str(tiny_faces), "--checkpoint", str(tiny_checkpoint), "--draws", "2"]
    monkeypatch.setattr(sys, "argv", [*command, "--sizes", "4", "1", "--json", f"{tmp_path}/found.json"])
    script.main()
    found = json.loads((tmp_path / "found.json").read_text())
    assert list(found["recognizers"]["tiny"]) == ["4", "1"]
    assert capsys.readouterr().out == script.table(found) + "\n"
    monkeypatch.setattr(sys, "argv", [*command, "--sizes", "5"])
    with pytest.raises(SystemExit):
        script.main()
    assert "expected stores of at most 4 templates" in capsys.readouterr().err
