"""The training of the generator's early exit, for a few steps."""

import re
import shutil
from pathlib import Path
from types import ModuleType

import pytest
import torch

import arcinvert
from arcinvert.faceprior.generator import load_generator

DATA = Path(arcinvert.__file__).parent / "data"


@pytest.fixture
def data(tmp_path: Path, script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("face_prior.safetensors", "generator.safetensors"):
        shutil.copy(DATA / name, tmp_path)
    monkeypatch.setattr(script, "FIRST", 12)
    monkeypatch.setattr(script, "TESTED", 4)
    return tmp_path


def run(script: ModuleType, data: Path, monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    words = ["--data", str(data), "--state", str(data / "state.pt"), "--steps", str(steps)]
    monkeypatch.setattr("sys.argv", ["train_early_exit", *words])
    script.main()


@pytest.mark.slow
def test_it_learns_and_its_file_fits_the_generator(
    script: ModuleType, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(script, data, monkeypatch, 100)
    (error,) = re.findall(r"step 100: ([\d.]+) of 255", capsys.readouterr().out)
    assert float(error) < 25  # the decoder's picture is 21 away, and the mean face about 60
    generator = load_generator(data / "generator.safetensors", data / "generator_early_exit.safetensors")
    assert not any(parameter.requires_grad for parameter in generator.parameters())


def test_a_run_that_was_done_is_not_done_again(
    script: ModuleType, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(script, data, monkeypatch, 2)
    first = (data / "generator_early_exit.safetensors").read_bytes()
    assert torch.load(data / "state.pt", weights_only=True)["step"] == 2
    assert "step 2" in capsys.readouterr().out
    run(script, data, monkeypatch, 2)
    assert (data / "generator_early_exit.safetensors").read_bytes() == first
    assert capsys.readouterr().out == ""
