"""YuNet (Wu et al. 2023), the small detector of the OpenCV zoo, ``face_detection_yunet_2023mar.onnx``.

Run and decoded by OpenCV's own ``FaceDetectorYN``, loaded late; it reads the file from memory and opens nothing else.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from arcinvert.errors import EnvironmentProblem, InputError
from arcinvert.faces.alignment import Face, to_pil

SIDE = 640
"""The longer side of the view, in pixels."""
MAX_BYTES = 2**26
OUTPUTS = frozenset(f"{head}_{stride}" for head in ("cls", "obj", "bbox", "kps") for stride in (8, 16, 32))
"""Names of its outputs, by which a file is recognized."""


@dataclass(frozen=True)
class YuNet:
    """A YuNet, run on the processor.

    Attributes:
        file: the ONNX file, complete in itself.
        threshold: least score of a face, in (0, 1).
        shares: of the view that the image fills, one pass each until a face is found.

    Raises:
        InputError: OpenCV cannot read the file.
        EnvironmentProblem: the package ``cv2`` is missing.
    """

    file: Path
    threshold: float = 0.6
    shares: tuple[float, ...] = (1.0, 0.2)
    _model: Any = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        try:
            import cv2
        except ImportError:
            raise EnvironmentProblem("the YuNet detector needs OpenCV: pip install 'arcinvert[scrfd]'") from None
        name = repr(str(self.file))
        if self.file.stat().st_size > MAX_BYTES:
            raise InputError(f"expected a YuNet of at most {MAX_BYTES:,} bytes, got {self.file.stat().st_size:,}")
        content = np.frombuffer(self.file.read_bytes(), np.uint8)
        try:
            model = cv2.FaceDetectorYN.create("onnx", content, np.empty(0, np.uint8), (SIDE, SIDE), self.threshold)
            model.detect(np.zeros((SIDE, SIDE, 3), np.uint8))
        except cv2.error as error:
            reason = " ".join(str(error).split())[:200]
            raise InputError(
                f"expected a YuNet that OpenCV runs, got one that it does not in {name}: {reason}"
            ) from None
        object.__setattr__(self, "_model", model)

    def detect(self, image: np.ndarray) -> list[Face]:
        """See :class:`arcinvert.faces.alignment.Detector`."""
        import cv2

        pil = to_pil(image)
        for share in self.shares:
            scale = share * SIDE / max(pil.size)
            size = tuple(max(1, round(scale * side)) for side in pil.size)
            view = cv2.resize(np.asarray(pil)[..., ::-1], size)  # blue first
            self._model.setInputSize(size)
            _, rows = self._model.detect(np.ascontiguousarray(view))
            if rows is not None and len(rows):
                back = np.array(pil.size) / size
                return sorted((_face(row, back) for row in rows.astype(np.float64)), key=lambda face: -face.area)
        return []


def _face(row: np.ndarray, back: np.ndarray) -> Face:
    """Corner, width and height, the five points from the eye on the left of the image on, and the score."""
    corner, size = row[:2], row[2:4]
    box = np.concatenate([corner * back, (corner + size) * back])
    return Face(float(row[14]), tuple(box.tolist()), row[4:14].reshape(5, 2) * back)


def is_yunet(path: Path) -> bool:
    """Whether a file is an ONNX graph with the outputs of a YuNet."""
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError:
        return False
    if not path.is_file() or path.stat().st_size > MAX_BYTES:
        return False
    try:
        graph = onnx.load_model_from_string(path.read_bytes()).graph
    except (DecodeError, ValueError):
        return False
    return {output.name for output in graph.output} == OUTPUTS
