"""A YuNet made here, so that what it must find is known; decoded by OpenCV."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from arcinvert.errors import InputError
from arcinvert.faces.photos import open_detector
from arcinvert.faces.yunet import YuNet

pytest.importorskip("cv2")
STRIDES = (8, 16, 32)
POINTS = np.array([[-1.5, -2.0], [2.5, -1.75], [0.5, 0.25], [-1.0, 3.0], [2.0, 3.25]])
"""From the anchor, in strides."""


def built() -> onnx.ModelProto:
    """A network that takes white squares of 32 pixels for faces of 64 pixels, on the level of stride 32 alone."""
    nodes, weights, outputs = [], [], []
    heads = {
        "cls": (1, 1 / 765, 0.0),
        "obj": (1, 1 / 765, 0.0),
        "bbox": (4, 0.0, np.array([0.5, 0.5, 0.69315, 0.69315])),
    }
    heads["kps"] = (10, 0.0, POINTS.ravel())
    for head, (size, weight, bias) in heads.items():
        for stride in STRIDES:
            name = f"{head}_{stride}"
            here = weight if stride == 32 else 0.0
            arrays = {"w": np.full((size, 3, 1, 1), here), "b": np.broadcast_to(bias, size).copy()}
            weights += [numpy_helper.from_array(a.astype(np.float32), name + k) for k, a in arrays.items()]
            weights.append(numpy_helper.from_array(np.array([1, -1, size]), name + "s"))
            nodes += [
                helper.make_node(
                    "AveragePool", ["input"], [name + "p"], kernel_shape=[stride] * 2, strides=[stride] * 2
                ),
                helper.make_node("Conv", [name + "p", name + "w", name + "b"], [name + "c"]),
                helper.make_node("Transpose", [name + "c"], [name + "t"], perm=[0, 2, 3, 1]),
                helper.make_node("Reshape", [name + "t", name + "s"], [name]),
            ]
            outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, None, size]))
    image = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, 640, 640])
    graph = helper.make_graph(nodes, "yunet", [image], outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=7)


def test_finds_the_known_box_and_points(tmp_path: Path) -> None:
    (tmp_path / "yunet.onnx").write_bytes(built().SerializeToString())
    detector = open_detector(str(tmp_path / "yunet.onnx"))
    assert isinstance(detector, YuNet)
    image = np.zeros((1280, 1280, 3), np.uint8)
    image[256:320, 448:512] = 255  # a square of 32 pixels at (224, 128) of the view, which is half as large
    (face,) = detector.detect(image)
    anchor = np.array([224, 128])
    np.testing.assert_allclose(face.landmarks, 2 * (anchor + 32 * POINTS), atol=0.1)
    center = 2 * (anchor + 16)
    np.testing.assert_allclose(face.box, [*(center - 64), *(center + 64)], atol=0.1)
    assert face.score == pytest.approx(1, abs=0.01)
    assert detector.detect(image[:200]) == []


def test_a_file_that_opencv_does_not_run(tmp_path: Path) -> None:
    made = built()
    made.graph.node[0].op_type = "NoSuchOperator"
    (tmp_path / "yunet.onnx").write_bytes(made.SerializeToString())
    with pytest.raises(InputError, match="expected a YuNet that OpenCV runs"):
        open_detector(str(tmp_path / "yunet.onnx"))
