"""int8 graphs, against onnxruntime."""

import copy
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from torch import Tensor
from torch.nn.functional import cosine_similarity

from arcinvert.errors import CheckpointError
from arcinvert.formats import onnx as onnx_file
from arcinvert.recognizer import Recognizer

RANDOM = np.random.default_rng(0)
IMAGES = np.random.default_rng(1).uniform(-1, 1, (4, 3, 112, 112)).astype(np.float32)


def node(kind: str, inputs: str, output: str, domain: str = "", **attributes: object) -> onnx.NodeProto:
    return helper.make_node(kind, inputs.split(), [output], domain=domain, **attributes)


def int8(*shape: int) -> np.ndarray:
    return RANDOM.integers(-127, 128, shape).astype(np.int8)


# An image in steps of 1/100; weights of the first layer with a scale per channel.
WEIGHTS = {
    "xs": np.float32(0.01),
    "xz": np.uint8(120),
    "w": int8(8, 3, 16, 16),
    "ws": RANDOM.uniform(1e-4, 3e-4, 8).astype(np.float32),
    "wz": np.zeros(8, np.int8),
    "b": RANDOM.integers(-2000, 2000, 8).astype(np.int32),
    "ys": np.float32(0.02),
    "yz": np.uint8(100),
    "fc": int8(8 * 49, 12),
    "fs": np.float32(0.003),
    "fz": np.int8(3),
    "os": np.float32(0.08),
}
FIRST = node("QuantizeLinear", "data xs xz", "x")
LAST = node("DequantizeLinear", "o os yz", "out")
CONV = node("QLinearConv", "x xs xz w ws wz ys yz b", "y", strides=[16, 16])
FLAT = node("Flatten", "y2", "f")
LINEAR = node("QLinearMatMul", "f ys yz fc fs fz os yz", "o")


def model(*nodes: onnx.NodeProto) -> onnx.ModelProto:
    stored = [numpy_helper.from_array(np.asarray(array), name) for name, array in WEIGHTS.items()]
    image = helper.make_tensor_value_info("data", TensorProto.FLOAT, ["N", 3, 112, 112])
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, None)
    graph = helper.make_graph(list(nodes), "g", [image], [out], stored)
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def session_of(model: bytes) -> onnxruntime.InferenceSession:
    """A session whose sums of int8 products are exact, as ONNX defines them, also on x64 processors without VNNI: by
    default onnxruntime adds two products in 16 bits there, which overflow.
    """
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.x64quantprecision", "1")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def check(made: onnx.ModelProto, path: Path) -> Tensor:
    """The same features as onnxruntime; returns the gradient."""
    path.write_bytes(made.SerializeToString())
    session = session_of(made.SerializeToString())
    (expected,) = session.run(None, {"data": IMAGES})
    images = torch.from_numpy(IMAGES).requires_grad_()
    found = Recognizer.load(path).network(images)
    assert expected.std() > 0.01
    assert cosine_similarity(found, torch.from_numpy(expected)).min() > 0.999
    (gradient,) = torch.autograd.grad(found.square().sum(), images)
    assert gradient.isfinite().all()
    assert gradient.abs().sum() > 0
    return gradient


MICROSOFT = {
    "add": node("QLinearAdd", "y ys yz y ys yz ys yz", "y2", "com.microsoft"),
    "mul": node("QLinearMul", "y ys yz y ys yz ys yz", "y2", "com.microsoft"),
    "leaky": node("QLinearLeakyRelu", "y ys yz ys yz", "y2", "com.microsoft", alpha=0.2),
    "sigmoid": node("QLinearSigmoid", "y ys yz fs yz", "y2", "com.microsoft"),
    "pool": node("QLinearAveragePool", "y ys yz ys yz", "y2", "com.microsoft", kernel_shape=[1, 1]),
}


@pytest.mark.parametrize("kind", MICROSOFT)
def test_operators_on_quantized_values(kind: str, tmp_path: Path) -> None:
    check(model(FIRST, CONV, MICROSOFT[kind], FLAT, LINEAR, LAST), tmp_path / "a.onnx")


def test_gemm_concat_and_the_mean_of_a_map(tmp_path: Path) -> None:
    nodes: list[onnx.NodeProto] = [
        node("QLinearConcat", "ys yz y ys yz y ys yz", "two", "com.microsoft", axis=2),
        node("QLinearGlobalAveragePool", "two ys yz ys yz", "mean", "com.microsoft"),
        node("Flatten", "mean", "f"),
        node("Constant", "", "small", value=numpy_helper.from_array(int8(8, 12))),
        node("QGemm", "f ys yz small fs fz os yz", "o", "com.microsoft", alpha=1.0),
    ]
    nodes[-1].input[:] = ["f", "ys", "yz", "small", "ys", "fz", "", "xs", "yz"]
    check(model(FIRST, CONV, *nodes, LAST), tmp_path / "a.onnx")


def test_quantize_and_dequantize_pairs(tmp_path: Path) -> None:
    nodes = [
        FIRST,
        node("DequantizeLinear", "x xs xz", "xf"),
        node("DequantizeLinear", "w ws wz", "wf", axis=0),
        node("Conv", "xf wf", "yf", strides=[16, 16]),
        node("QuantizeLinear", "yf ys yz", "y"),
        node("DequantizeLinear", "y ys yz", "y2"),
        FLAT,
        node("DequantizeLinear", "fc fs fz", "fcf"),
        node("MatMul", "f fcf", "out"),
    ]
    gradient = check(model(*nodes), tmp_path / "a.onnx")
    # Straight through the rounding: as of the exact network.
    exact = [copy.deepcopy(n) for n in nodes if n.output[0] not in ("x", "xf", "y", "y2")]
    exact[1].input[0], exact[2].input[0] = "data", "yf"
    (tmp_path / "b.onnx").write_bytes(model(*exact).SerializeToString())
    images = torch.from_numpy(IMAGES).requires_grad_()
    found = Recognizer.load(tmp_path / "b.onnx").network(images)
    (expected,) = torch.autograd.grad(found.square().sum(), images)
    assert cosine_similarity(gradient.flatten(), expected.flatten(), dim=0) > 0.99


@pytest.mark.parametrize("pairs", [False, True], ids=["QLinear", "QDQ"])
def test_sums_of_whole_numbers_are_those_of_onnxruntime_in_any_batch(pairs: bool, tmp_path: Path) -> None:
    products = [CONV, node("QLinearMatMul", "f ys yz fc fs fz os yz", "o")]
    if pairs:
        float_bias = WEIGHTS["b"] * (WEIGHTS["xs"] * WEIGHTS["ws"])
        products[:1] = [
            node("DequantizeLinear", "x xs xz", "xf"),
            node("DequantizeLinear", "w ws wz", "wf", axis=0),
            node("Constant", "", "bf", value=numpy_helper.from_array(float_bias.astype(np.float32))),
            node("Conv", "xf wf bf", "yf", strides=[16, 16]),
            node("QuantizeLinear", "yf ys yz", "y"),
        ]
    flat = node("Flatten", "y", "f")
    made = model(FIRST, *products[:-1], flat, products[-1], LAST)
    path = tmp_path / "a.onnx"
    path.write_bytes(made.SerializeToString())
    session = session_of(made.SerializeToString())
    (expected,) = session.run(None, {"data": IMAGES})
    network = Recognizer.load(path).network
    images = torch.from_numpy(IMAGES)
    found = network(images)
    torch.testing.assert_close(found, torch.from_numpy(expected), atol=1e-5, rtol=0)  # a step is 0.08
    assert torch.equal(torch.cat([network(image[None]) for image in images]), found)


@pytest.mark.parametrize("pairs", [False, True], ids=["QLinear", "QDQ"])
def test_ties_of_additions_round_as_in_onnxruntime(pairs: bool, tmp_path: Path) -> None:
    add = [node("QLinearAdd", "x s z x s z t z", "y", "com.microsoft")]
    if pairs:
        add = [
            node("DequantizeLinear", "x s z", "xf"),
            node("Add", "xf xf", "sum"),
            node("QuantizeLinear", "sum t z", "y"),
        ]
    tail = [node("DequantizeLinear", "y t z", "yf"), node("Flatten", "yf", "out")]
    made = model(node("QuantizeLinear", "data s z", "x"), *add, *tail)
    numbers = {"s": np.float32(1 / 128), "t": np.float32(1 / 32), "z": np.uint8(121)}  # half of the sums are ties
    made.graph.initializer.extend(numpy_helper.from_array(np.asarray(array), name) for name, array in numbers.items())
    session = session_of(made.SerializeToString())
    (tmp_path / "a.onnx").write_bytes(made.SerializeToString())
    found = Recognizer.load(tmp_path / "a.onnx").network(torch.from_numpy(IMAGES))
    assert torch.equal(found, torch.from_numpy(session.run(None, {"data": IMAGES})[0]))


def dynamic(folder: Path, **settings: object) -> tuple[Path, Path]:
    """A small network, and what onnxruntime's tool makes of it."""
    weights = {
        "w1": RANDOM.normal(size=(8, 3, 8, 8)) / 8,
        "b1": RANDOM.normal(size=8),
        "w2": RANDOM.normal(size=(8, 8, 3, 3)) / 4,
        "fc": RANDOM.normal(size=(12, 8 * 49)) / 8,
        "fb": RANDOM.normal(size=12),
    }
    nodes = [
        node("Conv", "data w1 b1", "c1", strides=[8, 8]),
        node("Relu", "c1", "r1"),
        node("Conv", "r1 w2", "c2", strides=[2, 2], pads=[1, 1, 1, 1]),
        node("Flatten", "c2", "f"),
        node("Gemm", "f fc fb", "out", transB=1),
    ]
    stored = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()]
    image = helper.make_tensor_value_info("data", TensorProto.FLOAT, ["N", 3, 112, 112])
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, ["N", 12])
    graph = helper.make_graph(nodes, "g", [image], [out], stored)
    exact, quantized = folder / "exact.onnx", folder / "dynamic.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), exact)
    quantize_dynamic(exact, quantized, **settings)
    return exact, quantized


@pytest.mark.parametrize("settings", [{}, {"per_channel": True, "weight_type": QuantType.QUInt8}], ids=["one", "each"])
def test_dynamic_quantization_is_that_of_each_image(settings: dict[str, object], tmp_path: Path) -> None:
    exact, quantized = dynamic(tmp_path, **settings)
    kinds = {n.op_type for n in onnx.load(quantized).graph.node}
    assert {"DynamicQuantizeLinear", "ConvInteger", "MatMulInteger"} <= kinds
    session = session_of(quantized)
    pictures = IMAGES * np.array([1, 0.5, 0.2, 0.1], np.float32)[:, None, None, None]  # each has a scale of its own
    expected = torch.cat([torch.from_numpy(session.run(None, {"data": image[None]})[0]) for image in pictures])
    network = Recognizer.load(quantized).network
    images = torch.from_numpy(pictures).requires_grad_()
    found = network(images)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(torch.cat([network(image[None]) for image in images]), found, atol=1e-5, rtol=1e-5)
    (gradient,) = torch.autograd.grad(found.square().sum(), images)
    (of_exact,) = torch.autograd.grad(Recognizer.load(exact).network(images).square().sum(), images)
    assert cosine_similarity(gradient.flatten(1), of_exact.flatten(1)).min() > 0.95


def test_dynamic_quantization_of_an_image_of_zeros(tmp_path: Path) -> None:
    _, quantized = dynamic(tmp_path)
    session = session_of(quantized)
    zeros = np.zeros((1, 3, 112, 112), np.float32)
    found = Recognizer.load(quantized).network(torch.from_numpy(zeros))
    torch.testing.assert_close(found, torch.from_numpy(session.run(None, {"data": zeros})[0]), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("nodes", "found"),
    [
        ([node("QuantizeLinear", "data ws", "out")], r"8,\) scales for \(3, 3, 112, 112\)"),
        ([node("QuantizeLinear", "data xs b", "out")], "to int32, expected int8"),
    ],
)
def test_refused(nodes: list[onnx.NodeProto], found: str, tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(model(*nodes).SerializeToString())
    with pytest.raises(CheckpointError, match=found):
        onnx_file.read(tmp_path / "a.onnx")
