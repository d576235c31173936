"""Weight files, and the files of a training run."""

import functools
import io
import json
import math
import pickle
import struct
import tomllib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from fuzz_target import Target, folder_of_tests, saved

from arcinvert.adapter import Adapter, Perceptron
from arcinvert.backbones import build_backbone
from arcinvert.calibration.calibration import Calibration
from arcinvert.calibration.fit import calibrate
from arcinvert.checkpoint import save_checkpoint
from arcinvert.errors import UsageError
from arcinvert.faceprior.prior import load_face_prior
from arcinvert.faces.scrfd import SCRFD
from arcinvert.formats import hub
from arcinvert.inversion.priors import stored_statistics
from arcinvert.recognizer import Recognizer
from arcinvert.training.config import TrainConfig
from arcinvert.training.state import load_state

with folder_of_tests("faces"):
    from detectors import built

SETTINGS = {"width": 1 / 64, "embedding_size": 4}
KINDS = {str(kind).removeprefix("torch."): kind for kind in (
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
    torch.uint8, torch.bool)}  # fmt: skip
CONTRACT = {"size": [112, 112], "color": "RGB", "mean": [0.5] * 3, "std": [0.5] * 3}


def _network() -> torch.nn.Module:
    return build_backbone("iresnet18", **SETTINGS)


def _torch(folder: Path) -> Sequence[bytes]:
    state = _network().state_dict()
    seeds = []
    for content, zipped in (({"state_dict": {f"module.{k}": v for k, v in state.items()}}, True), (state, False)):
        file = io.BytesIO()
        torch.save(content, file, _use_new_zipfile_serialization=zipped)
        seeds.append(file.getvalue())
    small = io.BytesIO()
    torch.save({"layer1.0.conv1.weight": torch.zeros(2, 2, 3, 3), "fc.weight": torch.zeros(4, 8)}, small)
    return [*seeds, small.getvalue()]


def _ours(folder: Path) -> Sequence[bytes]:
    header = {"backbone": "iresnet18", "backbone_settings": SETTINGS, "embedding_size": 4, "preprocessing": CONTRACT}
    tensors = {f"network.{key}": value for key, value in _network().state_dict().items()}
    return [saved(folder / "seed", lambda path: save_checkpoint(path, header, tensors))]


def _calibrations(folder: Path) -> Sequence[bytes]:
    """Header, shapes and types of a calibration: what its reader must check; the numbers are any."""
    with folder_of_tests("."):
        from priors import HEADER, stored_prior
    save_checkpoint(folder / "prior", HEADER, stored_prior())
    (folder / "net.safetensors").write_bytes(_ours(folder)[0])
    made = calibrate(Recognizer.load(folder / "net.safetensors"), load_face_prior(folder / "prior"))
    tensors = {name: [list(t.shape), str(t.dtype).removeprefix("torch.")] for name, t in made.to_tensors().items()}
    few = {name: entry for name, entry in tensors.items() if "layer" not in name or "layer4.0.bn1" in name}
    return [json.dumps({"header": made.header, "tensors": kept}).encode() for kept in (tensors, few)]


@functools.cache
def _tiny(path: Path) -> Recognizer:
    return Recognizer.load(path)


def _use_calibration(path: Path) -> None:
    try:
        content = json.loads(path.read_bytes())
        tensors = {name: torch.zeros(shape, dtype=KINDS[kind]) for name, (shape, kind) in
                   content["tensors"].items() if math.prod(shape) < 1e6}  # fmt: skip
        header = {**content["header"]}
    except Exception:  # no description
        raise UsageError("no description") from None
    recognizer = _tiny(path.with_name("net.safetensors"))
    found, target = Calibration.from_tensors(tensors, header, recognizer), torch.eye(4)[:1]
    found.latents.predict(target), found.auxiliary.predict(target)
    found.maps.predict(target), found.auxiliary_maps.predict(target)
    stored_statistics(recognizer, found)


def _cvlface(folder: Path) -> Sequence[bytes]:
    from safetensors.torch import save

    return [save({f"net.{key}": value.contiguous() for key, value in _network().state_dict().items()})]


def _onnx(folder: Path) -> Sequence[bytes]:
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    weights = {
        "stem.weight": rng.normal(size=(2, 3, 8, 8)) / 10,
        "scale": np.ones(2), "bias": np.zeros(2), "mean": np.zeros(2), "var": np.ones(2),
        "slope": np.full((2, 1, 1), 0.2), "fc.weight": rng.normal(size=(4, 2)), "fc.bias": np.zeros(4),
    }  # fmt: skip
    stored = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()]
    stored.append(numpy_helper.from_array(np.array([0, -1], np.int64), "shape"))
    nodes = [
        helper.make_node("Conv", ["data", "stem.weight"], ["x"], strides=[11, 9], kernel_shape=[8, 8], pads=[0] * 4),
        helper.make_node("BatchNormalization", ["x", "scale", "bias", "mean", "var"], ["n"], epsilon=1e-5),
        helper.make_node("PRelu", ["n", "slope"], ["p"]),
        helper.make_node("Add", ["p", "n"], ["s"]),
        helper.make_node("Relu", ["s"], ["r"]),
        helper.make_node("MaxPool", ["r"], ["m"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("GlobalAveragePool", ["m"], ["g"]),
        helper.make_node("Reshape", ["g", "shape"], ["f"]),
        helper.make_node("Gemm", ["f", "fc.weight", "fc.bias"], ["out"], transB=1),
    ]
    given = [helper.make_tensor_value_info("data", TensorProto.FLOAT, ["N", 3, 112, 112])]
    found = [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "g", given, found, stored)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return [made.SerializeToString()]


def _int8(folder: Path) -> Sequence[bytes]:
    """Graphs of QDQ pairs and of dynamic quantization."""
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    weights = {
        "s": np.float32(0.01), "z": np.uint8(120), "w": rng.integers(-127, 128, (2, 3, 8, 8)).astype(np.int8),
        "ws": np.full(2, 1e-3, np.float32), "wz": np.zeros(2, np.int8),
        "fc": rng.integers(-127, 128, (2, 4)).astype(np.int8), "fz": np.zeros((), np.int8),
    }  # fmt: skip
    tail = [
        helper.make_node("GlobalAveragePool", ["c"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("DynamicQuantizeLinear", ["f"], ["q", "qs", "qz"]),
        helper.make_node("MatMulInteger", ["q", "fc", "qz", "fz"], ["m"]),
        helper.make_node("Cast", ["m"], ["mf"], to=1),
        helper.make_node("Mul", ["mf", "qs"], ["out"]),
    ]
    pairs = [
        helper.make_node("QuantizeLinear", ["data", "s", "z"], ["x"]),
        helper.make_node("DequantizeLinear", ["x", "s", "z"], ["xf"]),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wf"], axis=0),
        helper.make_node("Conv", ["xf", "wf"], ["c"], strides=[11, 9]),
    ]
    dynamic = [
        helper.make_node("DynamicQuantizeLinear", ["data"], ["x", "xs", "xz"]),
        helper.make_node("ConvInteger", ["x", "w", "xz"], ["i"], strides=[11, 9]),
        helper.make_node("Cast", ["i"], ["f32"], to=1),
        helper.make_node("Mul", ["f32", "xs"], ["c"]),
    ]
    stored = [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()]
    given = [helper.make_tensor_value_info("data", TensorProto.FLOAT, ["N", 3, 112, 112])]
    found = [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)]
    graphs = [helper.make_graph(head + tail, "g", given, found, stored) for head in (pairs, dynamic)]
    opsets = [helper.make_opsetid("", 13)]
    return [helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString() for graph in graphs]


def _detectors(folder: Path) -> Sequence[bytes]:
    return [built(64, batched=batched).SerializeToString() for batched in (False, True)]


def _use_detector(path: Path) -> None:
    SCRFD(path).detect(np.full((64, 64, 3), 128, np.uint8))


def _adapters(folder: Path) -> Sequence[bytes]:
    header = {"kind": "adapter", "size": 4, "hidden": 3, "embedding_size": 4}
    tensors = {f"network.{key}": value for key, value in Perceptron(4, 3, 4).state_dict().items()}
    return [saved(folder / "seed", lambda path: save_checkpoint(path, header, tensors))]


def _use_adapter(path: Path) -> None:
    Adapter.load(path)(np.eye(4, dtype=np.float32))


def _array(array: np.ndarray) -> bytes:
    shape = struct.pack(f"<i{array.ndim}q", array.ndim, *array.shape)
    return struct.pack("<Ii", 0xF993FAC9, 0) + shape + struct.pack("<iii", 1, 0, 0) + array.astype("<f4").tobytes()


def _mxnet() -> tuple[bytes, bytes]:
    """A symbol and its parameters."""
    rng = np.random.default_rng(0)
    arrays = {
        "arg:conv_weight": rng.normal(size=(2, 3, 8, 8)) / 10,
        "arg:bn_gamma": np.ones(2), "arg:bn_beta": np.zeros(2), "aux:bn_mean": np.zeros(2), "aux:bn_var": np.ones(2),
        "arg:relu_gamma": np.full(2, 0.2), "arg:fc_weight": rng.normal(size=(4, 2)), "arg:fc_bias": np.zeros(4),
    }  # fmt: skip
    params = struct.pack("<QQQ", 0x112, 0, len(arrays)) + b"".join(map(_array, arrays.values()))
    params += struct.pack("<Q", len(arrays)) + b"".join(struct.pack("<Q", len(n)) + n.encode() for n in arrays)

    def null(name: str) -> dict[str, object]:
        return {"op": "null", "name": name, "inputs": []}

    def node(kind: str, name: str, *inputs: int, **attributes: str) -> dict[str, object]:
        return {"op": kind, "name": name, "attrs": attributes, "inputs": [[n, 0, 0] for n in inputs]}

    window = {"kernel": "(8, 8)", "stride": "(11, 9)", "pad": "(0, 0)"}
    nodes = [
        null("data"),
        null("conv_weight"),
        node("Convolution", "conv", 0, 1, num_filter="2", num_group="1", no_bias="True", **window),
        *map(null, ("bn_gamma", "bn_beta", "bn_mean", "bn_var")),
        node("BatchNorm", "bn", 2, 3, 4, 5, 6, fix_gamma="False", eps="2e-05"),
        null("relu_gamma"),
        node("LeakyReLU", "relu", 7, 8, act_type="prelu", slope="0.25"),
        node("Pooling", "pool", 9, kernel="(2, 2)", stride="(2, 2)", pool_type="avg", global_pool="True"),
        node("Flatten", "flat", 10),
        *map(null, ("fc_weight", "fc_bias")),
        node("FullyConnected", "fc1", 11, 12, 13, num_hidden="4", no_bias="False"),
    ]
    return json.dumps({"nodes": nodes, "heads": [[14, 0, 0]]}).encode(), params


def _symbol(folder: Path) -> Sequence[bytes]:
    symbol, params = _mxnet()
    (folder / "net-0000.params").write_bytes(params)
    return [symbol]


def _params(folder: Path) -> Sequence[bytes]:
    symbol, params = _mxnet()
    (folder / "net-symbol.json").write_bytes(symbol)
    return [params]


def _paddle(folder: Path) -> Sequence[bytes]:
    names = {"running_mean": "_mean", "running_var": "_variance"}
    arrays: dict[str, object] = {"StructuredToParameterName@@": {"a": "b"}}
    for key, value in _network().state_dict().items():
        before, _, last = key.rpartition(".")
        if last != "num_batches_tracked":
            name = "_weight" if ".prelu." in f".{key}" else names.get(last, last)
            arrays[f"{before}.{name}"] = (value.T if value.ndim == 2 else value).contiguous().numpy()
    small = {"a.weight": np.ones((2, 3), np.float32), "b._mean": ("b", np.zeros(2, np.float32))}
    return [pickle.dumps(arrays, protocol=2), pickle.dumps(small, protocol=4)]


def _state(folder: Path) -> Sequence[bytes]:
    file = io.BytesIO()
    state = {"config": json.dumps({"epochs": 2}), "step": 3, "network": {"fc.weight": torch.zeros(2, 2)}, "head": {}}
    torch.save(state, file)
    return [file.getvalue()]


def _config(folder: Path) -> Sequence[bytes]:
    text = 'backbone = "iresnet18"\nwidth = 0.5\nmargin = [1.0, 0.3, 0.2]\nlr = 0.1\nmilestones = [2, 3.5]\nclip = 5\n'
    text += 'amp = "none"\n[augmentation]\nflip = 0.5\ngrey = 0.1\n[extra_losses]\nintra = 0.1\n[second_stage]\n'
    old = 'beyond = "monotone"\nstart = ""\nbits = 8\nkeep_last = true\ncenter = 0.1\nteacher = ""\nepochs = 3\n'
    return [text.encode(), old.encode()]


def _read_config(path: Path) -> TrainConfig:
    """As ``arcinvert train --config`` does."""
    try:
        settings = tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UsageError(str(error)) from None
    return TrainConfig.from_mapping(settings)


def _lock(folder: Path) -> Sequence[bytes]:
    lock = {"repository": "a/b", "revision": "1" * 40, "files": {"net.onnx": "0" * 64}, "sha256": "0" * 64}
    return [json.dumps(lock).encode()]


def _read_lock(path: Path) -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hub, "_folder", lambda repository: path.parent)
        return hub._locks("a/b")


def _load(path: Path) -> Recognizer:
    return Recognizer.load(path)


TARGETS = [
    Target("torch", "net.pth", _torch, _load),
    Target("safetensors", "net.safetensors", _ours, _load),
    Target("safetensors of CVLFace", "net.safetensors", _cvlface, _load),
    Target("onnx", "net.onnx", _onnx, _load),
    Target("onnx of int8", "net.onnx", _int8, _load),
    Target("mxnet symbol", "net-symbol.json", _symbol, _load),
    Target("mxnet params", "net-0000.params", _params, _load),
    Target("pdparams", "net.pdparams", _paddle, _load),
    Target("onnx detector", "det.onnx", _detectors, _use_detector, ("onnxruntime", "insightface")),
    Target("adapter", "adapter.safetensors", _adapters, _use_adapter),
    Target("calibration", "calibration.json", _calibrations, _use_calibration),
    Target("training state", "net.state", _state, load_state),
    Target("training config", "run.toml", _config, _read_config),
    Target("lock of a download", "net.onnx.lock.json", _lock, _read_lock),
]
