import operator
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from arcinvert.backbones import build_backbone
from arcinvert.backbones.graph import FUNCTIONS, LAYERS, Graph
from arcinvert.checkpoint import Checkpoint
from arcinvert.errors import EnvironmentProblem, InputError
from arcinvert.formats import export, open_checkpoint
from arcinvert.formats.export import OPERATORS, export_onnx, fold_norms, onnx_model, steps_of
from arcinvert.formats.export.model import Model
from arcinvert.preprocessing import Preprocessing
from arcinvert.recognizer import Recognizer

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

PLAIN = {"size": [112, 112], "color": "RGB", "mean": [0.5] * 3, "std": [0.5] * 3}
SIZE = (7, 6)


def seeded(module: nn.Module) -> nn.Module:
    """Weights and statistics that a mix-up would show in."""
    generator = torch.Generator().manual_seed(3)
    for key, value in module.state_dict().items():
        if value.is_floating_point() and (value.ndim < 2 or key.endswith("running_var")):
            value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
        elif value.is_floating_point():
            value.copy_(torch.randn(value.shape, generator=generator) / value[0].numel() ** 0.5)
    return module.eval()


def checkpoint(backbone: str, preprocessing: dict[str, Any] = PLAIN, **settings: Any) -> Checkpoint:
    size = settings.get("embedding_size", 16)
    settings = settings if backbone == "graph" else {"embedding_size": size, **settings}
    network = seeded(build_backbone(backbone, **settings))
    header = {
        "backbone": backbone,
        "backbone_settings": settings,
        "embedding_size": size,
        "preprocessing": {**PLAIN, **preprocessing},
    }
    return Checkpoint(header, {f"network.{key}": value for key, value in network.state_dict().items()}, "d" * 64)


def run(model: Any, *images: Tensor) -> list[Tensor]:
    """By onnxruntime."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    assert [value.name for value in session.get_outputs()] == ["embedding"]
    return [torch.from_numpy(session.run(None, {"input": image.numpy()})[0]) for image in images]


def kinds(path: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(path).graph.node)


def agree(left: Checkpoint, right: Checkpoint) -> float:
    """The smallest cosine between the embeddings of two checkpoints."""
    images = torch.rand(3, 3, 112, 112, generator=torch.Generator().manual_seed(1))
    first, second = (Recognizer.from_checkpoint(stored, "here").embed(images) for stored in (left, right))
    return float((first * second).sum(1).min())


# --- every operation

BINARY = ("add", "sub", "mul", "div", "pow", "max", "min")
UNARY = ["relu", "leaky_relu", "elu", "sigmoid", "tanh", "hard_swish", "softplus", "gelu"]
UNARY += ["erf", "exp", "log", "sqrt", "abs", "neg", "reciprocal"]
PADDING = {"before": [0, 0, 1, 2], "after": [0, 0, 0, 1], "value": 0.25}
CONV = {"in_channels": 3, "out_channels": 6, "kernel_size": [3, 2], "stride": [2, 1], "padding": [1, 0]}
CONV |= {"dilation": [1, 2], "groups": 3, "bias": True}

# (operation, settings, inputs besides the image as shapes of constants or their dtype, seen first)
CASES: list[tuple[str, dict[str, Any], list[tuple[list[int], str]]]] = [
    *((op, {}, [([3, 1, 6], "float32")]) for op in BINARY),
    *((op, {}, [([3, 1, 6], "int64")]) for op in BINARY),
    *((op, {}, []) for op in UNARY),
    ("leaky_relu", {"negative_slope": 0.3}, []),
    ("elu", {"alpha": 2}, []),
    ("hard_sigmoid", {"alpha": 0.3, "beta": 0.4}, []),
    ("gelu", {"approximate": "tanh"}, []),
    ("matmul", {}, [([3, 6, 4], "float32")]),
    ("clip", {"low": 0.5, "high": 0.75}, []),
    ("clip", {"low": None, "high": 0.75}, []),
    ("clip", {"low": 1, "high": None}, []),
    ("softmax", {"dim": 1}, []),
    ("layer_norm", {"eps": 1e-3}, [([6], "float32"), ([6], "float32")]),
    ("layer_norm", {"eps": 1e-3}, [([7, 6], "float32")]),
    *((op, {"axes": [1, -1], "keepdims": False}, []) for op in ("mean", "sum", "reduce_max", "norm")),
    *((op, {"axes": [2], "keepdims": True}, []) for op in ("mean", "sum", "reduce_max", "norm")),
    ("average_pool", {"kernel_size": 2}, []),
    ("average_pool", {"kernel_size": [3, 2], "stride": [2, 1], "padding": [1, 0], "count_include_pad": False}, []),
    ("average_pool", {"kernel_size": [3, 3], "stride": [2, 2], "padding": [1, 1], "ceil_mode": True}, []),
    ("max_pool", {"kernel_size": [1, 1], "stride": [2, 2]}, []),
    ("max_pool", {"kernel_size": [2, 2], "padding": [1, 1], "dilation": [2, 1], "ceil_mode": True}, []),
    *(("pad", {**PADDING, "mode": mode}, []) for mode in ("constant", "reflect", "replicate")),
    ("transpose", {"perm": [0, 2, 3, 1]}, []),
    ("reshape", {"shape": [0, -1, 2]}, []),
    ("flatten", {"axis": 1}, []),
    ("flatten", {"axis": 2}, []),
    ("unsqueeze", {"axes": [1, -1]}, []),
    ("slice", {"starts": [1, -3], "ends": [3, 1 << 40], "axes": [1, -1]}, []),
    ("concat", {"axis": -1}, [([2, 3, 7, 2], "float32")]),
    ("conv", CONV, []),
    ("conv", {**CONV, "bias": False}, []),
    ("batch_norm", {"num_features": 3, "eps": 1e-3}, []),
    ("prelu", {"num_parameters": 3}, []),
    ("prelu", {"num_parameters": 1}, []),
    ("linear", {"in_features": 6, "out_features": 5, "bias": True}, []),
    ("linear", {"in_features": 6, "out_features": 5, "bias": False}, []),
    ("folded_norm", {}, []),
]


def graph_of(op: str, settings: dict[str, Any], others: list[tuple[list[int], str]] = [], then: Any = ()) -> Graph:  # noqa: B006
    steps: list[dict[str, Any]] = []
    for number, (shape, dtype) in enumerate(others):
        constant = {"shape": shape, "dtype": dtype}
        steps.append({"op": "constant", "inputs": [], "output": f"c{number}", "settings": constant})
    inputs = ["image", *(step["output"] for step in steps)]
    steps.append({"op": op, "inputs": inputs, "output": "result", "settings": settings})
    for number, (op_, settings_) in enumerate(then):
        steps.append({"op": op_, "inputs": [steps[-1]["output"]], "output": f"then{number}", "settings": settings_})
    network = Graph(steps=steps, output=steps[-1]["output"])
    for name, value in network.state_dict().items():
        if not value.is_floating_point() and name.endswith("value"):
            value.fill_(2)
    return seeded(network)  # type: ignore[return-value]


def check(network: Graph) -> Any:
    model = onnx_model(*steps_of(network), Preprocessing(size=SIZE))
    onnx.checker.check_model(model, full_check=True)
    raw = bool(model.graph.node) and model.graph.node[0].name == "Sub_mean"
    image = torch.rand(2, 3, *SIZE, generator=torch.Generator().manual_seed(2)) * 2 + 0.1
    with torch.no_grad():
        (found,), expected = run(model, (image + 1) * 127.5 if raw else image), network(image)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    return model


@pytest.mark.parametrize(("op", "settings", "others"), CASES, ids=lambda value: value if isinstance(value, str) else "")
def test_an_operation_means_the_same_in_onnxruntime(op: str, settings: dict[str, Any], others: Any) -> None:
    check(graph_of(op, settings, others))


def test_operations_on_vectors() -> None:
    flat = [("linear", {"in_features": 126, "out_features": 5, "bias": True})]
    norm = [("batch_norm_1d", {"num_features": 5, "eps": 1e-3}), ("prelu", {"num_parameters": 5})]
    squeezed = [("unsqueeze", {"axes": [0, 3]}), ("squeeze", {"axes": [0, -1]})]
    check(graph_of("flatten", {"axis": 1}, then=[*flat, *norm, *squeezed, ("neg", {})]))


def test_every_operation_has_a_writer_and_a_case() -> None:
    assert set(OPERATORS) == set(FUNCTIONS) | set(LAYERS)
    assert {case[0] for case in CASES} >= set(OPERATORS) - {"constant", "squeeze", "batch_norm_1d"}


def test_only_the_contract_is_named_as_one() -> None:
    network = graph_of("relu", {}, then=[("neg", {})])
    steps, weights = steps_of(network)
    for old, new in (("result", "Sub_1"), ("then0", "Mul_1")):
        steps = {"steps": [{**s, "output": s["output"].replace(old, new)} for s in steps["steps"]], "output": "Mul_1"}
        steps["steps"][1]["inputs"] = ["Sub_1"]
    model = onnx_model(steps, weights, Preprocessing(size=SIZE))
    assert [node.name for node in model.graph.node] == ["/Sub_1", "/Mul_1"]


# --- networks of ours

NETWORKS: list[tuple[str, dict[str, Any]]] = [
    ("iresnet18", {"width": 0.0625}),
    ("iresnet18", {"width": 0.0625, "shortcut": "pool", "eps": 2e-5}),
    ("iresnet18", {"width": 0.0625, "folded": True}),
    ("mobilefacenet", {"width": 0.125}),
]


@pytest.mark.parametrize("fold", [False, True], ids=["kept", "folded"])
@pytest.mark.parametrize(("backbone", "settings"), NETWORKS)
def test_round_trip(backbone: str, settings: dict[str, Any], fold: bool, tmp_path: Path) -> None:
    stored = checkpoint(backbone, **settings)
    path = tmp_path / "net.onnx"
    assert export_onnx(stored, path, fold=fold) > 0.999999
    assert list(tmp_path.iterdir()) == [path]
    again = open_checkpoint(path)
    assert agree(stored, again) > 0.99999
    if backbone == "mobilefacenet":
        assert again.header["backbone"] == "graph"
        assert kinds(path)["BatchNormalization"] == (1 if fold else 50)
        return
    norms = 1 + 8 + 1  # what follows no convolution: of each block, and before and after the linear layer
    assert kinds(path)["BatchNormalization"] == norms + (
        0 if fold or settings.get("folded") else 1 + 8 * 2 + 3 + ("shortcut" not in settings)
    )
    assert kinds(path)["MaxPool"] == ("shortcut" in settings)
    found = again.header["backbone_settings"]
    assert again.header["backbone"] == backbone
    assert found.get("folded", False) == (fold or settings.get("folded", False))
    assert found.get("shortcut") == settings.get("shortcut")
    assert found.get("eps", 1e-5) == pytest.approx(settings.get("eps", 1e-5))
    if not fold:
        kept = {key: value for key, value in stored.tensors.items() if not key.endswith("num_batches_tracked")}
        assert kept.keys() <= again.tensors.keys()
        assert all(torch.equal(value, again.tensors[key]) for key, value in kept.items())


@pytest.mark.parametrize(("backbone", "settings"), NETWORKS)
def test_parameters_keep_their_names(backbone: str, settings: dict[str, Any]) -> None:
    network = build_backbone(backbone, embedding_size=8, **settings).eval()
    model = onnx_model(*steps_of(network), Preprocessing())
    expected = {key for key in network.state_dict() if not key.endswith("num_batches_tracked")}
    assert {tensor.name for tensor in model.graph.initializer} == expected


@pytest.mark.parametrize(("backbone", "settings"), NETWORKS)
def test_the_steps_are_the_network(backbone: str, settings: dict[str, Any]) -> None:
    network = seeded(build_backbone(backbone, embedding_size=8, **settings))
    steps, weights = steps_of(network)
    graph = Graph(**steps)
    graph.load_state_dict(weights)
    image = torch.randn(2, 3, 112, 112)
    with torch.no_grad():
        torch.testing.assert_close(graph.eval()(image), network(image))
    again, _ = steps_of(graph)
    assert [step["op"] for step in again["steps"]] == [step["op"] for step in steps["steps"]]


def test_an_iresnet50_has_25_of_78_norms_left() -> None:
    network = build_backbone("iresnet50", width=0.02, embedding_size=4)
    steps, _ = fold_norms(*steps_of(network))
    counts = Counter(step["op"] for step in steps["steps"])
    assert (counts["batch_norm"], counts["folded_norm"], counts["conv"]) == (25, 53, 53)


def test_folding_leaves_a_norm_whose_convolution_has_another_user() -> None:
    conv = {**CONV, "bias": False}
    network = graph_of("conv", conv, then=[("batch_norm", {"num_features": 6, "eps": 1e-3}), ("relu", {})])
    steps, weights = steps_of(network)
    assert len(fold_norms(steps, weights)[1]) == 2
    added = {"op": "add", "inputs": ["then1", "result"], "output": "sum"}
    both = {"steps": [*steps["steps"], added], "output": "sum"}
    assert fold_norms(both, weights)[0] == both
    seen = {"steps": steps["steps"], "output": "result"}
    assert fold_norms(seen, weights)[0] == seen


def test_what_the_file_says_of_itself(tmp_path: Path) -> None:
    stored = checkpoint("iresnet18", width=0.0625)
    stored.header["license"] = "Apache-2.0"
    export_onnx(stored, tmp_path / "net.onnx")
    model = onnx.load(tmp_path / "net.onnx")
    onnx.checker.check_model(model, full_check=True)
    properties = {entry.key: entry.value for entry in model.metadata_props}
    assert properties["license"] == "Apache-2.0"
    assert properties["source_sha256"] == stored.digest
    assert model.opset_import[0].version == 17
    assert [d.dim_param or d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim] == [
        "batch",
        3,
        112,
        112,
    ]
    assert [d.dim_param or d.dim_value for d in model.graph.output[0].type.tensor_type.shape.dim] == ["batch", 16]


# --- the image contract

CONTRACTS = {
    "another scale": ({"std": [128 / 255] * 3}, ["Sub", "Mul"]),
    "raw pixels": ({"mean": [0.0] * 3, "std": [1 / 255] * 3}, ["Sub", "Mul", "Mul", "Add"]),
    "of [0, 1]": ({"mean": [0.0] * 3, "std": [1.0] * 3}, ["Sub", "Mul"]),
    "BGR": ({"color": "BGR"}, ["Sub", "Mul", "Slice", "Slice", "Slice", "Concat"]),
    "each color": ({"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}, ["Sub", "Mul", "Mul", "Add"]),
    "each color, BGR": (
        {"color": "BGR", "mean": [0.4, 0.45, 0.5], "std": [0.2, 0.25, 0.3]},
        ["Sub", "Mul", "Slice", "Slice", "Slice", "Concat", "Mul", "Add"],
    ),
}


@pytest.mark.parametrize("name", CONTRACTS)
def test_another_contract_is_part_of_the_file(name: str, tmp_path: Path) -> None:
    preprocessing, front = CONTRACTS[name]
    stored = checkpoint("iresnet18", preprocessing, width=0.0625)
    path = tmp_path / "net.onnx"
    export_onnx(stored, path)
    nodes = onnx.load(path).graph.node
    assert [node.op_type for node in nodes[: len(front) + 1]] == [*front, "Conv"]
    assert [node.name for node in nodes[:2]] == ["Sub_mean", "Mul_scale"]
    again = open_checkpoint(path)
    assert agree(stored, again) > 0.99999
    if front == ["Sub", "Mul"]:
        assert again.header["backbone"] == "iresnet18"
        for key in ("mean", "std"):
            assert again.header["preprocessing"][key] == pytest.approx(stored.header["preprocessing"][key], abs=1e-6)


def test_the_files_pixels_are_0_to_255(tmp_path: Path) -> None:
    stored = checkpoint("iresnet18", {"color": "BGR", "mean": [0.4, 0.45, 0.5]}, width=0.0625)
    export_onnx(stored, tmp_path / "net.onnx")
    image = torch.rand(2, 3, 112, 112)
    (found,) = run(onnx.load(tmp_path / "net.onnx"), image * 255)
    assert float(cosine_similarity(found, Recognizer.from_checkpoint(stored, "here").embed(image)).min()) > 0.99999


TAIL = [("mean", {"axes": [3], "keepdims": False}), ("flatten", {"axis": 1})]


@pytest.mark.parametrize("value", [0.01, 1.0, 40.0])
def test_a_network_that_begins_with_arithmetic_keeps_its_contract(value: float, tmp_path: Path) -> None:
    steps, weights = steps_of(graph_of("mul", {}, [([], "float32")], [("tanh", {}), *TAIL]))
    weights["layers.c0.value"] = torch.tensor(value)
    header = {"backbone": "graph", "backbone_settings": steps, "embedding_size": 336, "preprocessing": PLAIN}
    stored = Checkpoint(header, {f"network.{key}": tensor for key, tensor in weights.items()}, "0" * 64)
    export_onnx(stored, tmp_path / "net.onnx")
    again = open_checkpoint(tmp_path / "net.onnx")
    assert again.header["preprocessing"]["std"] == pytest.approx([0.5] * 3)
    assert agree(stored, again) > 0.99999


def test_a_network_that_begins_with_a_norm_keeps_its_contract(tmp_path: Path) -> None:
    steps, weights = steps_of(graph_of("batch_norm", {"num_features": 3, "eps": 1e-5}, [], [("tanh", {}), *TAIL]))
    header = {"backbone": "graph", "backbone_settings": steps, "embedding_size": 336, "preprocessing": PLAIN}
    stored = Checkpoint(header, {f"network.{key}": tensor for key, tensor in weights.items()}, "0" * 64)
    export_onnx(stored, tmp_path / "net.onnx", fold=True)
    again = open_checkpoint(tmp_path / "net.onnx")
    assert again.header["preprocessing"]["std"] == pytest.approx([0.5] * 3)
    assert agree(stored, again) > 0.99999


# --- networks of others


@pytest.mark.parametrize("fold", [False, True], ids=["kept", "folded"])
@pytest.mark.parametrize(
    "name", ["insightface-mobilefacenet-y1", "insightface-mobilefacenet-y1-folded", "mobileface-v3"]
)
def test_an_imported_network_comes_out_again(name: str, fold: bool, test_data: Path, tmp_path: Path) -> None:
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


class _Odd(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x).flatten(1)


class _OddFunction(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (nn.GroupNorm(1, 3), "GroupNorm.* at 'layer'"),
        (nn.Conv2d(3, 3, 3, padding=1, padding_mode="reflect"), "reflect.* at 'layer'"),
        (nn.Conv2d(3, 3, 3, padding="same"), "same.* at 'layer'"),
        (nn.BatchNorm2d(3, affine=False), "affine=False.* at 'layer'"),
        (nn.Flatten(0), "start_dim=0.* at 'layer'"),
    ],
)
def test_an_unknown_module_is_named(layer: nn.Module, message: str) -> None:
    with pytest.raises(InputError, match=message):
        steps_of(_Odd(layer))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (torch.sin, "got 'sin'"),
        (lambda x: x + 1, "got 'add'"),
        (lambda x: torch.add(x, x, alpha=2), "got 'add'"),
        (lambda x: x.flatten(2), "got 'flatten'"),
        (lambda x: (x, x), "got 'output'"),
        (lambda x: x if x.sum() > 0 else -x, "no list of steps"),
    ],
)
def test_an_unknown_function_is_named(function: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        steps_of(_OddFunction(function))


def test_a_sum_of_the_same_value_twice() -> None:
    steps, _ = steps_of(_OddFunction(lambda x: operator.add(x, x)))
    assert steps["steps"] == [{"op": "add", "inputs": ["image", "image"], "output": "add"}]


def test_settings_without_a_form_and_steps_that_do_not_fit() -> None:
    with pytest.raises(InputError, match=r"average_pool step 'result' has no ONNX form.*divisor_override"):
        check(graph_of("average_pool", {"kernel_size": 2, "divisor_override": 3}))
    with pytest.raises(InputError, match="softplus step 'result' has no ONNX form: it has the settings beta"):
        check(graph_of("softplus", {"beta": 2}))
    with pytest.raises(InputError, match="do not fit each other"):
        onnx_model(*steps_of(graph_of("matmul", {}, [([5], "float32")])), Preprocessing(size=SIZE))


def test_weights_beyond_one_file_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(export, "LARGEST", 1000)
    with pytest.raises(InputError, match="expected at most 1000 bytes of weights"):
        export_onnx(checkpoint("iresnet18", width=0.0625), tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("op", "wrong"),
    [
        ("prelu", lambda call, **_: call.inputs[0]),  # another direction
        ("batch_norm_1d", lambda call, **_: call.node("Mul", *call.inputs, call.scalar("half", 0.5))),
        ("linear", lambda call, **_: call.node("Nothing")),
    ],
)
def test_a_file_that_disagrees_is_not_left_behind(
    op: str, wrong: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(OPERATORS, op, wrong)
    path = tmp_path / "net.onnx"
    path.write_bytes(b"old")
    with pytest.raises(InputError, match=r"expected the written file to agree|expected a file that onnxruntime runs"):
        export_onnx(checkpoint("iresnet18", width=0.0625), path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_only_the_length_may_tell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(Model, "finish", lambda self, value: finish(self, self.node("Add", [value] * 2, "two")))
    with pytest.raises(InputError, match=r"got cosine 1.000000, lengths 2.0000 to 2.0000"):
        export_onnx(checkpoint("iresnet18", width=0.0625), tmp_path / "net.onnx")


finish = Model.finish


def test_statistics_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    stored = checkpoint("iresnet18", width=0.0625)
    stored.tensors["network.bn1.running_var"][0] = float("nan")
    with pytest.raises(InputError, match="got cosine nan"):
        export_onnx(stored, tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())


def test_a_header_without_a_contract_and_a_folder_that_is_a_file(tmp_path: Path) -> None:
    stored = checkpoint("iresnet18", width=0.0625)
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentProblem, match="cannot write"):
        export_onnx(stored, tmp_path / "file" / "net.onnx")
    del stored.header["preprocessing"]
    with pytest.raises(InputError, match="preprocessing is incomplete"):
        export_onnx(stored, tmp_path / "net.onnx")


def test_without_the_package_onnx(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(EnvironmentProblem, match="pip install onnx"):
        export_onnx(checkpoint("iresnet18", width=0.0625), tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())
