import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from arcinvert.cli import run
from arcinvert.faces.alignment import RetinaFace


@pytest.fixture(scope="module")
def photos(faces_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two people in photos of 480x480, one image without a face, one damaged."""
    folder = tmp_path_factory.mktemp("photos")
    for person in sorted(entry.name for entry in faces_dir.iterdir())[:2]:
        (folder / person).mkdir()
        crop = np.array(Image.open(faces_dir / person / "00.jpg"))
        canvas = np.pad(crop, ((64, 64), (64, 64), (0, 0)), mode="edge")
        Image.fromarray(canvas).resize((480, 480)).save(folder / person / "photo.jpg", quality=95)
    (folder / "nobody").mkdir()
    Image.new("RGB", (200, 200), "gray").save(folder / "nobody" / "empty.png")
    (folder / "nobody" / "torn.jpg").write_bytes(b"\xff\xd8\xff\xe0 torn")
    return folder


def test_crops_lie_like_the_photos_and_show_aligned_faces(
    photos: Path, faces_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["align", str(photos), "-o", str(tmp_path / "out"), "--json"]) == 4  # two were skipped
    shown = capsys.readouterr()
    found = json.loads(shown.out)
    assert [Path(file).name for file in found["files"]] == ["photo.png", "photo.png"]
    assert {Path(row["file"]).name for row in found["skipped"]} == {"empty.png", "torn.jpg"}
    assert "no face found" in shown.err
    for file in found["files"]:
        person = Path(file).parent.name
        crop = np.array(Image.open(file)).astype(float)
        assert crop.shape == (112, 112, 3)
        original = np.array(Image.open(faces_dir / person / "00.jpg")).astype(float)
        assert abs(crop - original)[20:100, 20:92].mean() < 12  # gray values; it was aligned before
    assert not (tmp_path / "out" / "nobody").exists()


def test_two_photos_of_one_name_are_refused_before_any_work(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(self: RetinaFace, image: np.ndarray) -> None:
        raise AssertionError("no photo should have been looked at")

    monkeypatch.setattr(RetinaFace, "detect", never)
    (tmp_path / "in").mkdir()
    for name in ("a.jpg", "a.png"):
        Image.new("RGB", (50, 50)).save(tmp_path / "in" / name)
    assert run(["align", str(tmp_path / "in"), "-o", str(tmp_path / "out")]) == 3
    assert "two photos would become" in capsys.readouterr().err
    assert run(["align", str(tmp_path / "in" / "a.jpg"), "-o", str(tmp_path / "out")]) == 3
    assert "expected a folder of photos" in capsys.readouterr().err
