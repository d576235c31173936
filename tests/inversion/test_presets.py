"""Presets: their constants, the recipes they make, and that the cost of these falls."""

from dataclasses import FrozenInstanceError, fields, replace

import pytest
import torch
from torch import Tensor

from arcinvert.calibration.age import AGES, default_age
from arcinvert.errors import UsageError
from arcinvert.inversion.invert import Recipe, invert, to_bytes
from arcinvert.inversion.objectives import CosineMatch, MapMatch
from arcinvert.inversion.parameterization import FaceLatent, Pixels
from arcinvert.inversion.presets import (
    PRESETS,
    Attack,
    FacePreset,
    PaperPreset,
    PixelsPreset,
    conditional,
    constants_of,
    location_match,
    preset_of,
)
from arcinvert.inversion.reconstruct import generator_for
from arcinvert.inverter import Inverter


@pytest.fixture
def attack(tiny_inverter: Inverter) -> Attack:
    """Two targets, three images: the first image of each, and a variation of the second."""
    prior = tiny_inverter.prior
    target = tiny_inverter.recognizer.embed(prior.render(prior.latents(range(40, 42))).clamp(0, 1))[[0, 1, 1]]
    generators = [generator_for(0, 0, 0), generator_for(0, 1, 0), generator_for(0, 1, 1)]
    return tiny_inverter.attack(target, torch.tensor([0, 0, 1]), generators)


def cost(attack: Attack, recipe: Recipe) -> Tensor:
    """(B,) the weighted cost of the recipe's image, by its first view."""
    parameterization = recipe.parameterization
    return recipe.views[0].costs(parameterization(), parameterization.latent(), attack.generators, 0)[0].detach()


# --- names and constants


def test_presets_by_name_with_their_steps() -> None:
    assert {name: preset.steps for name, preset in PRESETS.items()} == {
        "fast": 45,
        "best": 85,
        "pixels": 60,
        "paper": 20_000,
    }
    for name, preset in PRESETS.items():
        assert preset_of(name) is preset
        assert preset_of(name, 7) == replace(preset, steps=7)  # type: ignore[type-var]
    for name in ("", "Fast", "slow"):
        with pytest.raises(UsageError, match="fast, best, pixels, paper"):
            preset_of(name)


@pytest.mark.parametrize("name", PRESETS)
def test_every_constant_has_a_reason_and_none_can_be_changed(name: str) -> None:
    preset = PRESETS[name]
    constants = constants_of(preset)
    assert {*constants} == {part.name for part in fields(preset)} - {"summary"}  # type: ignore[arg-type]
    for constant, entry in constants.items():
        assert entry["value"] == getattr(preset, constant)
        assert len(entry["reason"]) > 5
    with pytest.raises(FrozenInstanceError):
        preset.steps = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "changes", "terms"),
    [
        ("fast", {"batchnorm_weight": 0.0}, {"match", "maps", "prior"}),
        ("fast", {"maps_weight": 0.0, "prior_weight": 0.0}, {"match", "batchnorm"}),
        ("pixels", {"location_weight": 0.0, "maps_weight": 0.0}, {"match", "batchnorm"}),
        ("paper", {"tv_weight": 0.0, "l2_weight": 0.0}, {"match", "batchnorm"}),
    ],
)
def test_a_weight_of_0_leaves_a_term_out(attack: Attack, name: str, changes: dict[str, float], terms: set[str]) -> None:
    changed = replace(PRESETS[name], **changes)  # type: ignore[type-var]
    assert {*changed.recipe(attack).views[0].terms} == terms


def test_a_replaced_constant_reaches_the_recipe(attack: Attack) -> None:
    changed = FacePreset(maps_weight=0.7, lr=0.2, auxiliary_every=3, auxiliary_match_weight=0.4, noise=0)
    recipe = changed.recipe(attack)
    attacked, auxiliary = recipe.views
    assert (recipe.lr, attacked.terms["maps"][0], auxiliary.terms["match"][0], auxiliary.every) == (0.2, 0.7, 0.4, 3)
    assert isinstance(recipe.parameterization, FaceLatent)
    assert len(FacePreset(auxiliary_every=0, noise=0).recipe(attack).views) == 1
    assert PRESETS["best"] == replace(
        FacePreset(), steps=85, refine_steps=40, summary=PRESETS["best"].summary
    )  # else as fast


# --- recipes


def test_age_is_asked_of_variations_alone_and_by_the_auxiliary_network_alone(attack: Attack) -> None:
    plain, aged = (FacePreset().recipe(replace(attack, vary=vary)) for vary in ((), ("age",)))
    told = default_age().years(attack.calibration.auxiliary.predict(attack.target))
    wanted = aged.asked["age"]
    assert wanted.isnan().tolist() == [True, True, False]
    assert 10 <= float(wanted[2] - told[2]) <= 20 or float(wanted[2]) == AGES[1]
    assert "age" not in plain.asked
    for recipe, there in ((plain, False), (aged, True)):
        assert [view.name for view in recipe.views if "age" in view.terms] == (["auxiliary"] if there else [])
    before, after = (recipe.views[-1].terms["match"][1] for recipe in (plain, aged))
    assert isinstance(before, CosineMatch)
    assert isinstance(after, CosineMatch)
    torch.testing.assert_close(after.target[:2], before.target[:2])
    assert float(default_age().years(after.target)[2]) > float(told[2]) + 5
    share = aged.views[0].terms["maps"][1]
    assert isinstance(share, MapMatch)
    assert share.share is not None
    assert share.share.tolist() == [1, 1, FacePreset().varied_maps_share]
    alone = FacePreset(auxiliary_every=0).recipe(replace(attack, vary=("age",)))
    assert "age" not in alone.asked


@pytest.mark.parametrize("noise_cosine", [0.5, 0.97, 0.98, 1.0])
def test_noise_is_for_networks_that_it_moves(attack: Attack, noise_cosine: float) -> None:
    attack = replace(attack, calibration=replace(attack.calibration, noise_cosine=noise_cosine))
    recipe = FacePreset(noise=0.2, noisy_every=3).recipe(attack)
    attacked, *others = recipe.views
    noisy = [view for view in others if view.noise]
    assert attacked.noise == 0
    assert len(noisy) == (noise_cosine <= 0.97)
    for view in noisy:
        assert (view.noise, view.every, view.recognizer) == (0.2, 3, attack.recognizer)
        assert (view.terms, view.transform, view.tracer) == (attacked.terms, attacked.transform, attacked.tracer)
    found = [recipe.view(step).name for step in range(8)]
    assert found == (
        ["", "noisy", "auxiliary", "", "noisy", "", "", "auxiliary"]
        if noisy
        else ["", "", "auxiliary", "", "", "", "", "auxiliary"]
    )


@pytest.mark.parametrize("name", PRESETS)
def test_the_cost_falls_in_five_adam_steps(attack: Attack, name: str) -> None:
    recipe = preset_of(name, 5).recipe(attack)
    first, *others = recipe.views
    others = [view for view in others if not view.noise]
    recipe = replace(recipe, views=(replace(first, transform=None), *others))  # what falls is the cost of one image
    before = cost(attack, recipe)
    found = invert(recipe, target=attack.target, generators=attack.generators)
    assert bool((cost(attack, recipe) < before).all())
    assert not found.diverged.any()
    names = {view.term_name(term) for view in recipe.views for term in view.terms}
    assert set(found.history) == {*names, "cosine"}
    assert ("auxiliary.match" in names) is isinstance(PRESETS[name], FacePreset | PixelsPreset)
    assert found.history["match"].shape == (5, 3)


@pytest.mark.parametrize("name", ["fast", "pixels"])
def test_the_reconstruction_comes_nearer_to_the_target(attack: Attack, name: str) -> None:
    attack = replace(attack, vary=())  # with no pose to hold, which so small a prior has no other faces for
    recipe = preset_of(name, 25).recipe(attack)
    start = recipe.parameterization().detach().clamp(0, 1)
    before = (attack.recognizer.embed(start) * attack.target).sum(1)
    found = invert(recipe, target=attack.target, generators=attack.generators)
    assert bool((found.cosine > before).all())


def test_paper_starts_at_noise_with_a_constant_rate(attack: Attack) -> None:
    recipe = PaperPreset().recipe(attack)
    assert isinstance(recipe.parameterization, Pixels)
    image = recipe.parameterization.normalized.detach()
    assert float(image.mean()) == pytest.approx(0, abs=0.02)
    assert float(image.std()) == pytest.approx(1, abs=0.02)
    neighbors = torch.corrcoef(torch.stack([image[0, :, :, 1:].flatten(), image[0, :, :, :-1].flatten()]))[0, 1]
    assert abs(float(neighbors)) < 0.03
    assert not torch.equal(image[0], image[1])
    assert (recipe.lr, recipe.decay, recipe.views[0].transform) == (0.25, False, None)


def test_pixels_start_at_the_predicted_face(attack: Attack) -> None:
    predicted = attack.prior.render(attack.calibration.latents.predict(attack.target)).clamp(0.01, 0.99)
    image = PixelsPreset().recipe(attack).parameterization().detach()
    torch.testing.assert_close(image, predicted, atol=1e-4, rtol=1e-4)


def test_fast_starts_at_the_predicted_face(attack: Attack) -> None:
    predicted = attack.calibration.latents.predict(attack.target)
    expected = attack.prior.render(predicted, rough=True)
    image = FacePreset().recipe(attack).parameterization().detach()
    torch.testing.assert_close(image[:2], expected[:2])
    assert float((image[2] - expected[2]).abs().mean()) > 0.005


# --- the parts of a recipe


def test_variation_0_is_the_prediction_itself(attack: Attack) -> None:
    center, spread = conditional(attack, temperature=0.6)
    latents = attack.calibration.latents
    predicted = latents.predict(attack.target)
    assert torch.equal(center[:2], predicted[:2])
    assert torch.equal(spread, latents.residual)
    assert not torch.allclose(center[2], predicted[2], atol=0.05)


def test_variations_spread_around_the_prediction_by_their_temperature(attack: Attack) -> None:
    count = 400
    generators = [generator_for(3, 0, variation) for variation in range(count)]
    ones = torch.ones(count, dtype=torch.int64)
    many = replace(attack, target=attack.target[:1].expand(count, -1), variation=ones, generators=generators)
    predicted = attack.calibration.latents.predict(attack.target[:1])
    for vary, late in ((("pose",), 0.5), (("color",), 1.0)):
        center, spread = conditional(replace(many, vary=vary), temperature=0.5)
        standard = (center - predicted) / spread
        assert float(standard.mean().abs()) < 0.02
        others = standard[:, : attack.prior.late.start]
        assert float(others.std()) == pytest.approx(0.5, abs=0.02)
        assert float(standard[:, attack.prior.late].std()) == pytest.approx(late, abs=0.04)


def test_the_maps_of_a_calibration_are_enlarged_to_the_size_of_their_layers(attack: Attack) -> None:
    recognizer, calibration, prior = attack.recognizer, attack.calibration, attack.prior
    term = location_match(recognizer, calibration)
    assert set(term.taps) == set(calibration.statistics.location_mean)
    trace = recognizer.trace(prior.render(prior.latents(range(4))), taps=term.taps)
    for layer in term.taps:
        assert term.mean[layer].shape == term.var[layer].shape == trace.activations[layer].shape[1:]
    noise = torch.rand(4, 3, 112, 112, generator=torch.Generator().manual_seed(0))
    assert float(term(recognizer.trace(noise, taps=term.taps)).mean()) > 3 * float(term(trace).mean())


@pytest.mark.parametrize(("steps", "refined"), [(None, 40), (50, 40), (6, 6)])
def test_best_ends_with_steps_through_the_generator(attack: Attack, steps: int | None, refined: int) -> None:
    recipe = preset_of("best", steps).recipe(attack)
    assert (recipe.steps, recipe.refine_steps) == (steps or 85, refined)
    assert preset_of("fast", steps).recipe(attack).refine_steps == 0


def test_best_draws_its_picture_with_the_generator() -> None:
    inverter = Inverter.load(device="cpu")
    row = [70]
    prior = inverter.prior
    target = inverter.recognizer.embed(prior.pictures(row).permute(0, 3, 1, 2) / 255)
    attack = inverter.attack(target, torch.tensor([0]), [generator_for(0, 0, 0)])
    recipe = preset_of("best", 4).recipe(attack)
    found = invert(recipe, target=target, generators=attack.generators)
    assert isinstance(recipe.parameterization, FaceLatent)
    latents, offsets = recipe.parameterization.latents(), recipe.parameterization.offsets()
    assert offsets is not None
    with torch.no_grad():
        assert float(offsets.abs().max()) > 0
        assert torch.equal(found.pictures, to_bytes(prior.refined(latents, 224, offsets)))
        assert not torch.equal(found.pictures, to_bytes(prior.render(latents, 224)))
    assert float(found.history["cosine"][-1]) > float(found.history["cosine"][0])
