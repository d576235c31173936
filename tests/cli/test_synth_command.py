"""``arcinvert synth`` on many targets: killed and run again, in several processes, with a least cosine."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from digests import digests

from arcinvert import distributed
from arcinvert.checkpoint import load_checkpoint, save_checkpoint
from arcinvert.cli import run
from arcinvert.inversion import reconstruct
from arcinvert.inversion.invert import Inversion
from arcinvert.inverter import Inverter
from arcinvert.synthesis import journal

pytestmark = pytest.mark.usefixtures("as_found")

SIZE, TARGETS = 16, 5
SETTINGS = ["--steps", "3", "--batch-size", "2", "--variations", "2", "--no-report", "--device", "cpu"]


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = np.random.default_rng(0).normal(size=(TARGETS, SIZE)).astype(np.float32)
    path = tmp_path_factory.mktemp("targets") / "target.npy"
    np.save(path, rows / np.linalg.norm(rows, axis=1, keepdims=True))
    return path


def command(checkpoint: Path, target: Path, out: Path, *more: str) -> list[str]:
    return ["synth", "-e", str(target), "-o", str(out), "--checkpoint", str(checkpoint), *SETTINGS, *more]


@pytest.fixture(scope="module")
def whole(calibrated_checkpoint: Path, target: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted job of one process. Do not write to it."""
    out = tmp_path_factory.mktemp("whole") / "out"
    assert run(["-q", *command(calibrated_checkpoint, target, out)]) == 0
    return out


def process(*arguments: str) -> "subprocess.Popen[str]":
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, *arguments], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def results(out: Path) -> list[dict[str, Any]]:
    rows = json.loads((out / "manifest.json").read_text())["results"]
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def assert_same(out: Path, whole: Path) -> None:
    assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in whole.iterdir())
    assert digests(out, "*.png") == digests(whole, "*.png")
    assert results(out) == results(whole)


@pytest.mark.slow
def test_a_job_that_was_killed_resumes_to_the_same_images(
    calibrated_checkpoint: Path, target: Path, whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    running = process("-m", "arcinvert", *command(calibrated_checkpoint, target, out))
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline and running.poll() is None:
        lines = out / "journal.0.jsonl"
        if lines.is_file() and lines.read_bytes().count(b"\n") >= 3:
            break
        time.sleep(0.002)
    running.send_signal(signal.SIGKILL)
    running.communicate()
    assert running.returncode == -signal.SIGKILL, "it was done before it could be killed"
    assert not (out / "manifest.json").exists()
    made = [line for line in (out / "journal.0.jsonl").read_text().splitlines()[1:] if line.endswith("}")]
    times = {row["file"]: (out / row["file"]).stat().st_mtime_ns for row in map(json.loads, made)}
    assert run(["-q", *command(calibrated_checkpoint, target, out, "--seed", "9")]) == 2
    assert run(["-q", *command(calibrated_checkpoint, target, out)]) == 0
    assert_same(out, whole)
    assert {name: (out / name).stat().st_mtime_ns for name in times} == times


@pytest.mark.slow
def test_two_processes_make_the_same_images_even_of_a_job_that_one_began(
    calibrated_checkpoint: Path, target: Path, whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    manifest = json.loads((whole / "manifest.json").read_text())
    for row in manifest["results"][:3]:
        (out / row["file"]).write_bytes((whole / row["file"]).read_bytes())
        journal.append(out, 0, manifest["run"], row)
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "arcinvert"]
    running = process(*launch, *command(calibrated_checkpoint, target, out, "--json"))
    answer, messages = running.communicate(timeout=600)
    assert running.returncode == 0, messages
    assert_same(out, whole)
    (line,) = [line for line in answer.splitlines() if line.startswith("{")]
    assert json.loads(line)["settings"]["processes"] == 2


def test_standard_input_cannot_be_shared(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, calibrated_checkpoint: Path, tmp_path: Path
) -> None:
    monkeypatch.setattr(distributed, "process_group", lambda: contextlib.nullcontext(distributed.Processes(0, 2)))
    assert run(command(calibrated_checkpoint, Path("-"), tmp_path / "out")) == 2
    assert "standard input" in capsys.readouterr().err


def test_bad_targets_are_refused_before_a_calibration_is_fitted(
    monkeypatch: pytest.MonkeyPatch, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    monkeypatch.setattr(Inverter, "of", None)
    np.save(tmp_path / "bad.npy", np.ones((1, SIZE + 1)))
    assert run(command(tiny_checkpoint, tmp_path / "bad.npy", tmp_path / "out")) == 3


def test_images_below_the_least_cosine_end_with_4(
    capsys: pytest.CaptureFixture[str], calibrated_checkpoint: Path, target: Path, tmp_path: Path
) -> None:
    arguments = command(calibrated_checkpoint, target, tmp_path / "out", "--steps", "1", "--retries", "1")
    assert run([*arguments, "--min-cosine", "0.9999"]) == 4
    printed = capsys.readouterr()
    assert "10 reconstructions stay below --min-cosine" in printed.err
    assert printed.out.startswith("10 faces in ")
    rows = json.loads((tmp_path / "out" / "manifest.json").read_text())["results"]
    assert [(row["attempts"], row["below_min_cosine"]) for row in rows] == [(2, True)] * 10
    assert run(["-q", *arguments, "--min-cosine", "0.9999", "--force"]) == 4
    assert capsys.readouterr().err == ""
    assert run(["-q", *arguments, "--min-cosine", "-1", "--force"]) == 0


def test_out_of_memory_continues_and_ends_with_6_where_one_image_is_too_many(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    calibrated_checkpoint: Path,
    target: Path,
    tmp_path: Path,
) -> None:
    real = reconstruct.invert
    room = 1

    def limited(*arguments: Any, target: torch.Tensor, **options: Any) -> Inversion:
        if len(target) > room:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return real(*arguments, target=target, **options)

    monkeypatch.setattr(reconstruct, "invert", limited)
    assert run(command(calibrated_checkpoint, target, tmp_path / "one", "--steps", "1")) == 0
    assert capsys.readouterr().err.count("out of memory with 2 images at once, continuing with 1") == 1
    room = 0
    assert run(command(calibrated_checkpoint, target, tmp_path / "none", "--steps", "1")) == 6
    assert "out of memory" in capsys.readouterr().err.splitlines()[-1]
    assert list((tmp_path / "none").iterdir()) == []


def test_classes_of_a_checkpoint_that_keeps_its_centers(
    calibrated_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stored = load_checkpoint(calibrated_checkpoint)
    centers = torch.nn.functional.normalize(torch.randn(6, SIZE, generator=torch.Generator().manual_seed(3)))
    kept = tmp_path / "kept.safetensors"
    save_checkpoint(kept, stored.header, {**stored.tensors, "head.centers": centers.half()})
    by_number = ["-q", "synth", "--checkpoint", str(kept), *SETTINGS, "--identity", "4,1"]
    assert run([*by_number, "-o", str(tmp_path / "a")]) == 0
    np.save(tmp_path / "rows.npy", centers[[4, 1]].half().float().numpy())
    assert run(["-q", *command(kept, tmp_path / "rows.npy", tmp_path / "b")]) == 0
    for name in ("0000_00.png", "0001_01.png"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    capsys.readouterr()
    assert run([*by_number[:-1], "6", "-o", str(tmp_path / "c")]) == 3
    assert "expected identities from 0 to 5, got [6]" in capsys.readouterr().err
    assert run([*by_number, "--objective", "margin", "--json", "-o", str(tmp_path / "m")]) == 0
    assert json.loads(capsys.readouterr().out)["run"]["objective"] == "margin"
    assert (tmp_path / "m" / "0000_00.png").read_bytes() != (tmp_path / "a" / "0000_00.png").read_bytes()
    without = ["synth", "--checkpoint", str(calibrated_checkpoint), "--identity", "1", "-o", str(tmp_path / "c")]
    assert run(["-q", *without]) == 3
    assert "does not keep its class centers" in capsys.readouterr().err


def test_the_margin_needs_identities(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for source, got in ((["--identity", "1"], "l2"), (["-e", "x"], "margin")):
        assert run(["synth", "-o", str(tmp_path / "out"), *source, "--objective", got]) == 2
        assert f"got {got!r}" in capsys.readouterr().err


def test_pose_and_expression_reach_the_images(calibrated_checkpoint: Path, target: Path, tmp_path: Path) -> None:
    for pose in ("left", "right"):
        options = ["--pose", pose, "--expression", "smile"]
        assert run(["-q", *command(calibrated_checkpoint, target, tmp_path / pose), *options]) == 0
    left, right = ((tmp_path / pose / "0000_00.png").read_bytes() for pose in ("left", "right"))
    assert left != right
    manifest = json.loads((tmp_path / "left" / "manifest.json").read_text())
    assert (manifest["settings"]["pose"], manifest["settings"]["expression"]) == ("left", "smile")
