"""SCRFD (Guo et al. 2021), a detector that comes as an ONNX file, such as InsightFace's ``det_10g.onnx``.

Decoded by the package ``insightface`` (the detector authors' own, MIT, kept up; it takes a session,
so it opens and downloads nothing, and knows both layouts, with and without a batch axis), loaded late.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from arcinvert.errors import EnvironmentProblem, InputError
from arcinvert.faces.alignment import Face, to_pil, warp

SIDE = 640
"""Pixels of the square view where the network takes any size, as InsightFace has it."""
MAX_SIDE = 4096
MAX_BYTES = 2**28
MAX_BATCH = 64
"""Images of a file with a fixed batch; all of them are computed for each photo."""
STRIDES = (8, 16, 32)
"""Of the levels, in pixels; each has two anchors at a place."""


@dataclass(frozen=True)
class SCRFD:
    """An SCRFD of five points, run on the processor.

    The whole image is fitted into one view: of the size that the network fixes, else of
    ``SIDE`` x ``SIDE``; black at the right and below. Boxes and points are brought back as
    InsightFace does it, by the scale alone, so they are those its recognizers were aligned by.

    Attributes:
        file: the ONNX file, complete in itself.
        threshold: least score of a face, in (0, 1).
        shares: of the view that the image fills, one pass each until a face is found. A face
            that fills the image is too large for the network, hence the second pass.

    Raises:
        InputError: no file, not ONNX, with data in other files, or not an SCRFD of five points; when it detects,
            numbers that are not finite.
        EnvironmentProblem: the packages of the extra ``scrfd`` are missing or do not load.
    """

    file: Path
    threshold: float = 0.5
    shares: tuple[float, ...] = (1.0, 0.2)
    _model: Any = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_model", _load(self.file))

    def detect(self, image: np.ndarray) -> list[Face]:
        """See :class:`arcinvert.faces.alignment.Detector`."""
        pil = to_pil(image)
        for share in self.shares:
            if faces := self._detect_in_view(pil, share):
                return sorted(faces, key=lambda face: -face.area)
        return []

    def _detect_in_view(self, pil: Image.Image, share: float) -> list[Face]:
        width, height = self._model.input_size
        scale = share * min(width / pil.width, height / pil.height)
        # Scaled edge on edge, as OpenCV resizes.
        view = warp(pil, np.column_stack([scale * np.eye(2), np.full(2, (scale - 1) / 2)]), width, height)
        with np.errstate(over="ignore", invalid="ignore"):
            levels = self._model.forward(np.ascontiguousarray(view[..., ::-1]), self.threshold)  # blue first
        scores, boxes, points = (np.vstack(level).astype(np.float64) for level in levels)
        if not all(np.isfinite(part).all() for part in (scores, boxes, points)):
            raise InputError(f"expected boxes and points of finite size, the SCRFD {str(self.file)!r} finds others")
        best = self._model.nms(np.hstack([boxes, scores]))
        return [Face(float(scores[i, 0]), tuple((boxes[i] / scale).tolist()), points[i] / scale) for i in best]


def _load(file: Path) -> Any:
    """InsightFace's detector for a file, which is checked first."""
    name = repr(str(file))
    if not file.is_file():
        raise InputError(f"expected retinaface or the ONNX file of an SCRFD as detector, found no file at {name}")
    if file.stat().st_size > MAX_BYTES:
        raise InputError(f"expected a detector of at most {MAX_BYTES:,} bytes, got {file.stat().st_size:,} in {name}")
    try:
        import onnx
        import onnxruntime
        from google.protobuf.message import DecodeError
        from insightface.model_zoo.scrfd import SCRFD as Decoder  # noqa: N811
        from onnxruntime.capi import onnxruntime_pybind11_state as refusals
    except ImportError as error:
        reason = (str(error).splitlines() or ["import failed"])[0]
        raise EnvironmentProblem(
            f"cannot load the SCRFD detector ({reason}): pip install 'arcinvert[scrfd]', and if libGL is missing "
            "opencv-python-headless in place of opencv-python"
        ) from None
    content = file.read_bytes()
    try:
        tensors = list(_tensors(onnx.load_model_from_string(content)))
    except DecodeError:
        raise InputError(f"expected an ONNX file, got something else or a part of one in {name}") from None
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in tensors):
        raise InputError(f"expected an ONNX file complete in itself, got one with data in other files in {name}")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(
            content, options, providers=["CPUExecutionProvider"], enable_fallback=False
        )
        session = _one_at_a_time(session)
        size = _checked(session, name)
    except (
        refusals.Fail,
        refusals.InvalidArgument,
        refusals.InvalidGraph,
        refusals.InvalidProtobuf,
        refusals.NotImplemented,
        refusals.RuntimeException,
        ValueError,  # a name that is not UTF-8
    ) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"expected an SCRFD that runs, got one that does not in {name}: {reason}") from None
    decoder = Decoder(session=session)
    decoder.input_size = size
    return decoder


class _FirstOfBatch:
    """A session whose network takes a fixed number of images, as one that takes a single image.

    The other images are black; what comes first in each output is the first image's.
    """

    def __init__(self, session: Any, batch: int) -> None:
        self.session, self.batch = session, batch

    def __getattr__(self, name: str) -> Any:
        return getattr(self.session, name)

    def run(self, names: Any, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        full = {
            name: np.concatenate([image, np.zeros((self.batch - 1, *image.shape[1:]), image.dtype)])
            for name, image in inputs.items()
        }
        return [
            output[:1] if output.ndim == 3 else output[: len(output) // self.batch]
            for output in self.session.run(names, full)
        ]


def _one_at_a_time(session: Any) -> Any:
    """The session, for one image also where its network takes a fixed batch of up to :data:`MAX_BATCH`."""
    shape = session.get_inputs()[0].shape if session.get_inputs() else []
    batch = shape[0] if len(shape) == 4 and isinstance(shape[0], int) else 1
    return _FirstOfBatch(session, batch) if 1 < batch <= MAX_BATCH else session


def _tensors(message: Any) -> Iterator[Any]:
    """Every stored tensor of an ONNX model, also of the graphs and functions inside it."""
    if message.DESCRIPTOR.name == "TensorProto":
        yield message
        return
    for kind, value in message.ListFields():
        if kind.message_type is not None:
            for child in [value] if hasattr(value, "ListFields") else value:
                yield from _tensors(child)


def _checked(session: Any, name: str) -> tuple[int, int]:
    """Width and height of the view, if the outputs for a gray image have the layout of an SCRFD of five points.

    That is, of each level: scores (N, 1), then of each boxes (N, 4), then points (N, 10); all of
    them (1, N, ...) where the network has a batch axis.
    """
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1 or len(inputs[0].shape) != 4:
        raise InputError(f"expected one image as input of an SCRFD, got {[i.shape for i in inputs]} in {name}")
    if len(outputs) == 6:
        raise InputError(
            f"expected the 9 outputs of an SCRFD with five points, got 6, of one without points, in {name}; faces are "
            "aligned by the points: use an export with points, such as InsightFace's ..._kps or det_10g"
        )
    if len(outputs) != 9:
        raise InputError(f"expected the 9 outputs of an SCRFD with five points, got {len(outputs)} in {name}")
    height, width = inputs[0].shape[2:]
    if not (isinstance(height, int) and isinstance(width, int)):
        height = width = SIDE
    if not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE):
        raise InputError(f"expected an input of at most {MAX_SIDE}x{MAX_SIDE}, got {width}x{height} in {name}")
    gray = np.zeros((1, 3, height, width), np.float32)
    batch = (1,) if len(outputs[0].shape) == 3 else ()
    places = [2 * (height // stride) * (width // stride) for stride in STRIDES]
    expected = [(*batch, count, size) for size in (1, 4, 10) for count in places]
    got = [output.shape for output in session.run(None, {inputs[0].name: gray})]
    for number, (want, shape) in enumerate(zip(expected, got, strict=True), start=1):
        if want != shape:
            raise InputError(f"expected output {number} of an SCRFD to be {want}, got {shape} in {name}")
    return width, height
