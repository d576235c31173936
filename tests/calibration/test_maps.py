"""Predicted maps against scikit-learn, and against planted maps."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, normalize

from arcinvert.calibration.maps import RANK, MapRegression, PredictedMaps, medium_layers, pooled
from arcinvert.errors import CheckpointError
from arcinvert.recognizer import Recognizer

SHAPES = {"a": (3, 14, 14), "b": (5, 7, 7), "c": (4, 3, 2)}


def faces(count: int, size: int = 12, noise: float = 0.0, seed: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
    """Unit embeddings, and maps that depend on them linearly, with noise."""
    generator = torch.Generator().manual_seed(seed)
    planted = torch.Generator().manual_seed(99)
    embeddings = normalize(torch.randn(count, size, generator=generator))
    maps = {}
    for layer, shape in SHAPES.items():
        weight = torch.randn(size, *shape, generator=planted)
        exact = torch.tensordot(embeddings, weight, 1) + 2
        maps[layer] = exact + noise * torch.randn(exact.shape, generator=generator)
    return embeddings, maps


def fitted(
    fit: tuple[Tensor, dict[str, Tensor]], held_out: tuple[Tensor, dict[str, Tensor]], ridges: tuple[float, ...]
) -> PredictedMaps:
    regression = MapRegression(tuple(SHAPES))
    for part, new in ((fit, False), (held_out, True)):
        for start in range(0, len(part[0]), 7):  # batches
            rows = slice(start, start + 7)
            regression.add(part[0][rows], {layer: value[rows] for layer, value in part[1].items()}, held_out=new)
    return regression.solve(ridges, part[0].shape[1], rank=part[0].shape[1])


@pytest.mark.parametrize("shape", [(28, 28), (14, 14), (7, 7), (3, 2), (10, 9)])
def test_pooled_is_the_mean_of_each_seventh(shape: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *shape)
    expected = x if max(shape) <= 7 else adaptive_avg_pool2d(x, (min(7, shape[0]), min(7, shape[1])))
    torch.testing.assert_close(pooled(x), expected)


def test_planted_maps_are_predicted() -> None:
    found = fitted(faces(200), faces(50, seed=1), (1e-6,))
    embeddings, maps = faces(20, seed=2)
    for layer, predicted in found.predict(embeddings).items():
        torch.testing.assert_close(predicted, pooled(maps[layer]), atol=1e-3, rtol=1e-3)


def test_the_regression_is_that_of_scikit_learn_on_all_faces() -> None:
    fit, held_out = faces(60, noise=0.5), faces(20, noise=0.5, seed=1)
    found = fitted(fit, held_out, (0.3,))
    new = faces(5, seed=2)[0]
    for layer, shown in found.predict(new).items():
        x = np.concatenate([fit[0].numpy(), held_out[0].numpy()])
        y = torch.cat([pooled(fit[1][layer]), pooled(held_out[1][layer])]).flatten(1).numpy()
        reference = Ridge(alpha=0.3).fit(x.astype(np.float64), y.astype(np.float64)).predict(new.numpy())
        np.testing.assert_allclose(shown.flatten(1).numpy(), reference, atol=2e-4)


def test_deviations_are_measured_on_held_out_faces() -> None:
    fit, held_out = faces(60, noise=0.5), faces(20, noise=0.5, seed=1)
    found = fitted(fit, held_out, (0.3,))
    y = pooled(fit[1]["b"]).flatten(1).double().numpy()
    left = pooled(held_out[1]["b"]).flatten(1).numpy() - Ridge(alpha=0.3).fit(fit[0].double().numpy(), y).predict(
        held_out[0].double().numpy()
    )
    variance = (left**2).mean(0)
    whole = pooled(held_out[1]["b"]).flatten(1).double().numpy().var(0)
    np.testing.assert_allclose(
        found.deviation["b"].flatten().numpy(), np.sqrt(variance + 1e-3 * whole.mean()), rtol=1e-4
    )


def test_the_ridge_is_chosen_by_held_out_faces() -> None:
    fit, held_out = faces(14, noise=3.0), faces(40, noise=3.0, seed=1)  # 12 unknowns from 14 noisy rows
    alone = {ridge: fitted(fit, held_out, (ridge,)) for ridge in (1e-6, 3.0)}
    both = fitted(fit, held_out, (1e-6, 3.0))
    assert float(alone[3.0].deviation["a"].mean()) < float(alone[1e-6].deviation["a"].mean())
    torch.testing.assert_close(both.deviation["a"], alone[3.0].deviation["a"])


def test_the_directions_kept_are_those_that_determine_most() -> None:
    size = 296
    rank = RANK
    generator = torch.Generator().manual_seed(0)
    embeddings = normalize(torch.randn(1500, size, generator=generator))
    weight = torch.randn(size, 200, generator=generator)
    weight[rank:] *= 1e-3  # the others matter next to nothing
    maps = {"a": (embeddings @ weight).view(-1, 200, 1, 1) + 0.05 * torch.randn(1500, 200, 1, 1, generator=generator)}
    regression = MapRegression(("a",))
    regression.add(embeddings[:1200], {"a": maps["a"][:1200]}, held_out=False)
    regression.add(embeddings[1200:], {"a": maps["a"][1200:]}, held_out=True)
    found = regression.solve((1e-4,), size)
    assert found.factor.shape == (size, rank)
    exact = (embeddings @ weight).view(-1, 200, 1, 1)
    left = (found.predict(embeddings)["a"] - exact).square().mean() / exact.var()
    assert float(left) < 0.02


def test_it_is_stored_and_read() -> None:
    found = fitted(faces(100, noise=0.5), faces(30, noise=0.5, seed=1), (1e-3,))
    tensors = found.to_tensors()
    again = PredictedMaps.from_tensors(tensors)
    new = faces(5, seed=2)[0]
    for layer, shown in again.predict(new).items():
        apart = (shown - found.predict(new)[layer]) / found.deviation[layer]
        assert float(apart.abs().max()) < 0.05
    with pytest.raises(KeyError, match=r"expected\.factor"):
        PredictedMaps.from_tensors({})
    for spoilt in ("expected.mean.a", "expected.maps.b", "expected.unit.c"):
        with pytest.raises(CheckpointError, match="do not fit"):
            PredictedMaps.from_tensors({k: v for k, v in tensors.items() if k != spoilt})
    with pytest.raises(CheckpointError, match="do not fit"):
        PredictedMaps.from_tensors(replace(found, factor=found.factor[:, 1:]).to_tensors())


def test_without_layers_or_held_out_faces_nothing_is_predicted() -> None:
    assert MapRegression(()).solve((1.0,), 12).predict(torch.zeros(2, 12)) == {}
    regression = MapRegression(("a",))
    embeddings, maps = faces(10)
    regression.add(embeddings, maps, held_out=False)
    assert regression.solve((1.0,), 12).predict(embeddings) == {}


def test_the_layers_are_of_medium_height(tiny_recognizer: Recognizer) -> None:
    layers = medium_layers(tiny_recognizer)
    assert 1 <= len(layers) <= 4
    assert all(14 <= tiny_recognizer.layer_sizes[layer][1] <= 28 for layer in layers)
    assert list(layers) == sorted(layers, key=tiny_recognizer.layers.index)
