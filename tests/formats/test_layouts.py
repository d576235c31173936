"""Imported graphs that are IResNets, written by torch's own exporter: nothing here comes from our importers."""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from networks import IMAGES, unlike_new
from torch import Tensor, nn

from arcinvert.backbones import build_backbone
from arcinvert.backbones.iresnet import Block, IResNet
from arcinvert.backbones.operations import FoldedNorm
from arcinvert.checkpoint import Checkpoint, build_network
from arcinvert.formats import export, open_checkpoint
from arcinvert.formats import onnx as onnx_file
from arcinvert.formats.layouts import as_iresnet
from arcinvert.preprocessing import Preprocessing
from arcinvert.recognizer import Recognizer

WIDTH, SIZE = 0.0625, 5


def network(name: str = "iresnet18", **settings: Any) -> IResNet:
    torch.manual_seed(0)
    made = unlike_new(build_backbone(name, **{"width": WIDTH, "embedding_size": SIZE, **settings}))
    assert isinstance(made, IResNet)
    return made.requires_grad_(False)


def written(path: Path, made: nn.Module, *, fold: bool = False, std: float = 0.5) -> Path:
    """An ONNX file; folded it has the layout of InsightFace's w600k_r50 and glintr100."""
    module = export._WithContract(deepcopy(made), Preprocessing(std=(std,) * 3))
    path.write_bytes(export._exported(module, (112, 112), {}, fold=fold))
    return path


def same(stored: Checkpoint, made: nn.Module) -> None:
    found = build_network(stored, "x").eval()
    with torch.no_grad():
        expected = made(IMAGES)
        assert expected.std(0).min() > 1e-3
        torch.testing.assert_close(found(IMAGES), expected, atol=2e-4, rtol=1e-3)


class ShortcutFirst(Block):
    def forward(self, x: Tensor) -> Tensor:
        return self.downsample(x) + self.bn3(self.conv2(self.prelu(self.bn2(self.conv1(self.bn1(x))))))


class FromTheNorm(Block):
    """Adds its BatchNorm's output in place of its input."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn1(x)
        return self.bn3(self.conv2(self.prelu(self.bn2(self.conv1(x))))) + x


class Reshaping(nn.Module):
    def __init__(self, made: IResNet, first: int) -> None:
        super().__init__()
        self.made, self.first = made, first

    def forward(self, x: Tensor) -> Tensor:
        made = self.made
        x = made.layer4(made.layer3(made.layer2(made.layer1(made.prelu(made.bn1(made.conv1(x)))))))
        return made.features(made.fc(made.bn2(x).reshape(self.first or x.shape[0], 49 * 32)))


def blocks(made: IResNet) -> list[Block]:
    return [module for module in made.modules() if isinstance(module, Block)]


class TestIResNets:
    @pytest.mark.parametrize("shortcut_first", [False, True])
    @pytest.mark.parametrize(
        ("name", "stored", "all_norms"),
        [("iresnet50", 25, 78), pytest.param("iresnet100", 50, 153, marks=pytest.mark.slow)],
    )
    def test_folded(self, name: str, stored: int, all_norms: int, shortcut_first: bool, tmp_path: Path) -> None:
        made = network(name)
        for block in blocks(made) if shortcut_first else []:
            block.__class__ = ShortcutFirst
        found = open_checkpoint(written(tmp_path / "a.onnx", made, fold=True))
        assert found.header["backbone"] == name
        assert found.header["backbone_settings"] == {"width": WIDTH, "embedding_size": SIZE, "folded": True}
        assert found.header["preprocessing"]["mean"] == found.header["preprocessing"]["std"] == [0.5] * 3
        same(found, made)
        recognizer = Recognizer.from_checkpoint(found, "a")
        assert len(recognizer.layers) == all_norms
        assert len(recognizer.layers) - len(recognizer.folded) == stored
        assert recognizer.layers[:4] == ("bn1", "layer1.0.bn1", "layer1.0.bn2", "layer1.0.bn3")
        statistics = recognizer.statistics("layer2.1.bn1")
        assert statistics is not None
        assert torch.equal(statistics.mean, made.get_submodule("layer2.1.bn1").running_mean)
        assert recognizer.statistics("layer2.1.bn2") is None

    @pytest.mark.parametrize("name", ["iresnet18", pytest.param("iresnet100", marks=pytest.mark.slow)])
    def test_with_all_its_norms_and_the_contract_of_the_model_zoo(self, name: str, tmp_path: Path) -> None:
        made = network(name, eps=2e-5)
        found = open_checkpoint(written(tmp_path / "a.onnx", made, std=128 / 255))
        assert found.header["backbone"] == name
        assert found.header["backbone_settings"] == {"width": WIDTH, "embedding_size": SIZE, "eps": 2e-5}
        assert found.header["preprocessing"]["std"] == pytest.approx([128 / 255] * 3)
        assert found.header["source"]["contract"] == "in the graph"
        assert {key.removeprefix("network.") for key in found.tensors} == set(made.state_dict())
        same(found, made)

    def test_the_graph_computes_the_same(self, tmp_path: Path) -> None:
        made = network()
        plain = onnx_file.read(written(tmp_path / "a.onnx", made, fold=True))
        assert plain.header["backbone"] == "graph"
        assert as_iresnet(plain).header["backbone"] == "iresnet18"
        assert as_iresnet(plain).digest == plain.digest
        same(plain, made)
        same(as_iresnet(plain), made)

    def test_without_a_norm_after_the_linear_layer(self, tmp_path: Path) -> None:
        made = network()
        made.features = nn.Identity()  # type: ignore[assignment]
        found = open_checkpoint(written(tmp_path / "a.onnx", made, fold=True))
        assert found.header["backbone"] == "iresnet18"
        same(found, made)

    @pytest.mark.parametrize("fold", [True, False])
    def test_shortcuts_that_pool(self, fold: bool, tmp_path: Path) -> None:
        made = network(shortcut="pool")
        found = open_checkpoint(written(tmp_path / "a.onnx", made, fold=fold))
        assert found.header["backbone"] == "iresnet18"
        assert found.header["backbone_settings"]["shortcut"] == "pool"
        same(found, made)

    def test_a_network_of_ours_that_is_folded_itself(self, tmp_path: Path) -> None:
        made = network(folded=True)
        found = open_checkpoint(written(tmp_path / "a.onnx", made))
        assert found.header["backbone_settings"]["folded"] is True
        same(found, made)
        for key, value in made.state_dict().items():
            assert key.endswith("num_batches_tracked") or torch.equal(found.tensors[f"network.{key}"], value)

    @pytest.mark.parametrize("first", [0, -1])
    def test_reshape_in_place_of_flatten(self, first: int, tmp_path: Path) -> None:
        made = network()
        found = open_checkpoint(written(tmp_path / "a.onnx", Reshaping(made, first)))
        assert found.header["backbone"] == "iresnet18"
        same(found, made)

    def test_gradients_flow(self, tmp_path: Path) -> None:
        made = network()
        recognizer = Recognizer.load(written(tmp_path / "a.onnx", made, fold=True))
        gradients = []
        for function in (lambda x: recognizer.network(x), made):
            images = IMAGES[:1].clone().requires_grad_()
            function(images).sum().backward()
            gradients.append(images.grad)
        assert gradients[0] is not None
        assert gradients[0].abs().sum() > 0
        torch.testing.assert_close(gradients[0], gradients[1], atol=1e-4, rtol=1e-2)


# --- near misses: not one of our IResNets, so it stays a graph, which computes the same


class Unit(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x / x.norm(dim=1, keepdim=True)


def stride_first(made: IResNet) -> None:
    made.layer3[0].conv1.stride, made.layer3[0].conv2.stride = (2, 2), (1, 1)


def relu(made: IResNet) -> None:
    made.prelu = nn.ReLU()


def relu_inside(made: IResNet) -> None:
    made.layer2[1].prelu = nn.ReLU()


def relu_after_a_block(made: IResNet) -> None:
    made.layer4[1] = nn.Sequential(made.layer4[1], nn.ReLU())


def one_slope(made: IResNet) -> None:
    made.layer2[0].prelu = nn.PReLU().requires_grad_(False)


def eps(made: IResNet) -> None:
    made.bn2.eps = 1e-3


def half_folded(made: IResNet) -> None:
    scale = made.bn1.weight / (made.bn1.running_var + made.bn1.eps).sqrt()
    folded = nn.Conv2d(3, 4, 3, padding=1).requires_grad_(False)
    folded.weight.copy_(made.conv1.weight * scale.view(-1, 1, 1, 1))
    folded.bias.copy_(made.bn1.bias - made.bn1.running_mean * scale)
    made.conv1, made.bn1 = folded, FoldedNorm()


def unit_vector(made: IResNet) -> None:
    made.features = nn.Sequential(made.features, Unit())


def no_bias(made: IResNet) -> None:
    made.fc.bias = None


def pooled(made: IResNet) -> None:
    made.bn2, made.fc = nn.Sequential(made.bn2, nn.AdaptiveAvgPool2d(1)), nn.Linear(32, SIZE).requires_grad_(False)


def another_input(made: IResNet) -> None:
    made.layer4[1].__class__ = FromTheNorm


NEAR_MISSES: list[Callable[[Any], None]] = [stride_first, relu, relu_inside, relu_after_a_block, one_slope, eps]
NEAR_MISSES += [half_folded, unit_vector, no_bias, pooled, another_input]


def stays_a_graph(path: Path, made: nn.Module, *, fold: bool) -> None:
    found = open_checkpoint(written(path, made, fold=fold))
    assert found.header["backbone"] == "graph"
    same(found, made)


@pytest.mark.parametrize("change", NEAR_MISSES, ids=lambda change: change.__name__)
def test_near_misses(change: Callable[[Any], None], tmp_path: Path) -> None:
    made = network()
    change(made)
    stays_a_graph(tmp_path / "a.onnx", made, fold=change is not half_folded)


@pytest.mark.parametrize("depths", [(2, 2, 1, 2), (1, 2, 2, 2), (2, 2, 2, 3)])
def test_other_numbers_of_blocks(depths: tuple[int, ...], tmp_path: Path) -> None:
    stays_a_graph(tmp_path / "a.onnx", IResNet(depths, width=WIDTH, embedding_size=SIZE).eval(), fold=False)
