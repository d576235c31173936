from typing import Any

import pytest
import torch
from torch import nn

from arcinvert.backbones import build_backbone
from arcinvert.errors import InputError

BN_KEYS = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def on_meta(**settings: Any) -> nn.Module:
    with torch.device("meta"):
        return build_backbone("mobilefacenet", **settings)


def test_layer_and_parameter_counts_are_those_the_docstring_states() -> None:
    network = on_meta()
    # Two convolutions, 3 + 4 + 6 + 2 separable units of three, conv_sep and the 7x7 one.
    assert sum(isinstance(layer, nn.BatchNorm2d) for layer in network.modules()) == 2 + 15 * 3 + 2 == 49
    assert sum(isinstance(layer, nn.BatchNorm1d) for layer in network.modules()) == 1
    assert sum(parameter.numel() for parameter in network.parameters()) == 1_200_512
    assert sum(parameter.numel() for parameter in on_meta(width=2).parameters()) == 2_059_520


def test_keys_are_those_of_an_arcface_torch_checkpoint() -> None:
    convolutions = ["layers.0", "layers.1", "conv_sep", "features.layers.0"]
    units = ["layers.2", "layers.4", "layers.6"]
    units += [f"layers.{stack}.layers.{unit}" for stack, depth in ((3, 4), (5, 6), (7, 2)) for unit in range(depth)]
    convolutions += [f"{unit}.layers.{part}" for unit in units for part in range(3)]
    expected = {f"{name}.layers.0.weight" for name in convolutions}
    expected |= {f"{name}.layers.1.{key}" for name in convolutions for key in BN_KEYS}
    without_activation = {"features.layers.0", *(f"{unit}.layers.2" for unit in units)}
    expected |= {f"{name}.layers.2.weight" for name in convolutions if name not in without_activation}
    expected |= {"features.layers.2.weight"} | {f"features.layers.3.{key}" for key in BN_KEYS}
    assert set(on_meta().state_dict()) == expected


@pytest.mark.parametrize(
    ("width", "small", "large", "second"),
    [(0.5, 32, 64, (32, 1, 3, 3)), (1, 64, 128, (64, 1, 3, 3)), (2, 128, 256, (128, 2, 3, 3))],
)
def test_width_is_a_factor_on_the_channels(width: float, small: int, large: int, second: tuple[int, ...]) -> None:
    """At width 2 arcface_torch's ``mbf`` still has 64 groups in its second convolution."""
    state = on_meta(width=width).state_dict()
    assert state["layers.0.layers.0.weight"].shape == (small, 3, 3, 3)
    assert state["layers.1.layers.0.weight"].shape == second
    assert state["layers.3.layers.0.layers.1.layers.0.weight"].shape == (128, 1, 3, 3)
    assert state["layers.7.layers.1.layers.2.layers.0.weight"].shape == (large, 256, 1, 1)
    assert state["features.layers.2.weight"].shape == (512, 512)


@pytest.mark.parametrize("width", [0.3, 1.0, 2.0])
def test_output_shape(width: float) -> None:
    network = on_meta(width=width, embedding_size=128)
    assert network(torch.empty(2, 3, 112, 112, device="meta")).shape == (2, 128)


def test_it_computes_finite_features_that_tell_images_apart() -> None:
    torch.manual_seed(0)
    network = build_backbone("mobilefacenet", width=0.25, embedding_size=16).eval()
    with torch.no_grad():
        features = network(torch.rand(2, 3, 112, 112))
    assert features.isfinite().all()
    assert not torch.allclose(features[0], features[1], rtol=1e-3)


def test_residual_units_add_their_input() -> None:
    """With the last BatchNorm of a unit set to 0, only the input is left."""
    network = build_backbone("mobilefacenet", width=0.25)
    unit, reducing = network.layers[3].layers[0], network.layers[2]
    x = torch.rand(1, 16, 8, 8)
    for block in (unit, reducing):
        nn.init.zeros_(block.layers[2].layers[1].weight)
    assert torch.equal(unit(x), x)
    assert torch.equal(reducing(x), torch.zeros(1, 16, 4, 4))


def test_the_large_variant_has_residual_units_at_the_first_size_too() -> None:
    """arcface_torch's ``mbf_large``: blocks 2-8-12-4 at width 4."""
    network = on_meta(width=4, blocks=(2, 8, 12, 4))
    state = network.state_dict()
    for place, depth in ((1, 2), (3, 8), (5, 12), (7, 4)):
        units = {key.split(".")[3] for key in state if key.startswith(f"layers.{place}.layers.")}
        assert units == {str(i) for i in range(depth)}
    assert state["layers.1.layers.1.layers.1.layers.0.weight"].shape == (128, 1, 3, 3)
    assert state["layers.1.layers.1.layers.2.layers.0.weight"].shape == (256, 128, 1, 1)
    assert "layers.1.layers.0.weight" not in state
    assert all(unit.residual for unit in network.layers[1].layers)
    assert network(torch.empty(2, 3, 112, 112, device="meta")).shape == (2, 512)


def test_blocks_of_the_default_are_1_4_6_2() -> None:
    assert list(on_meta(blocks=[1, 4, 6, 2]).state_dict()) == list(on_meta().state_dict())
    assert list(on_meta(blocks=[1, 4, 6, 3]).state_dict()) != list(on_meta().state_dict())


@pytest.mark.parametrize("blocks", [(1, 4, 6), (0, 4, 6, 2), (1, 4, 6, -1), (1, 4.0, 6, 2), "1462", 4, (True, 4, 6, 2)])
def test_blocks_that_are_not_four_positive_integers_are_refused(blocks: object) -> None:
    with pytest.raises(InputError, match="'mobilefacenet' refuses its settings"):
        build_backbone("mobilefacenet", blocks=blocks)
