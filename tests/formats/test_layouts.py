from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from arcinvert.backbones import build_backbone
from arcinvert.backbones.graph import FoldedNorm
from arcinvert.backbones.iresnet import Block, IResNet
from arcinvert.checkpoint import Checkpoint, build_network
from arcinvert.formats import onnx as onnx_file
from arcinvert.formats import open_checkpoint
from arcinvert.formats.layouts import as_iresnet
from arcinvert.recognizer import Recognizer

WIDTH, SIZE = 0.0625, 5


def network(name: str = "iresnet18", **settings: Any) -> IResNet:
    """With weights and statistics that let an error be seen at the end."""
    torch.manual_seed(11)
    made = build_backbone(name, **{"width": WIDTH, "embedding_size": SIZE, **settings})
    assert isinstance(made, IResNet)
    generator = torch.Generator().manual_seed(5)
    for module in made.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            for tensor, low, high in ((module.weight, 0.6, 1.2), (module.bias, -0.2, 0.2)):
                tensor.data.uniform_(low, high, generator=generator)
            module.running_mean.uniform_(-0.3, 0.3, generator=generator)
            module.running_var.uniform_(0.7, 1.5, generator=generator)
        elif isinstance(module, nn.PReLU):
            module.weight.data.uniform_(0.1, 0.4, generator=generator)
        elif isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, generator=generator)
    return made.eval().requires_grad_(False)


class Writer:
    """An IResNet as the nodes of an ONNX file.

    Args:
        made: the network.
        fold: whether the BatchNorm behind each convolution goes into it, with numbers for names, as
            torch's exporter leaves it.
        shortcut_first: order of the two paths.
    """

    def __init__(self, made: IResNet, *, fold: bool, shortcut_first: bool = False, mxnet: bool = False) -> None:
        self.made, self.fold, self.shortcut_first, self.mxnet = made, fold, shortcut_first, mxnet
        self.nodes: list[Any] = []
        self.weights: dict[str, np.ndarray] = {}
        self.numbers: Iterator[int] = count(700)
        self.stride_first = self.relu_at = self.extra_relu = None

    def node(self, kind: str, inputs: list[str], name: str = "", **attributes: Any) -> str:
        output = name or f"out_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], name=f"{kind}_{len(self.nodes)}", **attributes))
        return output

    def weight(self, name: str, tensor: Tensor) -> str:
        self.weights[name] = tensor.detach().numpy().copy()
        return name

    def norm(self, x: str, layer: nn.Module, name: str) -> str:
        if isinstance(layer, FoldedNorm):
            return x
        assert isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d)
        names = (
            ("gamma", "beta", "moving_mean", "moving_var")
            if self.mxnet
            else ("weight", "bias", "running_mean", "running_var")
        )
        parts = (layer.weight, layer.bias, layer.running_mean, layer.running_var)
        joined = "_" if self.mxnet else "."
        inputs = [self.weight(f"{name}{joined}{key}", part) for key, part in zip(names, parts, strict=True)]
        extra = {"spatial": 0, "momentum": 0.9} if self.mxnet else {}
        return self.node("BatchNormalization", [x, *inputs], epsilon=layer.eps, **extra)

    def conv(self, x: str, conv: nn.Conv2d, after: nn.Module, name: str, after_name: str, stride: int = 0) -> str:
        weight, bias = conv.weight, conv.bias
        if self.fold and isinstance(after, nn.BatchNorm2d):
            scale = after.weight / (after.running_var + after.eps).sqrt()
            weight, bias = weight * scale.view(-1, 1, 1, 1), after.bias - after.running_mean * scale
        numbered = self.fold and not self.mxnet
        key = str(next(self.numbers)) if numbered else f"{name}{'_' if self.mxnet else '.'}weight"
        inputs = [self.weight(key, weight)]
        if bias is not None:
            inputs.append(self.weight(str(next(self.numbers)) if numbered else f"{name}.bias", bias))
        sides = {"kernel_shape": list(conv.kernel_size), "pads": list(conv.padding) * 2}
        sides["strides"] = [stride or conv.stride[0]] * 2
        x = self.node("Conv", [x, *inputs], dilations=[1, 1], group=1, **sides)
        return x if self.fold else self.norm(x, after, after_name)

    def prelu(self, x: str, active: nn.PReLU, name: str) -> str:
        if name == self.relu_at:
            return self.node("Relu", [x])
        slope = active.weight if self.mxnet else active.weight.view(-1, 1, 1)
        return self.node("PRelu", [x, self.weight(f"{name}_gamma" if self.mxnet else str(next(self.numbers)), slope)])

    def block(self, x: str, block: Block, stage: int, number: int) -> str:
        t, m = f"layer{stage}.{number}.", f"stage{stage}_unit{number + 1}_"
        names = ("bn1", "conv1", "bn2", "relu1", "conv2", "bn3", "conv1sc", "sc")
        ours = ("bn1", "conv1", "bn2", "prelu", "conv2", "bn3", "downsample.0", "downsample.1")
        bn1, conv1, bn2, prelu, conv2, bn3, conv1sc, sc = (
            [m + n for n in names] if self.mxnet else [t + n for n in ours]
        )

        def shortcut() -> str:
            if isinstance(block.downsample, nn.MaxPool2d):
                return self.node("MaxPool", [x], kernel_shape=[1, 1], strides=[block.downsample.stride] * 2)
            if isinstance(block.downsample, nn.Sequential):
                return self.conv(x, block.downsample[0], block.downsample[1], conv1sc, sc)  # type: ignore[arg-type]
            return x

        def main() -> str:
            first = block.conv2.stride[0] if t == self.stride_first else 0
            y = self.norm(x, block.bn1, bn1)
            y = self.conv(y, block.conv1, block.bn2, conv1, bn2, stride=first)
            y = self.prelu(y, block.prelu, prelu)
            return self.conv(y, block.conv2, block.bn3, conv2, bn3, stride=1 if first else 0)

        if self.shortcut_first:
            side = shortcut()
            added = self.node("Add", [side, main()])
        else:
            y = main()
            added = self.node("Add", [y, shortcut()])
        return self.node("Relu", [added]) if t == self.extra_relu else added

    def body(self, x: str) -> str:
        made = self.made
        x = self.conv(x, made.conv1, made.bn1, "conv0" if self.mxnet else "conv1", "bn0" if self.mxnet else "bn1")
        x = self.prelu(x, made.prelu, "relu0" if self.mxnet else "prelu")
        for stage in range(1, 5):
            for number, block in enumerate(made.get_submodule(f"layer{stage}").children()):
                assert isinstance(block, Block)
                x = self.block(x, block, stage, number)
        return self.norm(x, made.bn2, "bn1" if self.mxnet else "bn2")

    def head(self, x: str, *, flat: str = "Flatten", features: bool = True, bias: bool = True) -> str:
        if self.mxnet:
            x = self.node("Dropout", [x], ratio=0.4)
        if flat == "Flatten":
            x = self.node("Flatten", [x])
        else:
            sizes = [int(size) for size in flat.split(",")]
            self.weights["sizes"] = np.array(sizes, dtype=np.int64)
            x = self.node("Reshape", [x, "sizes"])
        fc, joined = ("pre_fc1", "_") if self.mxnet else ("fc", ".")
        inputs = [self.weight(f"{fc}{joined}weight", self.made.fc.weight)]
        inputs += [self.weight(f"{fc}{joined}bias", self.made.fc.bias)] if bias else []
        x = self.node("Gemm", [x, *inputs], alpha=1.0, beta=1.0, transB=1)
        return self.norm(x, self.made.features, "fc1" if self.mxnet else "features") if features else x

    def save(
        self, path: Path, x: str, *, opset: int, image: str, listed: bool = False, batch: int | str = "None"
    ) -> Path:
        stored = [numpy_helper.from_array(array, name) for name, array in self.weights.items()]
        inputs = [helper.make_tensor_value_info(image, TensorProto.FLOAT, [batch, 3, 112, 112])]
        inputs += [helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)) for t in stored if listed]
        outputs = [helper.make_tensor_value_info(x, TensorProto.FLOAT, [batch, SIZE])]
        graph = helper.make_graph(self.nodes, "g", inputs, outputs, stored)
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=3 if listed else 6)
        path.write_bytes(made.SerializeToString())
        return path


def insightface(path: Path, made: IResNet, **settings: Any) -> Path:
    """As w600k_r50 and glintr100 are written."""
    writer = Writer(made, fold=True, **settings)
    return writer.save(path, writer.head(writer.body("input.1")), opset=11, image="input.1")


def zoo(
    path: Path, made: IResNet, *, flat: str = "Flatten", batch: int | str = 1, features: bool = True, **settings: Any
) -> Path:
    """As the model zoo's arcfaceresnet100-8 is written."""
    writer = Writer(made, fold=False, mxnet=True, **settings)
    writer.weights |= {"scalar_op1": np.array([127.5], "f"), "scalar_op2": np.array([0.0078125], "f")}
    x = writer.node("Sub", ["data", "scalar_op1"], "_minusscalar0")
    x = writer.node("Mul", [x, "scalar_op2"], "_mulscalar0")
    x = writer.head(writer.body(x), flat=flat, features=features)
    return writer.save(path, x, opset=8, image="data", listed=True, batch=batch)


IMAGES = torch.rand(3, 3, 112, 112, generator=torch.Generator().manual_seed(1)) * 2 - 1


def same(stored: Checkpoint, made: IResNet, images: Tensor = IMAGES) -> None:
    found = build_network(stored, "x").eval()
    with torch.no_grad():
        expected = made(images)
        assert expected.std(0).min() > 1e-3
        torch.testing.assert_close(found(images), expected, atol=2e-4, rtol=1e-3)


class TestInsightFace:
    @pytest.mark.parametrize("shortcut_first", [False, True])
    @pytest.mark.parametrize(
        ("name", "stored", "all_norms"),
        [("iresnet50", 25, 78), pytest.param("iresnet100", 50, 153, marks=pytest.mark.slow)],
    )
    def test_folded(self, name: str, stored: int, all_norms: int, shortcut_first: bool, tmp_path: Path) -> None:
        made = network(name)
        assert sum(isinstance(m, nn.BatchNorm2d) for m in made.modules()) == all_norms
        path = insightface(tmp_path / "a.onnx", made, shortcut_first=shortcut_first)
        found = open_checkpoint(path)
        assert found.header["backbone"] == name
        assert found.header["backbone_settings"] == {"width": WIDTH, "embedding_size": SIZE, "folded": True}
        assert found.header["preprocessing"]["mean"] == found.header["preprocessing"]["std"] == [0.5] * 3
        assert found.header["source"]["format"] == "ONNX"
        same(found, made)
        recognizer = Recognizer.from_checkpoint(found, "a")
        assert len(recognizer.layers) == all_norms
        assert len(recognizer.layers) - len(recognizer.folded) == stored
        assert recognizer.layers[:4] == ("bn1", "layer1.0.bn1", "layer1.0.bn2", "layer1.0.bn3")
        statistics = recognizer.statistics("layer2.1.bn1")
        assert statistics is not None
        assert torch.equal(statistics.mean, made.get_submodule("layer2.1.bn1").running_mean)
        assert recognizer.statistics("layer2.1.bn2") is None

    def test_the_graph_says_the_same(self, tmp_path: Path) -> None:
        made = network()
        plain = onnx_file.read(insightface(tmp_path / "a.onnx", made))
        assert plain.header["backbone"] == "graph"
        assert as_iresnet(plain).header["backbone"] == "iresnet18"
        assert as_iresnet(plain).digest == plain.digest
        same(plain, made)
        same(as_iresnet(plain), made)

    def test_without_a_norm_behind_the_linear_layer(self, tmp_path: Path) -> None:
        made = network()
        writer = Writer(made, fold=True)
        path = writer.save(tmp_path / "a.onnx", writer.head(writer.body("x"), features=False), opset=13, image="x")
        found = open_checkpoint(path)
        assert found.header["backbone"] == "iresnet18"
        made.features = nn.Identity()  # type: ignore[assignment]
        same(found, made)

    def test_with_all_its_norms(self, tmp_path: Path) -> None:
        """As torch exports with ``training=PRESERVE``: nothing folded, speaking names."""
        made = network()
        writer = Writer(made, fold=False)
        found = open_checkpoint(writer.save(tmp_path / "a.onnx", writer.head(writer.body("x")), opset=13, image="x"))
        assert found.header["backbone_settings"] == {"width": WIDTH, "embedding_size": SIZE}
        same(found, made)
        assert {key.removeprefix("network.") for key in found.tensors} == set(made.state_dict())

    @pytest.mark.parametrize("fold", [True, False])
    def test_shortcuts_that_pool(self, fold: bool, tmp_path: Path) -> None:
        made = network(shortcut="pool")
        writer = Writer(made, fold=fold)
        found = open_checkpoint(writer.save(tmp_path / "a.onnx", writer.head(writer.body("x")), opset=13, image="x"))
        assert found.header["backbone"] == "iresnet18"
        assert found.header["backbone_settings"]["shortcut"] == "pool"
        same(found, made)

    def test_a_network_of_ours_that_is_folded_itself(self, tmp_path: Path) -> None:
        made = network(folded=True)
        found = open_checkpoint(insightface(tmp_path / "a.onnx", made))
        assert found.header["backbone_settings"]["folded"] is True
        same(found, made)
        for key, value in made.state_dict().items():
            assert torch.equal(found.tensors[f"network.{key}"], value)

    def test_gradients_flow(self, tmp_path: Path) -> None:
        made = network()
        recognizer = Recognizer.load(insightface(tmp_path / "a.onnx", made))
        gradients = []
        for function in (lambda x: recognizer.network(x), made):
            images = IMAGES[:1].clone().requires_grad_()
            function(images).sum().backward()
            gradients.append(images.grad)
        assert gradients[0] is not None
        assert gradients[0].abs().sum() > 0
        torch.testing.assert_close(gradients[0], gradients[1], atol=1e-4, rtol=1e-2)


class TestModelZoo:
    @pytest.mark.parametrize("shortcut_first", [False, True])
    @pytest.mark.parametrize("name", ["iresnet18", pytest.param("iresnet100", marks=pytest.mark.slow)])
    def test_unfolded(self, name: str, shortcut_first: bool, tmp_path: Path) -> None:
        made = network(name, eps=2e-5)
        found = open_checkpoint(zoo(tmp_path / "a.onnx", made, shortcut_first=shortcut_first))
        assert found.header["backbone"] == name
        assert found.header["backbone_settings"] == {"width": WIDTH, "embedding_size": SIZE, "eps": 2e-5}
        assert found.header["preprocessing"]["mean"] == pytest.approx([0.5] * 3)
        assert found.header["preprocessing"]["std"] == pytest.approx([128 / 255] * 3)
        assert found.header["source"]["contract"] == "in the graph"
        same(found, made)
        raw = ((IMAGES + 1) * 127.5).round()
        found_row = Recognizer.from_checkpoint(found, "a").embed(raw.byte())
        with torch.no_grad():
            expected = nn.functional.normalize(made((raw - 127.5) * 0.0078125))
        torch.testing.assert_close(found_row, expected, atol=1e-4, rtol=1e-3)

    @pytest.mark.parametrize("flat", ["0,-1", "-1,1568", "1,-1", "1,1568"])
    def test_reshape_in_place_of_flatten(self, flat: str, tmp_path: Path) -> None:
        made = network(eps=2e-5)
        found = open_checkpoint(zoo(tmp_path / "a.onnx", made, flat=flat))
        assert found.header["backbone"] == "iresnet18"
        same(found, made)

    def test_no_fc1(self, tmp_path: Path) -> None:
        made = network(eps=2e-5)
        found = open_checkpoint(zoo(tmp_path / "a.onnx", made, features=False))
        made.features = nn.Identity()  # type: ignore[assignment]
        assert found.header["backbone"] == "iresnet18"
        same(found, made)


class TestNearMisses:
    """Not an IResNet of ours: stays a graph, and says what the file says."""

    @staticmethod
    def kept(tmp_path: Path, writer: Writer, x: str) -> Checkpoint:
        found = open_checkpoint(writer.save(tmp_path / "a.onnx", x, opset=13, image="x"))
        assert found.header["backbone"] == "graph"
        with torch.no_grad():
            assert build_network(found, "x").eval()(IMAGES).shape == (3, SIZE)
        return found

    @pytest.mark.parametrize("fold", [True, False])
    def test_the_stride_on_the_first_convolution(self, fold: bool, tmp_path: Path) -> None:
        writer = Writer(network(), fold=fold)
        writer.stride_first = "layer3.0."
        self.kept(tmp_path, writer, writer.head(writer.body("x")))

    @pytest.mark.parametrize("place", ["prelu", "layer2.1.prelu"])
    def test_relu(self, place: str, tmp_path: Path) -> None:
        writer = Writer(network(), fold=True)
        writer.relu_at = place
        self.kept(tmp_path, writer, writer.head(writer.body("x")))

    def test_relu_behind_a_block(self, tmp_path: Path) -> None:
        writer = Writer(network(), fold=True)
        writer.extra_relu = "layer4.1."
        self.kept(tmp_path, writer, writer.head(writer.body("x")))

    @pytest.mark.parametrize("blocks", [(2, 2, 1, 2), (1, 2, 2, 2), (2, 2, 2, 3)])
    def test_other_numbers_of_blocks(self, blocks: tuple[int, ...], tmp_path: Path) -> None:
        made = IResNet(blocks, width=WIDTH, embedding_size=SIZE).eval()
        writer = Writer(made, fold=False)
        same(self.kept(tmp_path, writer, writer.head(writer.body("x"))), made)

    def test_one_slope_for_all(self, tmp_path: Path) -> None:
        made = network()
        made.layer2[0].prelu = nn.PReLU()  # type: ignore[union-attr,operator]
        writer = Writer(made, fold=True)
        same(self.kept(tmp_path, writer, writer.head(writer.body("x"))), made)

    def test_another_eps_in_one_layer(self, tmp_path: Path) -> None:
        made = network()
        made.bn2.eps = 1e-3  # type: ignore[assignment]
        writer = Writer(made, fold=True)
        same(self.kept(tmp_path, writer, writer.head(writer.body("x"))), made)

    def test_half_folded(self, tmp_path: Path) -> None:
        made = network()
        scale = made.bn1.weight / (made.bn1.running_var + made.bn1.eps).sqrt()  # type: ignore[union-attr,operator]
        folded = nn.Conv2d(3, 4, 3, padding=1).requires_grad_(False)
        folded.weight.copy_(made.conv1.weight * scale.view(-1, 1, 1, 1))
        folded.bias.copy_(made.bn1.bias - made.bn1.running_mean * scale)  # type: ignore[union-attr,operator]
        made.conv1, made.bn1 = folded, FoldedNorm()
        writer = Writer(made, fold=False)
        same(self.kept(tmp_path, writer, writer.head(writer.body("x"))), made)

    def test_a_unit_vector_at_the_end(self, tmp_path: Path) -> None:
        made = network()
        writer = Writer(made, fold=True)
        x = writer.node("LpNormalization", [writer.head(writer.body("x"))], axis=1, p=2)
        stored = self.kept(tmp_path, writer, x)
        with torch.no_grad():
            expected = nn.functional.normalize(made(IMAGES))
            torch.testing.assert_close(build_network(stored, "x").eval()(IMAGES), expected, atol=1e-4, rtol=1e-3)

    def test_no_bias_in_the_linear_layer(self, tmp_path: Path) -> None:
        writer = Writer(network(), fold=True)
        self.kept(tmp_path, writer, writer.head(writer.body("x"), bias=False))

    def test_a_head_that_pools(self, tmp_path: Path) -> None:
        writer = Writer(network(), fold=True)
        x = writer.node("GlobalAveragePool", [writer.body("x")])
        writer.weights["w"] = np.random.default_rng(0).normal(size=(SIZE, 32)).astype("f")
        writer.weights["b"] = np.zeros(SIZE, "f")
        self.kept(tmp_path, writer, writer.node("Gemm", [writer.node("Flatten", [x]), "w", "b"], transB=1))

    def test_another_input_of_the_second_path(self, tmp_path: Path) -> None:
        """The last block adds its BatchNorm's output in place of its input."""
        writer = Writer(network(), fold=True)
        x = writer.body("x")
        last = max(i for i, node in enumerate(writer.nodes) if node.op_type == "Add")
        norm = max(i for i, node in enumerate(writer.nodes[:last]) if node.op_type == "BatchNormalization")
        writer.nodes[last].input[1] = writer.nodes[norm].output[0]
        self.kept(tmp_path, writer, writer.head(x))
