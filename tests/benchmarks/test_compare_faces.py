"""Two folders of faces held against each other."""

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from arcinvert.errors import InputError
from arcinvert.faces.alignment import TEMPLATE, Face, landmark_pose
from arcinvert.synthesis.robustness import BORDER

SCRIPTS = Path(__file__).resolve().parents[2] / "benchmarks"


class Everywhere:
    """Takes every picture for a face with the template's points."""

    def detect(self, image: np.ndarray) -> list[Face]:
        assert image.shape == (112 + 2 * BORDER, 112 + 2 * BORDER, 3)
        return [Face(1.0, (0, 0, 1, 1), TEMPLATE + BORDER)]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    module = importlib.import_module("compare_faces")
    monkeypatch.setattr(module, "crop_detector", Everywhere)
    yield module
    sys.modules.pop("compare_faces")


def faces_of(script: ModuleType, rows: np.ndarray, labels: list[int]) -> Any:
    """Gray pictures of brightness 100, 101, ... and embeddings (N, D)."""
    count = len(labels)
    images = np.repeat(np.arange(100, 100 + count, dtype=np.uint8), 112 * 112 * 3).reshape(count, 112, 112, 3)
    pose = np.column_stack([np.arange(count), np.ones(count)]).astype(float)
    pose[-1] = np.nan
    tone = {"brightness": np.arange(100.0, 100 + count)}
    return script.Measured(images, np.array(labels), pose, tone, {"judge": rows})


def test_sets_of_one_kind_do_not_differ_and_others_do(script: ModuleType) -> None:
    rng = np.random.default_rng(0)

    def drawn(people: int, shift: float) -> Any:
        rows = rng.standard_normal((people * 5, 16)) + np.repeat(rng.standard_normal((people, 16)), 5, 0)
        rows[:, 0] += shift
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        return faces_of(script, rows, np.repeat(np.arange(people), 5).tolist())

    given = drawn(30, 0)
    alike, unlike = (script.compare(given, drawn(6, shift), draws=50) for shift in (0, 3))
    for name in ("KID (judge)", "Frechet distance (judge)", "between people, mean (judge)"):
        assert alike[name]["low"] < alike[name]["made"] < alike[name]["high"]
        assert unlike[name]["made"] > unlike[name]["high"]
    with pytest.raises(InputError, match="expected at least 60 given identities beside 30 made ones, got 30"):
        script.compare(given, given)


def made_of(folder: Path, tiny_faces: Path, change: float) -> Path:
    """Two identities of the tiny faces, their pixels multiplied."""
    for name in ("id4", "id5"):
        (folder / "faces" / name).mkdir(parents=True)
        for path in (tiny_faces / name).iterdir():
            pixels = np.asarray(Image.open(path)) * change
            Image.fromarray(pixels.astype(np.uint8)).save(folder / "faces" / name / path.name)
    return folder


def test_the_command(
    script: ModuleType, tiny_faces: Path, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    made = made_of(tmp_path, tiny_faces, 0.3)
    words = ["--given", str(tiny_faces), "--made", str(made), "--judge", str(tiny_checkpoint)]
    words += ["--sheet", str(tmp_path / "sheet.jpg"), "--json", str(tmp_path / "found.json")]
    monkeypatch.setattr(sys, "argv", ["compare_faces.py", *words])
    script.main()
    lines = capsys.readouterr().out.splitlines()
    assert "6 identities, 36 pictures" in lines[0]
    assert "2 identities, 12 pictures" in lines[0]
    assert next(line for line in lines if line.startswith("| brightness, mean")).endswith("| differs |")
    assert next(line for line in lines if line.startswith("| face found")).endswith("|  |")
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["yaw, mean"]["made"] == pytest.approx(landmark_pose(TEMPLATE)[0])
    given = np.stack([np.asarray(Image.open(path)) for path in sorted(tiny_faces.rglob("*.png"))])
    assert found["brightness, mean"]["given"] == pytest.approx(given.mean())
    with Image.open(tmp_path / "sheet.jpg") as sheet:
        pixels = np.asarray(sheet.convert("L"))
    assert pixels[:300, :150].mean() > 1.5 * pixels[360:, :150].mean()  # the dark ones below
    monkeypatch.setattr(sys, "argv", ["compare_faces.py", *words[:2], "--made", str(tmp_path / "no"), *words[4:]])
    with pytest.raises(SystemExit, match=r"compare_faces: expected a folder of identities, got .*no'"):
        script.main()
