"""The frozen network: same answers as before it was frozen, and nothing of it moves."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from arcinvert.backbones import build_backbone
from arcinvert.backbones.frozen import FrozenBatchNorm
from arcinvert.checkpoint import load_checkpoint, save_checkpoint
from arcinvert.errors import CheckpointError, InputError
from arcinvert.preprocessing import Preprocessing
from arcinvert.recognizer import Recognizer, default_checkpoint

SIZE = 16


def images(count: int = 3) -> Tensor:
    return torch.rand(count, 3, 112, 112, generator=torch.Generator().manual_seed(5))


def backbone(name: str = "iresnet18", **settings: Any) -> nn.Module:
    """A network whose BatchNorm layers store something other than 0 and 1."""
    torch.manual_seed(3)
    network = build_backbone(name, width=0.25, embedding_size=SIZE, **settings)
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.3)
        elif isinstance(module, nn.PReLU):
            nn.init.uniform_(module.weight, -0.3, 0.6)
    return network


def small(width: int = 4) -> nn.Sequential:
    torch.manual_seed(4)
    network = nn.Sequential(
        nn.Conv2d(3, width, 5, stride=8), nn.BatchNorm2d(width), nn.PReLU(), nn.Flatten(), nn.Linear(width * 196, SIZE)
    )
    network[1].running_mean.normal_()
    network[1].running_var.uniform_(0.5, 2)
    return network


def frozen(network: nn.Module, preprocessing: Preprocessing | None = None) -> Recognizer:
    return Recognizer(network, preprocessing or Preprocessing(), embedding_size=SIZE)


# --- freezing


@pytest.mark.parametrize("name", ["iresnet18", "mobilefacenet"])
def test_the_frozen_network_gives_the_features_of_the_plain_one(name: str) -> None:
    plain = backbone(name).eval()
    recognizer = frozen(copy.deepcopy(plain))
    shown = images() * 2 - 1
    with torch.no_grad():
        expected = plain(shown)
        found = recognizer.network(shown)
    assert expected.std() > 0.01
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))
    torch.testing.assert_close(recognizer.embed(images()), normalize(expected), rtol=1e-3, atol=1e-4)


def test_the_gradient_to_the_image_is_that_of_the_plain_network() -> None:
    plain = backbone().eval().double()
    recognizer = frozen(copy.deepcopy(plain))
    weights = torch.linspace(-1, 1, SIZE, dtype=torch.float64)
    grads = []
    for forward in (plain, recognizer.network):
        shown = (images(2).double() * 2 - 1).requires_grad_()
        (forward(shown) @ weights).sum().backward()
        grads.append(shown.grad)
    assert float(grads[0].abs().max()) > 0
    torch.testing.assert_close(grads[1], grads[0], rtol=1e-6, atol=1e-8 * float(grads[0].abs().max()))


def test_no_batchnorm2d_is_left_and_every_layer_keeps_its_name() -> None:
    plain = backbone()
    names = tuple(name for name, module in plain.named_modules() if isinstance(module, nn.BatchNorm2d))
    recognizer = frozen(copy.deepcopy(plain))
    assert recognizer.layers == names
    assert not any(isinstance(module, nn.BatchNorm2d) for module in recognizer.network.modules())
    stored = recognizer.statistics("layer2.0.bn2")
    torch.testing.assert_close(stored.mean, plain.get_submodule("layer2.0.bn2").running_mean)
    torch.testing.assert_close(stored.var, plain.get_submodule("layer2.0.bn2").running_var)
    assert stored.usable.all()


def test_a_network_in_train_mode_with_dropout_is_deterministic_and_keeps_its_buffers() -> None:
    network = backbone(dropout=0.5).train()
    plain = copy.deepcopy(network).eval()
    before = copy.deepcopy(dict(network.named_buffers()))
    recognizer = frozen(network)
    first, second = recognizer.embed(images()), recognizer.embed(images())
    assert torch.equal(first, second)
    with torch.no_grad():
        torch.testing.assert_close(first, normalize(plain(images() * 2 - 1)), rtol=1e-3, atol=1e-4)
    for name, value in plain.named_buffers():
        assert torch.equal(value, before[name])
    for name in recognizer.layers:
        assert torch.equal(recognizer.statistics(name).mean, before[f"{name}.running_mean"])
        assert torch.equal(recognizer.statistics(name).var, before[f"{name}.running_var"])
    assert torch.equal(recognizer.network.features.running_mean, before["features.running_mean"])
    assert int(recognizer.network.features.num_batches_tracked) == 0


def test_nothing_of_the_network_asks_for_a_gradient() -> None:
    recognizer = frozen(small())
    shown = images(1).requires_grad_()
    recognizer.trace(shown).embedding[0, 0].backward()
    assert shown.grad is not None
    assert all(not p.requires_grad and p.grad is None for p in recognizer.network.parameters())


def test_a_batchnorm_without_affine_part() -> None:
    network = small()
    network[1] = nn.BatchNorm2d(4, affine=False)
    network[1].running_var.fill_(4.0)
    plain = copy.deepcopy(network).eval()
    with torch.no_grad():
        torch.testing.assert_close(frozen(network).embed(images()), normalize(plain(images() * 2 - 1)))


def test_a_batchnorm_without_statistics_is_refused() -> None:
    network = small()
    network[1] = nn.BatchNorm2d(4, track_running_stats=False)
    with pytest.raises(CheckpointError, match="no statistics"):
        frozen(network)


# --- the image contract


def test_the_contract_is_what_the_embedding_sees() -> None:
    swapped = frozen(small(), Preprocessing(color="BGR")).embed(images())
    torch.testing.assert_close(swapped, frozen(small()).embed(images().flip(1)))
    assert not torch.allclose(swapped, frozen(small()).embed(images()), atol=1e-3)


@pytest.mark.parametrize(
    "shape", [(3, 112, 112), (1, 3, 112, 96), (1, 1, 112, 112), (1, 112, 112, 3), (2, 3, 224, 224)]
)
def test_another_image_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="expected images"):
        frozen(small()).trace(torch.zeros(shape))


def test_bytes_and_floats_give_the_same_embedding() -> None:
    picture = torch.randint(0, 256, (5, 3, 112, 112), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    recognizer = frozen(small())
    assert torch.equal(recognizer.embed(picture), recognizer.embed(picture.float() / 255))
    torch.testing.assert_close(recognizer.embed(picture, batch_size=2), recognizer.embed(picture))
    torch.testing.assert_close(recognizer.embed(picture).norm(dim=1), torch.ones(5))


def test_no_images_give_no_rows() -> None:
    assert frozen(small()).embed(torch.empty(0, 3, 112, 112)).shape == (0, SIZE)


# --- traces


def hooks(recognizer: Recognizer) -> int:
    return sum(len(module._forward_pre_hooks) + len(module._forward_hooks) for module in recognizer.network.modules())


def test_taps_keep_the_inputs_of_the_asked_layers_and_no_others() -> None:
    plain = backbone().eval()
    asked = ("layer3.1.bn1", "bn1", "layer2.0.downsample.1")
    expected: dict[str, Tensor] = {}
    for name in asked:
        plain.get_submodule(name).register_forward_pre_hook(
            lambda module, inputs, name=name: expected.__setitem__(name, inputs[0].detach().clone())
        )
    recognizer = frozen(copy.deepcopy(backbone().eval()))
    with torch.no_grad():
        plain(images() * 2 - 1)
        trace = recognizer.trace(images(), taps=asked)
    assert set(trace.activations) == set(asked)
    for name in asked:
        scale = float(expected[name].abs().max())
        torch.testing.assert_close(trace.activations[name], expected[name], rtol=1e-3, atol=1e-4 * scale)
    assert hooks(recognizer) == 0
    assert recognizer.trace(images(1)).activations == {}


# --- noise


def test_a_pass_by_noisy_weights_is_that_of_a_network_with_these_weights() -> None:
    recognizer, other = frozen(backbone()), frozen(backbone())
    noisy = recognizer.noisy_weights(0.2, 7)
    with torch.no_grad():
        for name, weight in other.network.named_parameters():
            weight.copy_(noisy.get(name, weight))
    taps = ("layer3.1.bn1",)
    found, expected = recognizer.trace(images(), taps=taps, weights=noisy), other.trace(images(), taps=taps)
    torch.testing.assert_close(found.embedding, expected.embedding)
    torch.testing.assert_close(found.activations, expected.activations)
    assert hooks(recognizer) == 0
    plain = frozen(backbone()).trace(images()).embedding  # the recognizer itself is as it was
    assert torch.equal(recognizer.trace(images()).embedding, plain)
    assert not torch.allclose(found.embedding, plain, atol=0.01)


def test_noise_is_a_normal_factor_around_1_on_every_number_of_every_matrix() -> None:
    recognizer = frozen(backbone())
    found, again, other = (recognizer.noisy_weights(0.1, seed) for seed in (3, 3, 4))
    weights = dict(recognizer.network.named_parameters())
    assert {*found} == {name for name, weight in weights.items() if weight.ndim > 1}
    factors = {name: (found[name] / weights[name]).flatten() for name in found}
    assert all(torch.equal(found[name], again[name]) for name in found)
    assert not any(torch.equal(found[name], other[name]) for name in found)
    every = torch.cat([*factors.values()]).double()
    assert float(every.mean()) == pytest.approx(1, abs=1e-3)
    assert float(every.std()) == pytest.approx(0.1, rel=0.01)
    assert float(((every - 1) / 0.1).pow(4).mean()) == pytest.approx(3, rel=0.05)
    for values in factors.values():  # of a number, not of a row, a channel or a place
        assert len((values * 1e5).round().unique()) > min(0.4 * len(values), 1e4)
    for noise, weight in recognizer.noisy_weights(0.0, 1).items():
        assert torch.equal(weight, weights[noise])


def test_weights_that_are_part_of_others_get_noise_too() -> None:
    network = small()
    whole = torch.ones(40, 30)
    network[0].part = nn.Parameter(whole[::2, ::3])
    network[0].turned = nn.Parameter(torch.ones(30, 20).T)
    noisy = frozen(network).noisy_weights(0.1, 0)
    for name, count in (("0.part", 200), ("0.turned", 600)):
        assert len(noisy[name].flatten().unique()) > 0.99 * count
        assert float(noisy[name].std()) == pytest.approx(0.1, rel=0.2)
    assert bool((whole == 1).all())


def test_noise_leaves_integers_alone() -> None:
    network = small()
    network[0].codes = nn.Parameter(torch.ones(2, 2, dtype=torch.int8), requires_grad=False)
    recognizer = frozen(network)
    assert "0.codes" in dict(recognizer.network.named_parameters())
    assert {*recognizer.noisy_weights(0.1, 0)} == {"0.weight", "4.weight"}


class RaisingError(Exception):
    pass


class Raising(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise RaisingError


def test_no_hook_remains_when_the_network_raises() -> None:
    network = small()
    network[3] = Raising()
    recognizer = frozen(network)
    with pytest.raises(RaisingError):
        recognizer.trace(images(1), taps=["1"])
    assert hooks(recognizer) == 0


def test_no_hook_remains_when_the_image_is_refused() -> None:
    recognizer = frozen(small())
    with pytest.raises(InputError):
        recognizer.trace(torch.zeros(1, 3, 9, 9), taps=["1"])
    assert hooks(recognizer) == 0


def test_an_unknown_layer_is_named() -> None:
    recognizer = frozen(small())
    with pytest.raises(InputError, match="got bn9"):
        recognizer.trace(images(1), taps=["1", "bn9"])
    assert hooks(recognizer) == 0


# --- statistics and weights that cannot be used


def test_channels_without_a_usable_statistic_are_counted_and_the_others_stay() -> None:
    network = backbone().eval()
    bn1, other = network.bn1, network.get_submodule("layer1.0.bn2")
    bn1.running_var[:3] = torch.tensor([0.0, -1.0, float("nan")])
    other.running_mean[5] = float("inf")
    other.running_var[6] = float("inf")
    recognizer = frozen(network)
    assert recognizer.dropped_channels() == 5
    assert torch.nonzero(~recognizer.statistics("bn1").usable).flatten().tolist() == [0, 1, 2]
    assert torch.nonzero(~recognizer.statistics("layer1.0.bn2").usable).flatten().tolist() == [5, 6]


def test_a_channel_of_nan_does_not_reach_the_embedding() -> None:
    network = small()
    reference = copy.deepcopy(network).eval()
    network[1].running_var[2] = float("nan")
    reference[1].weight.data[2] = 0  # the channel gives its bias
    with torch.no_grad():
        torch.testing.assert_close(frozen(network).embed(images()), normalize(reference(images() * 2 - 1)))


def test_not_one_usable_channel_is_refused() -> None:
    network = backbone()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_var.zero_()
    with pytest.raises(CheckpointError, match="not one BatchNorm channel"):
        frozen(network)


def test_a_network_without_batchnorm_runs() -> None:
    recognizer = frozen(nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, SIZE)))
    assert recognizer.layers == ()
    assert recognizer.embed(images()).shape == (3, SIZE)


@pytest.mark.parametrize("part", ["0.weight", "1.weight", "1.bias", "2.weight", "4.bias"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(part: str, value: float) -> None:
    network = small()
    with torch.no_grad():
        network.get_parameter(part).flatten()[0] = value
    with pytest.raises(CheckpointError, match="not finite"):
        frozen(network)


def test_statistics_of_the_embedding_layer_that_are_not_finite_are_refused() -> None:
    network = backbone()
    network.features.running_var[0] = float("nan")
    with pytest.raises(CheckpointError, match="not finite"):
        frozen(network)


# --- loading


def resaved(source: Path, out: Path, header: dict[str, Any] | None = None, tensors: Any = None) -> Path:
    """A checkpoint with another header or other tensors."""
    stored = load_checkpoint(source)
    changed = {**stored.header, **(header or {})}
    save_checkpoint(out, {k: v for k, v in changed.items() if v is not ...}, tensors or stored.tensors)
    return out


def test_load_gives_the_network_that_was_saved(tiny_checkpoint: Path) -> None:
    stored = load_checkpoint(tiny_checkpoint)
    plain = build_backbone("iresnet18", **stored.header["backbone_settings"]).eval()
    plain.load_state_dict(stored.section("network"))
    recognizer = Recognizer.load(tiny_checkpoint)
    with torch.no_grad():
        torch.testing.assert_close(recognizer.embed(images()), normalize(plain(images() * 2 - 1)), rtol=1e-3, atol=1e-4)
    assert recognizer.digest == stored.digest
    assert recognizer.embedding_size == SIZE
    assert recognizer.digest[:12] in repr(recognizer)
    assert "iresnet18" in repr(recognizer)


def test_half_precision_weights_are_widened(tiny_checkpoint: Path, tmp_path: Path) -> None:
    stored = load_checkpoint(tiny_checkpoint)
    half = {key: value.half() if value.is_floating_point() else value for key, value in stored.tensors.items()}
    recognizer = Recognizer.load(resaved(tiny_checkpoint, tmp_path / "half", tensors=half))
    assert all(p.dtype == torch.float32 for p in recognizer.network.parameters())
    cosine = (recognizer.embed(images()) * Recognizer.load(tiny_checkpoint).embed(images())).sum(1)
    assert cosine.min() > 0.999


@pytest.mark.parametrize("key", ["backbone", "backbone_settings", "embedding_size", "preprocessing"])
def test_a_missing_header_key_is_named(tiny_checkpoint: Path, tmp_path: Path, key: str) -> None:
    with pytest.raises(CheckpointError, match=f"expected {key} in the header"):
        Recognizer.load(resaved(tiny_checkpoint, tmp_path / "c", {key: ...}))


@pytest.mark.parametrize(
    "header",
    [
        {"backbone": ["iresnet18"]},
        {"backbone": "vgg"},
        {"backbone_settings": [1]},
        {"backbone_settings": {"width": 0.25, "embedding_size": 16, "color": 3}},
        {"backbone_settings": {"width": "wide", "embedding_size": 16}},
        {"embedding_size": "sixteen"},
        {"embedding_size": 32},
        {"preprocessing": None},
        {"preprocessing": {"size": [112, 112], "color": "RGB", "mean": [0.5] * 3}},
        {"preprocessing": {"size": [112, 112], "color": "CMY", "mean": [0.5] * 3, "std": [0.5] * 3}},
        {"preprocessing": {"size": [112, 112], "color": "RGB", "mean": [0.5], "std": [0.5]}},
        {"preprocessing": {"size": [112, 112], "color": "RGB", "mean": [0.5] * 3, "std": [0.5, 0, 0.5]}},
        {"preprocessing": {"size": [112, 112], "color": "RGB", "mean": [0.5] * 3, "std": [0.5, float("nan"), 1]}},
        {"preprocessing": {"size": [112, 112], "color": "RGB", "mean": ["a"] * 3, "std": [0.5] * 3}},
        {"preprocessing": {"size": 112, "color": "RGB", "mean": [0.5] * 3, "std": [0.5] * 3}},
    ],
    ids=json.dumps,
)
def test_a_header_that_does_not_fit_is_refused(tiny_checkpoint: Path, tmp_path: Path, header: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        Recognizer.load(resaved(tiny_checkpoint, tmp_path / "c", header))


def test_missing_and_extra_tensors_are_named(tiny_checkpoint: Path, tmp_path: Path) -> None:
    tensors = dict(load_checkpoint(tiny_checkpoint).tensors)
    del tensors["network.fc.bias"]
    tensors["network.fc.extra"] = torch.ones(2)
    with pytest.raises(CheckpointError) as caught:
        Recognizer.load(resaved(tiny_checkpoint, tmp_path / "c", tensors=tensors))
    assert "2 mismatches" in str(caught.value)
    assert "fc.bias is missing" in str(caught.value)
    assert "fc.extra is not part of the network" in str(caught.value)


def test_no_such_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="found none"):
        Recognizer.load(tmp_path / "none.safetensors")


def test_the_default_checkpoint_missing_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("arcinvert.recognizer.PACKAGE", tmp_path / "site" / "arcinvert")
    with pytest.raises(CheckpointError, match="--checkpoint"):
        default_checkpoint()
    (tmp_path / "site" / "arcinvert" / "data").mkdir(parents=True)
    shipped = tmp_path / "site" / "arcinvert" / "data" / "default.safetensors"
    shipped.touch()
    assert default_checkpoint() == shipped


def test_a_frozen_batchnorm_moves_with_its_network() -> None:
    recognizer = frozen(small())
    assert recognizer.to("cpu") is recognizer
    assert recognizer.device == torch.device("cpu")
    norm = recognizer.network[1]
    assert isinstance(norm, FrozenBatchNorm)
    assert {"mean", "var", "scale", "shift"} <= set(dict(norm.named_buffers()))


def test_a_graph_of_another_size_than_its_header_says(tmp_path: Path) -> None:
    steps = [
        {"op": "mean", "inputs": ["image"], "output": "m", "settings": {"axes": [2, 3], "keepdims": False}},
    ]
    header = {
        "backbone": "graph",
        "backbone_settings": {"steps": steps, "output": "m"},
        "embedding_size": 4,
        "preprocessing": {"size": [112, 112], "color": "RGB", "mean": [0.5] * 3, "std": [0.5] * 3},
    }
    save_checkpoint(tmp_path / "net", header, {})
    with pytest.raises(CheckpointError, match=r"expected a 4-d network .* got 3-d"):
        Recognizer.load(tmp_path / "net")
    save_checkpoint(tmp_path / "net", header | {"embedding_size": 3}, {})
    assert Recognizer.load(tmp_path / "net").embed(torch.rand(2, 3, 112, 112)).shape == (2, 3)


@pytest.mark.parametrize(("precision", "least"), [(torch.bfloat16, 0.98), (torch.float16, 0.998)])
def test_lower_precision_gives_nearly_the_same_embedding_and_gradient(
    tiny_recognizer: Recognizer, precision: torch.dtype, least: float
) -> None:
    images = torch.rand(2, 3, 112, 112, generator=torch.Generator().manual_seed(5))

    def run(precision: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        shown = images.clone().requires_grad_(True)
        layer = tiny_recognizer.layers[-1]
        trace = tiny_recognizer.trace(shown, taps=[layer], precision=precision)
        (trace.embedding[:, 0] + trace.activations[layer].float().mean((1, 2, 3))).sum().backward()
        assert shown.grad is not None
        return trace.embedding.detach(), shown.grad.flatten(1)

    (full, slope), (low, low_slope) = run(torch.float32), run(precision)
    assert low.dtype == torch.float32
    assert float((full * low).sum(1).min()) > least
    assert float(torch.nn.functional.cosine_similarity(slope, low_slope).min()) > least
    assert not torch.equal(full, low)
