"""Fréchet and kernel distances against closed forms and slow references; Inception with and without its file."""

import hashlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from arcinvert.errors import EnvironmentProblem, InputError, UsageError
from arcinvert.evaluation.generation import inception
from arcinvert.evaluation.generation.distances import (
    Kid,
    compare_sets,
    cosine_features,
    frechet_distance,
    kernel_distance,
    squared_mmd,
)
from arcinvert.evaluation.generation.inception import open_inception

Array = Any


def rows(seed: int, count: int, size: int) -> Array:
    return np.random.default_rng(seed).normal(size=(count, size))


def with_moments(seed: int, count: int, mean: Array, covariance: Array) -> Array:
    """Rows whose mean and unbiased covariance are exactly these."""
    raw = rows(seed, count, len(mean))
    raw -= raw.mean(0)
    white = raw @ np.linalg.inv(np.linalg.cholesky(np.cov(raw.T))).T
    return white @ np.linalg.cholesky(covariance).T + mean


def covariance(seed: int, size: int) -> Array:
    raw = rows(seed, 3 * size, size) * np.linspace(0.2, 3, size)
    return raw.T @ raw / len(raw)


def fidelity_frechet(first: Array, second: Array) -> float:
    """As torch-fidelity computes it, from covariances."""
    module = pytest.importorskip("torch_fidelity.metric_fid")
    stored = [module.fid_features_to_statistics(torch.from_numpy(features)) for features in (first, second)]
    return float(module.fid_statistics_to_metric(*stored, False)["frechet_inception_distance"])


# --- Fréchet


@pytest.mark.parametrize(("n", "m", "tolerance"), [(40, 60, 1e-11), (400, 300, 1e-11), (100, 9, 1e-9), (12, 7, 1e-6)])
def test_any_covariances_as_torch_fidelity_says(n: int, m: int, tolerance: float) -> None:
    first, second = rows(5, n, 8) @ rows(6, 8, 8), rows(7, m, 8) @ rows(8, 8, 8) + 1
    assert frechet_distance(first, second) == pytest.approx(fidelity_frechet(first, second), rel=tolerance)
    single = first.astype(np.float32), second.astype(np.float32)
    wide = [features.astype(np.float64) for features in single]
    assert frechet_distance(*single) == frechet_distance(*wide)


def test_equal_covariances_leave_the_means() -> None:
    shared, shift = covariance(0, 6), np.arange(6.0)
    first = with_moments(1, 50, np.zeros(6), shared)
    second = with_moments(2, 80, shift, shared)
    assert frechet_distance(first, second) == pytest.approx(float(shift @ shift), rel=1e-10)


def test_diagonal_covariances_leave_the_deviations() -> None:
    one, other = np.array([1.0, 4, 9]), np.array([4.0, 4, 1])
    first = with_moments(3, 30, np.zeros(3), np.diag(one))
    second = with_moments(4, 40, np.zeros(3), np.diag(other))
    expected = ((np.sqrt(one) - np.sqrt(other)) ** 2).sum()
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-10)


def test_fewer_rows_than_dimensions() -> None:
    # Two sets in planes at right angles to each other: the root of the product of covariances is 0.
    first, second = np.zeros((5, 30)), np.zeros((7, 30))
    first[:, :2], second[:, 2:4] = rows(9, 5, 2), rows(10, 7, 2)
    shift = first.mean(0) - second.mean(0)
    expected = shift @ shift + first.var(0, ddof=1).sum() + second.var(0, ddof=1).sum()
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-12)
    # In general position torch-fidelity's eigenvalues err, which is why the arithmetic is ours.
    turned = [features @ np.linalg.qr(rows(28, 30, 30))[0] for features in (first, second)]
    assert frechet_distance(*turned) == pytest.approx(expected, rel=1e-12)
    assert abs(fidelity_frechet(*turned) - expected) > 1e-9
    # And 30 dimensions that say the same as 2 of them.
    turn = np.linalg.qr(rows(11, 30, 30))[0][:2]
    one, other = rows(12, 5, 2), rows(13, 7, 2) * 3 + 1
    assert frechet_distance(one @ turn, other @ turn) == pytest.approx(frechet_distance(one, other), rel=1e-10)


def test_a_set_is_where_it_is() -> None:
    first = rows(14, 40, 20) * 1e3 + 1e6
    assert frechet_distance(first, first[::-1]) < 1e-5  # of a spread of 2e7
    assert frechet_distance(first, first) >= 0


# --- KID


def test_the_estimate_as_torch_fidelity_says() -> None:
    module = pytest.importorskip("torch_fidelity.metric_kid")
    first, second = rows(17, 9, 3), rows(18, 9, 3) + 0.5
    assert squared_mmd(first, second) == pytest.approx(module.kernel_mmd(first, second), rel=1e-12)
    # Two sizes: the mean over the rows that are left out of the larger set.
    larger = rows(19, 10, 3)
    parts = [module.kernel_mmd(first, np.delete(larger, number, 0)) for number in range(10)]
    assert squared_mmd(first, larger) == pytest.approx(np.mean(parts), rel=1e-12)


def test_the_estimate_in_one_dimension() -> None:
    # All rows x against all rows y: (x^2 + 1)^3 + (y^2 + 1)^3 - 2 (xy + 1)^3.
    assert squared_mmd(np.full((4, 1), 1.0), np.full((3, 1), 2.0)) == pytest.approx(8 + 125 - 2 * 27)


def test_subsets() -> None:
    first, second = rows(20, 60, 5), rows(21, 40, 5) + 1
    found = kernel_distance(first, second, subsets=200, size=15, seed=3)
    assert (found.subsets, found.size) == (200, 15)
    assert abs(found.mean - squared_mmd(first, second)) < 4 * found.std / np.sqrt(200)
    assert found == kernel_distance(first, second, subsets=200, size=15, seed=3)
    assert found != kernel_distance(first, second, subsets=200, size=15, seed=4)
    whole = kernel_distance(first, second[:40], subsets=3, size=40)
    assert whole.size == 40
    assert kernel_distance(second, second, subsets=5, size=40).std == pytest.approx(0, abs=1e-9)


# --- both


def test_few_pictures_get_kid_alone() -> None:
    first, second = rows(24, 2047, 3), rows(25, 3000, 3)
    few = compare_sets(first, second, space="NET", subsets=2)
    assert few.frechet is None
    assert "fewer than 2048" in str(few.reason)
    assert (few.first, few.second, few.dimension, few.kid.size) == (2047, 3000, 3, 1000)
    many = compare_sets(rows(24, 2048, 3), second, space="NET", subsets=2)
    assert many.frechet == frechet_distance(rows(24, 2048, 3), second)
    assert many.reason is None
    assert isinstance(many.kid, Kid)


def test_only_inception_gives_an_fid() -> None:
    first = rows(26, 8, 3)
    assert compare_sets(first, first, space="y1").frechet_name == "Frechet distance in the feature space of y1"
    assert compare_sets(first, first, space="Inception", fid=True).frechet_name == "FID"


def test_features_of_embeddings_have_their_cosine_in_the_kernel() -> None:
    unit = rows(27, 2, 16)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    features = cosine_features(unit.astype(np.float32))
    assert features[0] @ features[1] / 16 == pytest.approx(unit[0] @ unit[1], abs=1e-6)


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (np.zeros((5, 3)), np.zeros((5, 4)), "features"),
        (np.zeros((5, 0)), np.zeros((5, 0)), "features"),
        (np.zeros((1, 3)), np.zeros((5, 3)), "pictures in each set, got 1 and 5"),
        (np.full((5, 3), np.nan), np.zeros((5, 3)), "finite"),
    ],
)
def test_features_that_are_refused(first: Array, second: Array, message: str) -> None:
    for function in (frechet_distance, squared_mmd, kernel_distance):
        with pytest.raises(InputError, match=message):
            function(first, second)


def test_subsets_that_do_not_fit() -> None:
    with pytest.raises(InputError, match="at least 4 pictures"):
        kernel_distance(rows(1, 3, 2), rows(2, 9, 2))
    with pytest.raises(InputError, match="at least 6 pictures in each set, got 9 and 5"):
        kernel_distance(rows(1, 9, 2), rows(2, 5, 2), size=6)
    with pytest.raises(UsageError, match="at least 2 subsets"):
        kernel_distance(rows(1, 9, 2), rows(2, 9, 2), subsets=1)
    with pytest.raises(UsageError, match="at least 2 rows"):
        kernel_distance(rows(1, 9, 2), rows(2, 9, 2), size=1)


# --- Inception


@pytest.fixture(scope="module")
def random_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weight file of the right layout whose numbers are random."""
    package = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(package, "load_state_dict_from_url", lambda *_, **__: {})
        patch.setattr(package.FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
        torch.manual_seed(0)
        network = package.FeatureExtractorInceptionV3("inception", ["2048"])
    path = tmp_path_factory.mktemp("inception") / "random.pth"
    torch.save(network.state_dict(), path)
    return path


def test_the_weights_are_asked_for_and_not_fetched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("torch_fidelity")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    for given in (None, tmp_path / "none.pth"):
        with pytest.raises(EnvironmentProblem) as caught:
            open_inception(given)
        message = str(caught.value)
        assert "weights of Inception are missing" in message
        assert "nothing is downloaded" in message
        assert "\n" not in message
    assert not list(tmp_path.iterdir())


def test_the_package_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch_fidelity.feature_extractor_inceptionv3", None)
    with pytest.raises(EnvironmentProblem, match=r"pip install 'arcinvert\[metrics\]'"):
        open_inception()


def test_a_file_of_something_else(tmp_path: Path) -> None:
    pytest.importorskip("torch_fidelity")
    path = tmp_path / "weights.pth"
    for content in ({"a": torch.zeros(1)}, [1, 2], {"run": pytest.approx}):
        torch.save(content, path)
        with pytest.raises(InputError, match="is not the weight file of Inception"):
            open_inception(path)
    path.write_bytes(b"nothing")
    with pytest.raises(InputError, match="is not the weight file of Inception"):
        open_inception(path)


@pytest.mark.slow
def test_random_weights_give_features_under_their_own_name(
    random_weights: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = open_inception(random_weights)
    digest = hashlib.sha256(random_weights.read_bytes()).hexdigest()
    assert found.digest == digest
    assert not found.published
    assert found.space == f"Inception with the weights {digest[:12]}"
    pictures = np.random.default_rng(0).integers(0, 256, (5, 112, 112, 3), dtype=np.uint8)
    for number, image in enumerate(pictures):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
        Image.fromarray(image // 2).save(tmp_path / f"dark{number}.png")
    features = found.features([tmp_path / f"{number}.png" for number in range(5)], batch_size=2)
    assert features.shape == (5, 2048)
    with torch.inference_mode():
        alone = found.network(torch.from_numpy(pictures[4:]).permute(0, 3, 1, 2))[0].numpy()
    np.testing.assert_allclose(features[4:], alone, rtol=1e-4, atol=1e-5)
    other = found.features([tmp_path / f"dark{number}.png" for number in range(4)])
    assert squared_mmd(features, features[::-1]) < squared_mmd(features, other)
    # The published file is known by its digest, and found in the cache.
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(inception, "WEIGHTS", f"weights-inception-2015-12-05-{digest[:8]}.pth")
    inception.cached_weights().parent.mkdir()
    inception.cached_weights().symlink_to(random_weights)
    published = open_inception()
    assert published.published
    assert published.space == "Inception"
