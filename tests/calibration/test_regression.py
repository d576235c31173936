"""Ridge regression and radial basis functions against scikit-learn, and against planted maps."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.metrics.pairwise import rbf_kernel
from torch import Tensor
from torch.nn.functional import normalize

from arcinvert.calibration.regression import Accumulators, Regression, features, fit_regression, reduced_rank


def planted(rows: int, size: int, coefficients: int, noise: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Unit embeddings, coefficients that depend on them linearly, and how."""
    generator = torch.Generator().manual_seed(2)
    embeddings = normalize(torch.randn(rows, size, generator=generator) + 0.3)
    weight = torch.randn(size, coefficients, generator=generator)
    bias = torch.randn(coefficients, generator=generator)
    exact = embeddings @ weight + bias
    return embeddings, exact + noise * torch.randn(exact.shape, generator=generator), weight, bias


@pytest.mark.parametrize("ridge", [1e-3, 1.0, 10.0, 300.0])
def test_the_regression_is_that_of_scikit_learn(ridge: float) -> None:
    embeddings, coefficients, _, _ = planted(80, 12, 5, noise=0.5)
    found = fit_regression(embeddings, coefficients, 16, ridges=(ridge,))
    x, y = embeddings.double().numpy(), coefficients.double().numpy()
    whole = Ridge(alpha=ridge).fit(x, y)
    np.testing.assert_allclose(found.weight.numpy(), whole.coef_.T, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.bias.numpy(), whole.intercept_, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.predict(embeddings).numpy(), whole.predict(x), rtol=1e-3, atol=1e-4)
    held_out = y[64:] - Ridge(alpha=ridge).fit(x[:64], y[:64]).predict(x[64:])
    np.testing.assert_allclose(found.residual.numpy(), np.sqrt((held_out**2).mean(0)), rtol=1e-4)


def test_a_planted_map_is_found() -> None:
    embeddings, coefficients, weight, bias = planted(400, 10, 6, noise=0.0)
    found = fit_regression(embeddings, coefficients, 80, ridges=(1e-6,))
    torch.testing.assert_close(found.weight, weight, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(found.bias, bias, atol=1e-3, rtol=1e-3)
    assert (found.residual == 1e-3).all()  # the floor: a deviation of 0 would freeze a coefficient


def test_residuals_are_measured_on_held_out_faces() -> None:
    # 60 rows for 40 unknowns: on its own rows the fit leaves about half of the noise.
    embeddings, coefficients, _, _ = planted(75, 40, 30, noise=1.0)
    found = fit_regression(embeddings, coefficients, 15, ridges=(1e-4,))
    in_sample = (coefficients - found.predict(embeddings)).square().mean(0).sqrt()
    assert float(in_sample.mean()) < 0.8
    assert float(found.residual.mean()) > 1.3


def test_the_last_rows_are_held_out_and_no_others() -> None:
    # Ten rows a person whose coefficients are noise: held out as whole people, they are not predictable.
    generator = torch.Generator().manual_seed(0)
    embeddings = normalize(torch.randn(10, 40, generator=generator)).repeat_interleave(10, 0)
    coefficients = torch.randn(10, 20, generator=generator).repeat_interleave(10, 0)
    assert float(fit_regression(embeddings, coefficients, 20, ridges=(1e-3,)).residual.mean()) > 0.7
    mixed = torch.cat([torch.arange(start, 100, 10) for start in range(10)])  # every person on both sides
    assert float(fit_regression(embeddings[mixed], coefficients[mixed], 20, ridges=(1e-3,)).residual.mean()) < 0.1


def test_each_coefficient_takes_the_ridge_that_predicts_held_out_faces_best() -> None:
    # Column 0 is a clean function of the embedding and wants a small ridge; column 1 is noise and wants a large one.
    generator = torch.Generator().manual_seed(1)
    embeddings = normalize(torch.randn(120, 60, generator=generator))
    coefficients = torch.stack([embeddings[:, 0] * 8, torch.randn(120, generator=generator)], 1)
    both = fit_regression(embeddings, coefficients, 24, ridges=(1e-3, 100.0))
    small = fit_regression(embeddings, coefficients, 24, ridges=(1e-3,))
    large = fit_regression(embeddings, coefficients, 24, ridges=(100.0,))
    torch.testing.assert_close(both.weight[:, 0], small.weight[:, 0])
    torch.testing.assert_close(both.weight[:, 1], large.weight[:, 1])
    torch.testing.assert_close(both.residual, torch.minimum(small.residual, large.residual))
    assert not torch.allclose(small.weight[:, 1], large.weight[:, 1])


def curved(rows: int) -> tuple[Tensor, Tensor]:
    """Embeddings, and targets of which they tell the first linearly, the others by products of their numbers."""
    generator = torch.Generator().manual_seed(4)
    embeddings = normalize(torch.randn(rows, 6, generator=generator))
    products = embeddings[:, :3] * embeddings[:, 3:] * 6
    return embeddings, torch.cat([embeddings[:, :1], products], 1)


def test_radial_basis_functions_are_those_of_scikit_learn() -> None:
    embeddings, targets = curved(120)
    centers = embeddings[:40]
    found = fit_regression(embeddings, targets, 20, ridges=(0.1,), centers=centers)
    x = np.concatenate([embeddings.numpy(), rbf_kernel(embeddings.numpy(), centers.numpy(), gamma=0.5)], 1)
    np.testing.assert_allclose(features(embeddings, centers).numpy(), x, rtol=1e-5, atol=1e-6)
    whole = Ridge(alpha=0.1).fit(x.astype(np.float64), targets.double().numpy())
    np.testing.assert_allclose(found.predict(embeddings).numpy(), whole.predict(x), rtol=1e-3, atol=1e-4)
    assert (found.embedding_size, found.weight.shape) == (6, (46, 4))


def test_what_an_embedding_does_not_tell_linearly_is_found() -> None:
    embeddings, targets = curved(600)
    linear = fit_regression(embeddings, targets, 100)
    radial = fit_regression(embeddings, targets, 100, centers=embeddings[:200])
    assert bool((linear.residual[1:] > 0.9 * targets[:, 1:].std(0)).all())
    assert bool((radial.residual[1:] < 0.3 * targets[:, 1:].std(0)).all())
    assert float(radial.residual[0]) < 0.01


@pytest.mark.parametrize("unit_norm", [False, True])
def test_centers_are_stored(unit_norm: bool) -> None:
    embeddings, targets = curved(200)
    found = fit_regression(embeddings, targets, 40, centers=embeddings[:50], unit_norm=unit_norm)
    stored = Regression.from_tensors(found.to_tensors("a"), "a", unit_norm=unit_norm)
    torch.testing.assert_close(stored.predict(embeddings), found.predict(embeddings), atol=2e-2, rtol=0)
    torch.testing.assert_close(stored.centers, found.centers, atol=1e-3, rtol=0)
    assert "a.centers" not in fit_regression(embeddings, targets, 40).to_tensors("a")


def test_centers_that_do_not_fit_are_refused() -> None:
    embeddings, targets = curved(200)
    tensors = fit_regression(embeddings, targets, 40, centers=embeddings[:50]).to_tensors("a")
    for centers in (tensors["a.centers"][1:], tensors["a.centers"][:, 1:], tensors["a.centers"][0]):
        with pytest.raises(ValueError, match="fit"):
            Regression.from_tensors(tensors | {"a.centers": centers}, "a")


def test_accumulators_add_up() -> None:
    embeddings, coefficients, _, _ = planted(50, 8, 3, noise=0.5)
    parts = Accumulators.of(embeddings[:20], coefficients[:20]) + Accumulators.of(embeddings[20:], coefficients[20:])
    whole = Accumulators.of(embeddings.double(), coefficients.double())
    torch.testing.assert_close(parts.solve(0.1), whole.solve(0.1), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(parts.variance(), coefficients.double().var(0, correction=0), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(parts.covariance(), embeddings.double().T.cov(correction=0), atol=1e-5, rtol=1e-4)


def test_predictions_of_embeddings_are_normalized_and_stored_so() -> None:
    embeddings, targets, _, _ = planted(50, 8, 3, noise=0.5)
    found = fit_regression(embeddings, targets, 10, unit_norm=True)
    plain = fit_regression(embeddings, targets, 10).predict(embeddings)
    torch.testing.assert_close(found.predict(embeddings), normalize(plain))
    stored = Regression.from_tensors(found.to_tensors("a"), "a", unit_norm=True)
    torch.testing.assert_close(stored.predict(embeddings), normalize(plain), atol=2e-3, rtol=0)
    assert torch.equal(stored.residual, found.residual)


def test_a_map_of_few_directions_is_kept_whole_by_as_many() -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(12, 3, generator=generator).double() @ torch.randn(3, 40, generator=generator).double()
    covariance = torch.randn(50, 12, generator=generator).double().T.cov()
    into, out = reduced_rank(weight, covariance, 3)
    torch.testing.assert_close(into @ out, weight, atol=1e-6, rtol=1e-6)
    into, out = reduced_rank(weight, covariance, 2)
    assert float((into @ out - weight).abs().max()) > 1e-2


def test_embeddings_that_do_not_fill_their_space() -> None:
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.randn(60, 4, generator=generator) @ torch.randn(4, 12, generator=generator)
    accumulators = Accumulators.of(embeddings, torch.randn(60, 9, generator=generator))
    weight = accumulators.solve(1e-3)[:-1]
    into, out = reduced_rank(weight, accumulators.covariance(), 4)
    torch.testing.assert_close(embeddings.double() @ into @ out, embeddings.double() @ weight, atol=1e-3, rtol=1e-3)
