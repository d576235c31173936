"""Fitting a calibration against slow, independent computations."""

import itertools
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
from arcinvert.calibration.fit import CalibrationFit, calibrate, face_batches, noise_cosine
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
    few = small_prior.first(23)
    found = calibrate(three_layers, few, location_layers=2, batch_size=batch_size).statistics
    seen = activations(three_layers, shown(few, range(23)))
    assert set(found.channel_mean) == set(found.channel_var) == {"0", "2", "5"}
    assert set(found.location_mean) == set(found.location_var) == {"0", "2"}
    for layer, x in seen.items():
        np.testing.assert_allclose(found.channel_mean[layer], x.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found.channel_var[layer], x.var((0, 2, 3)), rtol=1e-3)
    for layer, block in (("0", 4), ("2", 2)):
        x = seen[layer]
        count, channels, side, _ = x.shape
        # All values of a cell of the 28x28 grid, over all images: one population.
        cells = x.reshape(count, channels, side // block, block, side // block, block)
        np.testing.assert_allclose(found.location_mean[layer], cells.mean((0, 3, 5)), rtol=1e-4, atol=1e-5)
        assert found.location_var[layer].shape == (channels, 28, 28)
        np.testing.assert_allclose(found.location_var[layer], cells.var((0, 3, 5)), rtol=1e-2, atol=1e-6)
    grid = found.location_mean["0"]
    torch.testing.assert_close(grid, grid.flip(-1), atol=1e-5, rtol=1e-4)
    assert not torch.allclose(grid, grid.flip(-2), atol=0.05)


def shown(prior: FacePrior, rows: range) -> Tensor:
    """The pictures of the prior, as a recognizer takes them."""
    return prior.pictures(rows).permute(0, 3, 1, 2).float() / 255


def test_latents_are_predicted_from_the_faces_as_they_are_shown(
    three_layers: Recognizer, small_prior: FacePrior, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("arcinvert.calibration.fit.PAYS", 1.0)  # linear regressions
    found = calibrate(three_layers, small_prior, statistics_faces=16)
    assert (found.faces, found.prior_digest) == (64, small_prior.digest)
    spread = activations(three_layers, shown(small_prior, range(0, 64, 4)))
    np.testing.assert_allclose(found.statistics.channel_mean["5"], spread["5"].mean((0, 2, 3)), rtol=1e-3, atol=1e-5)
    batches = [part for rows in (range(52), range(52, 64)) for part in face_batches(small_prior, rows, 16)]
    embeddings = torch.cat([three_layers.embed(faces) for faces, _ in batches])
    expected = fit_regression(embeddings, torch.cat([latents for _, latents in batches]), 12)
    torch.testing.assert_close(found.latents.weight, expected.weight, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(found.latents.residual, expected.residual, rtol=1e-3, atol=1e-4)


def test_every_second_face_is_shown_as_a_camera_would(small_prior: FacePrior) -> None:
    (faces, latents), (last, _) = face_batches(small_prior, range(10, 19), 8)
    plain = shown(small_prior, range(10, 19))
    assert torch.equal(faces[::2], plain[:8:2])
    assert bool(((faces - plain[:8]).abs().mean((1, 2, 3))[1::2] > 1e-4).all())
    assert torch.equal(last, plain[8:])  # a batch of one face
    assert torch.equal(latents, small_prior.latents(range(10, 18)))
    again = next(iter(face_batches(small_prior, range(10, 19), 8)))[0]
    assert torch.equal(faces, again)


def test_crops_add_to_all_but_the_regression_to_latents(three_layers: Recognizer, small_prior: FacePrior) -> None:
    images = torch.randint(0, 256, (15, 112, 112, 3), generator=torch.Generator().manual_seed(3)).to(torch.uint8)
    done: list[tuple[int, int]] = []
    found = calibrate(three_layers, small_prior, images, batch_size=4, progress=lambda n, all, _: done.append((n, all)))
    plain = calibrate(three_layers, small_prior, batch_size=4)
    assert (found.faces, plain.faces) == (64 + 15, 64)
    assert done[-4:] == [(4, 15), (8, 15), (12, 15), (15, 15)]
    for part in ("weight", "bias", "residual"):
        assert torch.equal(getattr(found.latents, part), getattr(plain.latents, part))
    assert not torch.allclose(found.auxiliary.weight, plain.auxiliary.weight, atol=0.01)
    faces = torch.cat([shown(small_prior, range(64)), images.permute(0, 3, 1, 2).float() / 255])
    seen = activations(three_layers, faces)
    np.testing.assert_allclose(found.statistics.channel_mean["0"], seen["0"].mean((0, 2, 3)), rtol=1e-4, atol=1e-5)


def test_few_crops_are_repeated_and_none_is_on_both_sides(
    tiny_recognizer: Recognizer, small_prior: FacePrior, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("arcinvert.calibration.fit.LEAST_SHARE", 0.5)  # of 64 faces, where 10 crops are fewer
    images = torch.randint(0, 256, (10, 112, 112, 3), generator=torch.Generator().manual_seed(3)).to(torch.uint8)
    fits: list[CalibrationFit] = []
    made = CalibrationFit.__init__

    def kept(fit: CalibrationFit, recognizer: Recognizer) -> None:
        made(fit, recognizer)
        fits.append(fit)

    monkeypatch.setattr(CalibrationFit, "__init__", kept)
    calibrate(tiny_recognizer, small_prior, images)
    rows = tiny_recognizer.embed(images.permute(0, 3, 1, 2).float() / 255)
    fitted, held_out = (torch.cat(fits[0].embeddings[side]) for side in (False, True))
    assert (len(fitted), len(held_out)) == (52 + 6 * 8, 12 + 6 * 2)
    for side, crops, others in ((fitted, rows[:8], rows[8:]), (held_out, rows[8:], rows[:8])):
        assert ((side @ crops.T > 1 - 1e-5).sum(0) >= 6).all()
        assert not ((side[:, None] - others).abs().amax(2) < 1e-5).any()


def test_a_channel_that_is_flat_somewhere_keeps_a_variance(
    three_layers: Recognizer, small_prior: FacePrior, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = torch.full((12, 112, 112, 3), 128, dtype=torch.uint8)
    images[:, 56:] = torch.randint(0, 256, (12, 56, 112, 3), generator=torch.Generator().manual_seed(3))
    monkeypatch.setattr(FacePrior, "pictures", lambda prior, rows: images[[row % 12 for row in rows]])
    var = calibrate(three_layers, small_prior).statistics.location_var["0"]
    assert float(var[:, :14].max()) < float(var[:, 14:].min())
    assert float(var.min()) > 0


@pytest.mark.parametrize("count", [0, 9])
def test_too_few_faces_are_refused(three_layers: Recognizer, small_prior: FacePrior, count: int) -> None:
    with pytest.raises(InputError, match=f"got {count}"):
        calibrate(three_layers, small_prior, torch.zeros(count, 112, 112, 3, dtype=torch.uint8))
    with pytest.raises(InputError, match=f"got {count}"):
        calibrate(three_layers, small_prior.first(count))


def test_predictions_of_maps_and_of_the_auxiliary_are_the_regressions_on_all_faces(
    tiny_recognizer: Recognizer, tiny_faces: Path, small_prior: FacePrior, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("arcinvert.calibration.fit.PAYS", 1.0)  # linear ones
    images = load_faces(tiny_faces, identity_folders(tiny_faces)).images
    prior = small_prior.first(30)
    made = calibrate(tiny_recognizer, prior, images, ridges=(0.1,), batch_size=5)
    layers = medium_layers(tiny_recognizer)
    parts = [faces for rows in (range(24), range(24, 30)) for faces, _ in face_batches(prior, rows, 5)]
    faces = torch.cat([*parts, images.permute(0, 3, 1, 2).float() / 255])
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
    faces = shown(small_prior, range(20))
    actual = default_auxiliary().trace(faces, taps=BLOCKS).activations
    predicted = tiny_calibration.auxiliary_maps.predict(tiny_recognizer.embed(faces))
    assert tuple(predicted) == BLOCKS
    for layer in BLOCKS:
        there = pooled(actual[layer])
        error = (there - predicted[layer]).square().mean()
        assert float(error) < 0.98 * float((there - there.mean(0)).square().mean())


def test_calibration_restores_the_statistics_of_a_folded_network(small_prior: FacePrior) -> None:
    torch.manual_seed(3)
    network = build_backbone("iresnet18", width=0.25, embedding_size=8, folded=True)
    recognizer = Recognizer(network, Preprocessing(), embedding_size=8)
    assert len(recognizer.folded) == 30 - 9
    assert recognizer.statistics("layer1.0.bn2") is None
    assert set(stored_statistics(recognizer)).isdisjoint(recognizer.folded)
    statistics = stored_statistics(recognizer, calibrate(recognizer, small_prior))
    assert set(statistics) == set(recognizer.layers)
    faces = shown(small_prior, range(64))
    seen = recognizer.trace(torch.cat([faces, faces.flip(-1)]), taps=["layer1.0.bn2"]).activations["layer1.0.bn2"]
    torch.testing.assert_close(statistics["layer1.0.bn2"].mean, seen.mean((0, 2, 3)), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(statistics["layer1.0.bn2"].var, seen.var((0, 2, 3)), atol=1e-3, rtol=1e-2)


def test_the_fit_ends_when_more_faces_do_not_improve_the_held_out_prediction(
    three_layers: Recognizer, small_prior: FacePrior, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("arcinvert.calibration.fit.FEW", 16)
    monkeypatch.setattr("arcinvert.calibration.fit.PORTIONS", 4)
    done: list[tuple[int, int]] = []
    seen: list[float] = []
    error = CalibrationFit.error

    def recorded(fit: CalibrationFit, ridges: tuple[float, ...]) -> float:
        seen.append(error(fit, ridges))
        return seen[-1]

    monkeypatch.setattr(CalibrationFit, "error", recorded)
    found = calibrate(three_layers, small_prior, enough=1.0, progress=lambda n, total, text: done.append((n, total)))
    assert found.faces == 32
    assert len(seen) == 2
    assert done == [(13, 64), (16, 64), (29, 64), (32, 64), (32, 32)]  # a fifth of each portion is held out
    assert calibrate(three_layers, small_prior, enough=0).faces == 64
    again = calibrate(three_layers, small_prior, enough=0.02)
    fell = [before - after >= 0.02 * before for before, after in itertools.pairwise(seen[2:])]
    assert again.faces == (16 * len(seen[2:]) if False in fell else 64)


@pytest.mark.parametrize("curved", [False, True])
def test_radial_basis_functions_are_taken_where_they_pay(tiny_recognizer: Recognizer, curved: bool) -> None:
    generator = torch.Generator().manual_seed(4)
    embeddings = normalize(torch.randn(400, 6, generator=generator))
    known = embeddings[:, :3] * embeddings[:, 3:] * 6 if curved else embeddings[:, :3]
    noise = 0.1 * torch.randn(400, 3, generator=generator)
    fit = CalibrationFit(tiny_recognizer)
    for held_out, rows in ((False, slice(320)), (True, slice(320, 400))):
        for collected, values in (
            (fit.embeddings, embeddings),
            (fit.auxiliary_embeddings, known + noise),
            (fit.known, embeddings),
            (fit.latents, known - noise),
        ):
            collected[held_out].append(values[rows])
    latents, auxiliary = fit.regressions(RIDGES)
    assert len(latents.centers) == len(auxiliary.centers) == (320 if curved else 0)
    assert bool((latents.residual < 0.4 * known.std(0)).all())
    assert bool((auxiliary.residual < 0.4 * known.std(0)).all())


def test_the_more_noise_the_further_embeddings_move(tiny_recognizer: Recognizer, small_prior: FacePrior) -> None:
    faces = shown(small_prior, range(8))
    found = [noise_cosine(tiny_recognizer, faces, noise) for noise in (0.0, 0.05, 0.1, 0.3)]
    assert found[0] == pytest.approx(1, abs=1e-5)
    assert found == sorted(found, reverse=True)
    assert found[3] < 0.97
    one = tiny_recognizer.trace(faces, weights=tiny_recognizer.noisy_weights(0.1, 0)).embedding
    cosine = float((one * tiny_recognizer.embed(faces)).sum(1).mean())
    assert noise_cosine(tiny_recognizer, faces, 0.1, draws=1) == pytest.approx(cosine, abs=1e-5)
