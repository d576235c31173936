"""Recipes by name: what they are made of, and that their cost falls."""

from dataclasses import replace

import pytest
import torch
from arcinvert.synthesis.reconstruct import generator_for
from torch import Tensor

from arcinvert.calibration.calibration import Calibration
from arcinvert.errors import UsageError
from arcinvert.faceprior.prior import FacePrior
from arcinvert.inversion.invert import invert
from arcinvert.inversion.parameterization import FaceBasis, Pixels
from arcinvert.inversion.presets import PRESETS, Attack, conditional, halfway, location_match, preset
from arcinvert.inversion.terms import all_taps
from arcinvert.recognizer import Recognizer


@pytest.fixture
def attack(tiny_recognizer: Recognizer, small_prior: FacePrior, tiny_calibration: Calibration) -> Attack:
    """Two targets, three images: the first of each, and a variation of the second."""
    faces = small_prior.decode(small_prior.coefficients(slice(40, 42))).clamp(0, 1)
    target = tiny_recognizer.embed(faces)[[0, 1, 1]]
    generators = [generator_for(0, 0, 0), generator_for(0, 1, 0), generator_for(0, 1, 1)]
    return Attack(tiny_recognizer, small_prior, tiny_calibration, target, torch.tensor([0, 0, 1]), generators)


def cost(attack: Attack, recipe, image: Tensor | None = None) -> Tensor:
    """The weighted cost of the recipe's image as it is, without a view, before the attacked network. (B,)"""
    shown = recipe.parameterization() if image is None else image
    trace = attack.recognizer.trace(shown, taps=all_taps(recipe.terms), latent=recipe.parameterization.latent())
    return sum(weight * term(trace) for weight, term in recipe.terms.values()).detach()


def test_the_names_and_that_others_are_refused() -> None:
    assert list(PRESETS) == ["fast", "best", "fourier", "paper"]
    assert all(preset(name) is PRESETS[name] for name in PRESETS)
    for name in ("", "Fast", "slow"):
        with pytest.raises(UsageError, match="fast, best, fourier, paper"):
            preset(name)


def test_steps_of_their_own_and_steps_asked_for(attack: Attack) -> None:
    assert {name: PRESETS[name](attack, None).steps for name in PRESETS} == {
        "fast": 60,
        "best": 80,
        "fourier": 100,
        "paper": 20_000,
    }
    assert {PRESETS[name](attack, 7).steps for name in PRESETS} == {7}


@pytest.mark.parametrize("name", PRESETS)
def test_the_cost_falls_in_five_adam_steps(attack: Attack, name: str) -> None:
    recipe = replace(PRESETS[name](attack, 5), transform=None)  # what falls is the cost of one view
    before = cost(attack, recipe)
    found = invert(attack.recognizer, recipe, target=attack.target, generators=attack.generators)
    assert (cost(attack, recipe) < before).all()
    assert not found.diverged.any()
    assert set(found.history) == {*recipe.terms, "cosine"} | ({"auxiliary"} if recipe.auxiliary else set())
    assert found.history["match"].shape == (5, 3)


@pytest.mark.parametrize("name", ["fast", "fourier"])
def test_the_reconstruction_comes_nearer_to_the_target(attack: Attack, name: str) -> None:
    recipe = PRESETS[name](attack, 15)
    start = recipe.parameterization().detach().clamp(0, 1)
    begun = (attack.recognizer.embed(start) * attack.target).sum(1)
    found = invert(attack.recognizer, recipe, target=attack.target, generators=attack.generators)
    assert (found.cosine > begun).all()


def test_paper_starts_at_noise_with_a_constant_rate(attack: Attack) -> None:
    recipe = PRESETS["paper"](attack, 3)
    assert isinstance(recipe.parameterization, Pixels)
    image = recipe.parameterization.normalized.detach()
    assert float(image.mean()) == pytest.approx(0, abs=0.02)
    assert float(image.std()) == pytest.approx(1, abs=0.02)
    neighbors = torch.corrcoef(torch.stack([image[0, :, :, 1:].flatten(), image[0, :, :, :-1].flatten()]))[0, 1]
    assert abs(float(neighbors)) < 0.03
    assert not torch.equal(image[0], image[1])
    assert (recipe.lr, recipe.decay, recipe.transform) == (0.25, False, None)
    found = invert(attack.recognizer, recipe, target=attack.target, generators=attack.generators)
    assert found.images.shape == (3, 112, 112, 3)


def test_fourier_starts_at_the_frontal_face(attack: Attack) -> None:
    image = PRESETS["fourier"](attack, 3).parameterization().detach()
    frontal = attack.prior.decode(attack.prior.starts["frontal"][None]).clamp(0.01, 0.99)
    torch.testing.assert_close(image, frontal.expand(3, -1, -1, -1), atol=1e-4, rtol=1e-4)


def test_variation_0_is_the_prediction_itself(attack: Attack) -> None:
    center, spread = conditional(attack)
    predicted = attack.calibration.coefficients.predict(attack.target)
    assert torch.equal(center[:2], predicted[:2])
    assert torch.equal(spread, attack.calibration.coefficients.residual)
    assert not torch.allclose(center[2], predicted[2], atol=0.05)


def test_variations_are_drawn_around_the_prediction_at_their_temperature(attack: Attack) -> None:
    count = 400
    many = Attack(
        attack.recognizer,
        attack.prior,
        attack.calibration,
        attack.target[:1].expand(count, -1),
        torch.ones(count, dtype=torch.int64),
        [generator_for(3, 0, variation) for variation in range(count)],
    )
    center, spread = conditional(many, temperature=0.5)
    standard = (center - attack.calibration.coefficients.predict(attack.target[:1])) / spread
    assert float(standard.mean().abs()) < 0.02
    assert float(standard.std()) == pytest.approx(0.5, abs=0.02)


def test_fast_starts_at_the_expected_face(attack: Attack) -> None:
    recipe = PRESETS["fast"](attack, 1)
    assert isinstance(recipe.parameterization, FaceBasis)
    expected = attack.prior.render(attack.calibration.coefficients.predict(attack.target))
    image = recipe.parameterization().detach()
    torch.testing.assert_close(image[:2], expected[:2])
    assert float((image[2] - expected[2]).abs().mean()) > 0.005


def test_the_maps_of_a_calibration_reach_the_size_of_their_layers(attack: Attack) -> None:
    term = location_match(attack.recognizer, attack.calibration)
    assert set(term.taps) == set(attack.calibration.statistics.location_mean)
    trace = attack.recognizer.trace(attack.prior.decode(attack.prior.coefficients(slice(0, 4))), taps=term.taps)
    for layer in term.taps:
        assert term.mean[layer].shape == term.var[layer].shape == trace.activations[layer].shape[1:]
    usual = float(term(trace).mean())
    noise = torch.rand(4, 3, 112, 112, generator=torch.Generator().manual_seed(0))
    assert float(term(attack.recognizer.trace(noise, taps=term.taps)).mean()) > 3 * usual


def test_halfway_is_between_the_target_and_what_the_basis_can_draw(attack: Attack) -> None:
    size = attack.target.shape[1]
    swapped = torch.eye(size).roll(1, 0)
    projection = replace(attack.calibration.projected, weight=swapped, bias=torch.zeros(size))
    taught = replace(attack.calibration, projected=projection)
    moved = replace(attack, calibration=taught)
    torch.testing.assert_close(halfway(moved, 0.0), attack.target)
    torch.testing.assert_close(halfway(moved, 1.0), attack.target @ swapped)
    between = halfway(moved, 0.6)
    torch.testing.assert_close(between.norm(dim=1), torch.ones(3))
    projected = taught.projected.predict(attack.target)
    assert bool(((between * attack.target).sum(1) > (attack.target * projected).sum(1)).all())
