"""``arcinvert train``: its options, its example configurations, and that it survives being killed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
import torch

from arcinvert.checkpoint import load_checkpoint
from arcinvert.cli import run
from arcinvert.locking import locked_file
from arcinvert.training.config import TrainConfig

REPOSITORY = Path(__file__).resolve().parents[2]
CONFIGS = sorted((REPOSITORY / "examples" / "configs").glob("*.toml"))
CONFIG = """
width = 0.05
embedding_size = 16
scale = 16.0
epochs = 4
batch_size = 8
held_out = 2
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(CONFIG)
    return path


def command(data: Path, config: Path, *more: str | Path) -> list[str]:
    return ["train", "--data", str(data), "--config", str(config), *map(str, more)]


def process(*arguments: str) -> "subprocess.Popen[str]":
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, *arguments], stdout=pipe, stderr=pipe, text=True, env=environment)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_example_configurations_are_ones(path: Path) -> None:
    config = TrainConfig.from_mapping(tomllib.loads(path.read_text()))
    assert f"examples/configs/{path.name}" in path.read_text()  # the command that uses it
    assert config.embedding_size == 512


def test_the_examples_are_there_and_say_what_they_should() -> None:
    found = {path.stem: TrainConfig.from_mapping(tomllib.loads(path.read_text())) for path in CONFIGS}
    assert set(found) == {"casia", "ms1mv3", "ibug500k", "default"}
    shipped = TrainConfig.from_mapping(tomllib.loads((REPOSITORY / "checkpoints" / "default.toml").read_text()))
    same = ("backbone", "width", "embedding_size", "margin", "scale", "held_out")
    assert all(getattr(found["default"], name) == getattr(shipped, name) for name in same)
    assert (found["default"].init_from, shipped.init_from) == ("", "second.safetensors")
    for name, epochs, milestones in (("casia", 32, (20, 28)), ("ms1mv3", 18, (8, 14)), ("ibug500k", 18, (8, 14))):
        chosen = found[name]
        assert (chosen.epochs, chosen.milestones, chosen.batch_size, chosen.lr) == (epochs, milestones, 512, 0.1)
        assert (chosen.margin, chosen.scale, chosen.weight_decay, chosen.momentum) == ("arcface", 64.0, 5e-4, 0.9)
        assert chosen.augmentation.flip == 0.5
        assert not any(value for key, value in vars(chosen.augmentation).items() if key != "flip")


def test_a_dry_run_needs_no_out_and_writes_nothing(
    capsys: pytest.CaptureFixture[str], tiny_faces: Path, config: Path, tmp_path: Path
) -> None:
    before = sorted(tmp_path.rglob("*"))
    assert run(command(tiny_faces, config, "--dry-run")) == 0
    said = capsys.readouterr()
    assert said.out.startswith("24 images of 4 identities, 2 held out; one step works: loss ")
    assert "memory of each process: backbone" in said.err
    assert run(["-q", *command(tiny_faces, config, "--dry-run", "--json", "-o", tmp_path / "net")]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["steps"] == 12
    assert said.err == ""
    assert sorted(tmp_path.rglob("*")) == before


def test_without_out_it_says_what_is_missing(
    capsys: pytest.CaptureFixture[str], tiny_faces: Path, config: Path
) -> None:
    assert run(command(tiny_faces, config)) == 2
    assert "expected --out, the checkpoint to write, or --dry-run" in capsys.readouterr().err


def test_a_clean_list_and_label_noise(
    capsys: pytest.CaptureFixture[str], tiny_faces: Path, config: Path, tmp_path: Path
) -> None:
    kept = [f"id{person}/{picture}.png" for person in range(3) for picture in range(5)]
    (tmp_path / "clean").write_text("\n".join(kept))
    more = ["--clean-list", tmp_path / "clean", "--label-noise", "0.4", "-o", tmp_path / "net", "--json"]
    assert run(["-q", *command(tiny_faces, config, *more)]) == 0
    header = json.loads(capsys.readouterr().out)
    assert (header["data"]["images"], header["data"]["identities"]) == (15, 3)
    assert header["training"]["label_noise"] == 0.4
    assert len((tmp_path / "net.labels").read_text().splitlines()) == 15
    (tmp_path / "clean").write_text("id0/none.png")
    assert run(["-q", *command(tiny_faces, config, *more, "--force")]) == 3


def test_a_damaged_image_is_left_out_and_a_second_run_is_refused(
    capsys: pytest.CaptureFixture[str], tiny_faces: Path, config: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_faces, tmp_path / "in")
    (tmp_path / "in" / "id0" / "1.png").write_bytes((tiny_faces / "id0" / "1.png").read_bytes()[:500])
    words = command(tmp_path / "in", config, "-o", tmp_path / "net")
    with locked_file(tmp_path / "net"):
        assert run(words) == 5
    assert "is locked" in capsys.readouterr().err
    assert run([*words, "--strict"]) == 3
    assert "id0/1.png" in capsys.readouterr().err
    assert run(command(tmp_path / "in", config, "--dry-run")) == 4
    assert run([*words, "--json"]) == 4
    shown = capsys.readouterr()
    assert '"skipped": 1' in shown.out
    assert "id0/1.png" in shown.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "net", "net.state", "tiny.toml"]


@pytest.mark.slow
def test_killed_by_the_system_at_any_moment_it_ends_the_same(tiny_faces: Path, config: Path, tmp_path: Path) -> None:
    whole, out = tmp_path / "whole", tmp_path / "net"
    assert run(["-q", *command(tiny_faces, config, "-o", whole)]) == 0
    state = tmp_path / "net.state"
    arguments = ["-m", "arcinvert", *command(tiny_faces, config, "-o", out, "--save-every", "0")]
    reached = 0
    for moment in (0.0, 0.05):  # after the first state of each process: while it computes, or while it writes
        running = process(*arguments)
        before = state.stat().st_mtime_ns if state.exists() else 0
        end = time.monotonic() + 600
        while time.monotonic() < end and running.poll() is None:
            if state.exists() and state.stat().st_mtime_ns != before:
                break
            time.sleep(0.001)
        time.sleep(moment)
        running.send_signal(signal.SIGKILL)
        running.communicate()
        assert running.returncode == -signal.SIGKILL, "it was done before it could be killed"
        step = torch.load(state, weights_only=True)["step"]
        assert reached < step < 12
        reached = step
    assert run(["-q", *command(tiny_faces, config, "-o", out)]) == 0
    expected, found = load_checkpoint(whole), load_checkpoint(out)
    assert all(torch.equal(found.tensors[key], value) for key, value in expected.tensors.items())
    assert found.header == expected.header


@pytest.mark.slow
def test_two_processes_of_torchrun_train_one_network(tiny_faces: Path, config: Path, tmp_path: Path) -> None:
    out = tmp_path / "net"
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "arcinvert"]
    config.write_text(CONFIG + "keep_head = true\n")
    running = process(*launch, *command(tiny_faces, config, "-o", out, "--json"))
    said, remarks = running.communicate(timeout=600)
    assert running.returncode == 0, remarks
    (line,) = [line for line in said.splitlines() if line.startswith("{")]
    stored = load_checkpoint(out)
    assert stored.header == {"format": 2, **json.loads(line)}
    assert stored.tensors["head.centers"].shape == (4, 16)
    assert len(stored.header["history"]) == 4


@pytest.mark.parametrize(("options", "seed"), [([], 3), (["--seed", "7"], 7), (["--seed", "0"], 0)])
def test_the_seed_of_the_command_line_goes_before_that_of_the_settings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, options: list[str], seed: int
) -> None:
    seen: list[int] = []

    def train(data: Path, out: Path, *, config: TrainConfig, **others: object) -> dict[str, object]:
        seen.append(config.seed)
        header: dict[str, object] = {"data": {"skipped": 0}, "validation": {}}
        return header

    monkeypatch.setattr("arcinvert.training.trainer.train", train)
    (tmp_path / "c.toml").write_text("seed = 3\n")
    arguments = ["train", "--data", "d", "-o", str(tmp_path / "net"), "--config", str(tmp_path / "c.toml")]
    assert run([*arguments, *options]) == 0
    assert seen == [seed]
