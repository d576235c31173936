"""Which face of a photo is taken, where it shows several."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from arcinvert.errors import InputError, UsageError
from arcinvert.faces.alignment import Detector, Face, RetinaFace, align, read_photo

MAIN = "main"
CHOICES = (MAIN, "largest", "central")
SIMILAR = 0.5
"""Share of the largest face's area from which another face is of similar size."""
SMALL = 40.0
"""Side of a face in pixels below which it is said that the crop is enlarged from few pixels: nearly threefold."""


def check_choice(wanted: str) -> None:
    """Refuse what is neither of :data:`CHOICES` nor a number.

    Raises:
        UsageError: it is not.
    """
    if wanted not in CHOICES and not (wanted.isascii() and wanted.isdigit() and len(wanted) < 5):
        raise UsageError(f"expected a face out of {', '.join(CHOICES)}, or a number from 0, got {wanted!r}")


def choose(faces: Sequence[Face], image: np.ndarray, wanted: str = MAIN) -> tuple[Face, str]:
    """One of at least one face, and what to call it.

    Args:
        faces: the largest first, as a detector gives them.
        image: (H, W, 3).
        wanted: ``largest``; ``central``, the one nearest to the middle; ``main``, that of the faces of similar size
            (:data:`SIMILAR` of the largest at least) that is nearest to the middle; or a number, 0 for the largest.

    Raises:
        UsageError: another choice.
        InputError: there is no face of that number.
    """
    check_choice(wanted)
    if wanted.isdigit():
        if int(wanted) >= len(faces):
            raise InputError(f"expected face {wanted}, counted from 0, got {len(faces)}")
        return faces[int(wanted)], f"face {wanted}"
    height, width = image.shape[:2]

    def away(face: Face) -> float:
        x0, y0, x1, y1 = face.box
        return float(np.hypot(x0 + x1 - width, y0 + y1 - height))

    if wanted == "central":
        return min(faces, key=away), "the one nearest to the middle"
    similar = [face for face in faces if face.area >= SIMILAR * faces[0].area] if wanted == MAIN else []
    found = min(similar, key=away, default=faces[0])
    return found, "the largest" if found is faces[0] else "of those of similar size the one nearest to the middle"


@dataclass(frozen=True, eq=False)
class AlignedFace:
    """A face of a photo.

    Attributes:
        crop: (112, 112, 3) uint8 RGB.
        face: as detected.
        taken: which one it is, in words.
        count: how many faces the photo shows.
    """

    crop: np.ndarray
    face: Face
    taken: str
    count: int

    def remarks(self) -> list[str]:
        """What a user should know of it."""
        found = [f"shows {self.count} faces; {self.taken} is taken"] if self.count > 1 else []
        side = self.face.area**0.5
        if side < SMALL:
            found.append(f"shows a small face, of {side:.0f} pixels: its embedding is uncertain")
        return found


def aligned_face(
    path: Path | str, detector: Detector, wanted: str = MAIN, *, gray_bits: int | None = None
) -> AlignedFace | None:
    """The face of a photo that :func:`choose` takes, aligned; None if there is none.

    Raises:
        InputError: see :func:`~arcinvert.faces.alignment.read_photo` and :func:`choose`.
    """
    image = read_photo(path, gray_bits=gray_bits)
    faces = detector.detect(image)
    if not faces:
        return None
    face, taken = choose(faces, image, wanted)
    return AlignedFace(align(image, face.landmarks), face, taken, len(faces))


def align_photo(
    path: Path | str, detector: Detector | None = None, *, face: str = MAIN
) -> tuple[np.ndarray | None, int]:
    """A face of a photo, (112, 112, 3) uint8, and how many faces there are; (None, 0) if none.

    Args:
        path: of the photo.
        detector: None is RetinaFace.
        face: which one, where there are several; see :func:`choose`.

    Raises:
        InputError: see :func:`aligned_face`.
    """
    found = aligned_face(path, RetinaFace() if detector is None else detector, face)
    return (None, 0) if found is None else (found.crop, found.count)
