"""Judges and their thresholds."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from arcinvert.audit import judges
from arcinvert.errors import InputError
from arcinvert.evaluation.metrics import threshold_at_fmr
from arcinvert.faceprior.prior import FacePrior
from arcinvert.recognizer import Recognizer


def test_thresholds_are_those_of_all_impostor_pairs(tiny_recognizer: Recognizer, tiny_faces: Path) -> None:
    faces = judges.folder_faces(tiny_faces)
    assert faces.images.shape == (36, 112, 112, 3)
    assert faces.labels.tolist() == sorted([*range(6)] * 6)
    judge = judges.make_judge("tiny", tiny_recognizer, faces)
    rows = tiny_recognizer.embed(faces.images.permute(0, 3, 1, 2)).numpy()
    slow = [float(rows[i] @ rows[j]) for i in range(36) for j in range(i + 1, 36) if faces.labels[i] != faces.labels[j]]
    wide, narrow, _ = judge.thresholds
    assert [threshold.fmr for threshold in judge.thresholds] == [1e-2, 1e-3, 1e-4]
    assert wide.impostor_pairs == len(slow) == 540
    assert wide.threshold == pytest.approx(threshold_at_fmr(1e-2, impostor=np.array(slow)), abs=0.02)
    assert wide.reason is not None
    assert wide.reason.startswith("540 impostor pairs of 6 people allow 5 false matches; normal tail")
    assert wide.impostor_identities == 6
    assert narrow.extrapolated
    assert narrow.reason is not None
    assert "540 impostor pairs of 6 people allow 0 false matches" in narrow.reason
    assert faces.people == tuple(f"id{i}" for i in range(6))


def test_a_large_folder_gives_every_first_picture_before_any_second(
    tiny_faces: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judges, "MAX_IMAGES", 8)
    faces = judges.folder_faces(tiny_faces)
    assert faces.labels.tolist() == [0, 0, 1, 1, 2, 3, 4, 5]
    assert "8 images of 6 identities" in faces.source


def test_files_that_cannot_be_read_are_left_out(
    tiny_faces: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(tiny_faces, tmp_path / "in")
    for picture in (tmp_path / "in" / "id2").iterdir():
        picture.write_bytes(picture.read_bytes()[:500])
    (tmp_path / "in" / "id3" / "notes.txt").write_text("x")
    faces = judges.folder_faces(tmp_path / "in")
    assert faces.labels.tolist() == sorted([*range(5)] * 6)
    assert len(faces.images) == 30
    assert "30 images of 5 identities" in faces.source
    assert "left out 7 files" in caplog.text


def test_one_face_of_each_person_of_the_prior_is_the_generators_own(
    small_prior: FacePrior, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judges, "THRESHOLD_FACES", 10)
    faces = judges.prior_faces.__wrapped__(small_prior)
    assert faces.labels.tolist() == list(range(10))
    assert torch.equal(faces.images, small_prior.pictures(range(10)))
    assert "each of 10 identities" in faces.source


def test_faces_of_one_person_are_refused(tiny_recognizer: Recognizer, tiny_faces: Path) -> None:
    faces = judges.folder_faces(tiny_faces)
    alone = judges.ThresholdFaces(faces.images[:6], faces.labels[:6], "one", "")
    with pytest.raises(InputError, match="several people"):
        judges.make_judge("tiny", tiny_recognizer, alone)


def test_equal_names_get_a_number() -> None:
    assert judges.judge_names([Path("a/net.onnx"), Path("b/net.onnx"), Path("c/other.pth")]) == [
        "net (1)",
        "net (2)",
        "other",
    ]
