import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from arcinvert.audit import open_store
from arcinvert.audit.rates import Kind, Rate
from arcinvert.audit.report import JudgeResult
from arcinvert.audit.thresholds import Threshold
from arcinvert.recognizer import Recognizer
from arcinvert.training.data.faces import load_faces


def test_the_store_holds_what_the_photos_show(
    script: ModuleType, tiny_faces: Path, tiny_recognizer: Recognizer, tmp_path: Path
) -> None:
    store, photos = script.enrol(tiny_faces, ["id1", "id4"], tiny_recognizer, tmp_path)
    opened = open_store(str(store))
    block = opened.take(np.arange(opened.count))
    assert opened.count == 4
    assert list(block.identities) == ["id1", "id1", "id4", "id4"]
    shown = sorted(str(path.relative_to(photos)) for path in photos.rglob("*.png"))
    assert shown == ["id1/0.png", "id1/1.png", "id4/0.png", "id4/1.png"]
    alone = tiny_recognizer.embed(load_faces(photos, ["id4"]).images[1:].permute(0, 3, 1, 2)).numpy()
    np.testing.assert_allclose(block.templates[3], alone[0], atol=1e-5)


def rate(kind: Kind, fmr: float, accepted: int | None, cosine: float | None) -> Rate:
    return Rate("v3", kind, fmr, accepted, 4, *((None,) * 3 if accepted is None else (accepted / 4, 0.1, 0.9)), cosine)


def a_report() -> SimpleNamespace:
    thresholds = (Threshold(0.01, 0.4567, 1234), Threshold(0.001, None, 1234))
    rates = [rate("type I", 0.01, 3, 0.5), rate("type I", 0.001, None, 0.5)]
    rates += [rate("control: mean face", 0.01, 0, None), rate("control: mean face", 0.001, None, None)]
    return SimpleNamespace(
        judges=[
            JudgeResult("v3", "", False, thresholds, tuple(rates), None),
            JudgeResult("y1", "", True, thresholds, tuple(rates), None),
        ],
        attack=SimpleNamespace(attempts=4, cosine=0.9),
        reidentification=SimpleNamespace(accepted=4, tried=4, gallery=8),
        mismatch=SimpleNamespace(suspected=False),
        verdict=SimpleNamespace(word="leaks"),
    )


def test_the_command_keeps_no_place_of_this_machine(
    script: ModuleType, tiny_faces: Path, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = Recognizer.load
    there = SimpleNamespace(header={"data": {"held_out": ["id3", "id4", "id5"]}})
    monkeypatch.setattr(Recognizer, "load", lambda path=None: there if path is None else load(path))
    asked: dict[str, Any] = {}

    def audit(store: Any, recognizer: Recognizer, **settings: Any) -> SimpleNamespace:
        asked.update(settings, count=store.count)
        folder = str(settings["config"].photos)
        told = [f"4 photos of 2 people in {folder!r}"]
        kept = {"store": {"name": store.name}, "config": {"photos": folder}, "run": {"thresholds_on": told}}
        return SimpleNamespace(**vars(a_report()), to_json=lambda: kept)

    monkeypatch.setattr(script, "audit", audit)
    monkeypatch.setattr(script.Inverter, "of", lambda recognizer: recognizer)
    command = ["audit_table.py", "--data", str(tiny_faces), "--checkpoint", str(tiny_checkpoint)]
    monkeypatch.setattr(
        sys, "argv", [*command, "--judge", str(tiny_checkpoint), "-o", f"{tmp_path}/out", "--identities", "2"]
    )
    script.main()
    assert asked["count"] == 4
    assert asked["config"].sample == 2
    assert asked["out"] == tmp_path / "out/report"
    assert list(asked["judges"]) == ["tiny (2)"]
    text = (tmp_path / "out/table.json").read_text()
    assert json.loads(text)["store"] == {"name": "store.npz"}
    assert str(tmp_path) not in text
    assert (tmp_path / "out/table.md").read_text() == script.table(a_report())
