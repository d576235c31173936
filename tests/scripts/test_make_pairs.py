"""The script that makes pairs of styles and faces, with a generator and a detector that need no package."""

import io
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from digests import digests
from PIL import Image

from arcinvert.faces.alignment import TEMPLATE, Face


class Draws:
    """Pictures whose color says which styles they were drawn from; some show no face."""

    left = 10**9

    def __init__(self, threads: int) -> None:
        pass

    def style(self, rng: np.random.Generator, truncation: float) -> np.ndarray:
        return truncation * rng.uniform(-1, 1, 512)

    def picture(self, style: np.ndarray, late: np.ndarray, middle: np.ndarray) -> np.ndarray:
        Draws.left -= 1
        if Draws.left < 0:
            raise KeyboardInterrupt
        color = 128 + 100 * np.array([style[0], middle[0], late[0]])
        return np.tile(color.astype(np.uint8), (300, 300, 1))


class Finds:
    def __init__(self, **settings: Any) -> None:
        pass

    def detect(self, image: np.ndarray) -> list[Face]:
        return [] if image[0, 0, 0] % 5 == 0 else [Face(1.0, (0, 0, 300, 300), 1.5 * TEMPLATE + 60)]


@pytest.fixture
def run(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(script, "Generator", Draws)
    monkeypatch.setattr(script, "RetinaFace", Finds)
    monkeypatch.setattr(script, "PER_SHARD", 20)
    monkeypatch.setattr(Draws, "left", 10**9)

    def made(out: Path, *words: str) -> dict[str, str]:
        monkeypatch.setattr(sys, "argv", ["make_pairs.py", "--out", str(out), *words])
        script.main()
        return digests(out, "*.npz")

    return made


def test_a_file_holds_the_faces_beside_their_styles(run: Any, script: ModuleType, tmp_path: Path) -> None:
    assert list(run(tmp_path, "--first-shard", "1")) == ["00001.npz"]
    with np.load(tmp_path / "00001.npz") as stored:
        arrays = dict(stored)
    count = len(arrays["index"])
    assert 0 < len(arrays["missing"]) == 20 - count
    assert sorted([*arrays["index"], *arrays["missing"]]) == list(range(20, 40))
    assert arrays["styles"].shape == (count, 3, 512)
    assert arrays["styles"].dtype == np.float16
    assert ((arrays["psi"] >= 0.5) & (arrays["psi"] <= 1)).all()
    np.testing.assert_allclose(np.abs(arrays["styles"]).max((1, 2)), arrays["psi"], rtol=0.05)
    alike = (arrays["styles"] == arrays["styles"][:, :1]).all((1, 2))
    assert 0 < alike.sum() < count  # some of one style, some of three
    np.testing.assert_allclose(arrays["landmarks"], np.tile(2 * TEMPLATE + 16.5, (count, 1, 1)), atol=1e-3)
    assert arrays["offsets"][-1] == len(arrays["jpeg"])
    for i, styles in enumerate(arrays["styles"].astype(np.float32)):
        file = arrays["jpeg"][arrays["offsets"][i] : arrays["offsets"][i + 1]].tobytes()
        with Image.open(io.BytesIO(file)) as image:
            assert image.size == (256, 256)
            np.testing.assert_allclose(np.asarray(image)[128, 128], 128 + 100 * styles[:, 0], atol=4)


def test_a_run_that_was_stopped_ends_with_the_same_files(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(tmp_path / "whole", "--shards", "3")
    monkeypatch.setattr(Draws, "left", 25)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "stopped", "--shards", "3")
    assert sorted(path.name for path in (tmp_path / "stopped").iterdir()) == ["00000.npz", "settings.json"]
    monkeypatch.setattr(Draws, "left", 40)
    assert run(tmp_path / "stopped", "--shards", "3") == whole
    with pytest.raises(SystemExit, match="made with seed 7, not 8: take another folder"):
        run(tmp_path / "stopped", "--seed", "8")


def test_numbers_out_of_range(run: Any, tmp_path: Path, capsys: Any) -> None:
    with pytest.raises(SystemExit, match="2"):
        run(tmp_path, "--shards", "0")
    assert "expected --shards of at least 1" in capsys.readouterr().err
