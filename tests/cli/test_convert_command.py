"""``arcinvert convert`` and ``arcinvert faces``: options, output, exit codes."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from arcinvert.cli import run
from arcinvert.faces.alignment import TEMPLATE, RetinaFace
from arcinvert.recognizer import Recognizer

pytestmark = pytest.mark.usefixtures("as_found")


@pytest.fixture(scope="module")
def folder(tiny_checkpoint: Path, tiny_faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``pairs.npz`` and ``store.npz`` of a system that turns the tiny network's embeddings; read-only."""
    found = tmp_path_factory.mktemp("convert")
    names = [f"id{i}/{n}.png" for i in range(6) for n in range(6)]
    images = torch.stack([torch.from_numpy(np.array(Image.open(tiny_faces / name))) for name in names])
    rows = Recognizer.load(tiny_checkpoint).embed(images.permute(0, 3, 1, 2)).numpy()[:, ::-1].copy()
    np.savez(found / "pairs.npz", embeddings=rows, picture=np.array(names))
    np.savez(found / "store.npz", embeddings=3 * rows[:8], labels=np.array(names[:8]))
    return found


@pytest.fixture(scope="module")
def fitting(folder: Path, tiny_faces: Path, tiny_checkpoint: Path) -> list[str]:
    pairs = ["--from-pairs", str(folder / "pairs.npz"), "--pictures", str(tiny_faces)]
    return [*pairs, "--to", str(tiny_checkpoint), "--device", "cpu"]


def test_a_store_is_converted_and_the_map_is_used_again(
    folder: Path, fitting: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, kept = str(folder / "store.npz"), str(tmp_path / "map.safetensors")
    assert run(["convert", store, *fitting, "--map", kept, "-o", str(tmp_path / "new.npz")]) == 0
    answered, remarks = capsys.readouterr()
    first, *rest = answered.splitlines()
    assert "36 pairs of 6 people" in first
    assert [line.partition(":")[0] for line in rest[:2]] == ["mapped against native", "native against native"]
    assert rest[-1].endswith("new.npz: 8 rows (npz)")
    assert "36 pairs fit a rough map" in remarks
    with np.load(folder / "store.npz") as old, np.load(tmp_path / "new.npz") as new:
        assert (new["labels"] == old["labels"]).all()
        cosine = (new["embeddings"] * old["embeddings"][:, ::-1] / 3).sum(1)
    assert cosine.min() > 0.99
    assert run(["-q", "convert", store, "--map", kept, "-o", str(tmp_path / "again.npz"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["rows"], told["empty"], told["quality"]["pairs"]) == (8, 0, 36)
    with np.load(tmp_path / "again.npz") as again, np.load(tmp_path / "new.npz") as new:
        np.testing.assert_array_equal(again["embeddings"], new["embeddings"])


def test_without_a_new_file_only_the_accuracy_is_said(
    folder: Path, fitting: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(folder.iterdir())
    assert run(["-q", "convert", str(folder / "store.npz"), *fitting]) == 0
    assert "own record first" in capsys.readouterr().out
    assert sorted(folder.iterdir()) == before


def test_rows_and_pictures_that_are_left_out_have_an_exit_code(
    folder: Path, fitting: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with np.load(folder / "pairs.npz") as pairs:
        rows, names = pairs["embeddings"].copy(), pairs["picture"]
    np.save(tmp_path / "store.npy", np.concatenate([rows[:5], np.zeros_like(rows[:1])]))
    assert run(["convert", str(tmp_path / "store.npy"), *fitting, "-o", str(tmp_path / "new.npy")]) == 4
    assert "1 of 6 rows" in capsys.readouterr().err
    rows[2] = np.nan
    np.savez(tmp_path / "pairs.npz", embeddings=rows, picture=names)
    assert run(["convert", str(folder / "store.npz"), *fitting, "--from-pairs", str(tmp_path / "pairs.npz")]) == 4
    assert "id0/2.png" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ([], 2, "--from-pairs with --pictures and --to"),
        (["--from-pairs", "PAIRS"], 2, "--pictures and --to"),
        (["--map", "MAP", "--to", "x"], 2, "alone"),
        (["--map", "nowhere"], 3, "nowhere"),
        (["--map", "PAIRS"], 3, "not a whole map"),
    ],
)
def test_what_is_refused(
    options: list[str], code: int, message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [str(folder / "pairs.npz") if word == "PAIRS" else word for word in options]
    assert run(["-q", "convert", str(folder / "store.npz"), *given]) == code
    assert message in capsys.readouterr().err


def test_audit_takes_pairs_only_together(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for options in (["--pairs", "x"], ["--pictures", "x"], ["--through", "x"], ["--scores", "x"]):
        assert run(["-q", "audit", str(folder / "store.npz"), *options]) == 2
        assert "--pairs together with --pictures" in capsys.readouterr().err


def test_faces_are_found_by_a_detector_where_the_crop_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["-q", "faces", "-o", str(tmp_path), "--people", "3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["pictures"] == 6
    files = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png"))
    assert [name.rpartition("/")[2] for name in files] == ["00.png", "01.png"] * 3
    detector = RetinaFace()
    for name in files:
        image = np.array(Image.open(tmp_path / name))
        assert image.shape == (224, 224, 3)
        (face,) = detector.detect(image)
        assert np.abs(face.landmarks - 56 - TEMPLATE).max() < 14  # the people look in any direction
    assert run(["-q", "faces", "-o", str(tmp_path), "--each", "0"]) == 2
