"""The measurement on made-up people: the whole command, and its comparison of two calibrations."""

import json
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from arcinvert.audit.impostors import ImpostorScores
from arcinvert.audit.thresholds import fix
from arcinvert.calibration.calibration import Calibration
from arcinvert.faceprior.prior import FacePrior
from arcinvert.recognizer import Recognizer


def test_targets_are_compared_one_by_one(script: ModuleType) -> None:
    rows = torch.nn.functional.normalize(torch.randn(200, 8, generator=torch.Generator().manual_seed(0)), dim=1)
    fixed = fix(ImpostorScores.of(rows.numpy(), torch.arange(200).numpy()), "photos", "")
    before = torch.tensor([1.0, 0, 0, 0, 0, 0, 0])
    after = torch.tensor([0.0, 1, 1, 1, 1, 1, 1])
    found = script.gains({"type I": before, "type II": before}, {"type I": after, "type II": before}, fixed)
    assert found["type I"]["0.01"] == {"won": 6, "lost": 1, "p": pytest.approx(0.125)}  # 2 (7 + 1) / 128
    assert found["type II"]["0.01"] == {"won": 0, "lost": 0, "p": 1.0}


def test_the_whole_command(
    script: ModuleType,
    tiny_faces: Path,
    tiny_checkpoint: Path,
    small_prior: FacePrior,
    tiny_calibration: Calibration,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    crops = tmp_path / "crops"
    for number, home in enumerate(sorted(tiny_faces.iterdir())):
        for image in sorted(home.iterdir())[: 2 if number < 2 else 1]:
            (crops / home.name).mkdir(parents=True, exist_ok=True)
            shutil.copy(image, crops / home.name)
    mixed: list[int] = []

    def calibrate(recognizer: Recognizer, prior: FacePrior, images: torch.Tensor | None = None) -> Calibration:
        mixed.append(0 if images is None else len(images))
        return tiny_calibration

    monkeypatch.setattr(script, "calibrate", calibrate)
    monkeypatch.setattr(script, "default_face_prior", lambda: small_prior)
    monkeypatch.setattr(script, "ENOUGH", 4)
    words = ["--crops", str(crops), "--checkpoint", str(tiny_checkpoint), "--judge", str(tiny_checkpoint)]
    words += ["--people", "2", "--steps", "1", "--json", str(tmp_path / "found.json")]
    monkeypatch.setattr(sys, "argv", ["real_calibration.py", *words])
    script.main()
    found = json.loads((tmp_path / "found.json").read_text())
    assert (found["people"], found["crops"], found["threshold_people"]) == (2, 2, 2)
    assert list(found["calibrations"]) == ["synthetic faces", "these and 2 crops", "no attack"]
    assert mixed == [0, 2]
    assert str(tmp_path) not in json.dumps(found)
    assert "id0" not in json.dumps(found)
    assert "| these and 2 crops |" in capsys.readouterr().out
