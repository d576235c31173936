"""Recognizers and tasks of the page; its results equal those of the command line's functions."""

import shutil
import time
from pathlib import Path

import pytest
import torch

from arcinvert.app import compare_tab, recognizers_tab
from arcinvert.app.comparison import MEAN_FACE, OTHER_PERSON, Comparison, compare, controls
from arcinvert.app.reconstruction import LiveReconstruction, check_settings
from arcinvert.app.state import AppState
from arcinvert.app.targets import read_target
from arcinvert.app.task import PAUSED, Canceled
from arcinvert.audit.thresholds import Fixed, Threshold
from arcinvert.calibration.calibration import Calibration
from arcinvert.errors import CheckpointError, InputError, UsageError
from arcinvert.faceprior.prior import FacePrior
from arcinvert.inverter import Inverter
from arcinvert.recognizer import Recognizer
from arcinvert.synthesis.job import synthesize
from arcinvert.synthesis.sheets import read_crop, read_png

SOON = 60.0


@pytest.fixture
def state(tiny_checkpoint: Path, small_prior: FacePrior, tiny_calibration: Calibration, tmp_path: Path) -> AppState:
    judge = tmp_path / "judge.safetensors"
    shutil.copy(tiny_checkpoint, judge)
    made = AppState(tiny_checkpoint, [judge], prior=small_prior)
    made._inverters["tiny"] = Inverter(made.recognizer("tiny"), made.prior, tiny_calibration)
    yield made
    made.close()


def started(state: AppState, tiny_faces: Path, steps: int = 4, variations: int = 2) -> LiveReconstruction:
    target = read_target(tiny_faces / "id0" / "0.png", state.recognizer("tiny"))
    return LiveReconstruction(state, "v", "tiny", target, check_settings("fast", steps, variations, 3, None, None))


def test_the_page_gives_the_images_of_the_command(state: AppState, tiny_faces: Path, tmp_path: Path) -> None:
    run = started(state, tiny_faces)
    result = run.task.result.result(SOON)
    manifest = synthesize(state.inverter("tiny"), run.target.embedding[None], tmp_path / "out", settings=run.settings)
    for row, image, crop in zip(manifest["results"], result.frames[-1].images, result.images, strict=True):
        assert torch.equal(read_png(tmp_path / "out" / row["file"]), image)
        assert torch.equal(read_crop(tmp_path / "out" / row["file"]), crop)
    assert [row["cosine"] for row in manifest["results"]] == [row["cosine"] for row in result.manifest["results"]]
    assert [frame.step for frame in result.frames] == [0, 1, 2, 3, 4]
    assert [frame.images.shape[1] for frame in result.frames] == [112, 112, 112, 112, 224]
    assert result.frames[-1].cosine[0] == pytest.approx(manifest["results"][0]["cosine"], abs=1e-5)
    assert {path.name for path in result.files} >= {
        "0000_00.png",
        "0000_01.png",
        "manifest.json",
        "strip.png",
        "0000_00.webp",
    }


def test_pause_and_resume_give_the_same_face(state: AppState, tiny_faces: Path) -> None:
    expected = started(state, tiny_faces, steps=12, variations=1).task.result.result(SOON)
    run = started(state, tiny_faces, steps=12, variations=1)
    run.task.pause()
    seen = 0
    while run.task.state != PAUSED:
        seen = run.task.wait_for_change(seen, SOON)
    assert len(run.frames) < 12
    run.task.resume()
    assert torch.equal(run.task.result.result(SOON).images, expected.images)


def test_cancel_ends_the_task_and_so_does_a_new_one(state: AppState, tiny_faces: Path) -> None:
    first = started(state, tiny_faces, steps=400).task
    assert state.task("v") is first
    second = started(state, tiny_faces, steps=400).task
    with pytest.raises(Canceled):
        first.result.result(SOON)
    state.cancel("v")
    with pytest.raises(Canceled):
        second.result.result(SOON)
    assert state.task("v") is None
    assert not state._lock.locked()


def test_the_list_of_recognizers(state: AppState, tiny_checkpoint: Path) -> None:
    assert state.names[:3] == ["tiny", "default", "judge"]
    assert state.add(tiny_checkpoint, "again") == "tiny"
    with pytest.raises(CheckpointError):
        state.add("nowhere.onnx", "typed")
    with pytest.raises(InputError, match="no recognizer"):
        state.recognizer("nobody")
    assert state.description("tiny")["embedding_size"] == 16
    assert not state.is_calibrated("judge")


def test_settings_out_of_range() -> None:
    for values in (("fast", 0, 1), ("fast", 401, 1), ("fast", 10, 7), ("none", 10, 1)):
        with pytest.raises(UsageError):
            check_settings(*values, 0, None, None)
    with pytest.raises(UsageError):
        check_settings("paper", 10, 1, 0, "left", None)


def test_comparisons_are_cosines_of_the_embeddings(
    state: AppState, tiny_faces: Path, tiny_recognizer: Recognizer
) -> None:
    result = started(state, tiny_faces, steps=2, variations=1).task.result.result(SOON)
    faces = controls(state.prior)
    for image in (faces[MEAN_FACE], faces[OTHER_PERSON], result.images[0]):
        own, other = compare(state, result, image, ["tiny", "judge"])
        rows = tiny_recognizer.embed(torch.stack([result.target.crop, image]).permute(0, 3, 1, 2))
        assert own.attacked
        assert not other.attacked
        # The judge is a copy of the attacked network here, so both must agree.
        assert own.cosine == pytest.approx(float(rows[0] @ rows[1]), abs=1e-5)
        assert other.cosine == pytest.approx(own.cosine, abs=1e-5)
    assert [threshold.fmr for threshold in other.thresholds] == [1e-2, 1e-3, 1e-4]


def test_thresholds_are_those_of_the_public_set_where_an_audit_has_them(
    state: AppState, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = Fixed((Threshold(1e-2, 0.25, 3810180, impostor_identities=2761, basis="public set"),), "a public set")
    digest = state.recognizer("judge").digest
    monkeypatch.setattr("arcinvert.app.state.public_thresholds", {digest: table}.get)
    judge = state.judge("judge")
    assert judge.thresholds == state.thresholds("judge") == table.thresholds
    assert "0.250 accepts 1 in 100 (fixed on public set)" in recognizers_tab.card(state, "judge")
    shown = compare_tab.card(Comparison("judge", False, 0.3, judge.thresholds))
    assert "photographs of a public set, 2,761 people" in shown
    synthetic = compare_tab.card(Comparison("judge", False, 0.3, (Threshold(1e-2, 0.4, 999),)))
    assert "fixed on synthetic faces" in synthetic


def test_a_path_lies_in_a_root_even_behind_a_link(state: AppState, tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside.npy"
    root.mkdir()
    for path in (root / "in.npy", outside):
        path.write_bytes(b"x")
    (root / "link.npy").symlink_to(outside)
    with pytest.raises(InputError, match="--root"):
        state.allowed(str(root / "in.npy"))
    state.roots = [root.resolve()]
    assert state.allowed(str(root / "in.npy")) == state.allowed("in.npy") == (root / "in.npy").resolve()
    bad = (str(outside), "../outside.npy", str(root / "link.npy"), "/dev/zero", "a\0b")
    for typed in bad:
        with pytest.raises(InputError, match="expected a path inside"):
            state.allowed(typed)
    assert state.allowed("postgresql://u@h/db").is_relative_to(root.resolve())  # a file's name, never an address
    with pytest.raises(InputError, match="as --root"):
        AppState(prior=state.prior, roots=[outside])


def test_a_visitor_who_leaves_leaves_nothing(state: AppState, tiny_faces: Path) -> None:
    def upload(visitor: str, place: str, content: bytes) -> Path:
        path = state.uploads / place / "photo.png"
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
        return state.keep(visitor, path)

    mine, shared = upload("v", "a", b"mine"), upload("v", "b", b"shared")
    upload("w", "c", b"shared")
    started(state, tiny_faces, steps=2).task.result.result(SOON)
    folder = next(state.folder.glob("face-*"))
    copy = state.uploads / "copy.png"  # as gradio makes it of a result
    shutil.copy(folder / "0000_00.png", copy)
    state.leave("v")
    assert not any(path.exists() for path in (mine, copy, folder))
    assert shared.exists()
    state.leave("w")
    assert not shared.exists()
    started(state, tiny_faces, steps=400)
    task = state.task("v")
    state.leave("v")
    assert task is not None
    with pytest.raises(Canceled):
        task.result.result(SOON)
    deadline = time.monotonic() + SOON  # deleted just after the task has ended
    while list(state.folder.glob("face-*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not list(state.folder.glob("face-*"))
