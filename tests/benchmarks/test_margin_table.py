import importlib
import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from itertools import combinations
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from arcinvert.backbones import BACKBONES
from arcinvert.errors import UsageError
from arcinvert.faceprior.prior import FacePrior
from arcinvert.inversion.presets import preset_of
from arcinvert.synthesis.sheets import read_png
from arcinvert.training.data.faces import load_faces

SCRIPTS = Path(__file__).resolve().parents[2] / "benchmarks"
MODULES = ("margin_table", "margin_inversion", "loss_table", "inversion")
NARROW = {"width": 0.05, "embedding_size": 16, "batch_size": 8, "held_out": 4}
FMRS = (1e-1, 2e-2)


class PixelJudge:
    """A judge that looks at 7x7 pixels."""

    def __init__(self, path: Path) -> None:
        self.name, self.thresholds = path.stem, dict[float, float]()

    def __call__(self, images: Tensor) -> np.ndarray:
        small = images.float().view(len(images), 7, 16, 7, 16, 3).mean((2, 4)).flatten(1)
        rows = (small - small.mean(1, keepdim=True)).numpy()
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, small_prior: FacePrior) -> Iterator[ModuleType]:
    """The script as a module: narrow networks, three steps, and four of eight identities held out."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    module, bench, losses, inversion = (importlib.import_module(name) for name in MODULES)
    for part in (module, bench, losses):
        monkeypatch.setattr(part, "HELD_OUT", 4)
    for part in (module, bench, inversion):
        monkeypatch.setattr(part, "FMRS", FMRS)
    whole = losses.small_config
    monkeypatch.setattr(module, "small_config", lambda **settings: whole(**{**settings, **NARROW}))
    monkeypatch.setattr(bench, "Judge", PixelJudge)
    monkeypatch.setattr(bench, "default_face_prior", lambda: small_prior)
    monkeypatch.setattr(bench, "preset_of", lambda name: replace(preset_of(name), steps=3))
    yield module
    BACKBONES.pop(losses.NETWORK)
    for name in MODULES:
        sys.modules.pop(name)


@pytest.fixture(scope="module")
def people(tiny_faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The six made-up identities, and two of them once more with the colors exchanged."""
    folder = shutil.copytree(tiny_faces, tmp_path_factory.mktemp("people") / "faces")
    for number in (0, 1):
        (folder / f"id{6 + number}").mkdir()
        for picture in sorted((tiny_faces / f"id{number}").iterdir()):
            with Image.open(picture) as image:
                Image.merge("RGB", image.split()[::-1]).save(folder / f"id{6 + number}" / picture.name)
    return folder


@pytest.fixture
def judge(tmp_path: Path) -> Path:
    (tmp_path / "pixels.onnx").write_bytes(b"a network")
    return tmp_path / "pixels.onnx"


def test_every_variant_changes_one_thing_of_the_first_row(script: ModuleType) -> None:
    rows = script.TABLES["variants"]
    (first, baseline), *others = rows.items()
    config = importlib.import_module("loss_table").small_config
    plain = asdict(config(**baseline.settings))
    assert plain == asdict(config(**script.LOSSES[first]))
    changed = {}
    for name, row in others:
        now = asdict(config(**row.settings))
        changed[name] = {key for key in now if now[key] != plain[key]}
        assert changed[name] or row.share < 1, name
        if "distillation" in row.settings:
            assert list(rows).index(row.settings["distillation"].teacher) < list(rows).index(name)
    assert {name for name, keys in changed.items() if len(keys) > 1} == {"hard-augmentation"}
    assert list(script.TABLES["margins"]) == ["softmax", "sphereface", "cosface", "arcface"]
    assert script.TABLES["margins"]["arcface"].settings == script.LOSSES["arcface"]


def test_half_of_the_identities_for_twice_the_epochs(script: ModuleType, people: Path, tmp_path: Path) -> None:
    found = script.trained(people, tmp_path, "half", script.Training(share=0.5), seed=0, epochs=1)
    assert (found["identities"], found["images"], found["config"]["epochs"]) == (2, 12, 2)
    taught = script.Training({"distillation": script.DistillationConfig("half")})
    found = script.trained(people, tmp_path, "taught", taught, seed=0, epochs=1)
    assert found["config"]["distillation"]["teacher"] == str(tmp_path / "half-0.safetensors")
    assert found["images"] == 24


def test_what_the_judges_are_asked(script: ModuleType, people: Path, judge: Path) -> None:
    bench = script.Bench.open(people, [judge], 4)
    faces = load_faces(people, [f"id{number}" for number in range(8)]).images
    rows = PixelJudge(judge)(faces)
    assert torch.equal(bench.shown, faces[:24])  # what they were trained on
    assert torch.equal(bench.enrolled, faces[[24, 30, 36, 42]])
    cosine = rows[:24] @ rows[:24].T  # as the judge multiplies: a single product may round differently
    strangers = [float(cosine[a, b]) for a, b in combinations(range(24), 2) if a // 6 != b // 6]
    for fmr, threshold in bench.judges[0].thresholds.items():
        accepted = sum(score >= threshold for score in strangers)
        assert accepted == int(fmr * len(strangers))
    found = bench.judged(bench.enrolled)["pixels"]
    assert found["cosines"] == pytest.approx([1, 1, 1, 1])
    assert found["type1@0.02"]["rate"] == 1
    assert (found["type1@0.02"]["n"], found["type2@0.02"]["n"]) == (4, 20)
    others = [float(rows[person] @ rows[person + k]) for person in range(24, 48, 6) for k in range(1, 6)]
    assert found["cosine_type2"] == pytest.approx(np.mean(others))
    real = [person + k for person in range(24, 48, 6) for k in range(2, 6)]
    assert np.allclose(bench.real["pixels"], rows[real] * np.sqrt(147))
    second = bench.controls(judge.parent / "strip.png")["controls"]["a real second photo"]["judges"]["pixels"]
    assert second["cosines"] == pytest.approx(others[::5])
    assert second["type2@0.02"]["n"] == 16  # not with itself
    third = [float(rows[person + 1] @ rows[person + k]) for person in range(24, 48, 6) for k in range(2, 6)]
    assert second["cosine_type2"] == pytest.approx(np.mean(third))
    with pytest.raises(UsageError, match="2 to 4 targets"):
        script.Bench.open(people, [judge], 5)


def test_the_difference_is_paired_by_target(script: ModuleType) -> None:
    def run(*cosines: float) -> dict[str, Any]:
        return {"judges": {"j": {"cosines": list(cosines)}}}

    first = [run(0.1, 0.5), run(0.3, 0.7)]
    assert script.against(first, [run(0.45, 0.85)], "j") == pytest.approx((0.25, 0.25, 0.25))
    mean, low, high = script.against(first, [run(0.2, 0.8)], "j")
    assert mean == pytest.approx(0.1)
    assert (low, high) == pytest.approx((0.0, 0.2))


def test_the_whole_table(
    script: ModuleType, people: Path, judge: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    rows = script.TABLES["margins"]
    monkeypatch.setattr(script, "TABLES", {"margins": {name: rows[name] for name in ("softmax", "cosface")}})
    out, runs = judge.parent / "out", judge.parent / "runs"
    command = ["margin_table.py", "--data", str(people), "--judge", str(judge), "-o", str(out)]
    command += ["--runs", str(runs), "--epochs", "1", "--seeds", "1", "--targets", "4"]
    for part in ("1/2", "2/2"):
        monkeypatch.setattr(sys, "argv", [*command, "--part", part])
        script.main()
    lines = (out / "table.md").read_text().splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == [
        "| softmax",
        "| cosface",
        "| control: mean face",
        "| control: a real second photo",
    ]
    assert len({line.count("|") for line in lines}) == 1
    assert " | against softmax | " in lines[0]
    table = json.loads((out / "table.json").read_text())
    assert set(table["rows"]) == {"softmax", "cosface"}
    for name, (found,) in table["rows"].items():
        assert found == {
            **json.loads((runs / f"{name}-0.json").read_text()),
            **json.loads((runs / "inverted" / f"{name}-0.json").read_text()),
        }
        assert -1 <= found["own_cosine"] <= 1
        assert found["judges"]["pixels"]["frechet"] > 0

    def again(*arguments: Any) -> None:
        raise AssertionError("it was there")

    monkeypatch.setattr(script.Bench, "open", again)
    monkeypatch.setattr(sys, "argv", [*command, "--sheet", str(out / "sheet.png")])
    script.main()
    sheet = read_png(out / "sheet.png")
    assert sheet.shape == (3 * 116 - 4, 4 * 116 - 4, 3)
    assert torch.equal(sheet[:112, 116:228], load_faces(people, ["id5"]).images[0])
    monkeypatch.setattr(sys, "argv", command)
    judge.write_bytes(b"another")
    with pytest.raises(SystemExit, match="made with other judges"):
        script.main()
    assert capsys.readouterr().out.endswith("\n".join(lines) + "\n")
