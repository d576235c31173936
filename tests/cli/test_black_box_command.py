"""``arcinvert audit --pairs``: two runs, before and after the system has seen the faces."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from arcinvert.cli import run
from arcinvert.recognizer import Recognizer

pytestmark = pytest.mark.usefixtures("as_found")


@pytest.mark.slow
def test_both_steps_of_a_black_box_audit(
    calibrated_checkpoint: Path, tiny_faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recognizer = Recognizer.load(calibrated_checkpoint)

    def system(files: list[Path], **names: list[str]) -> dict[str, np.ndarray]:
        images = torch.stack([torch.from_numpy(np.array(Image.open(path))) for path in files])
        rows = recognizer.embed(images.permute(0, 3, 1, 2)).numpy()[:, ::-1]
        return {"embeddings": rows, **{key: np.array(value) for key, value in names.items()}}

    crops = [tiny_faces / f"id{i}" / f"{n}.png" for i in range(6) for n in range(6)]
    np.savez(tmp_path / "store.npz", **system(crops[::3], labels=[path.parent.name for path in crops[::3]]))
    np.savez(tmp_path / "pairs.npz", **system(crops, picture=[f"{p.parent.name}/{p.name}" for p in crops]))
    out = tmp_path / "out"
    words = [
        "audit",
        str(tmp_path / "store.npz"),
        "--pairs",
        str(tmp_path / "pairs.npz"),
        "--pictures",
        str(tiny_faces),
    ]
    words += ["--through", str(calibrated_checkpoint), "--show-faces"]
    words += ["--sample", "2", "--steps", "1", "--device", "cpu", "-o", str(out)]
    assert run(words) == 0
    assert "the map to the open recognizer: 36 pairs of 6 people" in capsys.readouterr().err
    faces = sorted((out / "faces").iterdir())
    np.savez(tmp_path / "scores.npz", **system(faces, picture=[path.name for path in faces]))
    assert run([*words, "--scores", str(tmp_path / "scores.npz"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["black_box"]["fed_back"]
    assert [(judge["name"], judge["attacked"]) for judge in report["judges"]] == [
        ("the unknown system", False),
        ("tiny", True),
    ]
    assert run(words) == 2  # the folder has a later step of the audit
    assert "another audit" in capsys.readouterr().err
