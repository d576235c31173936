"""What the page knows of this machine, and what it makes, against the command line's own functions."""

import shutil
from pathlib import Path

import pytest
import torch

from arcinvert.app.comparison import MEAN_FACE, SOMEBODY, controls, opinions
from arcinvert.app.reconstruction import Making, begin, checked
from arcinvert.app.state import Studio
from arcinvert.app.targets import read_target
from arcinvert.app.task import PAUSED, Ended, Task
from arcinvert.calibration.calibration import Calibration
from arcinvert.errors import CheckpointError, InputError, UsageError
from arcinvert.faceprior.prior import FacePrior
from arcinvert.recognizer import Recognizer
from arcinvert.synthesis.job import synthesize
from arcinvert.synthesis.sheets import read_png

SOON = 60.0


@pytest.fixture
def studio(tiny_checkpoint: Path, small_prior: FacePrior, tiny_calibration: Calibration, tmp_path: Path) -> Studio:
    judge = tmp_path / "judge.safetensors"
    shutil.copy(tiny_checkpoint, judge)
    made = Studio(tiny_checkpoint, [judge], prior=small_prior)
    made._calibrations["tiny"] = tiny_calibration
    yield made
    made.close()


def begun(studio: Studio, tiny_faces: Path, steps: int = 4, variations: int = 2) -> Making:
    target = read_target(tiny_faces / "id0" / "0.png", studio.recognizer("tiny"))
    return begin(studio, "v", "tiny", target, checked("fast", steps, variations, 3, None, None))


def test_the_page_makes_what_the_command_makes(studio: Studio, tiny_faces: Path, tmp_path: Path) -> None:
    making = begun(studio, tiny_faces)
    assert making.task is not None
    made = making.task.result.result(SOON)
    known = studio.recognizer("tiny"), making.target.embedding[None], studio.prior, studio.calibration("tiny")
    manifest = synthesize(*known, tmp_path / "out", config=making.config)
    for row, image in zip(manifest["results"], made.images, strict=True):
        assert torch.equal(read_png(tmp_path / "out" / row["file"]), image)
    assert [row["cosine"] for row in manifest["results"]] == [row["cosine"] for row in made.manifest["results"]]
    assert [frame.step for frame in made.frames] == [0, 1, 2, 3, 4]
    assert torch.equal(made.frames[-1].images, made.images)
    assert made.frames[-1].cosine[0] == pytest.approx(manifest["results"][0]["cosine"], abs=1e-5)
    assert {path.name for path in made.files} >= {
        "0000_00.png",
        "0000_01.png",
        "manifest.json",
        "strip.png",
        "0000_00.webp",
    }


def test_stopped_and_gone_on_it_is_the_same_face(studio: Studio, tiny_faces: Path) -> None:
    whole = begun(studio, tiny_faces, steps=12, variations=1)
    assert whole.task is not None
    expected = whole.task.result.result(SOON)
    again = begun(studio, tiny_faces, steps=12, variations=1)
    assert again.task is not None
    again.task.pause()
    seen = 0
    while again.task.state != PAUSED:
        seen = again.task.news(seen, SOON)
    assert len(again.frames) < 12
    again.task.resume()
    assert torch.equal(again.task.result.result(SOON).images, expected.images)


def test_who_leaves_ends_the_work(studio: Studio, tiny_faces: Path) -> None:
    making = begun(studio, tiny_faces, steps=400)
    assert making.task is not None
    assert studio.task("v") is making.task
    studio.leave("v")
    with pytest.raises(Ended):
        making.task.result.result(SOON)
    assert studio.task("v") is None
    assert not studio._engine.locked()


def test_new_work_of_a_visitor_ends_the_old(studio: Studio, tiny_faces: Path) -> None:
    old = begun(studio, tiny_faces, steps=400)
    new: Task[str] = studio.begin("v", lambda task: "new")
    assert new.result.result(SOON) == "new"
    assert old.task is not None
    with pytest.raises(Ended):
        old.task.result.result(SOON)


def test_the_list_of_recognizers(studio: Studio, tiny_checkpoint: Path) -> None:
    assert studio.names[:3] == ["tiny", "default", "judge"]
    assert studio.add(tiny_checkpoint, "again") == "tiny"
    with pytest.raises(CheckpointError):
        studio.add("nowhere.onnx", "typed")
    with pytest.raises(InputError, match="no recognizer"):
        studio.recognizer("nobody")
    assert studio.described("tiny")["embedding_size"] == 16
    assert not studio.calibrated("judge")


def test_settings_out_of_range() -> None:
    for settings in (("fast", 0, 1), ("fast", 401, 1), ("fast", 10, 5), ("none", 10, 1)):
        with pytest.raises(UsageError):
            checked(*settings, 0, None, None)
    with pytest.raises(UsageError):
        checked("paper", 10, 1, 0, "left", None)


def test_opinions_are_those_of_the_embeddings(studio: Studio, tiny_faces: Path, tiny_recognizer: Recognizer) -> None:
    making = begun(studio, tiny_faces, steps=2, variations=1)
    assert making.task is not None
    made = making.task.result.result(SOON)
    shown = {**controls(studio.prior), "made": made.images[0]}
    assert {MEAN_FACE, SOMEBODY} < set(shown)
    for picture in shown.values():
        own, other = opinions(studio, made, picture, ["tiny", "judge"])
        seen = tiny_recognizer.embed(torch.stack([made.target.crop, picture]).permute(0, 3, 1, 2))
        assert own.attacked
        assert not other.attacked
        # The judge is a copy of the attacked network here, so both must say the same.
        assert own.cosine == pytest.approx(float(seen[0] @ seen[1]), abs=1e-5)
        assert other.cosine == pytest.approx(own.cosine, abs=1e-5)
    assert [threshold.fmr for threshold in other.thresholds] == [1e-2, 1e-3]
