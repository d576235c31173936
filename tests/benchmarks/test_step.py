"""The benchmark of the loop on small networks; its figures are not judged here."""

import json
import sys
from argparse import Namespace
from pathlib import Path
from types import ModuleType

import pytest
import torch

from arcinvert.inversion.invert import View
from arcinvert.inverter import Inverter
from arcinvert.recognizer import Recognizer


def test_a_view_counts_as_often_as_its_turns_come(script: ModuleType, tiny_recognizer: Recognizer) -> None:
    stepping = sys.modules["stepping"]
    attacked, other = (View(tiny_recognizer, {}, every=every) for every in (1, 5))
    whole, own = stepping._means([1.0, 6.0, 3.0], [attacked, other, attacked], attacked)
    assert own == 2.0
    assert whole == pytest.approx((4 * 2.0 + 6.0) / 5)
    assert stepping._means([1.0, 3.0], [attacked, attacked], attacked) == (2.0, 2.0)


def test_a_batch_that_takes_too_long_is_left_out_and_so_are_larger_ones(
    script: ModuleType, tiny_inverter: Inverter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "inverter_of", lambda name, device: tiny_inverter)
    monkeypatch.setattr(script, "bare_pass", lambda *words: lambda: None)
    monkeypatch.setattr(script, "busy_seconds", lambda bare, device: 1.0)
    options = Namespace(
        device="cpu", precision=["float32"], batch=[4, 1], seconds=5.0, rounds=1, steps=2, preset="fast"
    )
    rows = script.rows_of(options, "net")
    assert [(row["batch"], row["left_out"]) for row in rows] == [(n, "two steps take more than 5 s") for n in (1, 4)]
    assert script.line(rows[0]) == "| net | 1 | float32 | two steps take more than 5 s |  |  |  |  |  |"


@pytest.mark.slow
def test_one_row_and_several(script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "step.json"
    few = ["--rounds", "1", "--steps", "2", "--json", str(out)]
    script.main(["--batch", "1", "--against", "2", *few])
    torch.set_flush_denormal(False)
    report = json.loads(out.read_text())
    assert report["ratio"] > 1
    assert report["ratio_attacked_range"][0] == report["ratio_attacked"]
    assert report["gain"] > 0
    script.main(["--network", "iresnet18:0.25", "--network", "vit-s", "--batch", "1", *few])
    torch.set_flush_denormal(False)
    assert [row["network"] for row in json.loads(out.read_text())["rows"]] == ["iresnet18:0.25", "vit-s"]
    assert capsys.readouterr().out.count("| float32 |") == 2
