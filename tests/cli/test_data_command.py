import json
import shutil
from pathlib import Path

import pytest

from arcinvert.cli import run
from arcinvert.locking import locked
from arcinvert.training.data.faces import open_faces


def test_around_the_three_kinds(tiny_faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    steps = [tiny_faces, tmp_path / "shards", tmp_path / "a.rec", tmp_path / "back"]
    kinds = ["shards", "rec", "folder"]
    for source, out, kind in zip(steps, steps[1:], kinds, strict=False):
        extra = ["--shard", "20"] if kind == "shards" else []
        assert run(["data", "convert", str(source), "-o", str(out), "--json", *extra]) == 0
        said = json.loads(capsys.readouterr().out)
        assert said == {"out": str(out), "kind": kind, "images": 36, "identities": 6, "skipped": 0}
    assert sorted(p.name for p in steps[-1].iterdir()) == [f"{label:08d}" for label in range(6)]
    assert open_faces(steps[-1]).digest == open_faces(steps[-2]).digest


def test_a_clean_list(tiny_faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "clean.txt").write_text("id1/0.png\nid3/2.png\n")
    out = tmp_path / "clean"
    assert run(["data", "convert", str(tiny_faces), "-o", str(out), "--clean-list", str(tmp_path / "clean.txt")]) == 0
    assert capsys.readouterr().out == f"{out}: 2 images of 2 identities (folder)\n"
    assert sorted(str(p.relative_to(out)) for p in out.glob("*/*")) == ["id1/0.png", "id3/2.png"]


def test_what_cannot_be_read_is_left_out_and_named(
    tiny_faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    shutil.copytree(tiny_faces, source)
    (source / "id1" / "0.png").write_bytes((source / "id1" / "0.png").read_bytes()[:500])
    (source / "id2" / "photo.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(64))  # is damaged, too
    words = ["data", "convert", str(source), "-o", str(out), "--json"]
    assert run([*words, "--strict"]) == 3
    assert not out.exists()
    assert run(words) == 4
    said = capsys.readouterr()
    assert (json.loads(said.out)["images"], json.loads(said.out)["skipped"]) == (35, 2)
    assert "left out 2 files" in said.err
    assert "id1/0.png" in said.err
    assert "id2/photo.heic': " in said.err


@pytest.mark.parametrize("damage", [b"%!PS-Adobe-3.0 EPSF-3.0\n", None], ids=["another kind", "cut off"])
def test_a_damaged_image_among_few_is_refused(
    tiny_faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: bytes | None
) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    for person in ("id0", "id1"):
        shutil.copytree(tiny_faces / person, source / person)
    file = source / "id0" / "0.png"
    file.write_bytes(damage or file.read_bytes()[:500])
    (source / "id0" / "notes.txt").write_text("no image by its name either, so it does not count")
    words = ["data", "convert", str(source), "-o", str(out)]
    for path in sorted(source.glob("*/[1-5].png")):  # 1 of 12 is few among many; now 1 of 9
        if len(list(source.glob("*/*.png"))) > 9:
            path.unlink()
    assert run(words) == 3
    assert "got 1 of 9: " in (said := capsys.readouterr().err)
    assert "id0/0.png" in said
    assert not out.exists()


def test_an_output_that_exists_is_refused_before_anything_is_decoded(
    tiny_faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("arcinvert.training.data.streaming.decode", None)
    (tmp_path / "a.rec").touch()
    assert run(["data", "convert", str(tiny_faces), "-o", str(tmp_path / "a.rec")]) == 2


def test_what_a_killed_run_left_is_removed(tiny_faces: Path, tmp_path: Path) -> None:
    words = ["data", "convert", str(tiny_faces), "-o", str(tmp_path / "out")]
    (tmp_path / ".out.part" / "whole" / "id9").mkdir(parents=True)
    with locked(tmp_path / ".out.part"):
        assert run(words) == 5
    assert run(words) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert not (tmp_path / "out" / "id9").exists()


@pytest.mark.parametrize(("name", "code"), [("missing", 3), ("", 2)])
def test_refusals_are_one_line(
    tiny_faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, code: int
) -> None:
    source = tmp_path / name if name else tiny_faces
    assert run(["data", "convert", str(source), "-o", str(tiny_faces)]) == code
    error = capsys.readouterr().err
    assert error.startswith("arcinvert: expected ")
    assert error.count("\n") == 1


def test_train_takes_each_of_them(tiny_faces: Path, tmp_path: Path) -> None:
    """Shards give the run that the folder gives, to the last bit."""
    (tmp_path / "config.toml").write_text(
        'backbone = "iresnet18"\nwidth = 0.05\nembedding_size = 16\nepochs = 1\nbatch_size = 8\nheld_out = 2\n'
    )
    assert run(["data", "convert", str(tiny_faces), "-o", str(tmp_path / "shards"), "--shard", "9"]) == 0
    assert run(["data", "convert", str(tiny_faces), "-o", str(tmp_path / "a.rec")]) == 0
    tensors = []
    for number, source in enumerate([tiny_faces, tmp_path / "shards", tmp_path / "a.rec"]):
        out = tmp_path / f"{number}.safetensors"
        assert run(["train", "--data", str(source), "--out", str(out), "--config", str(tmp_path / "config.toml")]) == 0
        content = out.read_bytes()
        tensors.append(content[8 + int.from_bytes(content[:8], "little") :])
    assert tensors[0] == tensors[1]
    assert tensors[0] == tensors[2]
