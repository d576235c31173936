"""What a new user does with an installed arcinvert, without a checkout: a store to a report, a network to a face."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from arcinvert.recognizer import Recognizer, default_checkpoint

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
Command = Callable[..., str]


@pytest.fixture(scope="module")
def arcinvert(tmp_path_factory: pytest.TempPathFactory) -> Command:
    """Runs the command of a wheel that is installed in a folder of its own; returns what it prints."""
    pytest.importorskip("build", reason="needs build: pip install build")
    pytest.importorskip("hatchling", reason="needs hatchling, since no test downloads a build backend")
    place = tmp_path_factory.mktemp("installed")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", place / "dist", ROOT]
    subprocess.run(build, check=True, capture_output=True)
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", place / "lib"]
    subprocess.run([*install, *(place / "dist").glob("*.whl")], check=True, capture_output=True)
    (place / "elsewhere").mkdir()
    environment = {**os.environ, "PYTHONPATH": str(place / "lib"), "ARCINVERT_CACHE": str(place / "cache")}

    def run(*words: object) -> str:
        command = [sys.executable, "-P", place / "lib/bin/arcinvert", *map(str, words)]
        found = subprocess.run(command, cwd=place / "elsewhere", env=environment, capture_output=True, text=True)
        assert found.returncode == 0, found.stderr
        return found.stdout

    where = subprocess.run(
        [sys.executable, "-P", "-c", "import arcinvert; print(arcinvert.__file__)"],
        env=environment,
        capture_output=True,
    )
    assert where.stdout.decode().startswith(str(place / "lib"))
    return run


def test_a_store_becomes_a_report(arcinvert: Command, tiny_faces: Path, tmp_path: Path) -> None:
    people = [f"id{row // 2}" for row in range(12)]
    crops = [np.array(Image.open(tiny_faces / person / f"{row % 2}.png")) for row, person in enumerate(people)]
    rows = Recognizer.load(default_checkpoint()).embed(torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2))
    np.savez(tmp_path / "people.npz", embeddings=rows.numpy(), labels=np.array(people))
    arcinvert("audit", tmp_path / "people.npz", "--sample", 2, "--steps", 2, "-o", tmp_path / "audit")
    report = json.loads((tmp_path / "audit/report.json").read_text())
    assert report["store"]["count"] == 12
    page = (tmp_path / "audit/report.html").read_text()
    assert "people.npz" in page
    assert "<script" not in page


def test_a_network_becomes_a_face(arcinvert: Command, tiny_checkpoint: Path, tmp_path: Path) -> None:
    target = np.random.default_rng(3).normal(size=(1, 16)).astype(np.float32)
    np.save(tmp_path / "target.npy", target)
    network, out = tmp_path / "calibrated.safetensors", tmp_path / "faces"
    arcinvert("calibrate", "--checkpoint", tiny_checkpoint, "-o", network)
    arcinvert("synth", "--checkpoint", network, "--embedding", tmp_path / "target.npy", "--steps", 5, "-o", out)
    (row,) = json.loads((out / "manifest.json").read_text())["results"]
    image = Image.open(out / row["file"])
    assert image.size == (224, 224)
    # What the manifest says is true of the file: the network, asked again, gives nearly the cosine.
    pixels = torch.from_numpy(np.array(image.convert("RGB").resize((112, 112), Image.Resampling.BOX)))
    found = Recognizer.load(tiny_checkpoint).embed(pixels.permute(2, 0, 1)[None])[0].numpy()
    assert float(found @ target[0] / np.linalg.norm(target)) == pytest.approx(row["cosine"], abs=0.1)
