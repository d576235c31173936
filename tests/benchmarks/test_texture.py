"""Sharpness and periodic texture, on made-up pictures whose spectrum and distance are known."""

import json
import shutil
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from arcinvert.recognizer import Recognizer


def noise(count: int, size: int = 112, seed: int = 0) -> torch.Tensor:
    """Gray white noise (N, S, S, 3) uint8: a flat spectrum."""
    gray = np.random.default_rng(seed).normal(128, 20, (count, size, size, 1)).clip(0, 255)
    return torch.from_numpy(np.repeat(gray, 3, 3).astype(np.uint8))


def hatched(images: torch.Tensor, period: int) -> torch.Tensor:
    """The same with faint stripes across."""
    stripes = torch.where(torch.arange(images.shape[2]) % period < period // 2, 6, -6)
    return (images.int() + stripes[:, None]).clamp(0, 255).to(torch.uint8)


def test_a_peak_is_found_where_it_is(script: ModuleType) -> None:
    draws = [np.arange(40) % 5 == i for i in range(2)]
    crops = noise(40)
    plain = script.spectra(noise(8, seed=1), noise(8, seed=1), crops, draws)
    assert plain["peak"]["height"] < 12
    assert all(abs(value) < 1 for value in plain["bands"].values())
    assert "larger" not in plain
    for period in (2, 4):
        images = hatched(noise(8, seed=1), period)
        found = script.spectra(images, hatched(noise(8, 224, seed=1), period), crops, draws)
        for one in (found["peak"], found["over_crops"], found["larger"]["peak"]):
            assert (one["across"], one["down"]) == (1 / period, 0)
            assert one["height"] > plain["peak"]["height"] + 6
        assert found["larger"]["size"] == 224


def test_soft_pictures_lack_the_high_frequencies(script: ModuleType) -> None:
    sharp = noise(4)
    soft = ((sharp.int() + sharp.int().roll(1, 2)) // 2).to(torch.uint8)  # the response is cos(pi f) across
    found = script.bands((script.powers(soft) - script.powers(sharp)).mean(0))
    assert found["0.4 to 0.5"] < found["0.2 to 0.3"] < found["0.05 to 0.1"] < 0
    line = (script.powers(soft) - script.powers(sharp)).mean(0)[:, 28]  # 0.25 across
    assert line.mean() == pytest.approx(20 * np.log10(np.cos(np.pi / 4)), abs=0.3)


def test_distances_see_other_features_and_leave_equal_ones_at_the_floor(script: ModuleType) -> None:
    rng = np.random.default_rng(0)
    crops = rng.standard_normal((200, 32)) * np.linspace(3, 0.1, 32)
    space = script.Space(crops, standardized=True)
    assert space(crops).std(0) == pytest.approx(np.ones(32))
    draws = [np.isin(np.arange(200), rng.choice(200, 30, False)) for _ in range(40)]
    own = rng.standard_normal((30, 32)) * np.linspace(3, 0.1, 32)
    alike, unlike = (space.compared(own + shift * np.linspace(3, 0.1, 32), draws) for shift in (0, 1))
    for name in ("kernel", "frechet"):
        assert alike[name]["distance"] < 1.5 * alike[name]["floor95"]
        assert unlike[name]["distance"] > 2 * unlike[name]["floor95"]
        assert unlike[name]["distance"] - alike[name]["distance"] > 3 * unlike[name]["standard_error"]


def test_the_command_measures_given_pictures(
    script: ModuleType,
    tiny_faces: Path,
    tiny_checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    faces = tmp_path / "faces"
    shutil.copytree(tiny_faces, faces)
    shutil.copytree(tiny_faces / "id0", faces / "id6")
    names = [f"id{i}" for i in range(3)]
    monkeypatch.setattr(script, "COMPONENTS", 2)
    monkeypatch.setattr(script, "drawn_sets", lambda crops, count: [np.arange(crops) < 2])
    judge = Recognizer.load(tiny_checkpoint)
    default = SimpleNamespace(header={"data": {"held_out": names}})
    monkeypatch.setattr(script, "Recognizer", SimpleNamespace(load=lambda path=None: judge if path else default))
    for number, image in enumerate(noise(3, 224)):
        Image.fromarray(image.numpy()).save(tmp_path / f"{number:04d}_00.png")
    Image.new("RGB", (300, 100)).save(tmp_path / "sheet.png")
    words = ["--data", str(faces), "--judge", str(tiny_checkpoint), "--pictures", str(tmp_path)]
    words += ["--targets", "3", "--json", str(tmp_path / "found.json")]
    monkeypatch.setattr(sys, "argv", ["texture.py", *words])
    script.main()
    found = json.loads((tmp_path / "found.json").read_text())
    assert (found["pictures"], found["crops"], found["size"]) == (3, 4, 224)
    assert list(found["distances"]) == ["tiny, embedding", "tiny, layer"]
    assert str(tmp_path) not in json.dumps(found)
    assert "| 224 x 224 |" in capsys.readouterr().out
    (tmp_path / "0002_00.png").unlink()
    with pytest.raises(SystemExit, match="one of each target, got 2"):
        script.main()
