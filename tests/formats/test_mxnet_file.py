import hashlib
import itertools
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from networks import unlike_new
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from arcinvert.backbones import build_backbone
from arcinvert.backbones.iresnet import IResNet
from arcinvert.checkpoint import Checkpoint, load_checkpoint, load_strictly, save_checkpoint
from arcinvert.errors import CheckpointError
from arcinvert.formats import open_checkpoint
from arcinvert.formats.mxnet import read

FLAGS = {"float32": 0, "float64": 1, "float16": 2, "uint8": 3, "int32": 4, "int8": 5, "int64": 6}
MAGIC = {1: 0xF993FAC8, 2: 0xF993FAC9, 3: 0xF993FACA}


def raw_array(array: np.ndarray, version: int = 2) -> bytes:
    """One array as MXNet writes it; version 0 is the form without a magic number."""
    rank, dims = array.ndim, array.shape
    context_and_type = struct.pack("<iii", 1, 0, FLAGS[array.dtype.name])
    if version == 0:
        return struct.pack(f"<I{rank}I", rank, *dims) + context_and_type + array.tobytes()
    storage = struct.pack("<i", 0) if version > 1 else b""
    shape = struct.pack(f"<i{rank}q", rank, *dims)
    return struct.pack("<I", MAGIC[version]) + storage + shape + context_and_type + array.tobytes()


def raw_params(arrays: list[bytes], names: list[str]) -> bytes:
    content = struct.pack("<QQQ", 0x112, 0, len(arrays)) + b"".join(arrays) + struct.pack("<Q", len(names))
    return content + b"".join(struct.pack("<Q", len(name.encode())) + name.encode() for name in names)


class Symbol:
    """A symbol in the making; nodes are numbered, the arrays are those of ``.params``."""

    def __init__(self, *, attributes: str = "attrs") -> None:
        self.nodes: list[dict[str, Any]] = []
        self.arrays: dict[str, np.ndarray] = {}
        self.key = attributes

    def null(self, name: str, array: Tensor | None = None, prefix: str = "arg") -> int:
        if array is not None:
            self.arrays[f"{prefix}:{name}"] = np.ascontiguousarray(array.detach().numpy())
        self.nodes.append({"op": "null", "name": name, "inputs": []})
        return len(self.nodes) - 1

    def op(self, kind: str, name: str, *inputs: int | list[int], **attributes: Any) -> int:
        entries = [[i, 0, 0] if isinstance(i, int) else i for i in inputs]
        texts = {key: str(value) for key, value in attributes.items()}
        self.nodes.append({"op": kind, "name": name, self.key: texts, "inputs": entries})
        return len(self.nodes) - 1

    def scaled_image(self, mean: float = 127.5, scale: float = 0.0078125) -> int:
        x = self.op("_copy", "id", self.null("data"))
        x = self.op("_minus_scalar", "_minusscalar0", x, scalar=mean)
        return self.op("_mul_scalar", "_mulscalar0", x, scalar=scale)

    def conv(self, name: str, x: int, weight: Tensor, stride: int = 1, pad: int = 0, groups: int = 1) -> int:
        kernel = tuple(weight.shape[2:])
        settings = {"stride": (stride, stride), "pad": (pad, pad), "num_filter": len(weight), "num_group": groups}
        weight_node = self.null(f"{name}_weight", weight)
        return self.op("Convolution", name, x, weight_node, kernel=kernel, no_bias=True, workspace=256, **settings)

    def norm(self, name: str, x: int, norm: nn.Module, *, gamma: Tensor | None = None, **attributes: Any) -> int:
        """A given ``gamma`` is what the file stores beside ``fix_gamma``."""
        nodes = [
            self.null(f"{name}_gamma", norm.weight if gamma is None else gamma),
            self.null(f"{name}_beta", norm.bias),
            self.null(f"{name}_moving_mean", norm.running_mean, "aux"),
            self.null(f"{name}_moving_var", norm.running_var, "aux"),
        ]
        return self.op("BatchNorm", name, x, *nodes, fix_gamma=gamma is not None, momentum=0.9, **attributes)

    def prelu(self, name: str, x: int, prelu: nn.PReLU) -> int:
        return self.op("LeakyReLU", name, x, self.null(f"{name}_gamma", prelu.weight), act_type="prelu", slope=0.25)

    def linear(self, name: str, x: int, weight: Tensor, bias: Tensor) -> int:
        nodes = self.null(f"{name}_weight", weight), self.null(f"{name}_bias", bias)
        return self.op("FullyConnected", name, x, *nodes, num_hidden=len(weight), no_bias=False)

    def json(self, heads: list[int] | None = None) -> dict[str, Any]:
        heads = [len(self.nodes) - 1] if heads is None else heads
        nulls = [i for i, node in enumerate(self.nodes) if node["op"] == "null"]
        version = {"mxnet_version": ["int", 10300]}
        return {"nodes": self.nodes, "arg_nodes": nulls, "heads": [[head, 0, 0] for head in heads], "attrs": version}

    def write(self, folder: Path, heads: list[int] | None = None, *, version: int = 2) -> Path:
        """Both files; returns the symbol."""
        symbol = folder / "model-symbol.json"
        symbol.write_text(json.dumps(self.json(heads)))
        arrays = [raw_array(array, version) for array in self.arrays.values()]
        (folder / "model-0000.params").write_bytes(raw_params(arrays, list(self.arrays)))
        return symbol


def faces(count: int = 2) -> Tensor:
    """Pictures (B, 3, 112, 112) in 0..255."""
    return torch.rand(count, 3, 112, 112, generator=torch.Generator().manual_seed(5)) * 255


@torch.no_grad()
def features(checkpoint: Checkpoint, image: Tensor) -> Tensor:
    """The embeddings of images in 0..255, preprocessed as the header states."""
    network = build_backbone(checkpoint.header["backbone"], **checkpoint.header["backbone_settings"])
    load_strictly(network, checkpoint.section("network"), "the test")
    contract = checkpoint.header["preprocessing"]
    mean, std = (torch.tensor(contract[key]).view(3, 1, 1) for key in ("mean", "std"))
    return network.eval()((image / 255 - mean) / std)


def lively(network: nn.Module) -> nn.Module:
    """Weights of which no two are alike, except the gamma that MXNet fixes at 1."""
    unlike_new(network)
    if isinstance(network, IResNet):
        network.features.weight.data.fill_(1)
    return network


def lresnet(network: IResNet, **settings: str) -> Symbol:
    """InsightFace's LResNet*E-IR symbol, of one of our networks."""
    symbol, eps = Symbol(**settings), {"eps": 2e-05}
    body = symbol.conv("conv0", symbol.scaled_image(), network.conv1.weight, pad=1)
    body = symbol.prelu("relu0", symbol.norm("bn0", body, network.bn1, **eps), network.prelu)
    sums = itertools.count()
    for stage in range(1, 5):
        for unit, block in enumerate(network.get_submodule(f"layer{stage}"), start=1):
            name, stride = f"stage{stage}_unit{unit}", block.conv2.stride[0]
            x = symbol.norm(f"{name}_bn1", body, block.bn1, **eps)
            x = symbol.norm(f"{name}_bn2", symbol.conv(f"{name}_conv1", x, block.conv1.weight, pad=1), block.bn2, **eps)
            x = symbol.prelu(f"{name}_relu1", x, block.prelu)
            x = symbol.conv(f"{name}_conv2", x, block.conv2.weight, stride, pad=1)
            x = symbol.norm(f"{name}_bn3", x, block.bn3, **eps)
            if not isinstance(block.downsample, nn.Identity):
                body = symbol.conv(f"{name}_conv1sc", body, block.downsample[0].weight, stride)
                body = symbol.norm(f"{name}_sc", body, block.downsample[1], **eps)
            body = symbol.op("elemwise_add", f"_plus{next(sums)}", x, body)
    body = symbol.op("Dropout", "dropout0", symbol.norm("bn1", body, network.bn2, **eps), p=0.4)
    body = symbol.linear("pre_fc1", body, network.fc.weight, network.fc.bias)
    symbol.norm("fc1", body, network.features, gamma=torch.full_like(network.features.weight, 7.0), **eps)
    return symbol


@pytest.fixture(scope="module")
def small() -> IResNet:
    torch.manual_seed(1)
    network = lively(IResNet((1, 2, 1, 1), width=0.08, embedding_size=12, eps=2e-5))
    assert isinstance(network, IResNet)
    return network


class TestIResNet:
    @pytest.mark.parametrize("version", [0, 1, 2, 3])
    def test_gives_the_same_features_in_every_version_of_the_format(
        self, tmp_path: Path, small: IResNet, version: int
    ) -> None:
        checkpoint = read(lresnet(small).write(tmp_path, version=version))
        image = faces()
        with torch.no_grad():
            expected = small((image - 127.5) * 0.0078125)
        assert expected.std() > 0.1
        torch.testing.assert_close(features(checkpoint, image), expected, atol=1e-5, rtol=1e-5)

    def test_an_iresnet50_is_read_back_as_one_of_ours(self, tmp_path: Path) -> None:
        torch.manual_seed(2)
        settings = {"width": 0.125, "embedding_size": 16, "eps": 2e-5}
        network = lively(build_backbone("iresnet50", **settings))
        assert isinstance(network, IResNet)
        stored = open_checkpoint(lresnet(network).write(tmp_path))
        assert (stored.header["backbone"], stored.header["backbone_settings"]) == ("iresnet50", settings)
        found, expected = stored.section("network"), network.state_dict()
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            if not key.endswith("num_batches_tracked"):
                # The embedding's gamma is fixed at 1, whatever the file stores.
                assert torch.equal(found[key], value), key

    def test_the_header(self, tmp_path: Path, small: IResNet) -> None:
        symbol = lresnet(small).write(tmp_path)
        checkpoint = read(symbol)
        header = checkpoint.header
        assert header["backbone"] == "graph"
        assert header["embedding_size"] == 12
        assert header["source"] == {"format": "MXNet", "file": "model-symbol.json", "contract": "in the graph"}
        contract = header["preprocessing"]
        assert (contract["size"], contract["color"]) == ([112, 112], "RGB")
        assert contract["mean"] == pytest.approx([0.5] * 3, abs=1e-7)
        assert contract["std"] == pytest.approx([128 / 255] * 3, abs=1e-7)
        both = [hashlib.sha256((tmp_path / f"model-{end}").read_bytes()) for end in ("symbol.json", "0000.params")]
        assert checkpoint.digest == hashlib.sha256("".join(digest.hexdigest() for digest in both).encode()).hexdigest()

    def test_layers_keep_their_names_and_every_batch_norm_stays(self, tmp_path: Path, small: IResNet) -> None:
        checkpoint = read(lresnet(small).write(tmp_path))
        keys = checkpoint.section("network")
        norms = {key.removesuffix(".running_mean") for key in keys if key.endswith(".running_mean")}
        assert len(norms) == sum(isinstance(m, (nn.BatchNorm2d, nn.BatchNorm1d)) for m in small.modules())
        assert {"layers.bn0", "layers.stage2_unit2_bn3", "layers.stage1_unit1_sc", "layers.bn1", "layers.fc1"} <= norms
        assert torch.equal(keys["layers.fc1.weight"], torch.ones(12))  # the file stores 7
        ops = {step["op"] for step in checkpoint.header["backbone_settings"]["steps"]}
        assert ops == {"conv", "batch_norm", "prelu", "add", "flatten", "linear", "batch_norm_1d"}

    def test_either_file_will_do_and_what_is_read_can_be_saved(self, tmp_path: Path, small: IResNet) -> None:
        symbol = lresnet(small).write(tmp_path)
        first, second = read(symbol), read(tmp_path / "model-0000.params")
        assert second.header["source"]["file"] == "model-0000.params"
        assert first.digest == second.digest
        assert first.header["backbone_settings"] == second.header["backbone_settings"]
        save_checkpoint(tmp_path / "ours", first.header, first.tensors)
        image = faces()
        assert torch.equal(features(load_checkpoint(tmp_path / "ours"), image), features(second, image))

    @pytest.mark.parametrize("key", ["attr", "param"])
    def test_older_names_of_the_attributes(self, tmp_path: Path, small: IResNet, key: str) -> None:
        steps = [
            read(lresnet(small, attributes=name).write(tmp_path)).header["backbone_settings"]["steps"]
            for name in ("attrs", key)
        ]
        assert steps[0] == steps[1]

    def test_before_0_9_the_statistics_are_no_inputs(self, tmp_path: Path, small: IResNet) -> None:
        image, symbol = faces(), lresnet(small)
        expected = features(read(symbol.write(tmp_path)), image)
        for node in symbol.nodes:
            node["inputs"] = [entry[:2] for entry in node["inputs"][: 3 if node["op"] == "BatchNorm" else 9]]
        assert torch.equal(features(read(symbol.write(tmp_path)), image), expected)


MAPS = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(3)) * 0.1
SLOPE = torch.tensor([0.1, 0.2, 0.3, 0.4])
WIDE = torch.randn(1, 4, 7, 7, generator=torch.Generator().manual_seed(4))
MATRIX = torch.randn(6, 4 * 7 * 7, generator=torch.Generator().manual_seed(5))
ROWS = torch.randn(5, 7, generator=torch.Generator().manual_seed(6))
OFFSET = torch.arange(6.0)


def maps(symbol: Symbol) -> int:
    """(B, 4, 7, 7) out of the image."""
    return symbol.conv("conv0", symbol.scaled_image(), MAPS, stride=16)


def maps_of(image: Tensor) -> Tensor:
    return F.conv2d((image - 127.5) / 128, MAPS, stride=16)


Case = tuple[str, dict[str, Any], list[Tensor], Callable[[Tensor], Tensor]]

OPERATORS: dict[str, Case] = {
    "leaky": ("LeakyReLU", {"act_type": "leaky", "slope": 0.1}, [], lambda x: F.leaky_relu(x, 0.1)),
    "elu": ("LeakyReLU", {"act_type": "elu", "slope": 0.5}, [], lambda x: F.elu(x, 0.5)),
    "prelu": ("LeakyReLU", {"act_type": "prelu"}, [SLOPE], lambda x: F.prelu(x, SLOPE)),
    "relu": ("Activation", {"act_type": "relu"}, [], torch.relu),
    "sigmoid": ("Activation", {"act_type": "sigmoid"}, [], torch.sigmoid),
    "tanh": ("Activation", {"act_type": "tanh"}, [], torch.tanh),
    "softrelu": ("Activation", {"act_type": "softrelu"}, [], lambda x: torch.log1p(torch.exp(x))),
    "convolution": (
        "Convolution",
        {"kernel": "(3, 2)", "stride": "(2, 1)", "pad": "(2, 1)", "dilate": "(2, 2)", "num_filter": 2, "num_group": 2},
        [WIDE[0, :2, None, :3, :2].repeat(1, 2, 1, 1), OFFSET[:2]],
        lambda x: F.conv2d(x, WIDE[0, :2, None, :3, :2].repeat(1, 2, 1, 1), OFFSET[:2], (2, 1), (2, 1), (2, 2), 2),
    ),
    "fully connected": (
        "FullyConnected",
        {"num_hidden": 6},
        [MATRIX, OFFSET],
        lambda x: x.flatten(1) @ MATRIX.T + OFFSET,
    ),
    "fully connected, no bias": ("FullyConnected", {"no_bias": "1"}, [MATRIX], lambda x: x.flatten(1) @ MATRIX.T),
    "fully connected, last only": ("FullyConnected", {"no_bias": "True", "flatten": "0"}, [ROWS], lambda x: x @ ROWS.T),
    "add": ("elemwise_add", {}, [WIDE], lambda x: x + WIDE),
    "broadcast_add": ("broadcast_add", {}, [WIDE[:, :, :1, :1]], lambda x: x + WIDE[:, :, :1, :1]),
    "broadcast_sub": ("broadcast_sub", {}, [WIDE[:, :, :1, :1]], lambda x: x - WIDE[:, :, :1, :1]),
    "broadcast_div": ("broadcast_div", {}, [WIDE[:, :1]], lambda x: x / WIDE[:, :1]),
    "add_n": ("add_n", {"num_args": 3}, [WIDE, WIDE[:, :1]], lambda x: x + WIDE + WIDE[:, :1]),
    "_plus_scalar": ("_plus_scalar", {"scalar": "1.5"}, [], lambda x: x + 1.5),
    "_minus_scalar": ("_minus_scalar", {"scalar": "1.5"}, [], lambda x: x - 1.5),
    "_rminus_scalar": ("_rminus_scalar", {"scalar": "1.5"}, [], lambda x: 1.5 - x),
    "_mul_scalar": ("_mul_scalar", {"scalar": "-1.5"}, [], lambda x: x * -1.5),
    "_div_scalar": ("_DivScalar", {"scalar": "1.5"}, [], lambda x: x / 1.5),
    "_rdiv_scalar": ("_rdiv_scalar", {"scalar": "1.5"}, [], lambda x: 1.5 / x),
    "_power_scalar": ("_power_scalar", {"scalar": "2"}, [], lambda x: x * x),
    "flatten": ("Flatten", {}, [], lambda x: x),
    "reshape": ("Reshape", {"shape": "(0, -1)"}, [], lambda x: x),
    "reshape to maps": ("Reshape", {"shape": "(-1, 2, 98)"}, [], lambda x: x),
    "max pool": (
        "Pooling",
        {"kernel": "(3, 3)", "stride": "(2, 2)", "pad": "(1, 1)", "pool_type": "max"},
        [],
        lambda x: F.max_pool2d(x, 3, 2, 1),
    ),
    "valid pool": ("Pooling", {"kernel": "(2, 2)", "stride": "(2, 2)"}, [], lambda x: F.max_pool2d(x[..., :6, :6], 2)),
    "full pool": (
        "Pooling",
        {"kernel": "(2, 2)", "stride": "(2, 2)", "pooling_convention": "full", "pool_type": "max"},
        [],
        lambda x: F.max_pool2d(F.pad(x, (0, 1, 0, 1), value=-1e9), 2),
    ),
    "average pool": (
        "Pooling",
        {"kernel": "(3, 3)", "pad": "(1, 1)", "pool_type": "avg"},
        [],
        lambda x: F.conv2d(x, torch.full((4, 1, 3, 3), 1 / 9), padding=1, groups=4),
    ),
    "average pool, pad not counted": (
        "Pooling",
        {"kernel": "(3, 3)", "pad": "(1, 1)", "pool_type": "avg", "count_include_pad": "False"},
        [],
        lambda x: F.avg_pool2d(x, 3, 1, 1, count_include_pad=False),
    ),
    "global average": ("Pooling", {"global_pool": "True", "pool_type": "avg"}, [], lambda x: x.mean((2, 3))),
    "global maximum": ("Pooling", {"global_pool": "True", "kernel": "(9, 9)"}, [], lambda x: x.amax((2, 3))),
    "dropout": ("Dropout", {"p": "0.4"}, [], lambda x: x),
    "identity": ("identity", {}, [], lambda x: x),
    "cast": ("Cast", {"dtype": "float16"}, [], lambda x: x),
    "unit vectors": ("L2Normalization", {}, [], lambda x: F.normalize(x.flatten(1))),
    "unit channels": ("L2Normalization", {"mode": "channel"}, [], lambda x: F.normalize(x, dim=1)),
    "unit maps": ("L2Normalization", {"mode": "spatial"}, [], lambda x: F.normalize(x.flatten(2), dim=2)),
    "transpose": ("transpose", {"axes": "(0, 2, 3, 1)"}, [], lambda x: x.permute(0, 2, 3, 1)),
    "slice": ("slice_axis", {"axis": 1, "begin": 1, "end": "3"}, [], lambda x: x[:, 1:3]),
    "slice to the end": ("slice_axis", {"axis": 2, "begin": -3, "end": "None"}, [], lambda x: x[:, :, -3:]),
    "pad": (
        "Pad",
        {"mode": "constant", "pad_width": "(0,0,0,0,1,2,0,3)", "constant_value": "0.5"},
        [],
        lambda x: F.pad(x, (0, 3, 1, 2), value=0.5),
    ),
    "pad with the edge": (
        "Pad",
        {"mode": "edge", "pad_width": "(0,0,0,0,1,2,0,3)"},
        [],
        lambda x: F.pad(x, (0, 3, 1, 2), mode="replicate"),
    ),
    "clip": ("clip", {"a_min": "0.0", "a_max": "0.3"}, [], lambda x: x.clamp(0, 0.3)),
    "mean": ("mean", {"axis": "(2, 3)"}, [], lambda x: x.mean((2, 3))),
    "sum": ("sum", {"axis": "1", "keepdims": "True"}, [], lambda x: x.sum(1)),
    "sum of the others": ("sum", {"axis": "(0, 2)", "exclude": "True"}, [], lambda x: x.sum((1, 3))),
}


class TestOperators:
    @pytest.mark.parametrize(("kind", "attributes", "others", "expected"), OPERATORS.values(), ids=OPERATORS.keys())
    def test_does_what_torch_does(
        self,
        tmp_path: Path,
        kind: str,
        attributes: dict[str, Any],
        others: list[Tensor],
        expected: Callable[[Tensor], Tensor],
    ) -> None:
        symbol = Symbol()
        x = maps(symbol)
        if kind in ("sqrt", "_rdiv_scalar"):  # away from zero
            x = symbol.op("_plus_scalar", "away", x, scalar=9)
        others_nodes = [symbol.null(f"other{i}", other) for i, other in enumerate(others)]
        x = symbol.op(kind, "under_test", x, *others_nodes, **attributes)
        symbol.op("Flatten", "flat", x)
        image = faces()
        start = maps_of(image) + (9 if kind in ("sqrt", "_rdiv_scalar") else 0)
        found = features(read(symbol.write(tmp_path)), image)
        torch.testing.assert_close(found, expected(start).flatten(1), atol=1e-5, rtol=1e-5)

    @pytest.mark.parametrize("squeezed", [False, True])
    def test_parts_of_channels_and_concat(self, tmp_path: Path, squeezed: bool) -> None:
        symbol = Symbol()
        parts = symbol.op("SliceChannel", "parts", maps(symbol), num_outputs=4, squeeze_axis=squeezed)
        symbol.op("Concat", "joined", [parts, 3, 0], [parts, 0, 0], num_args=2, dim=1)
        symbol.op("Flatten", "flat", len(symbol.nodes) - 1)
        image = faces()
        expected = maps_of(image)[:, [3, 0]].flatten(1)
        torch.testing.assert_close(features(read(symbol.write(tmp_path)), image), expected, atol=1e-5, rtol=1e-5)

    def test_gamma_counts_unless_it_is_fixed_which_is_the_default(self, tmp_path: Path) -> None:
        norm = lively(nn.BatchNorm2d(4, eps=1e-3))
        image = faces()
        start = maps_of(image)
        for settings in ({"fix_gamma": "False"}, {"fix_gamma": "True"}, {}):
            symbol = Symbol()
            symbol.norm("bn", maps(symbol), norm)
            symbol.nodes[-1]["attrs"] = {**settings, "use_global_stats": "True"}
            symbol.op("Flatten", "flat", len(symbol.nodes) - 1)
            gamma = norm.weight if settings.get("fix_gamma") == "False" else None
            with torch.no_grad():
                expected = F.batch_norm(start, norm.running_mean, norm.running_var, gamma, norm.bias, eps=1e-3)
            found = features(read(symbol.write(tmp_path)), image)
            torch.testing.assert_close(found, expected.flatten(1), atol=1e-5, rtol=1e-5)

    @pytest.mark.parametrize(
        ("kind", "attributes", "message"),
        [
            ("Custom", {}, r"has the operator 'Custom' \(under_test\), which is not supported"),
            ("Activation", {"act_type": "softsign"}, "Activation node 'under_test' is one of the kind 'softsign'"),
            ("LeakyReLU", {"act_type": "prelu"}, "that is damaged"),
            ("Pooling", {"kernel": "(2, 2)", "pool_type": "lp"}, "of the kind 'lp'"),
            ("Pooling", {"kernel": "(2, 2)", "pooling_convention": "same"}, "convention 'same'"),
            ("Pooling", {"kernel": "(2, 2, 2)"}, r"of kernel \(2, 2, 2\) on 4 dimensions"),
            ("Pooling", {"kernel": "(3, 3)", "pad": "(100000, 1)"}, "does not fit"),
            (
                "Pooling",
                {"kernel": "(2, 2)", "stride": "(4, 4)", "pad": "(1, 1)", "pooling_convention": "full"},
                "last window lies wholly in the padding",
            ),
            ("Pooling", {"global_pool": "True", "layout": "NHWC"}, "of the layout NHWC"),
            ("Reshape", {"shape": "(0, -3)"}, r"to \(0, -3\)"),
            ("Reshape", {"shape": "(0, 5)"}, "does not fit"),
            ("L2Normalization", {"mode": "other"}, "that is damaged: KeyError"),
            ("SliceChannel", {"num_outputs": 3}, "of 3 parts"),
            ("slice_axis", {"axis": 7, "begin": 0, "end": 1}, "does not fit|that is damaged"),
            ("transpose", {"axes": "(0, 1)"}, "does not fit"),
            ("Pad", {"mode": "constant", "pad_width": "(0, 0)"}, r"of \(0, 0\)"),
            ("Pad", {"mode": "constant", "pad_width": "(0, 0, 0, 0, 0, 0, 0, 99999999)"}, "more than an embedder"),
            ("Cast", {"dtype": "uint8"}, "to uint8"),
            ("_plus_scalar", {}, "that is damaged: KeyError"),
            ("BatchNorm", {}, "that is damaged"),
        ],
    )
    def test_what_it_cannot_read_is_named(
        self, tmp_path: Path, kind: str, attributes: dict[str, str], message: str
    ) -> None:
        symbol = Symbol()
        symbol.op(kind, "under_test", maps(symbol), **attributes)
        symbol.op("Flatten", "flat", len(symbol.nodes) - 1)
        with pytest.raises(CheckpointError, match=message) as caught:
            read(symbol.write(tmp_path))
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"kernel": "(5, 5)"}, r"with a kernel \[5, 5\] and a weight \(4, 3, 16, 16\)"),
            ({"num_group": "0"}, "with a kernel"),
            ({"num_group": "2"}, "does not fit"),
            ({"no_bias": "False"}, "that is damaged"),
            ({"pad": "(-1, 0)"}, "does not fit"),
            ({"pad": "(100000, 100000)"}, "more than an embedder"),
            ({"dilate": "(1, 2, 3)"}, r"of dilate \(1, 2, 3\)"),
        ],
    )
    def test_a_convolution_that_is_not_one(self, tmp_path: Path, change: dict[str, str], message: str) -> None:
        symbol = Symbol()
        symbol.op("Flatten", "flat", maps(symbol))
        symbol.nodes[-2]["attrs"] |= change
        with pytest.raises(CheckpointError, match=message):
            read(symbol.write(tmp_path))


class TestContract:
    @staticmethod
    def small_head(symbol: Symbol, x: int) -> None:
        symbol.op("Flatten", "flat", symbol.conv("conv0", x, MAPS, stride=16))

    def test_nothing_in_the_graph_is_taken_for_insightfaces_rule(self, tmp_path: Path) -> None:
        symbol = Symbol()
        self.small_head(symbol, symbol.null("data"))
        checkpoint = read(symbol.write(tmp_path))
        assert checkpoint.header["source"]["contract"] == "assumed"
        assert checkpoint.header["preprocessing"]["mean"] == [0.5] * 3
        assert checkpoint.header["preprocessing"]["std"] == [0.5] * 3
        expected = F.conv2d((faces() - 127.5) / 127.5, MAPS, stride=16).flatten(1)
        torch.testing.assert_close(features(checkpoint, faces()), expected, atol=1e-5, rtol=1e-5)

    def test_another_scaling_in_the_graph(self, tmp_path: Path) -> None:
        symbol = Symbol()
        x = symbol.op("_div_scalar", "_div0", symbol.null("data"), scalar=255)
        self.small_head(symbol, symbol.op("_minus_scalar", "_minus0", x, scalar=0.25))
        checkpoint = read(symbol.write(tmp_path))
        assert checkpoint.header["preprocessing"]["mean"] == pytest.approx([0.25] * 3)
        assert checkpoint.header["preprocessing"]["std"] == pytest.approx([1.0] * 3)
        assert checkpoint.header["source"]["contract"] == "in the graph"

    def test_one_mean_per_channel_stays_a_step_on_the_raw_image(self, tmp_path: Path) -> None:
        symbol, mean = Symbol(), torch.tensor([104.0, 117.0, 123.0]).view(1, 3, 1, 1)
        self.small_head(symbol, symbol.op("broadcast_sub", "sub0", symbol.null("data"), symbol.null("mean", mean)))
        checkpoint = read(symbol.write(tmp_path))
        assert checkpoint.header["source"]["contract"] == "in the graph"
        expected = F.conv2d(faces() - mean, MAPS, stride=16).flatten(1)
        torch.testing.assert_close(features(checkpoint, faces()), expected, atol=1e-3, rtol=1e-4)

    @pytest.mark.parametrize("raw", [True, False])
    def test_a_batch_norm_of_the_image_is_a_step_and_tells_its_units(self, tmp_path: Path, raw: bool) -> None:
        norm = nn.BatchNorm2d(3, eps=2e-5)
        norm.running_mean += 120.0 if raw else 0.1
        norm.running_var *= 4000.0 if raw else 0.3
        symbol = Symbol()
        x = symbol.op("identity", "id", symbol.null("data"))
        self.small_head(symbol, symbol.norm("bn_data", x, norm, gamma=torch.ones(3), eps=2e-5))
        checkpoint = read(symbol.write(tmp_path))
        assert checkpoint.header["source"]["contract"] == ("in the graph" if raw else "assumed")
        assert checkpoint.section("network")["layers.bn_data.running_mean"].tolist() == norm.running_mean.tolist()
        image = faces() if raw else (faces() - 127.5) / 127.5
        with torch.no_grad():
            expected = F.conv2d(norm.eval()(image), MAPS, stride=16).flatten(1)
        torch.testing.assert_close(features(checkpoint, faces()), expected, atol=1e-5, rtol=1e-5)


class TestOutputs:
    @staticmethod
    def with_a_loss(small: IResNet) -> tuple[Symbol, int, int]:
        """The symbol InsightFace trains: features, and a softmax that wants a label."""
        symbol = lresnet(small)
        features = len(symbol.nodes) - 1
        unit = symbol.op("L2Normalization", "fc1n", features, mode="instance")
        weight = symbol.null("fc7_weight", torch.randn(9, 12))
        logits = symbol.op("FullyConnected", "fc7", unit, weight, no_bias=True, num_hidden=9)
        hot = symbol.op("one_hot", "one_hot0", symbol.null("gt_label"), depth=9)
        logits = symbol.op("elemwise_add", "_plus99", logits, hot)
        softmax = symbol.op("SoftmaxOutput", "softmax", logits, symbol.null("softmax_label"))
        return symbol, symbol.op("BlockGrad", "blockgrad0", features), softmax

    def test_of_several_heads_fc1_is_the_embedding(self, tmp_path: Path, small: IResNet) -> None:
        expected = features(read(lresnet(small).write(tmp_path)), faces())
        symbol, blocked, softmax = self.with_a_loss(small)
        for heads in ([blocked, softmax], [softmax], [blocked]):
            checkpoint = read(symbol.write(tmp_path, heads))
            assert torch.equal(features(checkpoint, faces()), expected)
            assert not any("fc7" in key for key in checkpoint.tensors)

    def test_several_heads_without_fc1(self, tmp_path: Path, small: IResNet) -> None:
        symbol, blocked, softmax = self.with_a_loss(small)
        next(node for node in symbol.nodes if node["name"] == "fc1")["name"] = "embedding"
        with pytest.raises(
            CheckpointError, match=r"got 2 in .* \(blockgrad0 \(BlockGrad\), softmax \(SoftmaxOutput\)\)"
        ):
            read(symbol.write(tmp_path, [blocked, softmax]))
        with pytest.raises(CheckpointError, match=r"got 1 in .* \(softmax \(SoftmaxOutput\)\): a training symbol"):
            read(symbol.write(tmp_path, [softmax]))

    def test_an_output_that_needs_a_label(self, tmp_path: Path, small: IResNet) -> None:
        symbol, _, softmax = self.with_a_loss(small)
        with pytest.raises(CheckpointError, match=r"expected one input .* got 2 \(data, gt_label\)"):
            read(symbol.write(tmp_path, [softmax - 2]))

    def test_a_weight_that_is_not_stored(self, tmp_path: Path, small: IResNet) -> None:
        symbol = lresnet(small)
        del symbol.arrays["arg:conv0_weight"]
        with pytest.raises(CheckpointError, match=r"does not store, got 2 \(data, conv0_weight\)"):
            read(symbol.write(tmp_path))

    def test_no_image(self, tmp_path: Path) -> None:
        symbol = Symbol()
        symbol.op("Flatten", "flat", symbol.null("weight", WIDE))
        with pytest.raises(CheckpointError, match="got 0"):
            read(symbol.write(tmp_path))

    @pytest.mark.parametrize(
        ("shape", "good"), [("(1, 3, 112, 112)", True), ("(0, 3, 96, 112)", False), ("(1, 9)", False)]
    )
    def test_the_shape_the_symbol_wants(self, tmp_path: Path, small: IResNet, shape: str, good: bool) -> None:
        symbol = lresnet(small)
        symbol.nodes[0]["attrs"] = {"__shape__": shape}
        if good:
            assert read(symbol.write(tmp_path)).header["embedding_size"] == 12
            return
        with pytest.raises(CheckpointError, match=r"expected an image input \(N, 3, 112, 112\), got"):
            read(symbol.write(tmp_path))

    def test_maps_are_no_embedding(self, tmp_path: Path) -> None:
        symbol = Symbol()
        maps(symbol)
        with pytest.raises(CheckpointError, match="expected an output of one vector per image"):
            read(symbol.write(tmp_path))

    def test_statistics_of_a_batch_norm_are_no_output(self, tmp_path: Path, small: IResNet) -> None:
        path = lresnet(small).write(tmp_path)
        content = json.loads(path.read_text())
        content["heads"] = [[len(content["nodes"]) - 1, 1, 0]]
        path.write_text(json.dumps(content))
        with pytest.raises(CheckpointError, match="has no output 1"):
            read(path)

    def test_a_weight_of_another_shape(self, tmp_path: Path, small: IResNet) -> None:
        symbol = lresnet(small)
        symbol.arrays["arg:relu0_gamma"] = np.zeros(2, np.float32)
        with pytest.raises(CheckpointError, match="the prelu layer 'relu0' does not fit"):
            read(symbol.write(tmp_path))


class TestBothFiles:
    def test_the_highest_epoch_is_taken(self, tmp_path: Path, small: IResNet) -> None:
        symbol = lresnet(small)
        path = symbol.write(tmp_path)
        (tmp_path / "model-0000.params").rename(tmp_path / "model-0012.params")
        expected = read(path).digest
        for name in ("model-0003.params", "model-9.params", "model-x-0099.params", "other-0099.params"):
            (tmp_path / name).write_bytes(b"never opened")
        assert read(path).digest == expected
        with pytest.raises(CheckpointError, match=r"model-0003\.params' is not a whole MXNet parameter file"):
            read(tmp_path / "model-0003.params")
        (tmp_path / "model-10000.params").write_bytes(b"opened")
        with pytest.raises(CheckpointError, match=r"model-10000\.params' is not a whole MXNet parameter file"):
            read(path)

    def test_a_name_with_dashes_and_brackets(self, tmp_path: Path, small: IResNet) -> None:
        path = lresnet(small).write(tmp_path)
        path.rename(tmp_path / "a-[1]-symbol.json")
        (tmp_path / "model-0000.params").rename(tmp_path / "a-[1]-0000.params")
        assert read(tmp_path / "a-[1]-symbol.json").digest == read(tmp_path / "a-[1]-0000.params").digest

    @pytest.mark.parametrize("missing", ["model-symbol.json", "model-0000.params"])
    @pytest.mark.parametrize("asked", ["model-symbol.json", "model-0000.params"])
    def test_a_missing_file_is_named(self, tmp_path: Path, small: IResNet, missing: str, asked: str) -> None:
        lresnet(small).write(tmp_path)
        (tmp_path / missing).unlink()
        with pytest.raises(CheckpointError, match=rf"expected '.*{missing}' for '{asked}', found none"):
            read(tmp_path / asked)

    @pytest.mark.parametrize("name", ["model.params", "symbol.json", "-symbol.json", "model-12.params", "a.onnx"])
    def test_another_name(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(CheckpointError, match=r"expected a file named NAME-symbol\.json or NAME-0000\.params"):
            read(tmp_path / name)


ONE = raw_array(np.ones((2, 3), np.float32))


def lying(shape: list[int], *, storage: int = 0, flag: int = 0, rank: int | None = None, data: int = 24) -> bytes:
    """One array whose header says what it likes."""
    rank = len(shape) if rank is None else rank
    header = struct.pack(f"<Iii{len(shape)}q", MAGIC[2], storage, rank, *shape)
    return raw_params([header + struct.pack("<iii", 1, 0, flag) + bytes(data)], ["arg:a"])


class TestHostileParameters:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        symbol = Symbol()
        symbol.op("Flatten", "flat", symbol.conv("conv0", symbol.scaled_image(), torch.ones(2, 3, 112, 112)))
        return symbol.write(tmp_path)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "expected a list of arrays"),
            (b"PK\x03\x04" + bytes(100), r"expected a list of arrays \(0x112\), got 0x4034b50"),
            (b"\x80\x04cos\nsystem\n(S'echo'\ntR." + bytes(99), "expected a list of arrays"),
            (struct.pack("<QQQ", 0x112, 0, 2**62) + ONE, "expected 4 bytes"),
            (struct.pack("<QQQ", 0x112, 0, 1), "expected 4 bytes at 24, got 0"),
            (raw_params([ONE], []), "expected 1 names, got 0"),
            (raw_params([ONE], ["a", "b"]), "expected 1 names, got 2"),
            (raw_params([ONE, ONE], ["arg:a", "aux:a"]), "'a' is there twice"),
            (raw_params([ONE], ["a"]) + b"more", "expected [0-9]+ bytes, got"),
            (raw_params([ONE], [])[:-8] + struct.pack("<QQ", 1, 2**63), "expected 9223372036854775808 bytes"),
            (lying([2, 3], storage=1), "expected dense arrays, got one of storage type 1"),
            (lying([2, 3], flag=12), r"got shape \[2, 3\] of type 12"),
            (lying([-2, -3]), r"got shape \[-2, -3\]"),
            (lying([0, 2**60]), r"got shape \[0, 1152921504606846976\]"),
            (lying([2**31, 2**31, 2**31]), "expected 39614081257132168796771975168 bytes"),
            (lying([20, 40]), "expected 3200 bytes at 64, got 45"),
            (lying([2, 4]), "expected 1 names, got 5"),
            (lying([2, 3], rank=2**31 - 1), "expected an array of up to 8 dimensions, got 2147483647"),
            (raw_params([struct.pack("<I", 0xDEADBEEF) + bytes(40)], ["a"]), "up to 8 dimensions, got 3735928559"),
        ],
    )
    def test_is_refused_before_anything_is_allocated(self, path: Path, content: bytes, message: str) -> None:
        path.with_name("model-0000.params").write_bytes(content)
        with pytest.raises(CheckpointError, match=f"is not a whole MXNet parameter file: .*({message})") as caught:
            read(path)
        assert "\n" not in str(caught.value)

    def test_truncated_at_every_length(self, path: Path) -> None:
        params = path.with_name("model-0000.params")
        arrays = [raw_array(np.ones((1, 2), np.float32), version) for version in range(4)]
        content = raw_params(arrays, ["arg:a", "aux:b", "c", "d"])
        for keep in range(len(content)):
            params.write_bytes(content[:keep])
            with pytest.raises(CheckpointError, match="is not a whole MXNet parameter file"):
                read(path)

    def test_arrays_without_a_shape_are_passed_over(self, path: Path) -> None:
        weight = raw_array(np.ones((2, 3, 112, 112), np.float32))
        none = [struct.pack("<Iii", MAGIC[2], 0, 0), struct.pack("<Ii", MAGIC[1], 0), struct.pack("<I", 0)]
        none.append(struct.pack("<Iii", MAGIC[3], 0, -1))
        names = ["arg:a", "arg:b", "arg:c", "arg:d", "arg:conv0_weight"]
        path.with_name("model-0000.params").write_bytes(raw_params([*none, weight], names))
        assert read(path).header["embedding_size"] == 2

    @pytest.mark.parametrize("dtype", FLAGS)
    def test_every_type_of_number(self, path: Path, dtype: str) -> None:
        weight = np.arange(2 * 3 * 112 * 112).reshape(2, 3, 112, 112) % 100
        content = raw_params([raw_array(weight.astype(dtype))], ["arg:conv0_weight"])
        path.with_name("model-0000.params").write_bytes(content)
        found = read(path).section("network")["layers.conv0.weight"]
        assert torch.equal(found.float(), torch.from_numpy(weight).float())

    def test_a_scalar_of_the_third_version(self, tmp_path: Path) -> None:
        symbol = Symbol()
        x = symbol.op("broadcast_mul", "mul", maps(symbol), symbol.null("factor", torch.tensor(3.0)))
        symbol.op("Flatten", "flat", x)
        found = features(read(symbol.write(tmp_path, version=3)), faces())
        torch.testing.assert_close(found, 3 * maps_of(faces()).flatten(1), atol=1e-5, rtol=1e-5)


class TestHostileSymbols:
    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"{",
            b"\xff\xfe",
            b"[" * 100_000,
            b"{}",
            b'{"nodes": 1, "heads": [[0, 0]]}',
            b'{"nodes": [], "heads": [[0, 0, 0]]}',
            b'{"nodes": [{"op": "null", "name": "a"}], "heads": [[0, 0]]}',
            b'{"nodes": [{"op": "null", "name": "a", "inputs": []}], "heads": []}',
            b'{"nodes": [{"op": "null", "name": "a", "inputs": []}], "heads": [[1, 0]]}',
            b'{"nodes": [{"op": "null", "name": "a", "inputs": []}], "heads": [[-1, 0]]}',
            b'{"nodes": [{"op": "null", "name": "a", "inputs": []}], "heads": [[0]]}',
            b'{"nodes": [{"op": "null", "name": "a", "inputs": []}], "heads": [[1e999, 0]]}',
            b'{"nodes": [{"op": "x", "name": "a", "inputs": [[0, 0]]}], "heads": [[0, 0]]}',
            b'{"nodes": [{"op": "x", "name": "a", "attrs": [1], "inputs": []}], "heads": [[0, 0]]}',
            b'{"nodes": [{"op": "x", "name": "a", "attrs": {"s": ' + b"[" * 90_000 + b'}, "inputs": []}]}',
        ],
    )
    def test_is_refused_in_one_line(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "model-0000.params").write_bytes(raw_params([ONE], ["arg:w"]))
        (tmp_path / "model-symbol.json").write_bytes(content)
        with pytest.raises(CheckpointError, match=r"is not a whole MXNet symbol: .") as caught:
            read(tmp_path / "model-symbol.json")
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("inputs", [[], [[1, 0]], [[0, 5]]])
    def test_a_node_without_its_inputs(self, tmp_path: Path, inputs: list[list[int]]) -> None:
        symbol = Symbol()
        symbol.null("data")
        symbol.null("w", torch.ones(2, 3))
        symbol.op("Flatten", "flat", 0)
        symbol.op("FullyConnected", "fc", 2, 1, no_bias=True)
        symbol.nodes[3]["inputs"] = [[2, 0], *inputs]
        with pytest.raises(CheckpointError, match=r"that is damaged|does not fit"):
            read(symbol.write(tmp_path))
