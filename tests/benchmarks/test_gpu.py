"""The measurements of a GPU run on a CPU too, where their figures are not judged."""

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest


def test_a_part_that_fails_leaves_the_others_alone(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(bench: object) -> object:
        raise RuntimeError("no such kernel")

    monkeypatch.setitem(script.PARTS, "default", broken)
    out = tmp_path / "deep" / "gpu.json"
    only = ["--only", "parity", "--only", "default", "--only", "graphs", "--only", "training"]
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--device", "cpu", "--quick", *only, "--json", str(out)])
    script.main()
    report = json.loads(out.read_text())
    assert report["failed"] == {"default": "RuntimeError: no such kernel"}
    assert report["parity"]["float32"]["difference"] < 1e-5
    (row,) = report["graphs"]
    assert row["reason"] == "CUDA graphs need a GPU"
    assert set(report["training"]) >= {"fixed_batch", "with_loader", "loader_alone", "ddp_gloo"}
    shown = capsys.readouterr().out
    assert "| same targets and seed | own cosine |" in shown
    assert "default: RuntimeError: no such kernel" in shown


def test_nothing_begins_when_the_seconds_are_spent(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "gpu.json"
    words = ["--device", "cpu", "--quick", "--only", "parity", "--seconds", "0", "--json", str(out)]
    monkeypatch.setattr(sys, "argv", ["gpu.py", *words])
    script.main()
    assert json.loads(out.read_text())["failed"] == {"parity": "not begun: the seconds are spent"}


def test_the_table_shows_what_did_not_fit(script: ModuleType) -> None:
    card = {"device": "Card", "memory_gb": 80.0, "cores": 8, "torch": "2.11"}
    rows = [
        {
            "network": "default",
            "batch": 8,
            "precision": "bf16",
            "faces_per_second": 12.34,
            "step_ms": 5.0,
            "bare_ms": 4.0,
            "ratio": 1.25,
            "ratio_own": 1.2,
            "peak_gb": 0.5,
        },
        {"network": "default", "batch": 1024, "precision": "bf16", "out_of_memory": True},
    ]
    shown = script.table({"machine": card, "default": rows, "failed": {}})
    assert "| default | 8 | bf16 | 12.3 | 5.0 | 4.0 | 1.25, 1.20 | 0.5 |" in shown
    assert "| default | 1024 | bf16 | does not fit into memory |" in shown
