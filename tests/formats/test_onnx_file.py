import json
import math
import os
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from arcinvert.backbones import build_backbone
from arcinvert.backbones.graph import IMAGE
from arcinvert.checkpoint import load_strictly, save_checkpoint
from arcinvert.errors import CheckpointError, InputError
from arcinvert.faceprior.prior import default_face_prior
from arcinvert.formats import onnx as onnx_file
from arcinvert.formats import open_checkpoint
from arcinvert.recognizer import Recognizer

OLD, NEW = 8, 18
SEED = np.random.default_rng(0)
Node = onnx.NodeProto
Weights = dict[str, np.ndarray]


def rand(*shape: int) -> np.ndarray:
    return SEED.normal(size=shape).astype(np.float32)


def ints(*numbers: int) -> np.ndarray:
    return np.array(numbers, dtype=np.int64)


def node(kind: str, inputs: Sequence[str], *outputs: str, **attributes: Any) -> Node:
    return helper.make_node(
        kind, list(inputs), list(outputs or ["y"]), name=f"{kind}_{(outputs or ['y'])[0]}", **attributes
    )


def model(
    nodes: list[Node],
    weights: Weights | None = None,
    *,
    opset: int = NEW,
    shape: Sequence[int | str] = ("N", 3, 112, 112),
    outputs: Sequence[str] = ("out",),
    listed: bool = False,
    kind: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    """``listed``: the weights stand in the list of inputs too, as they did before IR version 4."""
    weights = weights or {}
    stored = [numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items()]
    inputs = [helper.make_tensor_value_info("data", kind, list(shape))]
    if listed:
        inputs += [helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)) for t in stored]
    given = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    made = helper.make_graph(nodes, "g", inputs, given, stored)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=3 if listed else 8)


def to_vector(value: str = "y") -> list[Node]:
    """What a test's value becomes (N, D) by; also where it has two or three dimensions."""
    return [node("Flatten", [value], "out", axis=1)]


def pooled(value: str = "y") -> list[Node]:
    return [node("GlobalAveragePool", [value], "pooled"), *to_vector("pooled")]


# The image on a 10x12 map of 6 channels, so that what follows is cheap.
STEM = [node("Conv", ["data", "stem.weight"], "x", strides=[11, 9], kernel_shape=[8, 8], pads=[0, 0, 0, 0])]
STEM_WEIGHTS = {"stem.weight": rand(6, 3, 8, 8) * 0.1}
IMAGES = np.random.default_rng(1).uniform(-1, 1, (3, 3, 112, 112)).astype(np.float32)


def write(path: Path, made: onnx.ModelProto) -> Path:
    path.write_bytes(made.SerializeToString())
    return path


def reference(made: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"data": images})[0])


def network_of(path: Path) -> torch.nn.Module:
    stored = onnx_file.read(path)
    settings = json.loads(json.dumps(stored.header["backbone_settings"], allow_nan=False))
    network = build_backbone(stored.header["backbone"], **settings).eval().requires_grad_(False)
    load_strictly(network, stored.section("network"), "x")
    return network


def check(path: Path, made: onnx.ModelProto, *, batch: int = 3, atol: float = 2e-5) -> Tensor:
    """The same features as onnxruntime, for one image and several, and a gradient; returns it."""
    network = network_of(write(path, made))
    for number in {1, batch}:
        images = torch.from_numpy(IMAGES[:number]).requires_grad_()
        found = network(images)
        expected = reference(made, IMAGES[:number])
        assert expected.std() > 1e-4
        np.testing.assert_allclose(found.detach().numpy(), expected.reshape(number, -1), atol=atol, rtol=1e-4)
    (gradient,) = torch.autograd.grad((found * torch.arange(found.shape[1]).cos()).sum(), images)
    assert gradient.isfinite().all()
    assert gradient.abs().sum() > 0
    return gradient


# --- every operator: name -> (nodes from "x" to "out", weights), for each opset it is tried with

Case = tuple[list[Node], Weights]


def unary(kind: str, **attributes: Any) -> Case:
    return [node(kind, ["x"], **attributes), *to_vector()], {}


def positive(*nodes: Node) -> Case:
    """Of a number that is not negative, ``p``."""
    first = [node("Abs", ["x"], "a"), node("Add", ["a", "half"], "p")]
    return [*first, *nodes, *to_vector()], {"half": np.float32(0.5)}


def binary(kind: str, other: np.ndarray, *, swapped: bool = False) -> Case:
    return [node(kind, ["w", "x"] if swapped else ["x", "w"]), *to_vector()], {"w": other}


def conv(*weight: int, bias: bool = True, **attributes: Any) -> Case:
    weights = {"w": rand(*weight) * 0.3} | ({"b": rand(weight[0])} if bias else {})
    return [node("Conv", ["x", *weights], **attributes), *to_vector()], weights


def pool(kind: str, **attributes: Any) -> Case:
    return [node(kind, ["x"], **attributes), *to_vector()], {}


def gemm(bias: np.ndarray | None, transposed: bool = True, **attributes: Any) -> Case:
    weights = {"w": rand(5, 6) if transposed else rand(6, 5)} | ({} if bias is None else {"b": bias})
    first = [node("GlobalAveragePool", ["x"], "p"), node("Flatten", ["p"], "f")]
    return [*first, node("Gemm", ["f", *weights], "out", transB=int(transposed), **attributes)], weights


def shuffled(kind: str, weights: Weights, **attributes: Any) -> Case:
    """Of a function that changes the shape."""
    return [node(kind, ["x", *weights], **attributes), *to_vector()], weights


NORM = {"s": rand(6), "b": rand(6), "m": rand(6), "v": np.abs(rand(6)) + 0.5}
VECTOR = [node("GlobalAveragePool", ["x"], "p"), node("Flatten", ["p"], "f")]
EITHER: dict[str, Case] = {
    "Relu": unary("Relu"),
    "LeakyRelu alpha": unary("LeakyRelu", alpha=0.3),
    "Elu": unary("Elu", alpha=0.6),
    "Sigmoid": unary("Sigmoid"),
    "HardSigmoid alpha": unary("HardSigmoid", alpha=0.3, beta=0.4),
    "Softplus": unary("Softplus"),
    "Tanh": unary("Tanh"),
    "Exp": unary("Exp"),
    "Abs": unary("Abs"),
    "Neg": unary("Neg"),
    "Identity": unary("Identity"),
    "Log": positive(node("Log", ["p"])),
    "Sqrt": positive(node("Sqrt", ["p"])),
    "Reciprocal": positive(node("Reciprocal", ["p"])),
    "Pow": (lambda case: (case[0], case[1] | {"e": np.float32(1.5)}))(positive(node("Pow", ["p", "e"]))),
    "Add": binary("Add", rand(6, 1, 1)),
    "Sub": binary("Sub", rand(6, 1, 1)),
    "Sub swapped": binary("Sub", rand(1, 6, 1, 1), swapped=True),
    "Mul": binary("Mul", rand(12)),
    "Div": binary("Div", rand(6, 1, 1) + 9),
    "Max": binary("Max", rand(6, 1, 1) * 0.1),
    "Min": binary("Min", rand(1) * 0.1),
    "Max of three": ([node("Max", ["x", "w", "v"]), *to_vector()], {"w": rand(6, 1, 1) * 0.1, "v": rand(12) * 0.1}),
    "Sum": ([node("Sum", ["x", "x", "w"]), *to_vector()], {"w": rand(6, 1, 1)}),
    "Conv": conv(4, 6, 3, 3, kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
    "Conv strided": conv(4, 6, 3, 2, strides=[2, 3], pads=[1, 0, 1, 0]),
    "Conv asymmetric": conv(4, 6, 3, 3, strides=[2, 2], pads=[0, 1, 2, 0]),
    "Conv SAME_UPPER": conv(4, 6, 3, 4, strides=[2, 1], auto_pad="SAME_UPPER"),
    "Conv SAME_LOWER": conv(4, 6, 4, 3, strides=[1, 2], auto_pad="SAME_LOWER"),
    "Conv VALID": conv(4, 6, 3, 3, auto_pad="VALID"),
    "Conv grouped": conv(4, 3, 3, 3, group=2),
    "Conv depthwise": conv(12, 1, 3, 3, group=6, pads=[1, 1, 1, 1], bias=False),
    "Conv dilated": conv(4, 6, 3, 2, dilations=[2, 3], pads=[2, 1, 2, 1]),
    "BatchNormalization": ([node("BatchNormalization", ["x", *NORM], epsilon=1e-2), *to_vector()], dict(NORM)),
    "BatchNormalization of vectors": ([*VECTOR, node("BatchNormalization", ["f", *NORM], "out")], dict(NORM)),
    "PRelu (C,1,1)": ([node("PRelu", ["x", "w"]), *to_vector()], {"w": rand(6, 1, 1)}),
    "PRelu (1,)": ([node("PRelu", ["x", "w"]), *to_vector()], {"w": rand(1)}),
    "PRelu of vectors": ([*VECTOR, node("PRelu", ["f", "w"], "out")], {"w": rand(6)}),
    "Gemm": gemm(rand(5)),
    "Gemm alpha beta": gemm(rand(5), alpha=0.5, beta=-2.0),
    "Gemm (1,D)": gemm(rand(1, 5)),
    "MatMul": ([*VECTOR, node("MatMul", ["f", "w"], "out")], {"w": rand(6, 5)}),
    "MatMul on maps": ([node("MatMul", ["x", "w"]), *to_vector()], {"w": rand(12, 5)}),
    "MatMul from the left": ([node("MatMul", ["w", "x"]), *to_vector()], {"w": rand(5, 10)}),
    "MatMul of two values": (
        [node("Transpose", ["x"], "t", perm=[0, 1, 3, 2]), node("MatMul", ["x", "t"]), *to_vector()],
        {},
    ),
    "MaxPool": pool("MaxPool", kernel_shape=[2, 3], strides=[2, 3]),
    "MaxPool asymmetric": pool("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[0, 1, 1, 0]),
    "MaxPool much padded": pool("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[2, 2, 2, 2]),
    "MaxPool SAME_LOWER": pool("MaxPool", kernel_shape=[3, 2], strides=[2, 2], auto_pad="SAME_LOWER"),
    "MaxPool of nothing": pool("MaxPool", kernel_shape=[1, 1]),
    "AveragePool": pool("AveragePool", kernel_shape=[2, 3], strides=[2, 3]),
    "AveragePool counted": pool("AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1),
    "AveragePool asymmetric": pool("AveragePool", kernel_shape=[3, 3], strides=[2, 2], pads=[0, 1, 1, 0]),
    "AveragePool asymmetric counted": pool("AveragePool", kernel_shape=[3, 3], pads=[0, 1, 1, 0], count_include_pad=1),
    "AveragePool much padded": pool("AveragePool", kernel_shape=[3, 3], strides=[2, 2], pads=[2, 2, 2, 2]),
    "AveragePool SAME_UPPER": pool("AveragePool", kernel_shape=[2, 2], auto_pad="SAME_UPPER"),
    "GlobalAveragePool": (pooled("x"), {}),
    "GlobalMaxPool": ([node("GlobalMaxPool", ["x"]), *to_vector()], {}),
    "Flatten": ([node("Flatten", ["x"], "out")], {}),
    "Transpose": shuffled("Transpose", {}, perm=[0, 2, 3, 1]),
    "Concat": ([node("Concat", ["x", "x"], axis=1), *to_vector()], {}),
    "Softmax": ([*VECTOR, node("Softmax", ["f"], "out", axis=1)], {}),
    "LpNormalization": ([*VECTOR, node("LpNormalization", ["f"], "out", axis=1, p=2)], {}),
    "Dropout": ([node("Dropout", ["x"]), *to_vector()], {}),
    "Cast": unary("Cast", to=TensorProto.FLOAT),
    "Constant": (
        [
            helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(rand(6, 1, 1))),
            node("Add", ["x", "c"]),
            *to_vector(),
        ],
        {},
    ),
    "Reshape": shuffled("Reshape", {"w": ints(0, -1, 24)}),
    "Reshape to -1": ([node("Reshape", ["x", "w"], "out")], {"w": ints(-1, 720)}),
    "an output (N,D,1,1)": ([node("GlobalAveragePool", ["x"], "out")], {}),
}
ONLY_OLD: dict[str, Case] = {
    "Upsample": (
        [node("Upsample", ["x"], mode="nearest", scales=[1.0, 1.0, 2.0, 3.0]), *to_vector()],
        {},
    ),
    "Pad": shuffled("Pad", {}, pads=[0, 0, 1, 0, 0, 0, 2, 3], value=0.5),
    "Pad reflect": shuffled("Pad", {}, pads=[0, 0, 1, 0, 0, 0, 2, 3], mode="reflect"),
    "Pad edge": shuffled("Pad", {}, pads=[0, 0, 1, 0, 0, 0, 2, 3], mode="edge"),
    "Slice": shuffled("Slice", {}, starts=[1, -4], ends=[4, 1 << 40], axes=[1, 3]),
    "Clip": unary("Clip", min=-0.2, max=0.3),
    "Split": ([node("Split", ["x"], "a", "b", axis=1, split=[2, 4]), *to_vector("b")], {}),
    "Split evenly": ([node("Split", ["x"], "a", "b", "c", axis=1), node("Sub", ["a", "c"]), *to_vector()], {}),
    "Unsqueeze": ([node("Unsqueeze", ["x"], axes=[2]), *to_vector()], {}),
    "Squeeze": ([node("GlobalAveragePool", ["x"], "p"), node("Squeeze", ["p"], "out", axes=[2, 3])], {}),
    "ReduceMean": ([node("ReduceMean", ["x"], axes=[2, 3], keepdims=0), *to_vector()], {}),
    "ReduceSum": ([node("ReduceSum", ["x"], axes=[2, 3]), *to_vector()], {}),
    "ReduceMax": ([node("ReduceMax", ["x"], axes=[2]), *to_vector()], {}),
    "ReduceL2": ([*VECTOR, node("ReduceL2", ["f"], "n", axes=[1]), node("Div", ["f", "n"], "out")], {}),
    "Dropout with a mask": ([node("Dropout", ["x"], "y", "mask", ratio=0.4), *to_vector()], {}),
    "Gemm without bias": (
        [*VECTOR, node("Gemm", ["f", "w", "zero"], "out")],
        {"w": rand(6, 5), "zero": np.zeros(5, "f")},
    ),
}
ONLY_NEW: dict[str, Case] = {
    "Pad": shuffled("Pad", {"w": ints(0, 0, 1, 0, 0, 0, 2, 3), "v": np.float32(0.5)}),
    "Pad reflect": shuffled("Pad", {"w": ints(0, 0, 1, 0, 0, 0, 2, 3)}, mode="reflect"),
    "Pad axes": ([node("Pad", ["x", "w", "", "a"]), *to_vector()], {"w": ints(1, 2, 3, 0), "a": ints(-1, 1)}),
    "Slice": shuffled("Slice", {"w": ints(1, -4), "e": ints(4, 1 << 62), "a": ints(1, 3)}),
    "Clip": shuffled("Clip", {"w": np.float32(-0.2), "v": np.float32(0.3)}),
    "Clip not": unary("Clip"),
    "Split": ([node("Split", ["x", "w"], "a", "b", axis=1), *to_vector("b")], {"w": ints(2, 4)}),
    "Split uneven": ([node("Split", ["x"], "a", "b", "c", axis=3, num_outputs=3), *to_vector("c")], {}),
    "Unsqueeze": ([node("Unsqueeze", ["x", "w"]), *to_vector()], {"w": ints(-1, 2)}),
    "Squeeze": ([node("GlobalAveragePool", ["x"], "p"), node("Squeeze", ["p", "w"], "out")], {"w": ints(-1, 2)}),
    "ReduceMean": ([node("ReduceMean", ["x", "w"], keepdims=0), *to_vector()], {"w": ints(2, -1)}),
    "ReduceSum": ([node("ReduceSum", ["x", "w"]), *to_vector()], {"w": ints(1)}),
    "ReduceSum of nothing": ([node("ReduceSum", ["x"], noop_with_empty_axes=1), *to_vector()], {}),
    "ReduceMax": ([node("ReduceMax", ["x", "w"]), *to_vector()], {"w": ints(3)}),
    "ReduceL2": ([node("ReduceL2", ["x", "w"]), *to_vector()], {"w": ints(1)}),
    "HardSwish": unary("HardSwish"),
    "Sin": unary("Sin"),
    "Cos": unary("Cos"),
    "Where": ([node("Where", ["m", "x", "w"]), *to_vector()], {"m": rand(6, 1, 1) > 0, "w": rand(12)}),
    "Expand": (
        [node("GlobalAveragePool", ["x"], "p"), node("Expand", ["p", "w"]), *to_vector()],
        {"w": ints(1, 6, 2, 3)},
    ),
    "Resize": (
        [
            node(
                "Resize", ["x", "", "", "w"], mode="linear", coordinate_transformation_mode="align_corners", axes=[2, 3]
            ),
            *to_vector(),
        ],
        {"w": ints(15, 7)},
    ),
    "Resize by a factor": (
        [node("Resize", ["x", "", "w"], mode="cubic", cubic_coeff_a=-0.75), *to_vector()],
        {"w": np.array([1, 1, 2, 1.5], "f")},
    ),
    "InstanceNormalization": (
        [node("InstanceNormalization", ["x", "w", "b"]), *to_vector()],
        {"w": rand(6), "b": rand(6)},
    ),
    "GroupNormalization": (
        [node("GroupNormalization", ["x", "w", "b"], num_groups=3), *to_vector()],
        {"w": rand(3), "b": rand(3)},
    ),
    "LayerNormalization of maps": (
        [node("LayerNormalization", ["x", "w"], axis=-2), *to_vector()],
        {"w": rand(10, 12)},
    ),
    "Erf": unary("Erf"),
    "MaxPool ceil": pool("MaxPool", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
    "MaxPool ceil padded": pool("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], ceil_mode=1),
    "MaxPool dilated": pool("MaxPool", kernel_shape=[2, 2], dilations=[2, 3]),
    "AveragePool ceil": pool("AveragePool", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
    "AveragePool ceil padded": pool("AveragePool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], ceil_mode=1),
    "Gemm no bias": gemm(None),
    "LayerNormalization": ([*VECTOR, node("LayerNormalization", ["f", "w", "b"], "out")], {"w": rand(6), "b": rand(6)}),
    "Dropout off": ([node("Dropout", ["x", "r", "t"]), *to_vector()], {"r": np.float32(0.5), "t": np.bool_(False)}),
    "Gather one": ([node("Gather", ["x", "i"], axis=2), *to_vector()], {"i": np.array(-1, dtype=np.int64)}),
    "Gather several": ([node("Gather", ["x", "i"], axis=1), *to_vector()], {"i": ints(2, 1, -1)}),
    "Softmax inside": ([node("Softmax", ["x"], axis=2), *to_vector()], {}),
    "Constant numbers": (
        [helper.make_node("Constant", [], ["c"], value_floats=[0.5] * 12), node("Add", ["x", "c"]), *to_vector()],
        {},
    ),
    "ConstantOfShape": (
        [
            node("ConstantOfShape", ["w"], "c", value=helper.make_tensor("v", TensorProto.FLOAT, [1], [0.25])),
            node("Sub", ["x", "c"]),
            *to_vector(),
        ],
        {"w": ints(6, 1, 1)},
    ),
    "ConstantOfShape of zeros": (
        [node("ConstantOfShape", ["w"], "c"), node("Max", ["x", "c"]), *to_vector()],
        {"w": ints(1)},
    ),
}
CASES = (
    [pytest.param(case, opset, id=f"{name}-{opset}") for name, case in EITHER.items() for opset in (OLD, NEW)]
    + [pytest.param(case, OLD, id=f"{name}-{OLD}") for name, case in ONLY_OLD.items()]
    + [pytest.param(case, NEW, id=f"{name}-{NEW}") for name, case in ONLY_NEW.items()]
    + [pytest.param(unary("Gelu"), 20, id="Gelu"), pytest.param(unary("Gelu", approximate="tanh"), 20, id="Gelu tanh")]
)


class TestOperators:
    @pytest.mark.parametrize(("case", "opset"), CASES)
    def test_as_onnxruntime_has_it(self, case: Case, opset: int, tmp_path: Path) -> None:
        nodes, weights = case
        check(tmp_path / "a.onnx", model([*STEM, *nodes], {**STEM_WEIGHTS, **weights}, opset=opset))

    def test_none_is_left_untested(self) -> None:
        tried = {one.op_type for case, *_ in (param.values for param in CASES) for one in case[0]}
        others = {
            kind for kind in onnx_file.OPERATORS if "Linear" in kind or kind.startswith("Q") or kind.endswith("Integer")
        }
        assert set(onnx_file.OPERATORS) - tried - others == {"Shape"}  # below, and in test_onnx_quantized.py

    def test_slopes_of_the_model_zoo(self, tmp_path: Path) -> None:
        """(C,) on a map: onnxruntime refuses it, MXNet wrote it and meant the channels."""
        nodes, slope = [*STEM, node("PRelu", ["x", "w"]), *to_vector()], rand(6)
        network = network_of(write(tmp_path / "a.onnx", model(nodes, {**STEM_WEIGHTS, "w": slope}, opset=8)))
        nodes[-2] = node("PRelu", ["x", "w"])
        expected = reference(model(nodes, {**STEM_WEIGHTS, "w": slope.reshape(6, 1, 1)}, opset=8), IMAGES)
        np.testing.assert_allclose(network(torch.from_numpy(IMAGES)).numpy(), expected, atol=1e-5)

    def test_weights_listed_as_inputs(self, tmp_path: Path) -> None:
        check(tmp_path / "a.onnx", model([*STEM, *pooled("x")], STEM_WEIGHTS, opset=8, listed=True))

    def test_half_precision_is_widened(self, tmp_path: Path) -> None:
        half = {"stem.weight": STEM_WEIGHTS["stem.weight"].astype(np.float16)}
        nodes = [node("Cast", ["data"], "h", to=TensorProto.FLOAT16), *STEM, node("Cast", ["x"], to=TensorProto.FLOAT)]
        nodes[1] = node("Conv", ["h", "stem.weight"], "x", strides=[11, 9])
        made = model([*nodes, *pooled()], half)
        network = network_of(write(tmp_path / "a.onnx", made))
        assert all(weight.dtype == torch.float32 for weight in network.parameters())
        np.testing.assert_allclose(network(torch.from_numpy(IMAGES)).numpy(), reference(made, IMAGES), atol=2e-3)

    def test_bfloat16_weights(self, tmp_path: Path) -> None:
        exact = torch.from_numpy(STEM_WEIGHTS["stem.weight"]).bfloat16()
        made = model([*STEM, *pooled("x")], {"stem.weight": exact.float().numpy()})
        expected = reference(made, IMAGES)
        tensor = made.graph.initializer[0]
        tensor.data_type = TensorProto.BFLOAT16
        tensor.raw_data = exact.view(torch.int16).numpy().tobytes()
        network = network_of(write(tmp_path / "a.onnx", made))
        np.testing.assert_allclose(network(torch.from_numpy(IMAGES)).numpy(), expected, atol=1e-5)


def sized(*parts: Node) -> list[Node]:
    """A reshape whose size is computed: ("x"'s sizes) -> ``s`` -> parts -> ``shape``."""
    return [*STEM, node("Shape", ["x"], "s"), *parts, node("Reshape", ["x", "shape"], "out")]


ZERO, ONE, REST = {"zero": np.array(0, dtype=np.int64)}, {"one": ints(1)}, {"rest": ints(-1)}


class TestImages:
    @pytest.mark.parametrize("shape", [("N", 3, 160, 160), ("N", 160, 160, 3), (1, 112, 96, 3), ("N", 3, "H", "W")])
    def test_other_sizes_and_channels_last(self, shape: tuple[int | str, ...], tmp_path: Path) -> None:
        last = shape[3] == 3
        size = (160, 160) if isinstance(shape[2], str) else tuple(int(n) for n in (shape[1:3] if last else shape[2:]))
        nodes = [node("Transpose", ["data"], "first", perm=[0, 3, 1, 2] if last else [0, 1, 2, 3])]
        nodes += [node("Conv", ["first", "stem.weight"], "x", strides=[8, 8]), node("Flatten", ["x"], "flat")]
        nodes += [node("MatMul", ["flat", "fc"], "out")]
        weights = {**STEM_WEIGHTS, "fc": rand(6 * (size[0] // 8) * (size[1] // 8), 5)}
        made = model(nodes, weights, shape=shape)
        recognizer = Recognizer.load(write(tmp_path / "a.onnx", made))
        assert recognizer.preprocessing.size == size
        images = np.random.default_rng(2).uniform(-1, 1, (1, 3, *size)).astype(np.float32)
        expected = reference(made, images.transpose(0, 2, 3, 1) if last else images)
        found = recognizer.network(torch.from_numpy(images)).detach().numpy()
        np.testing.assert_allclose(found, expected, atol=1e-4)

    def test_a_constant_of_five_dimensions(self, tmp_path: Path) -> None:
        """As windows of attention have a mask; such a constant has no channels-last memory."""
        nodes = [
            *STEM,
            node("Reshape", ["x", "five"], "x5"),
            node("Add", ["x5", "mask"], "masked"),
            node("Flatten", ["masked"], "out"),
        ]
        made = model(nodes, {**STEM_WEIGHTS, "five": ints(-1, 2, 3, 10, 12), "mask": rand(1, 2, 3, 10, 12)})
        recognizer = Recognizer.load(write(tmp_path / "a.onnx", made))
        images = torch.from_numpy(IMAGES)
        expected = torch.nn.functional.normalize(torch.from_numpy(reference(made, IMAGES)))
        torch.testing.assert_close(recognizer.embed((images + 1) / 2), expected, atol=1e-5, rtol=0)

    def test_an_embedding_and_its_norm(self, tmp_path: Path) -> None:
        nodes = [*STEM, *pooled("x"), node("ReduceL2", ["out"], "norm", axes=[1]), node("Div", ["out", "norm"], "unit")]
        made = model(nodes, STEM_WEIGHTS, outputs=("unit", "norm"), opset=13)
        network = network_of(write(tmp_path / "a.onnx", made))
        np.testing.assert_allclose(network(torch.from_numpy(IMAGES)).numpy(), reference(made, IMAGES), atol=1e-5)


class TestShapes:
    @pytest.mark.parametrize(
        ("nodes", "weights", "opset"),
        [
            (
                sized(
                    node("Gather", ["s", "zero"], "n"),
                    node("Unsqueeze", ["n", "axis"], "n1"),
                    node("Concat", ["n1", "rest"], "shape", axis=0),
                ),
                ZERO | REST | {"axis": ints(0)},
                13,
            ),
            (
                sized(
                    node("Slice", ["s", "a", "b"], "n"),
                    node("Slice", ["s", "b", "c"], "others"),
                    node("Gather", ["others", "zero"], "c0"),
                    node("Gather", ["others", "two"], "c2"),
                    node("Gather", ["others", "k1"], "c1"),
                    node("Mul", ["c0", "c1"], "m1"),
                    node("Mul", ["m1", "c2"], "m2"),
                    node("Unsqueeze", ["m2", "a"], "m"),
                    node("Concat", ["n", "m"], "shape", axis=0),
                ),
                {"a": ints(0), "b": ints(1), "c": ints(9), "two": np.int64(2), "k1": np.int64(1)} | ZERO,
                13,
            ),
            (
                [
                    *STEM,
                    node("Shape", ["x"], "n", end=1),
                    node("Shape", ["x"], "others", start=1),
                    node("ReduceMax", ["others"], "w", keepdims=1),
                    node("Div", ["w", "w"], "ones"),
                    node("Neg", ["ones"], "rest"),
                    node("Cast", ["rest"], "rest64", to=TensorProto.INT64),
                    node("Concat", ["n", "rest64"], "shape", axis=0),
                    node("Reshape", ["x", "shape"], "out"),
                ],
                {},
                15,
            ),
        ],
        ids=["gather", "products", "ends"],
    )
    def test_a_size_that_is_computed(self, nodes: list[Node], weights: Weights, opset: int, tmp_path: Path) -> None:
        made = model(nodes, {**STEM_WEIGHTS, **weights}, opset=opset)
        check(tmp_path / "a.onnx", made)
        steps = onnx_file.read(tmp_path / "a.onnx").header["backbone_settings"]["steps"]
        assert [one["op"] for one in steps] == ["conv", "folded_norm", "reshape"]  # the arithmetic is gone

    @pytest.mark.parametrize("batch", [1, "N"])
    def test_places_of_a_flattened_value_in_their_order(self, batch: int | str, tmp_path: Path) -> None:
        """As the newer exporter writes ``as_strided``, in the head of a ConvNeXt for example."""
        nodes = [
            *STEM,
            node("Reshape", ["x", "rest"], "flat"),
            node("Shape", ["x"], "s"),
            node("Gather", ["s", "zero"], "n"),
            node("Range", ["zero", "n", "unit"], "images"),
            node("Mul", ["images", "many"], "starts"),
            node("Unsqueeze", ["starts", "one"], "column"),
            node("Add", ["column", "each"], "places"),
            node("Gather", ["flat", "places"], "out"),
        ]
        weights = {"many": np.int64(720), "each": np.arange(720)[None], "unit": np.int64(1)} | ZERO | ONE | REST
        weights |= {"places": np.arange(720)[None]}
        if batch == 1:
            nodes = [*nodes[:2], nodes[-1]]
        else:
            del weights["places"]
        made = model(nodes, {**STEM_WEIGHTS, **weights}, opset=13, shape=(batch, 3, 112, 112))
        check(tmp_path / "a.onnx", made, batch=1)
        assert network_of(tmp_path / "a.onnx")(torch.from_numpy(IMAGES)).shape == (3, 720)

    def test_padding_that_is_computed(self, tmp_path: Path) -> None:
        """As torch exports ``F.pad``: zeros appended, reversed, transposed."""
        nodes = [
            *STEM,
            node("ConstantOfShape", ["four"], "zeros", value=helper.make_tensor("v", TensorProto.INT64, [1], [0])),
            node("Concat", ["asked", "zeros"], "all", axis=0),
            node("Reshape", ["all", "pairs"], "rows"),
            node("Slice", ["rows", "start", "end", "axis", "step"], "back"),
            node("Transpose", ["back"], "turned", perm=[1, 0]),
            node("Reshape", ["turned", "flat"], "pads64"),
            node("Cast", ["pads64"], "pads", to=TensorProto.INT64),
            node("Pad", ["x", "pads"]),
            *to_vector(),
        ]
        weights = {"four": ints(4), "asked": ints(1, 2, 0, 3), "pairs": ints(-1, 2), "flat": ints(-1)}
        weights |= {"start": ints(-1), "end": ints(-(1 << 63)), "axis": ints(0), "step": ints(-1)}
        check(tmp_path / "a.onnx", model(nodes, {**STEM_WEIGHTS, **weights}, opset=13))

    @pytest.mark.parametrize("shape", [(1, -1), (1, 720), (-1, 720), (0, -1), (0, 720)])
    def test_a_batch_of_one_becomes_any(self, shape: tuple[int, int], tmp_path: Path) -> None:
        nodes = [*STEM, node("Reshape", ["x", "w"], "out")]
        made = model(nodes, {**STEM_WEIGHTS, "w": ints(*shape)}, shape=(1, 3, 112, 112))
        check(tmp_path / "a.onnx", made, batch=1)
        network = network_of(tmp_path / "a.onnx")
        each = [reference(made, IMAGES[i : i + 1]) for i in range(3)]
        np.testing.assert_allclose(network(torch.from_numpy(IMAGES)).numpy(), np.concatenate(each), atol=1e-5)

    @pytest.mark.parametrize("batch", [1, 2, "N"])
    def test_tokens_windows_and_positions(self, batch: int | str, tmp_path: Path) -> None:
        """As exports of transformers have them: a learned token for each image, windows, a computed position."""
        dynamic = batch == "N"
        sizes = {"windows": ints(*((-1,) if dynamic else (4 * int(batch),)), 5, 6, 6)}
        sizes |= {"back": ints(*((-1,) if dynamic else (int(batch),)), 4 * 30, 6), "token": rand(1, 1, 6)}
        if not dynamic:
            sizes["tokens"] = np.repeat(sizes["token"], int(batch), 0)
        nodes = [
            *STEM,
            node("Reshape", ["x", "cut"], "cut6"),
            node("Transpose", ["cut6"], "turned", perm=[0, 2, 4, 3, 5, 1]),
            node("Reshape", ["turned", "windows"], "w"),
            node("Relu", ["w"], "r"),
            node("Reshape", ["r", "back"], "rows"),
            node("Shape", ["x"], "s"),
            node("Slice", ["s", "zero", "one"], "n"),
            node("Concat", ["n", "six"], "mask_shape", axis=0),
            node("ConstantOfShape", ["mask_shape"], "mask"),
            node("Cast", ["mask"], "maskb", to=TensorProto.BOOL),
            node("Not", ["maskb"], "ones"),
            node("Cast", ["ones"], "onesf", to=TensorProto.FLOAT),
            node("CumSum", ["onesf", "axis"], "count"),
            node("Sin", ["count"], "position"),
            node("Unsqueeze", ["position", "last"], "position3"),
            node("Add", ["rows", "position3"], "placed"),
            *([node("Expand", ["token", "token_shape"], "tokens")] if dynamic else []),
            node("Concat", ["tokens", "placed"], "all", axis=1),
            node("ReduceMax", ["all"], "out", axes=[1], keepdims=0),
        ]
        if dynamic:
            nodes.insert(-3, node("Concat", ["n", "ones2"], "token_shape", axis=0))
        weights = sizes | {"cut": ints(0, 6, 2, 5, 2, 6), "six": ints(6), "zero": ints(0), "one": ints(1)}
        weights |= {"axis": np.array(1, dtype=np.int64), "last": ints(1), "ones2": ints(1, 6)}
        made = model(nodes, {**STEM_WEIGHTS, **weights}, shape=(batch, 3, 112, 112), opset=13)
        network = network_of(write(tmp_path / "a.onnx", made))
        expected = reference(made, IMAGES[: 3 if dynamic else int(batch)])
        np.testing.assert_allclose(network(torch.from_numpy(IMAGES))[: len(expected)].numpy(), expected, atol=1e-5)

    def test_a_fixed_batch_of_two(self, tmp_path: Path) -> None:
        made = model(
            [*STEM, node("Reshape", ["x", "w"], "out")], {**STEM_WEIGHTS, "w": ints(2, -1)}, shape=(2, 3, 112, 112)
        )
        network = network_of(write(tmp_path / "a.onnx", made))
        np.testing.assert_allclose(
            network(torch.from_numpy(IMAGES[:2])).numpy(), reference(made, IMAGES[:2]), atol=1e-5
        )


IN_THE_GRAPH = "in the graph"
SCALED = [node("Sub", ["data", "m"], "a"), node("Mul", ["a", "s"], "scaled")]
DIVIDED = [node("Sub", ["data", "m"], "a"), node("Div", ["a", "s"], "scaled")]
ADDED = [node("Div", ["data", "s"], "a"), node("Add", ["m", "a"], "scaled")]
COLORS, UNIT_COLORS = (np.array(mean, "f").reshape(1, 3, 1, 1) for mean in ([123, 117, 104], [0.4, 0.5, 0.6]))
PIXELS = {"g": np.ones(3, "f"), "b": np.zeros(3, "f"), "m": np.full(3, 120, "f"), "v": np.full(3, 4000, "f")}
CONTRACTS: dict[str, tuple[list[Node], Weights, tuple[float, float, str, str]]] = {
    "none": ([node("Identity", ["data"], "scaled")], {}, (0.5, 0.5, "assumed", "-1..1")),
    "sub and mul": (
        SCALED,
        {"m": np.float32(127.5), "s": np.float32(0.0078125)},
        (0.5, 128 / 255, IN_THE_GRAPH, "0..255"),
    ),
    **{
        f"div and add {shape}": (
            ADDED,
            {"s": np.full(shape, 127.5, "f"), "m": np.full(shape, -1, "f")},
            (0.5, 0.5, IN_THE_GRAPH, "0..255"),
        )
        for shape in ((), (1,), (1, 1, 1, 1))
    },
    "sub only": (
        [node("Sub", ["data", "m"], "scaled")],
        {"m": np.float32(127.5)},
        (0.5, 1 / 255, IN_THE_GRAPH, "0..255"),
    ),
    "images in [0, 1]": (
        DIVIDED,
        {"m": np.float32(0.5), "s": np.float32(0.5)},
        (0.5, 0.5, IN_THE_GRAPH, "0..1"),
    ),
    "each color": (SCALED, {"m": COLORS, "s": np.float32(1 / 128)}, (0, 1 / 255, IN_THE_GRAPH, "0..255")),
    "each color in [0, 1]": (DIVIDED, {"m": UNIT_COLORS, "s": UNIT_COLORS}, (0, 1, IN_THE_GRAPH, "0..1")),
    "batch norm": (
        [node("BatchNormalization", ["data", *PIXELS], "scaled")],
        PIXELS,
        (0, 1 / 255, IN_THE_GRAPH, "0..255"),
    ),
    "integers": (
        [node("Cast", ["data"], "scaled", to=TensorProto.FLOAT)],
        {},
        (0, 1 / 255, IN_THE_GRAPH, "0..255"),
    ),
}


def with_contract(nodes: list[Node], weights: Weights, kind: int = TensorProto.FLOAT) -> onnx.ModelProto:
    first = node("Conv", ["scaled", "stem.weight"], "x", strides=[11, 9])
    return model([*nodes, first, *pooled("x")], {**STEM_WEIGHTS, **weights}, kind=kind)


def test_the_layout_of_opencvs_sface(tmp_path: Path) -> None:
    """Raw RGB of one image, scaled in the graph; a depthwise convolution, Dropout, and a BatchNorm at the end."""
    weights: Weights = {"m": np.full((1,), 127.5, "f"), "s": np.full((1,), 1 / 128, "f")}
    weights |= {
        "w": rand(8, 3, 3, 3),
        "slope": rand(8, 1, 1),
        "dw": rand(8, 1, 7, 7),
        "fc": rand(5, 8 * 16),
        "b": rand(5),
    }
    norms = {name: [f"{name}_{part}" for part in ("g", "b", "m", "v")] for name in ("n1", "n2", "n3")}
    for name, size in (("n1", 8), ("n2", 8), ("n3", 5)):
        weights |= dict(zip(norms[name], (rand(size), rand(size), rand(size), rand(size) ** 2 + 0.5), strict=True))
    nodes = [
        node("Sub", ["data", "m"], "centered"),
        node("Mul", ["centered", "s"], "scaled"),
        node("Conv", ["scaled", "w"], "c1", strides=[2, 2], pads=[1, 1, 1, 1]),
        node("BatchNormalization", ["c1", *norms["n1"]], "b1", epsilon=1e-3),
        node("PRelu", ["b1", "slope"], "r1"),
        node("Conv", ["r1", "dw"], "c2", strides=[14, 14], group=8),
        node("BatchNormalization", ["c2", *norms["n2"]], "b2", epsilon=1e-3),
        node("Dropout", ["b2"], "d", "mask", ratio=0.5),
        node("Flatten", ["d"], "f"),
        node("Gemm", ["f", "fc", "b"], "e", transB=1),
        node("BatchNormalization", ["e", *norms["n3"]], "out", epsilon=2e-5),
    ]
    made = model(nodes, weights, opset=11, shape=(1, 3, 112, 112))
    recognizer = Recognizer.load(write(tmp_path / "sface.onnx", made))
    assert recognizer.header["source"]["input"] == "0..255"
    assert recognizer.preprocessing.color == "RGB"
    pixels = np.random.default_rng(4).integers(0, 256, (3, 3, 112, 112)).astype(np.float32)
    each = torch.from_numpy(np.concatenate([reference(made, image[None]) for image in pixels]))
    found = recognizer.embed(torch.from_numpy(pixels) / 255)
    torch.testing.assert_close(found, torch.nn.functional.normalize(each), atol=1e-5, rtol=0)


class TestContract:
    @pytest.mark.parametrize("name", CONTRACTS)
    def test_mean_std_origin_and_range(self, name: str, tmp_path: Path) -> None:
        nodes, weights, expected = CONTRACTS[name]
        integers = name == "integers"
        made = with_contract(nodes, weights, TensorProto.UINT8 if integers else TensorProto.FLOAT)
        stored = onnx_file.read(write(tmp_path / "a.onnx", made))
        contract, source = stored.header["preprocessing"], stored.header["source"]
        assert (contract["color"], contract["size"]) == ("RGB", [112, 112])
        assert len({*contract["mean"]}) == len({*contract["std"]}) == 1
        assert (contract["mean"][0], contract["std"][0]) == (pytest.approx(expected[0]), pytest.approx(expected[1]))
        assert (source["contract"], source["input"]) == expected[2:]
        if name == "sub and mul":  # the arithmetic is gone
            steps = stored.header["backbone_settings"]["steps"]
            assert [one["op"] for one in steps] == ["conv", "folded_norm", "mean", "flatten"]
            assert steps[0]["inputs"] == [IMAGE]
        images = torch.rand(2, 3, 112, 112, generator=torch.Generator().manual_seed(3))
        images = (images * 255).round() / 255 if integers else images
        scale, shift = {"0..255": (255, 0), "0..1": (1, 0), "-1..1": (2, -1)}[source["input"]]
        units = (images * scale + shift).round() if integers else images * scale + shift
        features = reference(made, units.numpy().astype(np.uint8 if integers else np.float32))
        same = torch.nn.functional.normalize(torch.from_numpy(features))
        torch.testing.assert_close(Recognizer.from_checkpoint(stored, "a").embed(images), same, atol=1e-4, rtol=1e-3)

    @pytest.mark.parametrize("factor", [-1.0, 0.0, math.nan, math.inf])
    def test_no_scaling_at_all(self, factor: float, tmp_path: Path) -> None:
        factor_node = node("Mul", ["data", "s"], "scaled")
        with pytest.raises(CheckpointError, match="expected an image contract"):
            onnx_file.read(write(tmp_path / "a.onnx", with_contract([factor_node], {"s": np.float32(factor)})))

    def test_arithmetic_behind_a_fork_is_left_alone(self, tmp_path: Path) -> None:
        nodes = [node("Mul", ["data", "s"], "a"), node("Add", ["a", "data"], "scaled")]
        check(tmp_path / "a.onnx", with_contract(nodes, {"s": np.float32(2)}))


GOOD = [*STEM, *pooled("x")]
MILLION, BACKWARDS = rand(1000, 1000), (ints(9), ints(0), ints(1), ints(-1))
TEXT = helper.make_tensor("t", TensorProto.STRING, [1], [b"a"])
FLOAT8, INT4 = (helper.make_tensor("t", kind, [2], [0, 1]) for kind in (TensorProto.FLOAT8E5M2, TensorProto.INT4))


def refused(path: Path, made: onnx.ModelProto | bytes, match: str) -> None:
    path.write_bytes(made if isinstance(made, bytes) else made.SerializeToString())
    with pytest.raises(CheckpointError, match=match) as caught:
        onnx_file.read(path)
    assert "\n" not in str(caught.value)


class TestRefusals:
    @pytest.mark.parametrize(
        "content", [b"", b"not a network", b"\xff" * 99, b"\x08\x08", bytes(99), b"PK\x03\x04" + bytes(99)]
    )
    def test_no_onnx(self, content: bytes, tmp_path: Path) -> None:
        refused(tmp_path / "a.onnx", content, "is not a whole ONNX file")

    @pytest.mark.parametrize(
        ("shape", "found"),
        [
            (("N", 24, 24, 3), r"got \('N', 24, 24, 3\)"),
            ((1, 3, 640, 640), r"got \(1, 3, 640, 640\)"),
            (("N", 1, 112, 112), r"got \('N', 1, 112, 112\)"),
            (("N", 3), r"got \('N', 3\)"),
            ((), r"got \(\)"),
        ],
    )
    def test_another_input(self, shape: tuple[int | str, ...], found: str, tmp_path: Path) -> None:
        refused(tmp_path / "a.onnx", model(GOOD, STEM_WEIGHTS, shape=shape), found)

    def test_two_inputs_and_none(self, tmp_path: Path) -> None:
        made = model(GOOD, STEM_WEIGHTS)
        made.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, [1]))
        refused(tmp_path / "a.onnx", made, "expected one input, an image, got 2")
        del made.graph.input[:]
        refused(tmp_path / "a.onnx", made, "expected one input, an image, got 0")

    def test_a_detector(self, tmp_path: Path) -> None:
        nodes = [*STEM, *(node("Relu", ["x"], name) for name in ("score_8", "bbox_8"))]
        made = model(nodes, STEM_WEIGHTS, outputs=("score_8", "bbox_8"), shape=(1, 3, "?", "?"))
        refused(
            tmp_path / "a.onnx", made, r"expected one output, an embedding, got 2 \('score_8', 'bbox_8'\): a detector"
        )
        refused(tmp_path / "a.onnx", model(nodes, STEM_WEIGHTS, outputs=()), "got 0")

    def test_scales_of_what_is_not_the_images(self, tmp_path: Path) -> None:
        nodes = [node("DynamicQuantizeLinear", ["s"], "q"), node("ConvInteger", ["data", "q"], "out")]
        made = model(nodes, {"s": np.ones((2, 3, 1, 1))})
        refused(tmp_path / "a.onnx", made, r"\(2, 3, 1, 1\), whose first dimension is not the images'")

    @pytest.mark.parametrize(
        ("output", "found"),
        [
            ([node("Relu", ["x"], "out")], r"one vector per image, got \(N, 6, 10, 12\)"),
            ([node("ReduceMean", ["x"], "out", axes=[1, 2, 3], keepdims=0)], r"got \(N\)"),
            ([node("ReduceMean", ["x"], "out", axes=[1, 2, 3])], r"got \(N, 1, 1, 1\)"),
            ([node("ReduceMean", ["x"], "out")], r"got \(1, 1, 1, 1\)"),
            ([node("ReduceMean", ["x"], "out", keepdims=0)], r"got \(\)"),
            ([node("ReduceMean", ["x"], "out", axes=[0, 2, 3])], r"got \(1, 6, 1, 1\)"),
            ([node("Relu", ["stem.weight"], "out")], "one vector per image"),
            ([node("Relu", ["x"], "other")], "does not compute its output 'out'"),
        ],
    )
    def test_no_vector(self, output: list[Node], found: str, tmp_path: Path) -> None:
        refused(tmp_path / "a.onnx", model([*STEM, *output], STEM_WEIGHTS, opset=13), found)

    @pytest.mark.parametrize(
        ("nodes", "weights", "opset", "found"),
        [
            ([node("Mystery", ["x"])], {}, 13, "the operator 'Mystery'.* not supported"),
            ([node("Relu", ["x"], domain="com.microsoft")], {}, 13, r"the operator 'com\.microsoft\.Relu'"),
            ([node("If", ["x"], then_branch=helper.make_graph([], "t", [], []))], {}, 13, "the operator 'If'"),
            ([node("Conv", ["x", "gone"])], {}, 13, "lacks 'gone'"),
            ([node("Relu", ["y"])], {}, 13, "lacks 'y'"),
            ([node("Relu", [])], {}, 13, "the relu step 'y' does not fit"),
            ([node("Conv", ["x", "w"])], {"w": rand(4, 5, 3, 3)}, 13, "the conv layer 'y' does not fit"),
            ([node("Conv", ["x", "w"])], {"w": rand(4, 6, 3)}, 13, "does not work on feature maps"),
            ([node("Conv", ["x", "w"])], {"w": np.zeros((0, 6, 3, 3), "f")}, 13, "a weight is empty"),
            ([node("Conv", ["x", "w"], group=0)], {"w": rand(4, 6, 3, 3)}, 13, "the conv layer 'y' does not fit"),
            ([node("Conv", ["x", "w"], strides=[0, 1])], {"w": rand(4, 6, 3, 3)}, 13, r"the stride \[0, 1\]"),
            ([node("Conv", ["x", "w"], pads=[1, 1])], {"w": rand(4, 6, 3, 3)}, 13, "does not work on feature maps"),
            ([node("Conv", ["x", "w"], pads=[0, 0, 1 << 40, 0])], {"w": rand(4, 6, 3, 3)}, 13, "more than an embedder"),
            ([node("Conv", ["x", "w"], kernel_shape=[5, 5])], {"w": rand(4, 6, 3, 3)}, 13, r"the kernel \[5, 5\]"),
            ([node("Conv", ["x", "w", "b"])], {"w": rand(4, 6, 3, 3), "b": rand(5)}, 13, r"bias is \(5,\)"),
            ([node("Conv", ["x", "x"])], {}, 13, "expected a stored tensor, but .* depends on the image"),
            ([node("MaxPool", ["x"], kernel_shape=[2])], {}, 13, "does not work on feature maps"),
            ([node("AveragePool", ["x"], kernel_shape=[2, 2], dilations=[2, 2])], {}, 19, "the dilation"),
            ([node("BatchNormalization", ["x", *NORM], training_mode=1)], NORM, 15, "training mode"),
            ([node("BatchNormalization", ["x", *NORM], "y", "a", "b2")], NORM, 15, "training mode"),
            ([node("BatchNormalization", ["x", *NORM])], NORM, 6, "training mode"),
            ([node("BatchNormalization", ["x", *NORM])], {**NORM, "v": rand(5)}, 13, r"running_var is \(5,\)"),
            ([node("BatchNormalization", ["x", *NORM])], {**NORM, "s": rand(6, 10, 12)}, 13, r"a weight \(6, 10, 12\)"),
            ([node("Dropout", ["x", "r", "t"])], {"r": np.float32(0.5), "t": np.bool_(True)}, 13, "training mode"),
            ([node("Dropout", ["x"])], {}, 6, "training mode"),
            ([node("PRelu", ["x", "w"])], {"w": rand(5)}, 13, r"a slope \(5,\) on 6 channels"),
            ([node("PRelu", ["x", "w"])], {"w": rand(6, 10, 12)}, 13, r"a slope \(6, 10, 12\)"),
            (
                [node("Slice", ["x", "a", "b", "c"], "sq"), node("PRelu", ["sq", "w"])],
                {"w": rand(6), "a": ints(0), "b": ints(6), "c": ints(3)},
                13,
                "both the channels and the columns",
            ),
            ([*VECTOR, node("Gemm", ["f", "w"], transA=1)], {"w": rand(6, 5)}, 13, "transA"),
            ([*VECTOR, node("Gemm", ["f", "w"])], {"w": rand(6)}, 13, r"and \(6,\)"),
            ([*VECTOR, node("Gemm", ["f", "w", "b"])], {"w": rand(6, 5), "b": rand(4)}, 13, r"adds \(4,\)"),
            ([node("Reshape", ["x", "w"])], {"w": ints(0, 7)}, 13, "the reshape step 'y' does not fit"),
            ([node("Reshape", ["x", "w"])], {"w": ints(0, 0, 0, 0, 0)}, 13, "the reshape step 'y' does not fit"),
            ([node("Reshape", ["x", "w"], allowzero=1)], {"w": ints(0, 7)}, 14, "to an empty"),
            ([node("Transpose", ["x"], perm=[0, 1])], {}, 13, "the transpose step 'y' does not fit"),
            ([node("Pad", ["x", "w"], mode="wrap")], {"w": ints(*[0] * 8)}, 19, "of the mode b'wrap'"),
            ([node("Pad", ["x", "w"])], {"w": ints(*[1 << 40] * 8)}, 13, "Pad node .* by "),
            ([node("Pad", ["x", "w"])], {"w": ints(*[1 << 20] * 8)}, 13, "more than an embedder"),
            ([node("Pad", ["x", "w"])], {"w": ints(*[0] * 7, -3)}, 13, "Pad node .* by "),
            *(
                ([node("ConstantOfShape", ["w"], "c"), node("Add", ["x", "c"])], {"w": sizes}, 13, "asks for a tensor")
                for sizes in (ints(1 << 20, 1 << 20), ints(1 << 62, 0), ints(-1, -1))
            ),
            ([node("Gather", ["w", "i"], "c")], {"w": MILLION, "i": np.zeros(100_000, "i8")}, 13, "100000 places"),
            ([node("Gather", ["w", "i"], "c")], {"w": rand(4), "i": ints(9)}, 13, "incomplete"),
            ([node("Gather", ["x", "i"], axis=1)], {"i": ints(2, 1, 0).reshape(1, 3)}, 13, "depends on the image"),
            ([node("Slice", ["x", "a", "b", "c", "d"])], dict(zip("abcd", BACKWARDS, strict=True)), 13, "of steps"),
            ([node("Slice", ["x", "a", "b"])], {"a": ints(9), "b": ints(0, 1)}, 13, "does not fit"),
            ([node("Split", ["x", "w"], "y", "b", axis=1)], {"w": ints(2, 3)}, 13, r"of 6 into \[2, 3\]"),
            ([node("Add", ["x", "w"], broadcast=1, axis=1)], {"w": rand(6)}, 6, "before opset 7"),
            ([node("Softmax", ["x"])], {}, 11, "flattens its input"),
            ([*VECTOR, node("LpNormalization", ["f"], p=1)], {}, 13, "another norm"),
            ([node("LayerNormalization", ["x", "w"], axis=2)], {"w": rand(12)}, 17, r"over the axes from 2 .* \(12,\)"),
            ([node("Where", ["c", "x", "x"]), node("Not", ["x"], "c")][::-1], {}, 13, "'Not'.* depend on the image"),
            ([node("Expand", ["x", "w"])], {"w": ints(3, 6, 10, 5)}, 13, r"of .* to \(3, 6, 10, 5\)"),
            (
                [node("Expand", ["w", "s"], "c")],
                {"w": rand(1), "s": ints(1 << 20, 1 << 20)},
                13,
                "larger than an embed",
            ),
            (
                [node("Resize", ["x", "", "w"], mode="cubic", antialias=1)],
                {"w": rand(4) * 0 + 1},
                18,
                "of the mode cubic",
            ),
            ([node("Cast", ["x"], to=TensorProto.INT32)], {}, 13, "the image to integers"),
            ([node("Constant", [], "c")], {}, 13, "of the kind 'none'"),
            ([node("Constant", [], "c", value=TEXT)], {}, 13, "expected numbers"),
            ([node("Constant", [], "c", value=FLOAT8)], {}, 19, "holds float8_e5m2, expected numbers"),
            ([node("Constant", [], "c", value=INT4)], {}, 21, "holds int4, expected numbers"),
            ([node("Clip", ["x", "w"])], {"w": rand(6, 1, 1)}, 13, "incomplete"),
            ([node("LeakyRelu", ["x"], alpha="steep")], {}, 13, "the leaky_relu step 'y' does not fit"),
            ([node("Add", ["x", "w"])], {"w": rand(5, 1, 1)}, 13, "the add step 'y' does not fit"),
            ([node("Add", ["t", "w"])], {"t": rand(1 << 14, 1), "w": rand(1 << 14)}, 13, "more than an embedder"),
            ([helper.make_node("Relu", ["x"], [])], {}, 13, "has no output"),
        ],
    )
    def test_nodes(self, nodes: list[Node], weights: Weights, opset: int, found: str, tmp_path: Path) -> None:
        made = model([*STEM, *nodes, *to_vector()], {**STEM_WEIGHTS, **weights}, opset=opset)
        refused(tmp_path / "a.onnx", made, found)

    def test_many_large_values(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("arcinvert.formats.builder.MAX_TOTAL_ELEMENTS", 50_000)
        nodes = [*STEM, *(node("Relu", ["x"], f"r{i}") for i in range(22))]
        check(tmp_path / "a.onnx", model([*nodes[:-3], *pooled("r0")], STEM_WEIGHTS))
        refused(tmp_path / "a.onnx", model([*nodes, *pooled("r0")], STEM_WEIGHTS), "more than an embedder")

    def test_rows_that_depend_on_each_other(self, tmp_path: Path) -> None:
        first = [*STEM, *VECTOR]
        centered = [node("ReduceMean", ["f"], "m", axes=[0]), node("Sub", ["f", "m"], "out")]
        refused(
            tmp_path / "a.onnx",
            model([*first, *centered], STEM_WEIGHTS, opset=13),
            "depends on the other images",
        )
        attention = [
            node("Transpose", ["f"], "t", perm=[1, 0]),
            node("MatMul", ["f", "t"], "s"),
            node("Softmax", ["s"], "p2", axis=1),
            node("MatMul", ["p2", "f"], "out"),
        ]
        refused(tmp_path / "a.onnx", model([*first, *attention], STEM_WEIGHTS), "depends on the other images")

    def test_rows_that_depend_on_each_other_with_damaged_statistics(self, tmp_path: Path) -> None:
        nodes = [*STEM, *VECTOR, node("BatchNormalization", ["f", *NORM], "n")]
        nodes += [node("ReduceMean", ["n"], "m", axes=[0]), node("Sub", ["n", "m"], "out")]
        bad = {**STEM_WEIGHTS, **NORM, "v": np.full(6, np.nan, "f")}
        refused(tmp_path / "a.onnx", model(nodes, bad, opset=13), "depends on the other images")

    @pytest.mark.parametrize("end", [3, 2])
    def test_a_batch_that_is_cut(self, end: int, tmp_path: Path) -> None:
        """Three rows and fewer pass through; a larger batch would lose some."""
        nodes = [*STEM, *VECTOR, node("Slice", ["f"], "out", starts=[0], ends=[end], axes=[0])]
        found = "no batch size but the file" if end == 3 else r"got \(2, 6\)"
        refused(tmp_path / "a.onnx", model(nodes, STEM_WEIGHTS, opset=8), found)

    def test_a_batch_that_is_grown(self, tmp_path: Path) -> None:
        nodes = [*STEM, *VECTOR, node("Add", ["f", "w"], "out")]
        refused(tmp_path / "a.onnx", model(nodes, {**STEM_WEIGHTS, "w": rand(3, 6)}), "the add step 'out' does not fit")

    def test_names_that_torch_has_taken(self, tmp_path: Path) -> None:
        names = ["keys", "forward", "type", "a.b", "image", "0", "T_destination", "training", "é"]
        nodes = [*STEM, node("Conv", ["x", "w"], names[0])]
        nodes += [node("Conv", [a, "w"], b) for a, b in pairwise(names)]
        check(tmp_path / "a.onnx", model([*nodes, *pooled(names[-1])], {**STEM_WEIGHTS, "w": rand(6, 6, 1, 1) * 0.6}))

    def test_names_that_are_no_text(self, tmp_path: Path) -> None:
        content = model([*STEM, node("Relu", ["x"], "abcdef"), *pooled("abcdef")], STEM_WEIGHTS).SerializeToString()
        refused(tmp_path / "a.onnx", content.replace(b"abcdef", b"\xff\xfe\xfd\xfc\xfb\xfa"), "is not text")

    def test_lines_in_a_name_stay_on_one(self, tmp_path: Path) -> None:
        bad = helper.make_node("Mystery\n\x1b[31m", ["x"], ["y"], name="two\nlines")
        refused(
            tmp_path / "a.onnx",
            model([*STEM, bad, *pooled()], STEM_WEIGHTS),
            r"'Mystery\\n\\x1b\[31m' \(node 'two\\nlines'\)",
        )

    @pytest.mark.parametrize(
        ("change", "found"),
        [
            (lambda t: t.dims.append(2), "tensor 'stem.weight'"),
            (lambda t: t.dims.__setitem__(0, -6), "tensor 'stem.weight'"),
            (lambda t: t.dims.__setitem__(0, 1 << 60), "tensor 'stem.weight'"),
            (lambda t: setattr(t, "data_type", 99), "tensor 'stem.weight'"),
            (lambda t: setattr(t, "data_type", 0), "tensor 'stem.weight'"),
            (lambda t: setattr(t, "data_type", TensorProto.COMPLEX64), "stem.weight"),
            (lambda t: setattr(t, "raw_data", t.raw_data[:-1]), "tensor 'stem.weight'"),
            (lambda t: t.ClearField("raw_data"), "tensor 'stem.weight'"),
        ],
    )
    def test_tensors_that_lie(self, change: Callable[[Any], None], found: str, tmp_path: Path) -> None:
        made = model(GOOD, STEM_WEIGHTS)
        change(made.graph.initializer[0])
        refused(tmp_path / "a.onnx", made, found)


def outside(made: onnx.ModelProto, **where: object) -> onnx.ModelProto:
    """The first tensor's data lies in another file."""
    tensor = made.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in where.items():
        tensor.external_data.add(key=key, value=str(value))
    return made


class TestOuterData:
    DATA = STEM_WEIGHTS["stem.weight"].tobytes()

    def test_beside_the_file(self, tmp_path: Path) -> None:
        (tmp_path / "w.bin").write_bytes(b"12345678" + self.DATA + b"rest")
        plain = model(GOOD, STEM_WEIGHTS)
        whole = outside(model(GOOD, STEM_WEIGHTS), location="w.bin", offset=8, length=len(self.DATA))
        network = network_of(write(tmp_path / "a.onnx", whole))
        np.testing.assert_allclose(network(torch.from_numpy(IMAGES)).numpy(), reference(plain, IMAGES), atol=1e-5)

    def test_the_digest_covers_it(self, tmp_path: Path) -> None:
        write(tmp_path / "a.onnx", outside(model(GOOD, STEM_WEIGHTS), location="w.bin"))
        digests = []
        for data in (self.DATA, self.DATA, bytes(len(self.DATA))):
            (tmp_path / "w.bin").write_bytes(data)
            digests.append(onnx_file.read(tmp_path / "a.onnx").digest)
        assert digests[0] == digests[1] != digests[2]

    ELSEWHERE = ("../secret", "{outside}/secret", "link", "hard", "folder/inner", "folder", "none", "pipe")
    ELSEWHERE += (".", "..", "", "./w.bin", "a\\b", "a\0b")

    @pytest.mark.parametrize("place", ELSEWHERE)
    def test_elsewhere_is_never_opened(self, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        inside = tmp_path / "models"
        (inside / "folder").mkdir(parents=True)
        for path in (tmp_path / "secret", inside / "folder" / "inner", inside / "w.bin"):
            path.write_bytes(self.DATA)
        (inside / "link").symlink_to(tmp_path / "secret")
        os.link(tmp_path / "secret", inside / "hard")
        os.mkfifo(inside / "pipe")
        place = place.format(outside=tmp_path)
        path = write(inside / "a.onnx", outside(model(GOOD, STEM_WEIGHTS), location=place))
        opened: list[str] = []
        original = Path.read_bytes
        monkeypatch.setattr(Path, "read_bytes", lambda self: (opened.append(str(self)), original(self))[1])
        with pytest.raises(CheckpointError, match="only a plain file beside it is opened"):
            onnx_file.read(path)
        assert opened == [str(path)]

    @pytest.mark.parametrize("key", ["offset", "length"])
    @pytest.mark.parametrize("value", [-4, 10, 1 << 70, "x"])
    def test_a_place_that_does_not_exist(self, key: str, value: object, tmp_path: Path) -> None:
        (tmp_path / "w.bin").write_bytes(self.DATA)
        made = outside(model(GOOD, STEM_WEIGHTS), location="w.bin", **{key: value})
        refused(tmp_path / "a.onnx", made, "stem.weight|needs bytes")

    def test_of_a_constant_node(self, tmp_path: Path) -> None:
        (tmp_path / "secret").write_bytes(self.DATA)
        made = outside(model(GOOD, STEM_WEIGHTS), location="../secret")
        tensor = made.graph.initializer[0]
        nodes = [helper.make_node("Constant", [], ["stem.weight"], value=tensor), *GOOD]
        (tmp_path / "models").mkdir()
        refused(tmp_path / "models" / "a.onnx", model(nodes), "only a plain file beside it")


class TestStatistics:
    @pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
    def test_bad_channels_are_dropped_and_counted(self, bad: float, tmp_path: Path) -> None:
        variance = NORM["v"].copy()
        variance[2] = bad
        nodes = [*STEM, node("BatchNormalization", ["x", *NORM]), *pooled()]
        recognizer = Recognizer.load(write(tmp_path / "a.onnx", model(nodes, {**STEM_WEIGHTS, **NORM, "v": variance})))
        assert recognizer.dropped_channels() == 1
        assert recognizer.embed(torch.from_numpy(IMAGES).abs()).isfinite().all()

    def test_all_bad(self, tmp_path: Path) -> None:
        nodes = [*STEM, node("BatchNormalization", ["x", *NORM]), *pooled()]
        path = write(tmp_path / "a.onnx", model(nodes, {**STEM_WEIGHTS, **NORM, "v": np.full(6, -1, "f")}))
        with pytest.raises(CheckpointError, match="not one BatchNorm channel"):
            Recognizer.load(path)

    def test_weights_that_are_not_finite(self, tmp_path: Path) -> None:
        weights = {"stem.weight": np.full((6, 3, 8, 8), np.nan, "f")}
        path = write(tmp_path / "a.onnx", model(GOOD, weights))
        with pytest.raises(CheckpointError, match="not finite"):
            Recognizer.load(path)


SMALL_WEIGHTS = {
    **STEM_WEIGHTS,
    **NORM,
    "slope": rand(6, 1, 1),
    "fc.weight": rand(5, 6),
    "fc.bias": rand(5),
    "to": ints(0, 6),
}


def small() -> bytes:
    """A little of everything."""
    nodes = [
        *STEM,
        node("BatchNormalization", ["x", *NORM], "n"),
        node("PRelu", ["n", "slope"], "a"),
        node("MaxPool", ["a"], "m", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
        node("GlobalAveragePool", ["m"], "p"),
        node("Reshape", ["p", "to"], "f"),
        node("Gemm", ["f", "fc.weight", "fc.bias"], "out", transB=1),
    ]
    return bytes(model(nodes, SMALL_WEIGHTS, opset=13).SerializeToString())


class TestDamage:
    @staticmethod
    def opens(path: Path, content: bytes) -> bool:
        """Whether it opens; anything but an InputError escapes."""
        path.write_bytes(content)
        try:
            with torch.no_grad():
                recognizer = Recognizer.from_checkpoint(onnx_file.read(path), "a")
                found = recognizer.trace(torch.zeros(2, 3, 112, 112)).embedding
        except InputError as error:
            return "\n" in str(error)  # more than a line would count as opened
        assert len(found) == 2
        return True

    @pytest.mark.parametrize("seed", range(6))
    def test_flipped_bytes(self, seed: int, tmp_path: Path) -> None:
        """Fifty files of each seed; flips fall on the structure, not only on the weights, which are most of it."""
        content, generator = small(), np.random.default_rng(seed)
        large = content.index(STEM_WEIGHTS["stem.weight"].tobytes())
        structure = [i for i in range(len(content)) if not large <= i < large + STEM_WEIGHTS["stem.weight"].nbytes]
        opened = 0
        for _ in range(50):
            damaged = bytearray(content)
            for place in generator.choice(structure, generator.integers(1, 4)):
                damaged[place] = (
                    generator.integers(256)
                    if generator.random() < 0.5
                    else damaged[place] ^ (1 << generator.integers(8))
                )
            opened += self.opens(tmp_path / "a.onnx", bytes(damaged))
        assert opened < 50

    def test_truncated(self, tmp_path: Path) -> None:
        content = small()
        for keep in [*range(0, 200, 7), *range(len(content) - 700, len(content), 23)]:
            assert not self.opens(tmp_path / "a.onnx", content[:keep])


class TestWhatItBecomes:
    def test_layers_are_called_after_their_parameters(self, tmp_path: Path) -> None:
        (tmp_path / "a.onnx").write_bytes(small())
        stored = onnx_file.read(tmp_path / "a.onnx")
        steps = {one["output"]: one["op"] for one in stored.header["backbone_settings"]["steps"]}
        assert next(iter(steps.items())) == ("stem", "conv")
        assert steps["fc"] == "linear"
        assert stored.header["embedding_size"] == 5
        expected = {"format": "ONNX", "file": "a.onnx", "contract": "assumed", "input": "-1..1"}
        assert stored.header["source"] == expected

    def test_statistics_of_convolutions_without_a_norm(self, tmp_path: Path) -> None:
        recognizer = Recognizer.load(write(tmp_path / "a.onnx", model(GOOD, STEM_WEIGHTS)))
        assert recognizer.folded == recognizer.layers == ("layers.stem_norm",)
        assert recognizer.layer_sizes == {"layers.stem_norm": (6, 10, 12)}

    def test_a_norm_behind_a_fork_still_counts(self, tmp_path: Path) -> None:
        nodes = [*STEM, node("BatchNormalization", ["x", *NORM], "n"), node("Add", ["n", "x"]), *pooled()]
        recognizer = Recognizer.load(write(tmp_path / "a.onnx", model(nodes, {**STEM_WEIGHTS, **NORM})))
        assert recognizer.layers == ("layers.stem_norm", "layers.n")
        assert recognizer.folded == ("layers.stem_norm",)

    def test_tied_weights_can_be_saved(self, tmp_path: Path) -> None:
        nodes = [*STEM, node("Conv", ["x", "w"], "a"), node("Conv", ["a", "w"], "b"), node("Add", ["b", "c"], "d")]
        nodes += [node("Reshape", ["c", "to"], "c2"), node("Mul", ["d", "c2"])]
        weights = {**STEM_WEIGHTS, "w": rand(6, 6, 1, 1), "c": rand(6, 1, 1), "to": ints(1, 6, 1, 1)}
        made = model([*nodes, *pooled()], weights)
        check(tmp_path / "a.onnx", made)
        stored = onnx_file.read(tmp_path / "a.onnx")
        save_checkpoint(tmp_path / "b.safetensors", stored.header, stored.tensors)
        images = torch.from_numpy(IMAGES).abs().clamp(0, 1)
        found, expected = (Recognizer.load(tmp_path / name).embed(images) for name in ("b.safetensors", "a.onnx"))
        assert torch.equal(found, expected)

    def test_nothing_is_taken_from_the_shared_random_numbers_twice(self, tmp_path: Path) -> None:
        (tmp_path / "a.onnx").write_bytes(small())
        first, second = (onnx_file.read(tmp_path / "a.onnx") for _ in range(2))
        assert first.header == second.header
        assert first.digest == second.digest
        assert all(torch.equal(first.tensors[key], second.tensors[key]) for key in first.tensors)


REAL = {
    "insightface-mobilefacenet-y1.onnx": (50, 0, 128),
    "insightface-mobilefacenet-y1-folded.onnx": (1, 49, 128),
    "mobileface-v3.onnx": (0, 17, 256),
    "edgeface-xxs.onnx": (0, 19, 512),
}


@pytest.mark.slow
class TestRealFiles:
    @pytest.mark.parametrize("name", REAL)
    def test_as_onnxruntime_has_them(self, name: str, test_data: Path) -> None:
        path = test_data / "models" / name
        if not path.is_file():
            pytest.skip(f"no network at {path}")
        recognizer = Recognizer.from_checkpoint(open_checkpoint(path), name)
        norms, folded, size = REAL[name]
        assert (len(recognizer.layers) - len(recognizer.folded), len(recognizer.folded)) == (norms, folded)
        assert recognizer.embedding_size == size
        assert recognizer.preprocessing.mean[0] == pytest.approx(0.5)
        outside = name.startswith("edgeface")  # the scaling is not in its graph
        assert recognizer.preprocessing.std[0] == pytest.approx(0.5 if outside else 128 / 255)
        faces = default_face_prior().pictures(range(100)).permute(0, 3, 1, 2).float() / 255
        made = onnx.load(path)
        made.graph.input[0].name, given = "data", made.graph.input[0].name
        for one in made.graph.node:
            one.input[:] = ["data" if value == given else value for value in one.input]
        expected = torch.from_numpy(reference(made, (faces * 2 - 1 if outside else faces * 255).numpy()))
        cosine = torch.nn.functional.cosine_similarity(recognizer.embed(faces), expected)
        assert cosine.min() > 0.9999

        # The gradient of a cosine, against differences of onnxruntime's own answers.
        target = torch.nn.functional.normalize(expected[1], dim=0)
        image = faces[:1].clone().requires_grad_()
        (recognizer.trace(image).embedding[0] @ target).backward()
        assert image.grad is not None
        assert image.grad.isfinite().all()
        direction = image.grad / image.grad.norm()
        step = 0.02
        ends = torch.cat([image.detach() + sign * step * direction for sign in (1, -1)])
        features = torch.from_numpy(reference(made, (ends * 2 - 1 if outside else ends * 255).numpy()))
        up, down = (torch.nn.functional.normalize(features) @ target).tolist()
        assert (up - down) / (2 * step) == pytest.approx(image.grad.norm().item(), rel=0.05)
