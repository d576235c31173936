import re
from typing import Any

import pytest
import torch
from torch import nn

from arcinvert.backbones import BACKBONES, build_backbone, memory_format
from arcinvert.backbones.operations import FoldedNorm
from arcinvert.errors import InputError

DEPTHS = {
    "iresnet18": (2, 2, 2, 2),
    "iresnet34": (3, 4, 6, 3),
    "iresnet50": (3, 4, 14, 3),
    "iresnet100": (3, 13, 30, 3),
    "iresnet200": (6, 26, 60, 6),
}
BN_KEYS = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def on_meta(name: str, **settings: Any) -> nn.Module:
    with torch.device("meta"):
        return build_backbone(name, **settings)


def batch_norms(module: nn.Module) -> int:
    return sum(isinstance(layer, nn.BatchNorm2d) for layer in module.modules())


@pytest.mark.parametrize(
    ("name", "count"), [("iresnet18", 30), ("iresnet50", 78), ("iresnet100", 153), ("iresnet200", 300)]
)
def test_number_of_batch_norm_layers_is_that_of_arcface_torch(name: str, count: int) -> None:
    assert batch_norms(on_meta(name)) == count


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("iresnet18", 24_025_600), ("iresnet34", 34_139_328), ("iresnet50", 43_590_848), ("iresnet100", 65_156_160)],
)
def test_number_of_parameters(name: str, parameters: int) -> None:
    network = on_meta(name)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters
    stated = re.search(r"([\d.]+) M parameters", BACKBONES[name].__doc__ or "")
    assert stated is not None
    assert float(stated[1]) == pytest.approx(parameters / 1e6, abs=0.05)


@pytest.mark.parametrize("name", DEPTHS)
def test_keys_are_those_of_an_arcface_torch_checkpoint(name: str) -> None:
    norms = ["bn1", "bn2", "features"]
    others = ["conv1.weight", "prelu.weight", "fc.weight", "fc.bias"]
    for stage, depth in enumerate(DEPTHS[name], start=1):
        for block in range(depth):
            prefix = f"layer{stage}.{block}"
            norms += [f"{prefix}.bn1", f"{prefix}.bn2", f"{prefix}.bn3"]
            others += [f"{prefix}.conv1.weight", f"{prefix}.prelu.weight", f"{prefix}.conv2.weight"]
        norms.append(f"layer{stage}.0.downsample.1")
        others.append(f"layer{stage}.0.downsample.0.weight")
    expected = {f"{norm}.{key}" for norm in norms for key in BN_KEYS} | set(others)
    assert set(on_meta(name).state_dict()) == expected


def test_shapes_and_eps_at_width_1() -> None:
    network = on_meta("iresnet50")
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    assert shapes["conv1.weight"] == (64, 3, 3, 3)
    assert shapes["layer1.0.downsample.0.weight"] == (64, 64, 1, 1)
    assert shapes["layer2.0.conv1.weight"] == (128, 64, 3, 3)
    assert shapes["layer2.0.bn1.weight"] == (64,)
    assert shapes["layer4.0.prelu.weight"] == (512,)
    assert shapes["fc.weight"] == (512, 25088)
    assert {layer.eps for layer in network.modules() if isinstance(layer, nn.BatchNorm2d | nn.BatchNorm1d)} == {1e-5}


def test_the_second_convolution_carries_the_stride() -> None:
    network = on_meta("iresnet18")
    for stage in range(1, 5):
        first, second = (network.get_submodule(f"layer{stage}.{block}") for block in range(2))
        assert (first.conv1.stride, first.conv2.stride, first.downsample[0].stride) == ((1, 1), (2, 2), (2, 2))
        assert (second.conv1.stride, second.conv2.stride) == ((1, 1), (1, 1))


@pytest.mark.parametrize(
    ("width", "stages"), [(1.0, (64, 128, 256, 512)), (0.5, (32, 64, 128, 256)), (0.05, (3, 6, 13, 26))]
)
def test_width_is_a_factor_on_the_channels(width: float, stages: tuple[int, ...]) -> None:
    state = on_meta("iresnet18", width=width).state_dict()
    assert tuple(len(state[f"layer{stage}.1.conv2.weight"]) for stage in range(1, 5)) == stages
    assert state["fc.weight"].shape == (512, stages[-1] * 49)


def test_output_shape() -> None:
    network = on_meta("iresnet18", embedding_size=128)
    assert network(torch.empty(2, 3, 112, 112, device="meta")).shape == (2, 128)


def test_an_image_does_not_feel_its_neighbors_in_eval_mode() -> None:
    torch.manual_seed(0)
    network = build_backbone("iresnet18", width=0.05, embedding_size=16).eval()
    images = torch.rand(3, 3, 112, 112)
    with torch.no_grad():
        together, alone = network(images), network(images[1:2])
    assert together.isfinite().all()
    torch.testing.assert_close(together[1:2], alone, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(together[0], together[1], atol=1e-2)


@pytest.mark.parametrize("name", DEPTHS)
def test_only_the_scale_of_the_features_is_frozen(name: str) -> None:
    network = on_meta(name, width=0.1)
    assert [key for key, value in network.named_parameters() if not value.requires_grad] == ["features.weight"]


def test_the_scale_of_the_features_is_1() -> None:
    assert (build_backbone("iresnet18", width=0.02).features.weight == 1).all()


def test_dropout_acts_in_training_only() -> None:
    torch.manual_seed(0)
    network = build_backbone("iresnet18", width=0.02, embedding_size=8, dropout=0.5)
    images = torch.rand(4, 3, 112, 112)
    with torch.no_grad():
        assert not torch.equal(network(images), network(images))
        network.eval()
        assert torch.equal(network(images), network(images))


def test_unknown_backbone_is_refused_with_the_known_names() -> None:
    with pytest.raises(InputError, match=r"iresnet18.*mobilefacenet.*got 'iresnet51'"):
        build_backbone("iresnet51")


@pytest.mark.parametrize("name", ["iresnet18", "mobilefacenet"])
@pytest.mark.parametrize(
    "settings",
    [
        {"width": 0},
        {"width": -1.0},
        {"width": float("nan")},
        {"width": float("inf")},
        {"width": "wide"},
        {"embedding_size": 0},
        {"embedding_size": 2.5},
        {"embedding_size": "512"},
        {"depth": 3},
    ],
    ids=str,
)
def test_settings_that_do_not_fit_are_refused(name: str, settings: dict[str, object]) -> None:
    with pytest.raises(InputError, match=f"{name!r} refuses its settings"):
        build_backbone(name, **settings)


def test_dropout_outside_0_to_1_is_refused() -> None:
    with pytest.raises(InputError, match="refuses its settings"):
        build_backbone("iresnet18", dropout=1.5)


@pytest.mark.parametrize(
    ("name", "width", "layout"),
    [
        ("iresnet18", 0.24, torch.contiguous_format),
        ("iresnet18", 0.25, torch.channels_last),
        ("iresnet100", 1.0, torch.channels_last),
        ("mobilefacenet", 0.1, torch.channels_last),
    ],
)
def test_channels_last_only_where_the_gradient_of_a_shortcut_is_safe(
    name: str, width: float, layout: torch.memory_format
) -> None:
    """Fewer than 16 channels into a strided 1x1 convolution crash in oneDNN, channels last."""
    assert memory_format(on_meta(name, width=width)) == layout


# --- settings of the published variants


def unlike_new(network: nn.Module) -> nn.Module:
    """Statistics and slopes of which no two are alike, in eval mode."""
    generator = torch.Generator().manual_seed(0)
    for value in network.state_dict().values():
        if value.ndim == 1:
            value.copy_(0.5 + torch.rand(value.shape, generator=generator))
    return network.eval()


@torch.no_grad()
def folded_by_hand(network: nn.Module) -> dict[str, torch.Tensor]:
    """The weights with each BatchNorm behind a convolution folded into it, in float64."""
    state = {key: value.double() for key, value in network.state_dict().items()}
    after = {"conv1": "bn1"}
    for stage in range(1, 5):
        for block in range(len(network.get_submodule(f"layer{stage}"))):
            prefix = f"layer{stage}.{block}"
            after |= {f"{prefix}.conv1": f"{prefix}.bn2", f"{prefix}.conv2": f"{prefix}.bn3"}
        after[f"layer{stage}.0.downsample.0"] = f"layer{stage}.0.downsample.1"
    for convolution, norm in after.items():
        weight, bias, mean, var, _ = (state.pop(f"{norm}.{key}") for key in BN_KEYS)
        scale = weight / (var + network.bn2.eps) ** 0.5
        state[f"{convolution}.weight"] *= scale.view(-1, 1, 1, 1)
        state[f"{convolution}.bias"] = bias - mean * scale
    return {key: value.float() for key, value in state.items()}


def test_a_folded_network_is_the_same_function() -> None:
    torch.manual_seed(0)
    network = unlike_new(build_backbone("iresnet18", width=0.125, embedding_size=16))
    folded = build_backbone("iresnet18", width=0.125, embedding_size=16, folded=True).eval()
    folded.load_state_dict({key: folded_by_hand(network)[key] for key in folded.state_dict()})
    assert set(folded_by_hand(network)) == set(folded.state_dict())
    images = torch.rand(2, 3, 112, 112)
    with torch.no_grad():
        expected, got = network(images), folded(images)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4 * float(expected.std()))


@pytest.mark.parametrize(("name", "left", "all_norms"), [("iresnet50", 25, 78), ("iresnet100", 50, 153)])
def test_where_a_norm_was_folded_its_name_stays(name: str, left: int, all_norms: int) -> None:
    """As in an exported file: a BatchNorm survives only where no convolution stands before it."""
    network = on_meta(name, folded=True)
    folded = {key for key, layer in network.named_modules() if isinstance(layer, FoldedNorm)}
    assert batch_norms(network) == left
    assert len(folded) == all_norms - left
    names = {key for key, layer in on_meta(name).named_modules() if isinstance(layer, nn.BatchNorm2d)}
    assert folded < names
    assert {"bn1", "layer1.0.bn2", "layer4.2.bn3", "layer2.0.downsample.1"} <= folded
    assert all(layer.bias is not None for layer in network.modules() if isinstance(layer, nn.Conv2d))
    assert all(layer.bias is None for layer in on_meta(name).modules() if isinstance(layer, nn.Conv2d))


def test_a_pooling_shortcut_takes_every_other_pixel_where_channels_stay() -> None:
    network = unlike_new(build_backbone("iresnet18", width=0.125, embedding_size=8, shortcut="pool"))
    block = network.layer1[0]
    x = torch.rand(1, 8, 12, 12)
    nn.init.zeros_(block.bn3.weight)
    nn.init.zeros_(block.bn3.bias)
    nn.init.zeros_(block.bn3.running_mean)
    assert torch.equal(block(x), x[:, :, ::2, ::2])
    assert network(torch.rand(2, 3, 112, 112)).shape == (2, 8)
    missing = set(on_meta("iresnet18").state_dict()) - set(network.state_dict())
    assert missing == {f"layer1.0.downsample.{key}" for key in ("0.weight", *(f"1.{key}" for key in BN_KEYS))}


def test_shortcut_by_pooling_in_a_folded_network() -> None:
    network = on_meta("iresnet18", shortcut="pool", folded=True)
    keys = set(network.state_dict())
    assert not any(key.startswith("layer1.0.downsample") for key in keys)
    assert {"layer2.0.downsample.0.weight", "layer2.0.downsample.0.bias"} <= keys
    assert network(torch.empty(2, 3, 112, 112, device="meta")).shape == (2, 512)


@pytest.mark.parametrize("folded", [False, True])
def test_eps_is_that_of_every_batch_norm(folded: bool) -> None:
    norms = [
        layer
        for layer in on_meta("iresnet18", eps=2e-5, folded=folded).modules()
        if isinstance(layer, nn.BatchNorm2d | nn.BatchNorm1d)
    ]
    assert len(norms) == (10 if folded else 31)
    assert {layer.eps for layer in norms} == {2e-5}


@pytest.mark.parametrize("shortcut", ["max", "", None, 1])
def test_an_unknown_shortcut_is_refused(shortcut: object) -> None:
    with pytest.raises(InputError, match="shortcut must be conv or pool, not"):
        build_backbone("iresnet18", shortcut=shortcut)
