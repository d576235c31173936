import json
import shutil
from pathlib import Path

import pytest

from arcinvert.checkpoint import load_checkpoint
from arcinvert.cli import run
from arcinvert.training.config import TrainConfig
from arcinvert.training.data.clean_list import read_clean_list
from arcinvert.training.data.faces import load_faces, open_faces
from arcinvert.training.trainer import train

IDS = ["id0", "id1", "id2", "id3"]
Output = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def state(tiny_faces: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The state of a training with sub-centers on four of the six identities. Do not write to it."""
    out = tmp_path_factory.mktemp("purify") / "net.safetensors"
    size = {"width": 0.05, "embedding_size": 16, "subcenters": 3}
    train(tiny_faces, out, config=TrainConfig(**size, scale=16.0, epochs=1, batch_size=8, lr=0.05, held_out=2))
    return f"{out}.state"


def test_a_clean_list_a_report_and_a_checkpoint(state: str, tiny_faces: Path, tmp_path: Path, capsys: Output) -> None:
    out = tmp_path / "clean.txt"
    extra = ["--report", str(tmp_path / "report.json"), "--dominant", str(tmp_path / "net.safetensors")]
    assert run(["purify", state, "--data", str(tiny_faces), "-o", str(out), "--angle", "auto", *extra, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said == json.loads((tmp_path / "report.json").read_text())
    kept = read_clean_list(out)
    assert 0 < len(kept) == said["kept"] < said["images"] == 24
    assert open_faces(tiny_faces, IDS, keep=kept).files == tuple(sorted(kept))  # what train does with it
    assert run(["checkpoint", "info", str(tmp_path / "net.safetensors")]) == 0


def test_true_labels_give_the_four_categories(state: str, tiny_faces: Path, tmp_path: Path, capsys: Output) -> None:
    files = load_faces(tiny_faces, IDS).files
    truth = [f"{file}\t{'somebody' if number % 3 == 0 else file.split('/')[0]}\n" for number, file in enumerate(files)]
    (tmp_path / "truth.txt").write_text("".join(truth))
    end = ["-o", str(tmp_path / "clean.txt"), "--true-labels", str(tmp_path / "truth.txt")]
    assert run(["purify", state, "--data", str(tiny_faces), "--angle", "180", *end]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("clean.txt: 24 of 24 images kept, within 180.0 degrees")
    assert lines[1] == "8 labels are wrong: 0.000 of them found, 0.000 of the right ones dropped"
    assert [line.split(":")[0].strip() for line in lines[2:]] == [
        "clean, dominant",
        "wrong, dominant",
        "clean, other",
        "wrong, other",
    ]


def test_a_damaged_image_is_left_out_as_in_training(tiny_faces: Path, tmp_path: Path, capsys: Output) -> None:
    shutil.copytree(tiny_faces, tmp_path / "in")
    (tmp_path / "in" / "id0" / "1.png").write_bytes((tiny_faces / "id0" / "1.png").read_bytes()[:500])
    size = {"width": 0.05, "embedding_size": 16, "subcenters": 3}
    train(tmp_path / "in", tmp_path / "net", config=TrainConfig(**size, epochs=1, batch_size=8, held_out=2))
    words = ["purify", str(tmp_path / "net.state"), "--data", str(tmp_path / "in"), "-o", str(tmp_path / "clean")]
    assert run([*words, "--strict", "--angle", "180"]) == 3
    assert run([*words, "--angle", "180"]) == 4
    said = capsys.readouterr()
    assert "23 of 23 images kept" in said.out
    assert "id0/1.png" in said.err


def test_train_takes_the_clean_list(state: str, tiny_faces: Path, tmp_path: Path) -> None:
    truth, clean, config = tmp_path / "truth.txt", tmp_path / "clean.txt", tmp_path / "config.toml"
    truth.write_text("".join(f"{file}\t{file.split('/')[0]}\n" for file in load_faces(tiny_faces, IDS).files))
    command = ["purify", state, "--data", str(tiny_faces), "-o", str(clean), "--true-labels", str(truth)]
    assert run([*command, "--angle", "178"]) == 0
    clean.write_text("".join(clean.read_text().splitlines(keepends=True)[2:]))
    config.write_text("width = 0.05\nembedding_size = 16\nepochs = 1\nbatch_size = 8\nheld_out = 2\n")
    end = ["--config", str(config), "--clean-list", str(clean), "-o", str(tmp_path / "net.safetensors")]
    assert run(["train", "--data", str(tiny_faces), *end]) == 0
    assert load_checkpoint(tmp_path / "net.safetensors").header["data"]["images"] == 22


@pytest.mark.parametrize(
    ("extra", "code", "message"),
    [
        (["--angle", "wide"], 2, "expected degrees or auto as --angle, got 'wide'"),
        (["--angle", "0"], 2, "expected an angle in (0, 180] degrees, got 0"),
        (["--angle", "0.001"], 2, "no image lies within 0.001 degrees; the nearest is at "),
        (["--true-labels", "nothing.txt"], 3, "cannot read the true labels 'nothing.txt'"),
        (["--clean-list", "nothing.txt"], 3, "cannot read the clean list 'nothing.txt'"),
    ],
)
def test_refusals_are_one_line_and_write_nothing(
    state: str, tiny_faces: Path, tmp_path: Path, capsys: Output, extra: list[str], code: int, message: str
) -> None:
    out = tmp_path / "clean.txt"
    assert run(["-q", "purify", state, "--data", str(tiny_faces), "-o", str(out), *extra]) == code
    error = capsys.readouterr().err
    assert error.startswith(f"arcinvert: {message}")
    assert error.count("\n") == 1
    assert not out.exists()


def test_another_checkpoint_is_refused(tiny_checkpoint: Path, tiny_faces: Path, tmp_path: Path, capsys: Output) -> None:
    assert run(["purify", str(tiny_checkpoint), "--data", str(tiny_faces), "-o", str(tmp_path / "clean.txt")]) == 3
    assert "expected sub-centers (classes, K, 16)" in capsys.readouterr().err
