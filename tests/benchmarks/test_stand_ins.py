import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from arcinvert.checkpoint import Checkpoint, quantized
from arcinvert.recognizer import Recognizer
from arcinvert.training.data.faces import identity_folders, load_faces


def test_weights_are_shaken_and_norms_are_not(script: ModuleType) -> None:
    weights = {"network.bias": torch.ones(3)} | quantized({"weight": torch.ones(200, 100)})
    stored = Checkpoint({"a": 1}, weights, "digest")
    found = script.shaken(stored, 0.25).network()
    assert float(found["weight"].std()) == pytest.approx(0.25, rel=0.05)
    assert float(found["weight"].mean()) == pytest.approx(1.0, rel=0.05)
    assert torch.equal(found["bias"], torch.ones(3))
    torch.testing.assert_close(stored.network()["weight"], torch.ones(200, 100))


@pytest.mark.slow
def test_the_networks_differ_and_know_the_pictures(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "FURTHER", 2)
    monkeypatch.setattr(sys, "argv", ["stand_ins.py", "-o", str(tmp_path), "--pictures", "1"])
    script.main()
    ours = Recognizer.load()
    held_out = ours.header["data"]["held_out"]
    assert identity_folders(tmp_path / "faces") == ["00000", "00001", *held_out]
    images = load_faces(tmp_path / "faces", held_out[:4]).images.permute(0, 3, 1, 2)
    y1, v3 = (
        Recognizer.load(tmp_path / "models" / name)
        for name in ("insightface-mobilefacenet-y1.onnx", "mobileface-v3.onnx")
    )
    expected = ours.embed(images)
    assert float((y1.embed(images) * expected).sum(1).min()) > 0.999  # but for 127.5 and 128
    assert float((v3.embed(images) * expected).sum(1).max()) < 0.99
