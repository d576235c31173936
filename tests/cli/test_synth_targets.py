"""``arcinvert synth`` from photos, from rows of a store, and from files that belong to another option."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from arcinvert.cli import run
from arcinvert.recognizer import Recognizer

pytestmark = pytest.mark.usefixtures("as_found")

SIZE = 16


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A parquet of five embeddings; row 3 holds none."""
    arrow = pytest.importorskip("pyarrow", reason="needs arcinvert[stores]")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows: list[Any] = np.random.default_rng(0).normal(size=(5, SIZE)).astype(np.float32).tolist()
    rows[3] = None
    table = arrow.table({"embedding": arrow.array(rows, arrow.list_(arrow.float32())), "name": list("abcde")})
    parquet.write_table(table, tmp_path / "people.parquet")
    return tmp_path / "people.parquet"


def synth(checkpoint: Path, out: Path, *options: object) -> int:
    short = ["--steps", "1", "--no-report", "--device", "cpu", "--checkpoint", str(checkpoint)]
    return run(["synth", *map(str, options), "-o", str(out), *short])


def manifest(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "manifest.json").read_text())
    return found


def test_a_photo_gives_the_job_of_its_embedding(
    capsys: pytest.CaptureFixture[str], calibrated_checkpoint: Path, tiny_faces: Path, tmp_path: Path
) -> None:
    photos = [tiny_faces / "id0" / "0.png", tiny_faces / "id3" / "1.png"]
    asked = [part for photo in photos for part in ("--photo", photo)]
    assert synth(calibrated_checkpoint, tmp_path / "one", *asked, "--aligned") == 0
    assert f"target 0001 is {photos[1]}" in capsys.readouterr().err
    arguments = ["embed", *map(str, photos), "--aligned", "-o", str(tmp_path / "e.npy")]
    assert run([*arguments, "--checkpoint", str(calibrated_checkpoint)]) == 0
    assert synth(calibrated_checkpoint, tmp_path / "two", "-e", tmp_path / "e.npy") == 0
    for name in ("0000_00.png", "0001_00.png"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_photos_without_a_face_are_skipped_and_none_at_all_is_refused(
    capsys: pytest.CaptureFixture[str], calibrated_checkpoint: Path, tiny_faces: Path, tmp_path: Path
) -> None:
    Image.new("RGB", (100, 112)).save(tmp_path / "small.png")
    wrong, right = ["--photo", tmp_path / "small.png"], ["--photo", tiny_faces / "id0" / "0.png"]
    assert synth(calibrated_checkpoint, tmp_path / "none", *wrong, "--aligned") == 3
    assert "got 100x112" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "none").exists()
    assert synth(calibrated_checkpoint, tmp_path / "some", *wrong, *right, "--aligned") == 4
    assert len(manifest(tmp_path / "some")["results"]) == 1


def test_rows_of_a_store_in_the_order_asked(calibrated_checkpoint: Path, store: Path, tmp_path: Path) -> None:
    from arcinvert.audit.stores import open_store

    assert synth(calibrated_checkpoint, tmp_path / "rows", "--store", store, "--row", "4,1") == 0
    templates = open_store(str(store)).take(np.array([1, 4])).templates[::-1]
    np.save(tmp_path / "e.npy", templates)
    assert synth(calibrated_checkpoint, tmp_path / "file", "-e", tmp_path / "e.npy") == 0
    assert manifest(tmp_path / "rows")["run"] == manifest(tmp_path / "file")["run"]


@pytest.mark.parametrize(("row", "says"), [("5", "got 5"), ("-1", "got -1"), ("1,3", "row 3")])
def test_rows_that_are_not_there(
    capsys: pytest.CaptureFixture[str], calibrated_checkpoint: Path, store: Path, tmp_path: Path, row: str, says: str
) -> None:
    assert synth(calibrated_checkpoint, tmp_path / "out", "--store", store, f"--row={row}") == 3
    assert says in capsys.readouterr().err.splitlines()[-1]


def test_a_file_of_another_kind_is_refused_with_the_option_that_takes_it(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    store: Path,
    tiny_faces: Path,
    tmp_path: Path,
) -> None:
    def load(*args: object, **kwargs: object) -> None:
        raise AssertionError("loaded")

    monkeypatch.setattr(Recognizer, "load", load)
    for file, names in (
        (tiny_faces / "id0" / "0.png", ("--photo", "arcinvert embed")),
        (store, ("--store", "--row", "arcinvert audit")),
        (tiny_faces, ("--photo",)),
    ):
        assert run(["synth", "-e", str(file), "-o", str(tmp_path / "out")]) == 3
        said = capsys.readouterr().err
        assert all(name in said for name in names), said


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--store", "s"], "--row"),
        (["--store", "s", "--row", "two"], "'two'"),
        (["-e", "e.npy", "--row", "1"], "--store"),
        (["--photo", "p.jpg", "--array", "a"], "--embedding"),
        (["-e", "e.npy", "--aligned"], "--photo"),
    ],
    ids=" ".join,
)
def test_options_of_another_source(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, options: list[str], says: str
) -> None:
    assert run(["synth", "-o", str(tmp_path / "out"), *options]) == 2
    assert says in capsys.readouterr().err
