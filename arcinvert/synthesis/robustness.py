"""Robustness of a reconstruction: its cosine to the target after small changes, and what a face detector finds.

An image that rests on single pixels loses its cosine when it is stored as JPEG, moved by a pixel or
two, mirrored, or detected and aligned again.
"""

import io
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from arcinvert.calibration.age import default_age
from arcinvert.calibration.auxiliary import default_auxiliary
from arcinvert.errors import InputError
from arcinvert.faces.alignment import Detector, RetinaFace, align, landmark_pose
from arcinvert.recognizer import Recognizer

BORDER = 28
"""Pixels of repeated edge around a crop, in which the detector looks for it."""
LUMA = (0.299, 0.587, 0.114)
SHIFTS = ((2, 0), (-2, 0), (0, 2), (0, -2))


def crop_detector() -> Detector:
    """RetinaFace at the one input size that suits a crop with its border.

    Raises:
        EnvironmentProblem: the detector's packages are missing or do not load.
    """
    return RetinaFace(views=(224,))


def robustness(
    recognizer: Recognizer, images: Tensor, target: Tensor, detector: Detector | None
) -> list[dict[str, float | bool | None]]:
    """The cosine to the target of each image as it is, and after each change.

    Args:
        recognizer: whose embedding.
        images: (N, 112, 112, 3) uint8.
        target: (N, D), unit norm.
        detector: detects the faces again; without one its entries are None.

    Returns:
        Per image ``eight_bit`` (as it is), ``jpeg_75``, ``shift_2`` (two pixels, the worst of four
        directions, the edge repeated), ``flip``, ``realigned`` (found in a border of repeated edge
        and warped onto the template): cosines; ``face_found``; ``yaw``, ``pitch``, ``smile``, ``light`` and
        ``brightness`` as in :data:`~arcinvert.faceprior.prior.ATTRIBUTES`, of the found points and of the image;
        ``age``, years, by the auxiliary network. All to four places. Without a face ``realigned``, ``yaw``, ``pitch``
        and ``smile`` are None.
    """
    count = len(images)
    found = [None if detector is None else _found_again(image.numpy(), detector) for image in images]
    lights = [light_of(image.numpy()) for image in images]
    network = default_auxiliary(recognizer.device)
    ages = default_age(recognizer.device).years(network.embed(images.permute(0, 3, 1, 2))).tolist()
    seen = [i for i, face in enumerate(found) if face is not None]
    views = [images, torch.stack([_jpeg(image) for image in images]), images.flip(2)]
    views += [_shifted(images, *shift) for shift in SHIFTS]
    views += [torch.from_numpy(face[0])[None] for face in found if face is not None]
    target = target.to(recognizer.device)
    targets = torch.cat([target.repeat(3 + len(SHIFTS), 1), target[seen]])
    cosine = (recognizer.embed(torch.cat(views).permute(0, 3, 1, 2)) * targets).sum(1).cpu()
    plain, realigned = cosine[: -len(seen) or None].view(-1, count), dict(zip(seen, cosine[-len(seen) :], strict=False))
    rows: list[dict[str, float | bool | None]] = []
    for i, face in enumerate(found):
        row: dict[str, Any] = {"eight_bit": plain[0, i], "jpeg_75": plain[1, i], "shift_2": plain[3:, i].min()}
        row |= {"flip": plain[2, i], "realigned": realigned.get(i)}
        row |= dict.fromkeys(("yaw", "pitch", "smile")) if face is None else face[1]
        row |= {"light": lights[i][0], "brightness": lights[i][1], "age": ages[i]}
        rounded = {name: None if value is None else round(float(value), 4) for name, value in row.items()}
        rows.append({**rounded, "face_found": None if detector is None else face is not None})
    return rows


def light_of(image: np.ndarray) -> tuple[float, float]:
    """Of (112, 112, 3) uint8 the gray levels, 0 to 1, of the face: its right half less its left half, and the mean."""
    face = image[30:100, 20:92].astype(np.float32) @ np.array(LUMA, np.float32) / 255
    half = face.shape[1] // 2
    return float(face[:, half:].mean() - face[:, :half].mean()), float(face.mean())


def _found_again(image: np.ndarray, detector: Detector) -> tuple[np.ndarray, dict[str, float]] | None:
    """The largest face of a crop, aligned again, with its yaw, pitch and smile."""
    canvas = np.pad(image, ((BORDER, BORDER), (BORDER, BORDER), (0, 0)), mode="edge")
    faces = detector.detect(canvas)
    if not faces:
        return None
    try:
        points = faces[0].landmarks
        yaw, pitch = landmark_pose(points)
        smile = float(np.linalg.norm(points[4] - points[3]) / np.linalg.norm(points[1] - points[0]))
        return align(canvas, points), {"yaw": yaw, "pitch": pitch, "smile": smile}
    except InputError:  # points in one place, or a mirror image of a face: it is none
        return None


def _jpeg(image: Tensor, quality: int = 75) -> Tensor:
    """(H, W, 3) uint8, stored as JPEG and read again."""
    file = io.BytesIO()
    Image.fromarray(image.numpy()).save(file, format="JPEG", quality=quality)
    with Image.open(file, formats=("JPEG",)) as stored:
        return torch.from_numpy(np.array(stored))


def _shifted(images: Tensor, right: int, down: int) -> Tensor:
    """(N, H, W, 3), moved by whole pixels; the edge is repeated."""
    rows = (torch.arange(images.shape[1]) - down).clamp(0, images.shape[1] - 1)
    columns = (torch.arange(images.shape[2]) - right).clamp(0, images.shape[2] - 1)
    return images[:, rows][:, :, columns]
