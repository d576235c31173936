import json
from pathlib import Path

import pytest

from arcinvert.cli import run
from arcinvert.training.data.faces import open_faces


def test_around_the_three_kinds(tiny_faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    steps = [tiny_faces, tmp_path / "shards", tmp_path / "a.rec", tmp_path / "back"]
    kinds = ["shards", "rec", "folder"]
    for source, out, kind in zip(steps, steps[1:], kinds, strict=False):
        extra = ["--shard", "20"] if kind == "shards" else []
        assert run(["data", "convert", str(source), "-o", str(out), "--json", *extra]) == 0
        said = json.loads(capsys.readouterr().out)
        assert said == {"out": str(out), "kind": kind, "images": 36, "identities": 6}
    assert sorted(p.name for p in steps[-1].iterdir()) == [f"{label:08d}" for label in range(6)]
    assert open_faces(steps[-1]).digest == open_faces(steps[-2]).digest


def test_a_clean_list(tiny_faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "clean.txt").write_text("id1/0.png\nid3/2.png\n")
    out = tmp_path / "clean"
    assert run(["data", "convert", str(tiny_faces), "-o", str(out), "--clean-list", str(tmp_path / "clean.txt")]) == 0
    assert capsys.readouterr().out == f"{out}: 2 images of 2 identities (folder)\n"
    assert sorted(str(p.relative_to(out)) for p in out.glob("*/*")) == ["id1/0.png", "id3/2.png"]


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
