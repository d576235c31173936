"""The command line: exit codes, one-line errors, what goes to stdout and what to stderr."""

import errno
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import typer
from PIL import Image

import arcinvert
from arcinvert.cli import app, common, run
from arcinvert.errors import (
    ArcInvertError,
    CheckpointError,
    DivergedError,
    EnvironmentProblem,
    InputError,
    UsageError,
)
from arcinvert.faceprior.prior import FacePrior
from arcinvert.recognizer import Recognizer

pytestmark = pytest.mark.usefixtures("as_found")

SIZE = 16
CONFIG = """
backbone = "iresnet18"
width = 0.05
embedding_size = 16
scale = 16.0
epochs = 1
batch_size = 8
held_out = 2
"""


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """An embedding file of two rows."""
    rows = np.random.default_rng(0).normal(size=(2, SIZE)).astype(np.float32)
    np.save(tmp_path / "target.npy", rows / np.linalg.norm(rows, axis=1, keepdims=True))
    return tmp_path / "target.npy"


def one_line(text: str) -> str:
    """The single error line that is on stderr."""
    lines = text.strip("\n").split("\n")
    assert len(lines) == 1, text
    assert lines[0].startswith("arcinvert: ")
    return lines[0]


def raising(error: BaseException) -> Callable[..., None]:
    def stop(*args: Any, **kwargs: Any) -> None:
        raise error

    return stop


def module(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    options = {"capture_output": True, "text": True, "timeout": 600, **options}
    return subprocess.run([sys.executable, "-m", "arcinvert", *arguments], **options)


def synth(checkpoint: Path, source: object, out: Path, *options: str, before: tuple[str, ...] = ()) -> int:
    arguments = ["synth", "-e", str(source), "-o", str(out), "--checkpoint", str(checkpoint), "--steps", "2", *options]
    return run([*before, *arguments])


def embed(checkpoint: Path, out: Path, *arguments: object) -> int:
    return run(["embed", *map(str, arguments), "-o", str(out), "--checkpoint", str(checkpoint)])


# --- usage: 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--nothing"], "--nothing"),
        (["paint"], "'paint'"),
        (["synth", "--nothing"], "--nothing"),
        (["synth", "-e", "x"], "'--out'"),
        (["synth", "-o", "x"], "--store and --identity, got none"),
        (["synth", "-o", "x", "-e", "y", "--identity", "1"], "got --embedding and --identity"),
        (["synth", "-o", "x", "--identity", "one"], "got 'one'"),
        (["synth", "-o", "x", "-e", "y", "--pose", "sideways"], "'sideways'"),
        (["synth", "-o", "x", "-e", "y", "--pose", "left", "--preset", "paper"], "'paper'"),
        (["synth", "-e", "x", "-o", "y", "--seed", "many"], "--seed"),
        (["embed", "-o", "y"], "Missing argument"),
        (["train", "-o", "x"], "--data"),
    ],
    ids=" ".join,
)
def test_usage_errors(capsys: pytest.CaptureFixture[str], arguments: list[str], says: str) -> None:
    assert run(arguments) == 2
    said = capsys.readouterr()
    assert says in one_line(said.err)
    assert said.out == ""


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--preset", "slow"], "fast, best, pixels, paper"),
        (["--variations", "0"], "at least 1"),
        (["--steps", "0"], "at least 1"),
        (["--batch-size", "-3"], "at least 1"),
        (["--seed", "-1"], "seed"),
        (["--device", "toaster"], "'toaster'"),
        (["--device", "cuda:99"], "no device 'cuda:99'"),
        (["--device", "meta"], "no device 'meta'"),
        (["--device", ""], "expected a device"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_options_that_do_not_fit(
    capsys: pytest.CaptureFixture[str], target: Path, tmp_path: Path, options: list[str], says: str
) -> None:
    assert run(["synth", "-e", str(target), "-o", str(tmp_path / "out"), *options]) == 2
    assert says in one_line(capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


def test_no_arguments_show_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 2
    said = capsys.readouterr()
    assert said.err.startswith("Usage: arcinvert")
    assert all(name in said.err for name in ("synth", "embed", "train", "calibrate"))


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["synth", "--help"], ["eval", "-h"]], ids=" ".join)
def test_help_is_no_error(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert run(arguments) == 0
    said = capsys.readouterr()
    assert said.out.startswith("Usage: arcinvert")
    assert said.err == ""


def test_every_option_is_explained_by_a_clause() -> None:
    unexplained, groups = [], [("arcinvert", typer.main.get_command(app))]
    for name, command in groups:
        groups += [(f"{name} {below}", part) for below, part in getattr(command, "commands", {}).items()]
        unexplained += [
            f"{name} {parameter.name}: {parameter.help}"
            for parameter in command.params
            if parameter.name not in ("help", "install_completion", "show_completion")
            and not re.fullmatch(r"[A-Z].*\.", parameter.help or "")
        ]
    assert unexplained == []


# --- input refused: 3


def test_a_missing_checkpoint(capsys: pytest.CaptureFixture[str], target: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(["synth", "-e", str(target), "-o", str(out), "--checkpoint", str(tmp_path / "none")]) == 3
    assert "found none at" in one_line(capsys.readouterr().err)
    assert not out.exists()


def test_a_checkpoint_that_is_not_calibrated_is_calibrated_once(
    capsys: pytest.CaptureFixture[str],
    target: Path,
    tmp_path: Path,
    tiny_checkpoint: Path,
    small_prior: FacePrior,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("arcinvert.inverter.default_face_prior", lambda: small_prior)
    monkeypatch.setenv("ARCINVERT_CACHE", str(tmp_path / "cache"))
    command = ["synth", "-e", str(target), "--steps", "1", "--checkpoint", str(tiny_checkpoint), "-o"]
    assert run([*command, str(tmp_path / "first")]) == 0
    assert f"{len(small_prior)} synthetic faces, once" in capsys.readouterr().err
    assert len(list((tmp_path / "cache" / "calibrations").iterdir())) == 1
    assert run([*command, str(tmp_path / "second")]) == 0
    assert "calibration" not in capsys.readouterr().err
    for name in ("0000_00.png", "0001_00.png"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


def test_bad_embeddings(capsys: pytest.CaptureFixture[str], tmp_path: Path, calibrated_checkpoint: Path) -> None:
    np.save(tmp_path / "bad.npy", np.full((2, SIZE), np.nan))
    assert synth(calibrated_checkpoint, tmp_path / "bad.npy", tmp_path / "out") == 3
    assert "rows 0, 1" in one_line(capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


def test_photos_that_do_not_exist(capsys: pytest.CaptureFixture[str], tmp_path: Path, tiny_checkpoint: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path in ("none.jpg", "empty"):
        out = tmp_path / "e.npy"
        assert run(["embed", str(tmp_path / path), "-o", str(out), "--checkpoint", str(tiny_checkpoint)]) == 3
        assert path in one_line(capsys.readouterr().err)
        assert not out.exists()


# --- some items skipped: 4


def test_a_photo_without_a_face_is_skipped_and_named(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tiny_checkpoint: Path,
    tiny_faces: Path,
    tmp_path: Path,
) -> None:
    from arcinvert.faces.alignment import Face, read_photo
    from arcinvert.faces.choice import AlignedFace

    faces = {"0.png": 1, "1.png": 0, "2.png": 3}

    def aligned(path: Path, detector: object, wanted: str, gray_bits: int | None) -> AlignedFace | None:
        side = 24.0 if path.name == "0.png" else 80.0
        face = Face(1.0, (0.0, 0.0, side, side), np.zeros((5, 2)))
        return AlignedFace(read_photo(path), face, "the largest", faces[path.name]) if faces[path.name] else None

    monkeypatch.setattr("arcinvert.faces.photos.open_detector", lambda name: object())
    monkeypatch.setattr("arcinvert.faces.photos.aligned_face", aligned)
    photos = [tiny_faces / "id0" / name for name in faces]
    assert embed(tiny_checkpoint, tmp_path / "e.npy", *photos) == 4
    said = capsys.readouterr()
    assert said.out == f"2 embeddings in {tmp_path / 'e.npy'}\n"
    assert f"skipped {str(photos[1])!r}: no face found" in said.err
    assert f"{str(photos[2])!r} shows 3 faces; the largest is taken" in said.err
    assert said.err.count("small face, of 24 pixels") == 1
    assert np.load(tmp_path / "e.npy").shape == (2, SIZE)


@pytest.fixture
def mixed(tiny_faces: Path, tmp_path: Path) -> Path:
    """A folder of a good crop, one of another size, one that is torn, and a text."""
    folder = tmp_path / "mixed"
    folder.mkdir()
    good = tiny_faces / "id0" / "0.png"
    (folder / "a good.PNG").write_bytes(good.read_bytes())
    Image.new("RGB", (100, 112)).save(folder / "b.png")
    (folder / "c.png").write_bytes(good.read_bytes()[:500])
    (folder / "notes.txt").write_text("no picture")
    return folder


def test_crops_that_cannot_be_read_are_skipped(
    capsys: pytest.CaptureFixture[str], tiny_checkpoint: Path, mixed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "e.npy"
    assert embed(tiny_checkpoint, out, "--aligned", mixed / "b.png") == 3
    assert "got 100x112" in capsys.readouterr().err
    assert not out.exists()
    assert embed(tiny_checkpoint, out, "--aligned", mixed) == 4
    said = capsys.readouterr()
    assert "b.png'" in said.err
    assert "c.png'" in said.err
    assert "notes.txt': not an image" in said.err
    assert np.load(out).shape == (1, SIZE)
    out.unlink()
    assert embed(tiny_checkpoint, out, "--aligned", "--strict", mixed) == 3
    said = capsys.readouterr()
    assert "c.png'" in said.err
    assert "notes.txt'" in said.err
    assert not out.exists()


def test_control_characters_of_a_file_name_do_not_reach_the_terminal(
    capsys: pytest.CaptureFixture[str], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    path = tmp_path / "\x1b[31mred\n\x07.png"
    Image.new("RGB", (9, 9)).save(path)
    assert embed(tiny_checkpoint, tmp_path / "\x1b[2Je.npy", "--aligned", path) == 3
    assert embed(tiny_checkpoint, tmp_path / "e.npy", "--aligned", tmp_path / "\x1b[31mnone\n.png") == 3
    assert run(["synth", "-e", "\x1b[31m", "-o", "x", "--checkpoint", str(tiny_checkpoint)]) == 3
    assert run(["\x1b[31mred"]) == 2
    said = capsys.readouterr()
    assert "\x1b" not in said.err + said.out
    assert "\x07" not in said.err
    assert said.err.count("\\x1b") >= 4


def test_a_file_name_that_is_not_utf8(
    capsys: pytest.CaptureFixture[str], tiny_checkpoint: Path, tiny_faces: Path, tmp_path: Path
) -> None:
    folder = os.fsencode(tmp_path) + b"/\xff\xfe"
    os.mkdir(folder)
    out = Path(os.fsdecode(folder)) / "e.npy"
    assert embed(tiny_checkpoint, out, "--aligned", tiny_faces / "id0" / "0.png") == 0
    assert out.is_file()
    assert capsys.readouterr().out.encode().startswith(b"1 embeddings in ")


# --- embedding


def test_rows_are_in_the_order_of_the_arguments_and_folders_are_sorted(
    capsys: pytest.CaptureFixture[str], tiny_checkpoint: Path, tiny_faces: Path, tmp_path: Path
) -> None:
    out = tmp_path / "made" / "e.npy"
    single = tiny_faces / "id3" / "4.png"
    assert embed(tiny_checkpoint, out, "--aligned", "--json", tiny_faces / "id5", single, tiny_faces / "id1") == 0
    said = json.loads(capsys.readouterr().out)
    files = [*sorted((tiny_faces / "id5").iterdir()), single, *sorted((tiny_faces / "id1").iterdir())]
    assert said == {"out": str(out), "rows": [str(file) for file in files], "skipped": []}
    rows = np.load(out)
    assert rows.dtype == np.float32
    assert rows.shape == (13, SIZE)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    pictures = np.stack([np.asarray(Image.open(file)) for file in files])
    expected = Recognizer.load(tiny_checkpoint).embed(torch.from_numpy(pictures).permute(0, 3, 1, 2))
    np.testing.assert_allclose(rows, expected.numpy(), atol=1e-4)


def test_a_real_photo(
    capsys: pytest.CaptureFixture[str], faces_dir: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    crop = Image.open(sorted(faces_dir.rglob("*.jpg"))[0])
    photo = Image.new("RGB", (500, 400), (120, 130, 140))
    photo.paste(crop.resize((224, 224)), (130, 90))
    photo.save(tmp_path / "a.png")
    Image.new("RGB", (300, 300), "white").save(tmp_path / "b.png")
    assert embed(tiny_checkpoint, tmp_path / "e.npy", tmp_path / "a.png", tmp_path / "b.png") == 4
    assert "b.png': no face found" in capsys.readouterr().err
    assert np.load(tmp_path / "e.npy").shape == (1, SIZE)


# --- the environment: 5, out of memory: 6, signals: 130 and 143, bugs: 1


def test_a_full_disk_leaves_the_old_file_and_no_temporary_one(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tiny_checkpoint: Path,
    tiny_faces: Path,
    tmp_path: Path,
) -> None:
    (tmp_path / "e.npy").write_bytes(b"old")
    monkeypatch.setattr(os, "replace", raising(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))))
    assert embed(tiny_checkpoint, tmp_path / "e.npy", "--aligned", tiny_faces / "id0" / "0.png") == 5
    assert "No space left on device" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["e.npy"]
    assert (tmp_path / "e.npy").read_bytes() == b"old"


class MadeUpError(Exception):
    pass


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (ArcInvertError("a"), 1, "a"),
        (UsageError("a"), 2, "a"),
        (InputError("several\nlines \x1b[1m"), 3, "several lines \\x1b[1m"),
        (CheckpointError("a"), 3, "a"),
        (DivergedError("a"), 3, "a"),
        (EnvironmentProblem("a"), 5, "a"),
        (OSError(errno.EACCES, "Permission denied", "/x\n"), 5, "'/x\\n': Permission denied"),
        (MemoryError(), 6, "out of memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), 6, "out of memory"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (MadeUpError("odd\x07"), 1, "bug in arcinvert (MadeUpError: odd\\x07); --debug"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_an_error_ends_a_command_with_its_code_and_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, says: str
) -> None:
    monkeypatch.setattr(Recognizer, "load", raising(error))
    assert run(["embed", "x", "-o", "y"]) == code
    said = capsys.readouterr()
    assert says in one_line(said.err.lstrip("\n"))
    assert said.out == ""
    assert run(["--debug", "embed", "x", "-o", "y"]) == code
    traced = capsys.readouterr().err
    if not isinstance(error, KeyboardInterrupt):
        assert "Traceback (most recent call last)" in traced
        assert "in stop" in traced


def test_sigterm_ends_with_143(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Recognizer, "load", lambda *args, **kwargs: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(SystemExit) as stopped:
        run(["embed", "x", "-o", "y"])
    assert stopped.value.code == 143


def test_debug_is_reset_for_the_next_run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    missing = str(tmp_path / "none")
    assert run(["--debug", "embed", "x", "-o", "y", "--checkpoint", missing]) == 3
    assert "Traceback" in capsys.readouterr().err
    assert run(["--nothing"]) == 2
    one_line(capsys.readouterr().err)


# --- calibrate, then synth


def test_calibrate_prints_its_result(
    capsys: pytest.CaptureFixture[str],
    tiny_checkpoint: Path,
    tiny_faces: Path,
    small_prior: FacePrior,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("arcinvert.faceprior.prior.default_face_prior", lambda: small_prior)
    out = tmp_path / "c.safetensors"
    arguments = ["calibrate", "-o", str(out), "--checkpoint", str(tiny_checkpoint), "--faces", str(tiny_faces)]
    assert run([*arguments, "--json"]) == 0
    said = capsys.readouterr()
    made = Recognizer.load(out)
    faces = made.header["calibration"]["faces"]
    assert json.loads(said.out) == {"out": str(out), "digest": made.digest, "faces": faces}
    assert faces > 36  # the crops add to the synthetic faces
    assert "36/36 face" in said.err
    shutil.copytree(tiny_faces, tmp_path / "in")
    (tmp_path / "in" / "id0" / "1.png").write_bytes((tiny_faces / "id0" / "1.png").read_bytes()[:500])
    arguments[-1] = str(tmp_path / "in")
    assert run([*arguments, "--strict"]) == 3
    assert run([*arguments, "--json"]) == 4
    said = capsys.readouterr()
    assert json.loads(said.out)["faces"] == faces - 1
    assert "id0/1.png" in said.err


def test_stdout_has_nothing_but_the_json(
    capsys: pytest.CaptureFixture[str], calibrated_checkpoint: Path, target: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert synth(calibrated_checkpoint, target, out, "--json", "--variations", "2") == 0
    said = capsys.readouterr()
    assert said.out.count("\n") == 1
    assert json.loads(said.out) == json.loads((out / "manifest.json").read_text())
    assert len(json.loads(said.out)["results"]) == 4
    assert "2/2 step" in said.err
    assert "cosine" in said.err


def test_normalization_is_logged_and_quiet_silences_it(
    capsys: pytest.CaptureFixture[str], calibrated_checkpoint: Path, tmp_path: Path
) -> None:
    np.save(tmp_path / "long.npy", np.full(SIZE, 3.0))
    assert synth(calibrated_checkpoint, tmp_path / "long.npy", tmp_path / "a") == 0
    said = capsys.readouterr()
    assert said.out.startswith(f"1 faces in {tmp_path / 'a'}, mean cosine ")
    assert "1 embeddings had norms 12 to 12; they were normalized" in said.err
    assert synth(calibrated_checkpoint, tmp_path / "long.npy", tmp_path / "b", before=("-q",)) == 0
    assert capsys.readouterr().err == ""


def test_embed_and_synth_end_to_end_through_standard_input(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    calibrated_checkpoint: Path,
    tiny_faces: Path,
    tmp_path: Path,
) -> None:
    assert embed(calibrated_checkpoint, tmp_path / "e.npy", "--aligned", tiny_faces / "id2" / "0.png") == 0
    content = (tmp_path / "e.npy").read_bytes()
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(content)))
    assert synth(calibrated_checkpoint, "-", tmp_path / "piped") == 0
    assert synth(calibrated_checkpoint, tmp_path / "e.npy", tmp_path / "read") == 0
    names = sorted(path.name for path in (tmp_path / "piped").iterdir())
    assert names == ["0000_00.png", "manifest.json", "sheet.png"]
    for name in ("0000_00.png", "sheet.png"):
        assert (tmp_path / "piped" / name).read_bytes() == (tmp_path / "read" / name).read_bytes()
    assert synth(calibrated_checkpoint, tmp_path / "e.npy", tmp_path / "read", "--seed", "8") == 2
    assert "--force" in capsys.readouterr().err
    assert synth(calibrated_checkpoint, tmp_path / "e.npy", tmp_path / "read", "--seed", "8", "--force") == 0


def test_array_chooses_an_array_of_an_archive(
    capsys: pytest.CaptureFixture[str], calibrated_checkpoint: Path, tmp_path: Path
) -> None:
    np.savez(tmp_path / "s.npz", feats=np.ones((1, SIZE)), labels=np.arange(3))
    assert synth(calibrated_checkpoint, tmp_path / "s.npz", tmp_path / "out") == 3
    assert "feats, labels" in one_line(capsys.readouterr().err)
    assert synth(calibrated_checkpoint, tmp_path / "s.npz", tmp_path / "out", "--array", "feats") == 0


def test_diverged_targets_end_with_4_and_all_of_them_with_3(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    calibrated_checkpoint: Path,
    target: Path,
    tmp_path: Path,
) -> None:
    from dataclasses import replace

    from arcinvert.inversion import reconstruct

    real = reconstruct.invert
    for rows, code in (([True, False], 4), ([True, True], 3)):
        mask = torch.tensor(rows)
        monkeypatch.setattr(reconstruct, "invert", lambda *a, mask=mask, **k: replace(real(*a, **k), diverged=mask))
        assert synth(calibrated_checkpoint, target, tmp_path / str(code)) == code
    said = capsys.readouterr().err
    assert "1 reconstructions diverged" in said
    assert "none of the 2" in said


def test_environment_variables_name_checkpoint_and_device(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ARCINVERT_CHECKPOINT", str(tmp_path / "by-variable"))
    assert run(["embed", "x", "-o", "y"]) == 3
    assert "by-variable" in capsys.readouterr().err
    monkeypatch.setenv("ARCINVERT_DEVICE", "toaster")
    assert run(["embed", "x", "-o", "y"]) == 2


# --- train


def test_train_resumes_and_its_checkpoint_loads(
    capsys: pytest.CaptureFixture[str], tiny_faces: Path, tmp_path: Path
) -> None:
    (tmp_path / "tiny.toml").write_text(CONFIG)
    out = tmp_path / "net.safetensors"
    arguments = ["train", "--data", str(tiny_faces), "-o", str(out), "--config", str(tmp_path / "tiny.toml")]
    assert run(arguments) == 0
    said = capsys.readouterr()
    assert said.out.startswith(f"{out}: AUC ")
    assert "on 2 held-out identities" in said.out
    assert "3/3 step" in said.err
    assert embed(out, tmp_path / "e.npy", "--aligned", tiny_faces / "id0") == 0
    assert np.load(tmp_path / "e.npy").shape == (6, SIZE)
    capsys.readouterr()
    assert run(["-q", *arguments, "--json"]) == 0  # it has ended: nothing is left to do
    said = capsys.readouterr()
    assert json.loads(said.out)["validation"]["identities"] == 2
    assert said.err == ""
    (tmp_path / "tiny.toml").write_text(CONFIG + "seed = 3\n")
    assert run(arguments) == 3
    assert "--force" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "code"),
    [("epochs = ", 2), ("epochz = 2", 2), ("held_out = 5", 3)],
)
def test_bad_training_settings(
    capsys: pytest.CaptureFixture[str], tiny_faces: Path, tmp_path: Path, text: str, code: int
) -> None:
    (tmp_path / "c.toml").write_text(text)
    out = tmp_path / "net"
    assert run(["train", "--data", str(tiny_faces), "-o", str(out), "--config", str(tmp_path / "c.toml")]) == code
    one_line(capsys.readouterr().err)
    assert not out.exists()
    assert run(["train", "--data", str(tiny_faces), "-o", str(out), "--config", str(tmp_path / "none.toml")]) == 2


# --- the progress line


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_a_line_every_few_seconds_and_at_the_end(
    capsys: pytest.CaptureFixture[str], clock: list[float]
) -> None:
    line = common.ProgressLine("photo", every=10.0)
    for done in range(1, 26):
        clock[0] += 1.0
        line(done, 25, "embedding")
    assert capsys.readouterr().err.splitlines() == [
        "10/25 photo, 1.00/s, 15 s left, embedding",
        "20/25 photo, 1.00/s, 5 s left, embedding",
        "25/25 photo, 1.00/s, 0 s left, embedding",
    ]


def test_the_rate_of_a_resumed_run_leaves_out_what_was_done_before(
    capsys: pytest.CaptureFixture[str], clock: list[float]
) -> None:
    line = common.ProgressLine("step", every=10.0)
    for done in range(900, 911):
        clock[0] += 2.0
        line(done, 1000, "")
    assert capsys.readouterr().err.splitlines()[-1].startswith("909/1000 step, 0.50/s, 182 s left")


def test_progress_on_a_terminal_is_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    line = common.ProgressLine("step")
    for done in range(1, 4):
        line(done, 3, f"cosine 0.{done} [red]\x1b")
    assert common.state.line is None
    assert "3/3 step" in terminal.getvalue()
    assert "cosine 0.3 [red]\\x1b" in terminal.getvalue()


def test_a_bar_is_closed_when_the_command_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)

    def load(*args: Any, **kwargs: Any) -> None:
        monkeypatch.setattr(common, "REDRAW", 0.0)
        common.ProgressLine("step")(1, 3, "")
        raise InputError("no good")

    monkeypatch.setattr(Recognizer, "load", load)
    assert run(["embed", "x", "-o", "y"]) == 3
    assert common.state.line is None
    shown = terminal.getvalue()
    assert shown.rindex("\x1b[?25h") < shown.index("arcinvert: no good")  # the cursor is back


# --- as a process of its own


def test_module_runs_and_exits_with_the_code() -> None:
    assert module("--version").stdout == f"arcinvert {arcinvert.__version__}\n"
    refused = module("synth", "--nothing")
    assert refused.returncode == 2
    assert one_line(refused.stderr)
    assert refused.stdout == ""


def test_help_imports_no_torch() -> None:
    command = [sys.executable, "-X", "importtime", "-m", "arcinvert", "synth", "--help"]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)
    assert "arcinvert.cli.synth" in said.stderr
    for heavy in ("torch", "numpy", "PIL", "safetensors"):
        assert f" {heavy}\n" not in said.stderr


def test_a_closed_pipe_is_quiet() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = module("--help", capture_output=False, stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert done.returncode == 0
    assert done.stderr == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_behind_stdout_is_the_environment(unbuffered: str) -> None:
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    with open("/dev/full", "w") as full:
        done = module("--version", capture_output=False, stdout=full, stderr=subprocess.PIPE, env=environment)
    assert done.returncode == 5
    assert "No space left on device" in done.stderr.splitlines()[0]


def test_a_closed_stdout_is_no_bug() -> None:
    command = f'"{sys.executable}" -m arcinvert --version >&-'
    done = subprocess.run(command, shell=True, stderr=subprocess.PIPE, text=True, check=False, timeout=600)
    assert done.returncode == 0
    assert "bug" not in done.stderr


@pytest.mark.slow
def test_help_takes_less_than_a_second() -> None:
    best = min(timed("--help") for _ in range(5))
    assert best < 0.7


def timed(*arguments: str) -> float:
    started = time.perf_counter()
    assert module(*arguments).returncode == 0
    return time.perf_counter() - started
