import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from networks import unlike_new
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from arcinvert.backbones import build_backbone
from arcinvert.backbones.operations import FUNCTIONS
from arcinvert.checkpoint import Checkpoint
from arcinvert.errors import EnvironmentProblem, InputError
from arcinvert.formats import export, open_checkpoint
from arcinvert.formats.export import export_onnx
from arcinvert.recognizer import Recognizer

PLAIN = {"size": [112, 112], "color": "RGB", "mean": [0.5] * 3, "std": [0.5] * 3}
MODELS = ["insightface-mobilefacenet-y1", "insightface-mobilefacenet-y1-folded", "mobileface-v3"]


def checkpoint(backbone: str, preprocessing: dict[str, Any] = PLAIN, **settings: Any) -> Checkpoint:
    size = settings.pop("embedding_size", 16)
    settings = settings if backbone == "graph" else {"embedding_size": size, **settings}
    network = unlike_new(build_backbone(backbone, **settings))
    header = {
        "backbone": backbone,
        "backbone_settings": settings,
        "embedding_size": size,
        "preprocessing": {**PLAIN, **preprocessing},
    }
    return Checkpoint(header, {f"network.{key}": value for key, value in network.state_dict().items()}, "d" * 64)


def small(**settings: Any) -> Checkpoint:
    return checkpoint("iresnet18", width=0.0625, **settings)


def graph(*steps: tuple[str, dict[str, Any]], constant: Tensor | None = None) -> Checkpoint:
    """A chain of operations on the image, or on the image and a constant, averaged to an embedding."""
    found: list[dict[str, Any]] = []
    if constant is not None:
        stored = {"shape": list(constant.shape), "dtype": str(constant.dtype).removeprefix("torch.")}
        found.append({"op": "constant", "inputs": [], "output": "c", "settings": stored})
    ends = [("average_pool", {"kernel_size": 14}), ("flatten", {"axis": 1})]
    for number, (op, settings) in enumerate((*steps, *ends)):
        inputs = [found[-1]["output"]] if number else ["image", *["c"] * (constant is not None)]
        found.append({"op": op, "inputs": inputs, "output": f"s{number}", "settings": settings})
    network = build_backbone("graph", steps=found, output=found[-1]["output"])
    stored = checkpoint("graph", steps=found, output=found[-1]["output"], embedding_size=network.embedding_size)
    if constant is not None:
        stored.tensors["network.layers.c.value"] = constant
    return stored


def kinds(path: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(path).graph.node)


def agree(left: Checkpoint, right: Checkpoint) -> float:
    """The smallest cosine between the embeddings of two checkpoints."""
    images = torch.rand(3, 3, 112, 112, generator=torch.Generator().manual_seed(1))
    first, second = (Recognizer.from_checkpoint(stored, "here").embed(images) for stored in (left, right))
    return float((first * second).sum(1).min())


# --- networks of ours


@pytest.mark.parametrize("fold", [False, True], ids=["kept", "folded"])
@pytest.mark.parametrize(
    ("backbone", "settings"),
    [
        ("iresnet18", {"width": 0.0625, "eps": 2e-5}),
        ("iresnet18", {"width": 0.0625, "shortcut": "pool"}),
        ("iresnet18", {"width": 0.0625, "folded": True}),
        ("mobilefacenet", {"width": 0.125}),
    ],
)
def test_round_trip(backbone: str, settings: dict[str, Any], fold: bool, tmp_path: Path) -> None:
    stored = checkpoint(backbone, **settings)
    path = tmp_path / "net.onnx"
    assert export_onnx(stored, path, fold=fold) > 0.999999
    assert list(tmp_path.iterdir()) == [path]
    again = open_checkpoint(path)
    assert agree(stored, again) > 0.99999
    if not fold:
        names = {tensor.name for tensor in onnx.load(path).graph.initializer}
        maps = {key.removeprefix("network.") for key, value in stored.tensors.items() if value.ndim == 4}
        assert names >= maps | {key.removeprefix("network.") for key in stored.tensors if "running_" in key}
    if backbone == "mobilefacenet":
        assert again.header["backbone"] == "graph"
        assert kinds(path)["BatchNormalization"] == (1 if fold else 50)
        return
    unfoldable = 1 + 8 + 1  # those that follow no convolution: of each block, and around the linear layer
    folded = fold or settings.get("folded", False)
    assert kinds(path)["BatchNormalization"] == unfoldable + (
        0 if folded else 1 + 8 * 2 + 3 + ("shortcut" not in settings)
    )
    found = again.header["backbone_settings"]
    assert again.header["backbone"] == backbone
    assert found.get("folded", False) == folded
    assert found.get("shortcut") == settings.get("shortcut")
    assert found.get("eps", 1e-5) == pytest.approx(settings.get("eps", 1e-5))
    if not fold:
        kept = {key: value for key, value in stored.tensors.items() if not key.endswith("num_batches_tracked")}
        assert kept.keys() <= again.tensors.keys()
        assert all(torch.equal(value, again.tensors[key]) for key, value in kept.items())


def test_metadata(tmp_path: Path) -> None:
    stored = small()
    stored.header["license"] = "Apache-2.0"
    export_onnx(stored, tmp_path / "net.onnx")
    model = onnx.load(tmp_path / "net.onnx")
    onnx.checker.check_model(model, full_check=True)
    properties = {entry.key: entry.value for entry in model.metadata_props}
    assert properties["license"] == "Apache-2.0"
    assert properties["source_sha256"] == stored.digest
    assert (model.producer_name, model.opset_import[0].version) == ("arcinvert", 17)
    sizes = [value.type.tensor_type.shape.dim for value in (model.graph.input[0], model.graph.output[0])]
    assert [d.dim_param or d.dim_value for d in sizes[0]] == ["batch", 3, 112, 112]
    assert [d.dim_param or d.dim_value for d in sizes[1]] == ["batch", 16]


# --- the image contract

CONTRACTS = {
    "plain": ({}, []),
    "another scale": ({"std": [128 / 255] * 3}, ["Sub", "Mul"]),
    "raw pixels": ({"mean": [0.0] * 3, "std": [1 / 255] * 3}, ["Sub", "Mul", "Mul", "Add"]),
    "of [0, 1]": ({"mean": [0.0] * 3, "std": [1.0] * 3}, ["Sub", "Mul"]),
    "BGR": ({"color": "BGR"}, ["Sub", "Mul", "Slice", "Slice", "Slice", "Concat"]),
    "each color, BGR": (
        {"color": "BGR", "mean": [0.4, 0.45, 0.5], "std": [0.2, 0.25, 0.3]},
        ["Sub", "Mul", "Slice", "Slice", "Slice", "Concat", "Mul", "Add"],
    ),
}


@pytest.mark.parametrize("name", CONTRACTS)
def test_the_contract_is_part_of_the_file(name: str, tmp_path: Path) -> None:
    preprocessing, front = CONTRACTS[name]
    stored, path = small(preprocessing=preprocessing), tmp_path / "net.onnx"
    export_onnx(stored, path)
    nodes = [node for node in onnx.load(path).graph.node if node.op_type != "Constant"]
    assert [node.op_type for node in nodes[: len(front) + 1]] == [*front, "Conv"]
    # InsightFace's reader takes a Sub and a Mul by name among the first nodes for the contract.
    named = [node.name for node in nodes if node.name.startswith(("Sub", "Mul"))]
    assert named == (["Sub_mean", "Mul_scale"] if front else [])
    assert agree(stored, open_checkpoint(path)) > 0.99999
    if front in ([], ["Sub", "Mul"]):
        again = open_checkpoint(path)
        assert again.header["backbone"] == "iresnet18"
        for key in ("mean", "std"):
            assert again.header["preprocessing"][key] == pytest.approx(stored.header["preprocessing"][key], abs=1e-6)
    image = torch.rand(2, 3, 112, 112)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"input": (image * 255 if front else image * 2 - 1).numpy()})
    expected = Recognizer.from_checkpoint(stored, "here").embed(image)
    assert float(cosine_similarity(torch.from_numpy(found), expected).min()) > 0.99999


@pytest.mark.parametrize(
    "stored",
    [
        *(graph(("mul", {}), ("tanh", {}), constant=torch.tensor(value)) for value in (0.01, 1.0, 40.0)),
        graph(("batch_norm", {"num_features": 3, "eps": 1e-5}), ("tanh", {})),
    ],
    ids=["mul-0.01", "mul-1", "mul-40", "batch_norm"],
)
def test_a_network_that_begins_with_arithmetic_keeps_its_contract(stored: Checkpoint, tmp_path: Path) -> None:
    export_onnx(stored, tmp_path / "net.onnx")
    again = open_checkpoint(tmp_path / "net.onnx")
    assert again.header["preprocessing"]["std"] == pytest.approx([0.5] * 3)
    assert agree(stored, again) > 0.99999


# --- networks of others

PADDING = {"before": [0, 0, 1, 2], "after": [0, 0, 0, 1], "value": 0.25}
SMOOTH = ("leaky_relu", "elu", "hard_swish", "softplus", "gelu", "erf")


@pytest.mark.parametrize(
    "stored",
    [
        graph(*((op, {}) for op in SMOOTH), ("clip", {"low": -0.5, "high": None})),
        graph(("max", {}), ("pad", {**PADDING, "mode": "reflect"}), constant=torch.tensor(0.1)),
        graph(("add", {}), ("slice", {"starts": [1], "ends": [1 << 40], "axes": [2]}), constant=torch.tensor(2)),
        graph(("transpose", {"perm": [0, 2, 3, 1]}), ("softmax", {"dim": -1}), ("transpose", {"perm": [0, 3, 1, 2]})),
        graph(("max_pool", {"kernel_size": [3, 3], "stride": [2, 2], "padding": [1, 1]})),
        graph(("reshape", {"shape": [0, 6, -1, 56]}), ("norm", {"axes": [1], "keepdims": True})),
    ],
    ids=["activations", "pad", "slice", "softmax", "max_pool", "reshape"],
)
def test_operations_of_imported_graphs(stored: Checkpoint, tmp_path: Path) -> None:
    assert export_onnx(stored, tmp_path / "net.onnx") > 0.999999
    assert agree(stored, open_checkpoint(tmp_path / "net.onnx")) > 0.99999


@pytest.mark.parametrize("fold", [False, True], ids=["kept", "folded"])
@pytest.mark.parametrize("name", MODELS)
def test_a_published_network_comes_out_again(name: str, fold: bool, test_data: Path, tmp_path: Path) -> None:
    source = test_data / "models" / f"{name}.onnx"
    if not source.is_file():
        pytest.skip(f"no network at {source}")
    stored, path = open_checkpoint(source), tmp_path / "net.onnx"
    assert export_onnx(stored, path, fold=fold) > 0.9999
    pixels = torch.rand(1, 3, 112, 112, generator=torch.Generator().manual_seed(5)) * 255
    sessions = [onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"]) for file in (source, path)]
    theirs, ours = (s.run(None, {s.get_inputs()[0].name: pixels.numpy()})[0].ravel() for s in sessions)
    assert float(theirs @ ours) / float(np.linalg.norm(theirs) * np.linalg.norm(ours)) > 0.9999
    assert agree(stored, open_checkpoint(path)) > 0.9999
    if name == "insightface-mobilefacenet-y1":
        counts = kinds(path)
        assert (counts["Conv"], counts["BatchNormalization"]) == (49, 1 if fold else 50)


# --- what is refused


def test_an_operation_without_an_onnx_form(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(FUNCTIONS, "relu", torch.special.bessel_j0)
    with pytest.raises(InputError, match=r"no ONNX form: .*bessel_j0"):
        export_onnx(graph(("relu", {})), tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())


def test_weights_beyond_one_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(export, "MAX_BYTES", 1000)
    with pytest.raises(InputError, match="expected at most 1000 bytes of weights"):
        export_onnx(small(), tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        (lambda network: nn.Sequential(network, nn.Tanh()), r"got cosine 0\.\d+"),
        (lambda network: nn.Sequential(network, nn.Linear(16, 16)), "got cosine"),
        (lambda network: _Twice(network), r"got cosine 1\.000000, lengths 2\.0000 to 2\.0000"),
    ],
)
def test_a_file_that_disagrees_is_not_left_behind(
    wrong: Any, found: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made, path = export._WithContract, tmp_path / "net.onnx"
    monkeypatch.setattr(export, "_WithContract", lambda network, wanted: made(wrong(network), wanted))
    path.write_bytes(b"old")
    with pytest.raises(InputError, match=found):
        export_onnx(small(), path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


class _Twice(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        return self.network(image) * 2


def test_a_file_that_onnxruntime_does_not_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(export, "_exported", lambda *_, **__: b"no network")
    with pytest.raises(InputError, match="expected a file that onnxruntime runs"):
        export_onnx(small(), tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())


def test_statistics_that_are_not_finite(tmp_path: Path) -> None:
    stored = small()
    stored.tensors["network.bn1.running_var"][0] = float("nan")
    with pytest.raises(InputError, match="got cosine nan"):
        export_onnx(stored, tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())


def test_a_header_without_a_contract_and_a_folder_that_is_a_file(tmp_path: Path) -> None:
    stored = small()
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentProblem, match="cannot write"):
        export_onnx(stored, tmp_path / "file" / "net.onnx")
    del stored.header["preprocessing"]
    with pytest.raises(InputError, match="preprocessing is incomplete"):
        export_onnx(stored, tmp_path / "net.onnx")


def test_without_the_package_onnx(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(EnvironmentProblem, match="pip install onnx"):
        export_onnx(small(), tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())
