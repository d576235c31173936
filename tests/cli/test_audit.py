"""``arcinvert audit``: output, exit codes, killed and run again, several processes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from arcinvert.audit.judges import folder_faces
from arcinvert.calibration.cache import cache_file
from arcinvert.checkpoint import save_checkpoint
from arcinvert.cli import run
from arcinvert.faceprior.prior import default_face_prior
from arcinvert.recognizer import Recognizer

pytestmark = pytest.mark.usefixtures("as_found")


@pytest.fixture(scope="module")
def checkpoint(calibrated_checkpoint: Path) -> Path:
    return calibrated_checkpoint


@pytest.fixture(scope="module")
def store(checkpoint: Path, tiny_faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures 0 and 1 of each of six people."""
    crops = [tiny_faces / f"id{i}" / f"{n}.png" for i in range(6) for n in range(2)]
    images = torch.stack([torch.from_numpy(np.array(Image.open(path))) for path in crops])
    rows = Recognizer.load(checkpoint).embed(images.permute(0, 3, 1, 2)).numpy()
    path = tmp_path_factory.mktemp("store") / "store.npz"
    np.savez(path, embeddings=rows, labels=np.array([f"id{i // 2}" for i in range(12)]))
    return path


@pytest.fixture(scope="module")
def settings(checkpoint: Path, tiny_faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """With a calibration on the faces and the crops in the cache, which is the checkpoint's own."""
    recognizer, crops = Recognizer.load(checkpoint), folder_faces(tiny_faces)
    tensors = {f"calibration.{key}": value for key, value in recognizer.calibration_tensors.items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ARCINVERT_CACHE", str(tmp_path_factory.mktemp("cache")))
        kept = cache_file(recognizer, default_face_prior(), crops.digest)
        save_checkpoint(kept, {"calibration": dict(recognizer.header["calibration"])}, tensors)
        folders = ["--photos", str(tiny_faces), "--calibration-faces", str(tiny_faces)]
        yield ["--checkpoint", str(checkpoint), *folders, "--steps", "2", "--batch-size", "2", "--device", "cpu"]


@pytest.fixture(scope="module")
def whole(store: Path, settings: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted audit by one process, with a defense. Do not write to it."""
    out = tmp_path_factory.mktemp("whole") / "out"
    assert run(["-q", "audit", str(store), *settings, "-o", str(out), "--defense", "int8"]) == 0
    return out


def report(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "report.json").read_text())
    for name in ("seconds", "date", "command"):
        del found["run"][name]
    return found


@pytest.mark.parametrize("options", [[], ["--debug"]])
@pytest.mark.parametrize(
    "address",
    [
        "postgresql+psycopg://u:S3CRET@127.0.0.1:1/db",
        "POSTGRESQL://u:S3CRET@127.0.0.1:1/db",
        "postgres://127.0.0.1:1/db?password=S3CRET",
        "postgresql://u:S3CRET%zz@127.0.0.1:1/db",
        "postgresql://u:S3CRET#x@127.0.0.1/db",
        "postgresql://u:1/S3CRET@127.0.0.1/db",
        "mysql+pymysql://u:S3CRET@127.0.0.1/db",
        "host=127.0.0.1 port=1 password=S3CRET",
    ],
)
def test_no_message_shows_the_password_of_an_address(
    address: str, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("psycopg")
    assert run([*options, "audit", address]) in (2, 3, 5)
    assert run([*options, "audit", address, "beside it"]) == 2
    said = capsys.readouterr()
    assert "127.0.0.1" in said.err or "postgresql://USER@HOST" in said.err
    assert "S3CRET" not in said.out + said.err


def test_no_file_or_message_shows_the_key_of_a_defense(
    store: Path, settings: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = ["--defense", "rotate:S3CRET"]
    assert run(["audit", str(store), *settings, "--sample", "2", "-o", str(tmp_path / "out"), *spec]) == 0
    assert run(["audit", str(store), *settings, "--defense", "rotating:S3CRET"]) == 2
    said = capsys.readouterr()
    written = b"".join(path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert b"rotate:KEY" in written
    assert json.loads((tmp_path / "out/report.json").read_text())["run"]["command"].endswith("--defense rotate:KEY")
    assert "S3CRET" not in said.out + said.err + written.decode(errors="replace")


def test_the_answer_names_verdict_and_report(
    store: Path, settings: list[str], whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = ["audit", str(store), *settings, "-o", str(whole), "--defense", "int8"]
    assert run(again) == 0
    answered, remarks = capsys.readouterr()
    assert report(whole)["verdict"]["text"] in answered
    assert "report.html" in answered
    assert "has the report of this audit already" in remarks
    assert "no --judge" in remarks
    assert run(["-q", *again, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads((whole / "report.json").read_text())


def test_the_schema_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["audit", "--schema"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "LeakageReport"


def test_the_gate_has_an_exit_code_of_its_own(
    store: Path, settings: list[str], whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = ["audit", str(store), *settings, "-o", str(whole), "--defense", "int8"]
    for options in ([], ["--allow-synthetic-thresholds"]):
        assert run([*again, "--fail-over", "sar@1e-2=1", *options]) == 10
        assert "cannot be judged: only the attacked network judged" in capsys.readouterr().err


def test_photos_that_cannot_be_read_are_named(
    store: Path, settings: list[str], tiny_faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(tiny_faces, tmp_path / "in")
    (tmp_path / "in" / "id0" / "new.heic").write_bytes(b"\0\0\0\x18ftypheic")
    assert run(["audit", str(store), *settings, "--photos", str(tmp_path / "in"), "--sample", "3"]) == 4
    assert "new.heic" in capsys.readouterr().err


def test_without_a_folder_the_summary_is_printed_and_nothing_stays(
    store: Path,
    settings: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with np.load(store) as archive:
        rows, labels = archive["embeddings"].copy(), archive["labels"]
    rows[3] = np.nan
    bad = tmp_path / "bad\x1b[31m.npz"
    np.savez(bad, embeddings=rows, labels=labels)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert run(["audit", str(bad), *settings, "--sample", "3"]) == 4
    answered, remarks = capsys.readouterr()
    assert "| tiny (attacked) | type I | 0.01 | " in answered
    assert "limitation: " in answered
    assert "1 rows of the store were skipped" in remarks
    assert "\x1b" not in answered + remarks
    assert [path.name for path in tmp_path.iterdir()] == [bad.name]
    shown = {f"{value:.3f}" for value in np.abs(rows[np.isfinite(rows)]).ravel()[:40]} - {"0.000"}
    assert len([value for value in shown if f"{value}, " in answered]) == 0  # no embedding is ever printed


def test_a_sweep_writes_the_curve(
    store: Path, settings: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    sample = ["--sample", "2", "--defense", "sign", "--defense", "biohash:k"]
    assert run(["-q", "audit", str(store), "--sweep", *settings, *sample, "-o", str(out)]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["report.html", "report.json", "sweep.html"]
    assert "biohash" in (out / "sweep.html").read_text()
    specs = [(entry["spec"], entry["key_known"]) for entry in report(out)["defenses"]]
    assert specs == [("none", True), ("sign", True), ("biohash:KEY", True), ("biohash:KEY", False)]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["STORE", "STORE"], 2, "expected one store"),
        (["sweep", "STORE"], 2, "store.npz --sweep"),
        (["STORE", "--fail-over", "much"], 2, "sar@1e-3=0.05"),
        (["STORE", "--defense", "magic"], 2, "magic"),
        (["STORE", "--threshold", "0.4"], 2, "JUDGE=0.4"),
        (["STORE", "--threshold", "nobody=0.4"], 2, "nobody"),
        (["STORE", "--threshold", "tiny=4"], 2, "got 4"),
        (["STORE", "--sample", "0"], 2, "at least 1"),
        (["STORE", "--kind", "diary"], 2, "diary"),
        (["nowhere.npy"], 3, "nowhere.npy"),
        (["STORE", "--photos", "nowhere"], 3, "nowhere"),
        (["STORE", "--judge", "CHECKPOINT"], 2, "the attacked network itself"),
    ],
)
def test_what_is_refused(
    arguments: list[str],
    code: int,
    message: str,
    store: Path,
    checkpoint: Path,
    settings: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    known = {"STORE": str(store), "CHECKPOINT": str(checkpoint)}
    out = tmp_path / "out"
    assert run(["-q", "audit", *settings, *(known.get(word, word) for word in arguments), "-o", str(out)]) == code
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (out / "report.json").exists()


# --- killed, and several processes


def process(*arguments: str) -> "subprocess.Popen[str]":
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, *arguments], env=environment, **pipes)


@pytest.mark.slow
def test_one_that_was_killed_ends_with_the_same_report(
    store: Path, settings: list[str], whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    command = ["audit", str(store), *settings, "-o", str(out), "--defense", "int8"]
    running = process("-m", "arcinvert", *command)
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline and running.poll() is None:
        if any(path.read_bytes().count(b"\n") >= 3 for path in out.glob("attack/bare/journal.0.jsonl")):
            break
        time.sleep(0.002)
    running.send_signal(signal.SIGKILL)
    running.communicate()
    assert running.returncode == -signal.SIGKILL, "it was done before it could be killed"
    assert not (out / "report.json").exists()
    assert run(["-q", *command]) == 0
    assert report(out) == report(whole)
    assert sorted(path.name for path in out.iterdir()) == ["report.html", "report.json"]


@pytest.mark.slow
def test_two_processes_share_the_targets(store: Path, settings: list[str], whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ["audit", str(store), *settings, "-o", str(out), "--defense", "int8", "--json"]
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "arcinvert"]
    running = process(*launch, *command)
    answered, remarks = running.communicate(timeout=600)
    assert running.returncode == 0, remarks
    told = json.loads(answered)  # one process speaks
    assert told["run"]["processes"] == 2
    found, expected = report(out), report(whole)
    del found["run"]["processes"], expected["run"]["processes"]
    assert found == expected
