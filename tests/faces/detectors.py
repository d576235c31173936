"""SCRFD files of InsightFace's layouts, made here so that what they must find is known."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

STRIDES = (8, 16, 32)
BOX = np.array([3.0, 4.0, 5.0, 6.0])
"""From the anchor to the left, up, right and down, in strides."""
POINTS = np.array([[-1.5, -2.0], [2.5, -1.75], [0.5, 0.25], [-1.0, 3.0], [2.0, 3.25]])
"""From the anchor, in strides."""
SECOND = 0.9
"""The second anchor at a place finds the same face, with this share of the score."""


def built(
    side: int | None = None,
    *,
    batched: bool = False,
    points: bool = True,
    height: int | None = None,
    wrong: dict[str, int] | None = None,
) -> onnx.ModelProto:
    """A network that takes bright squares for faces: red ones of 8 pixels, green ones of 16, blue ones of 32.

    The score at a place is half of how much brighter its square is than the mean of the whole input.
    """
    nodes, weights, outputs = [], [], []

    def weight(name: str, value: np.ndarray) -> str:
        weights.append(numpy_helper.from_array(value, name))
        return name

    heads: dict[str, tuple[int, np.ndarray]] = {"score": (1, np.zeros(1)), "box": (4, BOX)}
    if points:
        heads["points"] = (10, POINTS.ravel())
    for head, (size, constant) in heads.items():
        size = (wrong or {}).get(head, size)
        for color, stride in enumerate(STRIDES):
            here = f"{head}{stride}"
            kernel = np.zeros((2 * size, 3, 1, 1), np.float32)
            if head == "score":
                kernel[:, color, 0, 0] = np.resize([0.5, 0.5 * SECOND], 2 * size)
            bias = np.resize(constant, 2 * size).astype(np.float32)
            nodes += [
                helper.make_node(
                    "AveragePool", ["image"], [f"{here}p"], kernel_shape=[stride] * 2, strides=[stride] * 2
                ),
                helper.make_node("ReduceMean", [f"{here}p"], [f"{here}m"], axes=[2, 3], keepdims=1),
                helper.make_node("Sub", [f"{here}p", f"{here}m"], [f"{here}d"]),
                helper.make_node(
                    "Conv", [f"{here}d", weight(f"{here}w", kernel), weight(f"{here}b", bias)], [f"{here}c"]
                ),
                helper.make_node("Transpose", [f"{here}c"], [f"{here}t"], perm=[0, 2, 3, 1]),
                helper.make_node(
                    "Reshape", [f"{here}t", weight(f"{here}s", np.array([1, -1, size][1 - batched :]))], [here]
                ),
            ]
            shape = [1, "count", size][1 - batched :]
            outputs.append(helper.make_tensor_value_info(here, TensorProto.FLOAT, shape))
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, height or side, side])
    graph = helper.make_graph(nodes, "scrfd", [image], outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
