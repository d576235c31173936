"""Photos behind templates."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from arcinvert.audit import photos
from arcinvert.audit.judges import folder_faces, make_judge
from arcinvert.audit.photos import match_photos
from arcinvert.errors import InputError
from arcinvert.recognizer import Recognizer

NAMES = [f"id{n}" for n in range(6)]


def crop(path: Path) -> Tensor:
    with Image.open(path) as picture:
        return torch.from_numpy(np.array(picture))


@pytest.fixture(scope="module")
def targets(tiny_recognizer: Recognizer, tiny_faces: Path) -> Tensor:
    """Of picture 2 of each identity."""
    images = torch.stack([crop(tiny_faces / name / "2.png") for name in NAMES])
    return tiny_recognizer.embed(images.permute(0, 3, 1, 2))


def test_the_photo_of_the_identity_that_fits_is_the_enrolled_one(
    tiny_recognizer: Recognizer, tiny_faces: Path, targets: Tensor
) -> None:
    found = match_photos(tiny_faces, tiny_recognizer, targets, positions=range(6), identities=NAMES)
    assert found.files == tuple(tiny_faces / name / "2.png" for name in NAMES)
    assert all(torch.equal(a, crop(path)) for a, path in zip(found.enrolled, found.files, strict=True))  # type: ignore[arg-type]
    assert all(torch.equal(b, crop(tiny_faces / n / "0.png")) for n, b in zip(NAMES, found.second, strict=True))  # type: ignore[arg-type]
    assert (found.matches.enrolled, found.matches.second, found.matches.templates) == (6, 6, 6)
    judge = make_judge("tiny", tiny_recognizer, folder_faces(tiny_faces))
    assert (found.references(judge).enrolled * targets).sum(1).min() > 0.9999


def test_without_names_any_photo_may_be_it(tiny_recognizer: Recognizer, tiny_faces: Path, targets: Tensor) -> None:
    found = match_photos(tiny_faces, tiny_recognizer, targets, positions=range(100, 106), identities=None)
    assert found.files == tuple(tiny_faces / name / "2.png" for name in NAMES)
    assert found.second[0] is not None


def test_a_photo_may_be_named_as_the_record_or_the_identity(
    tiny_recognizer: Recognizer, tiny_faces: Path, targets: Tensor, tmp_path: Path
) -> None:
    shutil.copy(tiny_faces / "id0" / "2.png", tmp_path / "0017.png")
    shutil.copy(tiny_faces / "id1" / "5.png", tmp_path / "somebody.png")
    found = match_photos(
        tmp_path, tiny_recognizer, targets[:3], positions=[17, 3, 4], identities=[None, "somebody", "nobody"]
    )
    assert found.files == (tmp_path / "0017.png", tmp_path / "somebody.png", None)
    assert found.second == (None, None, None)  # what else lies in that folder is of others


def test_photos_unlike_the_template_are_none(tiny_recognizer: Recognizer, tiny_faces: Path, targets: Tensor) -> None:
    found = match_photos(tiny_faces, tiny_recognizer, -targets, positions=range(6), identities=NAMES)
    assert found.enrolled == (None,) * 6
    assert all(second is not None for second in found.second)  # of the person they are all the same
    judge = make_judge("tiny", tiny_recognizer, folder_faces(tiny_faces))
    assert found.references(judge).enrolled.isnan().all()


def test_photos_that_cannot_be_read_are_counted(
    tiny_recognizer: Recognizer, tiny_faces: Path, targets: Tensor, tmp_path: Path
) -> None:
    shutil.copytree(tiny_faces / "id0", tmp_path / "id0")
    (tmp_path / "id0" / "0.png").write_bytes(b"no picture")
    found = match_photos(tmp_path, tiny_recognizer, targets[:1], positions=[0], identities=["id0"])
    assert found.files == (tmp_path / "id0" / "2.png",)
    assert torch.equal(found.second[0], crop(tiny_faces / "id0" / "1.png"))  # type: ignore[arg-type]
    assert found.matches.unreadable == 1


def test_larger_photos_are_aligned(
    tiny_recognizer: Recognizer, tiny_faces: Path, targets: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "id0").mkdir()
    Image.fromarray(np.zeros((200, 150, 3), np.uint8)).save(tmp_path / "id0" / "0.png")
    monkeypatch.setattr(photos, "RetinaFace", lambda: "detector")
    aligned = crop(tiny_faces / "id0" / "2.png").numpy()
    monkeypatch.setattr(photos, "align_photo", lambda path, detector: (aligned, 1))
    found = match_photos(tmp_path, tiny_recognizer, targets[:1], positions=[0], identities=["id0"])
    assert np.array_equal(found.enrolled[0], aligned)  # type: ignore[arg-type]


def test_a_name_that_climbs_out_of_the_folder_finds_nothing(
    tiny_recognizer: Recognizer, tiny_faces: Path, targets: Tensor
) -> None:
    found = match_photos(tiny_faces / "id1", tiny_recognizer, targets[:1], positions=[99], identities=["../id0"])
    assert found.enrolled == (None,)
    assert found.second == (None,)


def test_no_folder_is_an_error(tiny_recognizer: Recognizer, targets: Tensor, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="folder of photos"):
        match_photos(tmp_path / "none", tiny_recognizer, targets, positions=range(6), identities=None)
