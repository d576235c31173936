"""``arcinvert presets``."""

import json
from pathlib import Path

import pytest

from arcinvert.cli import run
from arcinvert.faceprior.prior import FacePrior
from arcinvert.inversion.presets import PRESETS


@pytest.fixture(autouse=True)
def with_the_small_prior(small_prior: FacePrior, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("arcinvert.faceprior.prior.default_face_prior", lambda: small_prior)


def test_each_has_its_line(capsys: pytest.CaptureFixture[str], tiny_checkpoint: Path) -> None:
    assert run(["-q", "presets", "--checkpoint", str(tiny_checkpoint)]) == 0
    said = capsys.readouterr().out
    for name, preset in PRESETS.items():
        assert f"\n{name} " in f"\n{said}"
        assert str(preset.__doc__).splitlines()[0] in said
    assert "20000 steps, 40001 network passes a face\n" in said
    assert " s a face here" not in said


def test_measured(capsys: pytest.CaptureFixture[str], tiny_checkpoint: Path) -> None:
    arguments = ["presets", "--measure", "--batch-size", "1", "--checkpoint", str(tiny_checkpoint)]
    assert run(["-q", *arguments, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["preset"] for row in rows] == list(PRESETS)
    for row in rows:
        assert row["seconds"] > 0
        assert row["passes"] == 2 * row["steps"] + 1
