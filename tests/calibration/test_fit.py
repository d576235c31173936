"""Fitting a calibration against slow, independent computations."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from torch import Tensor, nn
from torch.nn.functional import normalize

from arcinvert.backbones import build_backbone
from arcinvert.calibration.auxiliary import BLOCKS, default_auxiliary
from arcinvert.calibration.calibration import Calibration
from arcinvert.calibration.fit import calibrate
from arcinvert.calibration.maps import RANK, medium_layers, pooled
from arcinvert.calibration.regression import RIDGES, fit_regression
from arcinvert.errors import InputError
from arcinvert.faceprior.prior import FacePrior
from arcinvert.inversion.priors import stored_statistics
from arcinvert.preprocessing import Preprocessing
from arcinvert.recognizer import Recognizer
from arcinvert.training.data.faces import identity_folders, load_faces


@pytest.fixture(scope="module")
def three_layers() -> Recognizer:
    """BatchNorm layers at 112, 56 and 28 pixels."""
    torch.manual_seed(1)
    network = nn.Sequential(
        nn.BatchNorm2d(3),
        nn.Conv2d(3, 4, 3, padding=1, stride=2),
        nn.BatchNorm2d(4),
        nn.PReLU(4),
        nn.Conv2d(4, 5, 3, padding=1, stride=2),
        nn.BatchNorm2d(5),
        nn.AdaptiveAvgPool2d(3),
        nn.Flatten(),
        nn.Linear(45, 8),
    )
    return Recognizer(network, Preprocessing(), embedding_size=8)


def activations(recognizer: Recognizer, faces: Tensor) -> dict[str, np.ndarray]:
    """Of the faces and their mirror images, all at once, float64."""
    both = torch.cat([faces, faces.flip(-1)])
    with torch.no_grad():
        found = recognizer.trace(both, taps=recognizer.layers).activations
    return {layer: value.double().numpy() for layer, value in found.items()}


@pytest.mark.parametrize("batch_size", [7, 64])
def test_statistics_are_those_of_the_faces_and_their_mirror_images(
    three_layers: Recognizer, small_prior: FacePrior, batch_size: int
) -> None:
    few = replace(small_prior, codes=small_prior.codes[:23])
    found = calibrate(three_layers, few, location_layers=2, batch_size=batch_size).statistics
    shown = activations(three_layers, few.render(few.coefficients()).clamp(0, 1))
    assert set(found.channel_mean) == set(found.channel_var) == {"0", "2", "5"}
    assert set(found.location_mean) == set(found.location_var) == {"0", "2"}
    for layer, x in shown.items():
        np.testing.assert_allclose(found.channel_mean[layer], x.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found.channel_var[layer], x.var((0, 2, 3)), rtol=1e-3)
    for layer, block in (("0", 4), ("2", 2)):
        x = shown[layer]
        count, channels, side, _ = x.shape
        # All values of a cell of the 28x28 grid, over all images: one population.
        cells = x.reshape(count, channels, side // block, block, side // block, block)
        np.testing.assert_allclose(found.location_mean[layer], cells.mean((0, 3, 5)), rtol=1e-4, atol=1e-5)
        assert found.location_var[layer].shape == (channels, 28, 28)
        np.testing.assert_allclose(found.location_var[layer], cells.var((0, 3, 5)), rtol=1e-2, atol=1e-6)
    grid = found.location_mean["0"]
    torch.testing.assert_close(grid, grid.flip(-1), atol=1e-5, rtol=1e-4)
    assert not torch.allclose(grid, grid.flip(-2), atol=0.05)


def test_the_priors_own_faces_are_the_default(three_layers: Recognizer, small_prior: FacePrior) -> None:
    found = calibrate(three_layers, small_prior, statistics_faces=16)
    assert (found.faces, found.prior_digest) == (64, small_prior.digest)
    spread = activations(three_layers, small_prior.render(small_prior.coefficients(slice(0, 64, 4))).clamp(0, 1))
    np.testing.assert_allclose(found.statistics.channel_mean["5"], spread["5"].mean((0, 2, 3)), rtol=1e-3, atol=1e-5)
    codes = small_prior.coefficients()
    sharp, soft = (three_layers.embed(draw(codes).clamp(0, 1)) for draw in (small_prior.render, small_prior.decode))
    expected = fit_regression(sharp, codes, ridges=RIDGES)
    torch.testing.assert_close(found.coefficients.predict(sharp), expected.predict(sharp), rtol=1e-2, atol=1e-2)
    expected = fit_regression(sharp, soft, ridges=RIDGES, unit_norm=True)
    projected = found.projected.predict(sharp)
    torch.testing.assert_close(projected, expected.predict(sharp), rtol=1e-2, atol=1e-3)
    assert float((projected * soft).sum(1).mean()) > float((sharp * soft).sum(1).mean())


def test_given_images_take_the_place_of_the_priors_faces(three_layers: Recognizer, small_prior: FacePrior) -> None:
    images = torch.randint(0, 256, (15, 112, 112, 3), generator=torch.Generator().manual_seed(3)).to(torch.uint8)
    done: list[int] = []
    found = calibrate(three_layers, small_prior, images, batch_size=4, progress=lambda n, total, text: done.append(n))
    faces = images.permute(0, 3, 1, 2).float() / 255
    shown = activations(three_layers, faces)
    np.testing.assert_allclose(found.statistics.channel_mean["0"], shown["0"].mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    embeddings, codes = three_layers.embed(faces), small_prior.encode(faces)
    expected = fit_regression(embeddings, codes, ridges=RIDGES)
    torch.testing.assert_close(found.coefficients.weight, expected.weight, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found.coefficients.residual, expected.residual, rtol=1e-3, atol=1e-4)
    soft = three_layers.embed(small_prior.decode(codes).clamp(0, 1))
    expected = fit_regression(embeddings, soft, ridges=RIDGES, unit_norm=True)
    torch.testing.assert_close(found.projected.predict(embeddings), expected.predict(embeddings), rtol=1e-2, atol=1e-3)
    assert found.faces == 15
    assert done == [4, 8, 12, 15]


def test_a_channel_that_is_flat_somewhere_keeps_a_variance(three_layers: Recognizer, small_prior: FacePrior) -> None:
    images = torch.full((12, 112, 112, 3), 128, dtype=torch.uint8)
    images[:, 56:] = torch.randint(0, 256, (12, 56, 112, 3), generator=torch.Generator().manual_seed(3))
    var = calibrate(three_layers, small_prior, images).statistics.location_var["0"]
    assert float(var[:, :14].max()) < float(var[:, 14:].min())
    assert float(var.min()) > 0


@pytest.mark.parametrize("count", [0, 9])
def test_too_few_faces_are_refused(three_layers: Recognizer, small_prior: FacePrior, count: int) -> None:
    with pytest.raises(InputError, match=f"got {count}"):
        calibrate(three_layers, small_prior, torch.zeros(count, 112, 112, 3, dtype=torch.uint8))


def test_predictions_of_maps_and_of_the_auxiliary_are_the_regressions_on_all_faces(
    tiny_recognizer: Recognizer, tiny_faces: Path, small_prior: FacePrior
) -> None:
    images = load_faces(tiny_faces, identity_folders(tiny_faces)).images
    made = calibrate(tiny_recognizer, small_prior, images, ridges=(0.1,), batch_size=5)
    layers = medium_layers(tiny_recognizer)
    faces = images.permute(0, 3, 1, 2).float() / 255
    trace = tiny_recognizer.trace(faces, taps=layers)
    x = trace.embedding.double().numpy()
    fit = Ridge(alpha=0.1).fit(x, default_auxiliary().embed(faces).double().numpy())
    expected = normalize(torch.from_numpy(fit.predict(x)).float())
    torch.testing.assert_close(made.auxiliary.predict(trace.embedding), expected, atol=1e-3, rtol=1e-3)

    predicted = made.maps.predict(trace.embedding)
    unit = np.concatenate([made.maps.deviation[layer].flatten().numpy() for layer in layers])
    y = np.concatenate([pooled(trace.activations[layer]).flatten(1).double().numpy() for layer in layers], 1)
    reference = Ridge(alpha=0.1).fit(x, y).predict(x) / unit
    mean = reference.mean(0)
    left, weight, right = np.linalg.svd(reference - mean, full_matrices=False)
    kept = min(RANK, x.shape[1])  # the directions that determine most
    found = np.concatenate([predicted[layer].flatten(1).numpy() for layer in layers], 1) / unit
    np.testing.assert_allclose(found, mean + left[:, :kept] * weight[:kept] @ right[:kept], atol=2e-2)


def test_maps_inside_the_auxiliary_recognizer_are_nearer_to_their_prediction_than_to_their_mean(
    tiny_recognizer: Recognizer, small_prior: FacePrior, tiny_calibration: Calibration
) -> None:
    faces = small_prior.render(small_prior.coefficients(slice(0, 20))).clamp(0, 1)
    actual = default_auxiliary().trace(faces, taps=BLOCKS).activations
    predicted = tiny_calibration.auxiliary_maps.predict(tiny_recognizer.embed(faces))
    assert tuple(predicted) == BLOCKS
    for layer in BLOCKS:
        there = pooled(actual[layer])
        error = (there - predicted[layer]).square().mean()
        assert float(error) < 0.9 * float((there - there.mean(0)).square().mean())


def test_calibration_restores_the_statistics_of_a_folded_network(small_prior: FacePrior) -> None:
    torch.manual_seed(3)
    network = build_backbone("iresnet18", width=0.25, embedding_size=8, folded=True)
    recognizer = Recognizer(network, Preprocessing(), embedding_size=8)
    assert len(recognizer.folded) == 30 - 9
    assert recognizer.statistics("layer1.0.bn2") is None
    assert set(stored_statistics(recognizer)).isdisjoint(recognizer.folded)
    statistics = stored_statistics(recognizer, calibrate(recognizer, small_prior))
    assert set(statistics) == set(recognizer.layers)
    faces = small_prior.render(small_prior.coefficients()).clamp(0, 1)
    seen = recognizer.trace(torch.cat([faces, faces.flip(-1)]), taps=["layer1.0.bn2"]).activations["layer1.0.bn2"]
    torch.testing.assert_close(statistics["layer1.0.bn2"].mean, seen.mean((0, 2, 3)), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(statistics["layer1.0.bn2"].var, seen.var((0, 2, 3)), atol=1e-3, rtol=1e-2)
