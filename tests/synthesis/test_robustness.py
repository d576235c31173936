"""Robustness of reconstructions."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from arcinvert.calibration.age import default_age
from arcinvert.calibration.auxiliary import default_auxiliary
from arcinvert.faces.alignment import TEMPLATE, Face
from arcinvert.recognizer import Recognizer
from arcinvert.synthesis.robustness import BORDER, crop_detector, robustness


@pytest.fixture(scope="module")
def images(faces_dir: Path) -> Tensor:
    paths = [faces_dir / f"{number:05d}" / "00.jpg" for number in range(4)]
    return torch.stack([torch.from_numpy(np.array(Image.open(path).convert("RGB"))) for path in paths])


@pytest.fixture(scope="module")
def noise() -> Tensor:
    return torch.randint(0, 256, (3, 112, 112, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


class Finds:
    """Finds the template at the crop's place, moved by so many pixels; or nothing."""

    def __init__(self, *moves: tuple[float, float] | None) -> None:
        self.moves = list(moves)
        self.seen: list[np.ndarray] = []

    def detect(self, image: np.ndarray) -> list[Face]:
        self.seen.append(image)
        move = self.moves[len(self.seen) - 1]
        return [] if move is None else [Face(0.9, (0, 0, 9, 9), TEMPLATE + BORDER + move)]


def gray(image: np.ndarray) -> np.ndarray:
    """The face in the middle of a crop, by Pillow's conversion, 0 to 1."""
    return np.array(Image.fromarray(image).convert("L"), np.float32)[30:100, 20:92] / 255


def test_each_measure_against_a_slow_reference(tiny_recognizer: Recognizer, noise: Tensor) -> None:
    target = tiny_recognizer.embed(noise.permute(0, 3, 1, 2)).roll(1, 0)

    def cosine(row: int, image: np.ndarray) -> float:
        return float((tiny_recognizer.embed(torch.from_numpy(image.copy()).permute(2, 0, 1)[None]) * target[row]).sum())

    found = robustness(tiny_recognizer, noise, target, None)
    ages = default_age().years(default_auxiliary().embed(noise.permute(0, 3, 1, 2)))
    for row, image in enumerate(noise.numpy()):
        padded = np.pad(image, ((2, 2), (2, 2), (0, 0)), mode="edge")
        moved = [padded[2 + dy : 114 + dy, 2 + dx : 114 + dx] for dy, dx in ((0, 2), (0, -2), (2, 0), (-2, 0))]
        file = io.BytesIO()
        Image.fromarray(image).save(file, format="JPEG", quality=75)
        assert found[row] == pytest.approx(
            {
                "eight_bit": cosine(row, image),
                "jpeg_75": cosine(row, np.array(Image.open(file))),
                "shift_2": min(cosine(row, view) for view in moved),
                "flip": cosine(row, image[:, ::-1]),
                "realigned": None,
                "yaw": None,
                "pitch": None,
                "smile": None,
                "light": float(gray(image)[:, 36:].mean() - gray(image)[:, :36].mean()),
                "brightness": float(gray(image).mean()),
                "age": pytest.approx(float(ages[row]), abs=0.01),
                "face_found": None,
            },
            abs=1e-4,
        )


def test_a_face_found_in_its_place_is_aligned_to_the_same_image(tiny_recognizer: Recognizer, noise: Tensor) -> None:
    target = tiny_recognizer.embed(noise.permute(0, 3, 1, 2))
    detector = Finds((0, 0), None, (6, 0))
    rows: list[dict[str, Any]] = robustness(tiny_recognizer, noise, target, detector)
    assert [row["face_found"] for row in rows] == [True, False, True]
    assert rows[0]["realigned"] == pytest.approx(1, abs=1e-4)
    assert [rows[1][name] for name in ("realigned", "yaw", "pitch", "smile")] == [None] * 4
    assert rows[2]["realigned"] < 0.999
    assert abs(rows[0]["yaw"]) < 0.03
    assert 0.4 < rows[0]["pitch"] < 0.6
    mouth, eyes = TEMPLATE[4] - TEMPLATE[3], TEMPLATE[1] - TEMPLATE[0]
    assert rows[0]["smile"] == pytest.approx(np.hypot(*mouth) / np.hypot(*eyes), abs=1e-4)
    assert detector.seen[0].shape == (112 + 2 * BORDER, 112 + 2 * BORDER, 3)
    assert np.array_equal(detector.seen[0][BORDER:-BORDER, BORDER:-BORDER], noise[0].numpy())
    assert (detector.seen[0][:BORDER, BORDER:-BORDER] == noise[0, :1].numpy()).all()


def test_points_in_one_place_are_no_face(tiny_recognizer: Recognizer, noise: Tensor) -> None:
    class OnePlace:
        def detect(self, image: np.ndarray) -> list[Face]:
            return [Face(0.9, (0, 0, 9, 9), np.full((5, 2), 50.0))]

    (row,) = robustness(tiny_recognizer, noise[:1], tiny_recognizer.embed(noise[:1].permute(0, 3, 1, 2)), OnePlace())
    assert (row["face_found"], row["realigned"]) == (False, None)


def test_the_detector_finds_real_faces_and_not_noise(images: Tensor, noise: Tensor) -> None:
    recognizer = Recognizer.load()
    both = torch.cat([images, images.flip(2), noise[:1]])
    target = recognizer.embed(both.permute(0, 3, 1, 2))
    rows: list[dict[str, Any]] = robustness(recognizer, both, target, crop_detector())
    assert [row["face_found"] for row in rows] == [True] * 8 + [False]
    for row, mirrored in zip(rows[:4], rows[4:8], strict=True):
        assert min(row[name] for name in ("jpeg_75", "shift_2", "flip", "realigned")) > 0.9
        assert row["yaw"] == pytest.approx(-mirrored["yaw"], abs=0.08)
        assert 0.3 < row["pitch"] < 0.9
        assert 0.6 < row["smile"] < 1.2
        assert row["light"] == pytest.approx(-mirrored["light"], abs=0.001)
