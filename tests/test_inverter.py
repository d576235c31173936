"""The inverter: how it is opened, what it takes, and what it returns."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from arcinvert.errors import CheckpointError, InputError, UsageError
from arcinvert.faceprior.prior import default_face_prior
from arcinvert.inversion.objectives import CosineMatch
from arcinvert.inverter import Face, Inverter
from arcinvert.recognizer import Recognizer

STEPS = 2
ROUNDED = torch.randn(1, 16, generator=torch.Generator().manual_seed(0)).bfloat16()


def same(faces: list[Face], others: list[Face]) -> bool:
    return all(torch.equal(face.pixels, other.pixels) for face, other in zip(faces, others, strict=True))


# --- opening


def test_load_finds_recognizer_prior_and_calibration(calibrated_checkpoint: Path) -> None:
    calls: list[tuple[int, int, str]] = []
    inverter = Inverter.load(calibrated_checkpoint, device="cpu", progress=lambda *call: calls.append(call))
    assert inverter.recognizer.digest == Recognizer.load(calibrated_checkpoint).digest
    assert inverter.prior.digest == default_face_prior().digest == inverter.calibration.prior_digest
    assert inverter.recognizer.device == inverter.prior.mean.device == torch.device("cpu")
    assert calls == []  # nothing to calibrate
    again = Inverter.of(inverter.recognizer)
    assert again.recognizer is inverter.recognizer
    assert torch.equal(again.calibration.latents.weight, inverter.calibration.latents.weight)


def test_unknown_files_and_devices_are_refused(tmp_path: Path, tiny_checkpoint: Path) -> None:
    with pytest.raises(CheckpointError, match="found none at"):
        Inverter.load(tmp_path / "none", device="cpu")
    with pytest.raises(UsageError, match="'toaster'"):
        Inverter.load(tiny_checkpoint, device="toaster")


def test_a_calibration_with_another_face_prior_is_refused(tiny_inverter: Inverter) -> None:
    with pytest.raises(UsageError, match="another face prior"):
        replace(tiny_inverter, prior=replace(tiny_inverter.prior, digest="0" * 64))


# --- reconstructing


def test_a_face_has_images_pixels_and_cosines(tiny_inverter: Inverter, targets: Tensor) -> None:
    faces = tiny_inverter.reconstruct(targets, steps=STEPS, variations=2)
    assert len(faces) == 3
    for row, face in enumerate(faces):
        assert [(one.target, one.variation) for one in face.reconstructions] == [(row, 0), (row, 1)]
        assert face.pixels.shape == (2, 112, 112, 3)
        assert face.pixels.dtype == torch.uint8
        for image, pixels in zip(face.images, face.pixels, strict=True):
            assert (image.size, image.mode) == ((224, 224), "RGB")
            reduced = np.asarray(image.resize((112, 112), Image.Resampling.BOX))
            assert np.abs(reduced.astype(int) - pixels.numpy()).max() <= 1
        embeddings = tiny_inverter.recognizer.embed(face.pixels)
        assert face.cosines == pytest.approx((embeddings @ targets[row]).tolist(), abs=1e-5)
        assert face.cosine == face.cosines[0]


def test_lists_arrays_and_tensors_of_any_length_give_the_same_faces(tiny_inverter: Inverter, targets: Tensor) -> None:
    expected = tiny_inverter.reconstruct(targets[:2], steps=STEPS)
    for rows in (targets[:2].numpy(), targets[:2].tolist(), targets[:2].double().numpy(), targets[:2].requires_grad_()):
        assert same(tiny_inverter.reconstruct(rows, steps=STEPS), expected)
    long = tiny_inverter.reconstruct(4 * targets[:2], steps=STEPS)  # a power of two, so that no rounding differs
    assert same(long, expected)
    first = tiny_inverter.reconstruct(targets[:1], steps=STEPS)
    for row in (targets[0], targets[0].numpy(), targets[0].tolist()):
        assert same(tiny_inverter.reconstruct(row, steps=STEPS), first)
    rounded = targets[:1].bfloat16()
    assert same(
        tiny_inverter.reconstruct(rounded, steps=STEPS), tiny_inverter.reconstruct(rounded.float(), steps=STEPS)
    )


@pytest.mark.parametrize(
    ("embeddings", "says"),
    [
        (torch.ones(512), "512-d"),
        (np.ones((2, 15)), "15-d"),
        ([[1.0] * 16, [1.0] * 15], "different lengths"),
        (torch.ones(1, 2, 16), r"\(1, 2, 16\)"),
        (np.zeros(16), "row 0"),
        (torch.full((16,), torch.nan), "row 0"),
        (["a"] * 16, "expected numbers"),
        ([], "empty"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_embeddings_are_refused(tiny_inverter: Inverter, embeddings: object, says: str) -> None:
    with pytest.raises(InputError, match=says):
        tiny_inverter.reconstruct(embeddings, steps=STEPS)  # type: ignore[arg-type]


def test_settings_progress_and_objective_are_passed_on(tiny_inverter: Inverter, targets: Tensor) -> None:
    done: list[int] = []
    rows: list[list[int]] = []

    def objective(chosen: list[int]) -> CosineMatch:
        rows.append(list(chosen))
        return CosineMatch(targets[chosen])

    (face,) = tiny_inverter.reconstruct(
        targets[0],
        steps=3,
        pose="left",
        record=True,
        objective=objective,  # type: ignore[arg-type]
        progress=lambda step, total, text: done.append(step),
    )
    assert (done, rows) == ([1, 2, 3], [[0]])
    assert len(face.reconstructions[0].frames) == 3
    assert not same([face], tiny_inverter.reconstruct(targets[0], steps=3, pose="right"))
    with pytest.raises(UsageError, match="got -1"):
        tiny_inverter.reconstruct(targets[0], seed=-1)
