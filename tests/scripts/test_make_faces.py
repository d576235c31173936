"""The script that makes synthetic people, with a generator and a detector that need no package."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from digests import digest, digests

from arcinvert.errors import EnvironmentProblem
from arcinvert.faces.alignment import TEMPLATE, Face, landmark_pose
from arcinvert.training.data.containers import list_images

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


class Draws:
    """Pictures whose first row says where nose and mouth are; the rest is a light with a gradient."""

    left = 10**9

    def __init__(self, threads: int) -> None:
        pass

    def style(self, rng: np.random.Generator) -> np.ndarray:
        return rng.standard_normal(512)

    def picture(self, style: np.ndarray, late: np.ndarray | None = None) -> np.ndarray:
        Draws.left -= 1
        if Draws.left < 0:
            raise KeyboardInterrupt
        late = style if late is None else late
        light = 120 + 15 * late[4] + (np.arange(112) - 56) * 0.3 * late[3]
        picture = np.repeat(np.tile(light, (112, 1))[..., None], 3, 2) + 10 * late[5:8]
        picture[0, :3] = 128 + 20 * style[:3, None]
        return picture.clip(0, 255).astype(np.uint8)


class Finds:
    """The face that :class:`Draws` has drawn."""

    def __init__(self, **settings: Any) -> None:
        pass

    def detect(self, image: np.ndarray) -> list[Face]:
        across, down, wide = (image[0, :3, 0].astype(float) - 128) / 20
        points = TEMPLATE.copy()
        points[2] += (2 * across, 2 * down)
        points[3:, 0] += (-wide, wide)
        return [Face(1.0, (0, 0, 112, 112), points)]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    module = importlib.import_module("make_faces")
    monkeypatch.setattr(module, "Generator", Draws)
    monkeypatch.setattr(module, "RetinaFace", Finds)
    monkeypatch.setattr(Draws, "left", 10**9)
    yield module
    for name in ("make_faces", "face_generator"):
        sys.modules.pop(name)


@pytest.fixture
def run(script: ModuleType, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    def made(out: Path, *more: str) -> None:
        words = ["--out", str(out), "--identities", "3", "--pictures", "4", "--samples", "50"]
        words += ["--judge", str(tiny_checkpoint), *more]
        monkeypatch.setattr(sys, "argv", ["make_faces.py", *words])
        script.main()

    return made


def pictures_in(out: Path) -> dict[str, str]:
    return digests(out, "**/*.jpg")


def test_moving_a_style_gives_it_the_attributes_that_were_asked_for(script: ModuleType) -> None:
    rng = np.random.default_rng(0)
    styles, truth = rng.standard_normal((1200, 40)), rng.standard_normal((40, 5))
    attributes = styles @ truth + np.array([3.0, 0, 0, 0, 100]) + 0.1 * rng.standard_normal((1200, 5))
    directions, quality = script.fit_directions(styles, attributes, ridge=1.0)
    assert quality.min() > 0.99
    wanted = np.array([1.5, -1.0, 0.0, 0.5, 2.0])
    moved = directions.moved(rng.standard_normal(40), wanted)
    found = (moved @ truth + np.array([3.0, 0, 0, 0, 100]) - attributes.mean(0)) / attributes.std(0)  # not predicted
    np.testing.assert_allclose(found, wanted, atol=0.05)


def test_attributes_are_read_off_points_and_crop(script: ModuleType) -> None:
    measure = importlib.import_module("face_generator").measure
    turned = TEMPLATE + np.array([[0, 0], [0, 0], [6, -3], [0, 0], [0, 0]])
    crop = np.full((112, 112, 3), 100, np.uint8)
    crop[:, 56:] = 140
    found = measure(turned, crop)
    np.testing.assert_allclose(found[:2], landmark_pose(turned), atol=0.01)
    np.testing.assert_allclose(found[3:], [40, 120])
    angle = np.array([[0.8, -0.6], [0.6, 0.8]])
    np.testing.assert_allclose(measure(turned @ angle.T * 3, crop)[:3], found[:3])  # neither tilt nor size matters
    smiling = turned + np.array([[0, 0], [0, 0], [0, 0], [-3, 0], [3, 0]])
    assert measure(smiling, crop)[2] > found[2]


def test_pictures_metadata_shards_and_records(script: ModuleType, run: Any, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    run(tmp_path, "--least", "-1", "--shards", "5", "--recordio")
    rows = parquet.read_table(tmp_path / "metadata.parquet").to_pylist()
    assert list(rows[0]) == ["identity", "picture", *script.ATTRIBUTES, "cosine", "seed"]
    assert [(row["identity"], row["picture"]) for row in rows] == [(f"{i:05d}", k) for i in range(3) for k in range(4)]
    assert all(row["seed"] == 7 for row in rows)
    assert all((row["cosine"] > 0.999) == (row["picture"] == 0) for row in rows)
    assert all(row["yaw"] == 0 for row in rows if row["picture"] == 0)
    files = pictures_in(tmp_path / "faces")
    assert list(files) == [f"{row['identity']}/{row['picture']:02d}.jpg" for row in rows]
    assert len(list((tmp_path / "shards").glob("*.tar"))) == 3
    for container in ("shards", "faces.rec"):
        pictures = list_images(tmp_path / container)
        assert sorted(digest(pictures.read(entry)) for entry in pictures.entries) == sorted(files.values())


def test_a_run_that_was_stopped_ends_with_the_same_pictures(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pyarrow")
    run(tmp_path / "whole", "--least", "0.5")
    whole = pictures_in(tmp_path / "whole")
    assert len(whole) > 3
    for stop in (30, 53, 2, 6):  # within the samples, then within an identity
        monkeypatch.setattr(Draws, "left", stop)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "stopped", "--least", "0.5")
        assert set(pictures_in(tmp_path / "stopped")) < set(whole)
    (tmp_path / "stopped/faces/.00002.part").mkdir(parents=True)  # as kill -9 leaves it
    monkeypatch.setattr(Draws, "left", 10**9)
    run(tmp_path / "stopped", "--least", "0.5")
    assert pictures_in(tmp_path / "stopped") == whole
    monkeypatch.setattr(Draws, "left", 0)
    run(tmp_path / "stopped", "--least", "0.5")  # all is there
    monkeypatch.setattr(Draws, "left", 10**9)
    run(tmp_path / "other", "--least", "0.5", "--seed", "8")
    assert not set(pictures_in(tmp_path / "other").values()) & set(whole.values())
    with pytest.raises(SystemExit, match=r"made with seed 7, not 8; least 0.5, not 0.38: take another folder"):
        run(tmp_path / "stopped", "--seed", "8")


def test_a_picture_stays_where_the_judges_see_the_person(script: ModuleType) -> None:
    angles = [0, 10, 80, 30, 50, 20]

    class Judge:
        def embed(self, image: torch.Tensor) -> torch.Tensor:
            angle = torch.deg2rad(image[:, 0, 0, 0].float())
            return torch.stack([angle.cos(), angle.sin()], 1)

    def attempts() -> Iterator[tuple[Any, np.ndarray]]:
        for angle in angles:
            yield script.Shot(np.full((112, 112, 3), angle, np.uint8), np.zeros(5)), np.full(5, angle)
            yield None, np.zeros(5)  # no face

    found = script.kept_of(attempts(), [Judge(), Judge()], 3, np.cos(np.deg2rad(45)))
    assert [int(crop[0, 0, 0]) for crop, _, _ in found] == [0, 10, 30]
    np.testing.assert_allclose([cosine for *_, cosine in found], np.cos(np.deg2rad([0, 10, 30])), rtol=1e-6)
    few = script.kept_of(attempts(), [Judge()], 2, 0.99)
    assert [int(wanted[0]) for _, wanted, _ in few] == [0]  # after three times two attempts


@pytest.mark.parametrize("missing", ["random_face", "openvino"])
def test_a_missing_package_is_named(script: ModuleType, missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module("face_generator")
    whole = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == missing else whole(name))
    with pytest.raises(EnvironmentProblem, match=r"pip install 'arcinvert\[faces\]' \(openvino, random-face\)"):
        module.Generator(1)


@pytest.mark.parametrize(("words", "said"), [(["--pictures", "0"], "--pictures"), (["--shards", "0"], "--shards")])
def test_numbers_out_of_range(run: Any, tmp_path: Path, words: list[str], said: str, capsys: Any) -> None:
    with pytest.raises(SystemExit, match="2"):
        run(tmp_path, *words)
    assert f"expected {said} of at least 1" in capsys.readouterr().err
