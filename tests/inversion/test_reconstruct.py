"""From embeddings to images: settings, batches, seeds, retries, memory, records."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from arcinvert.errors import UsageError
from arcinvert.inversion import reconstruct
from arcinvert.inversion.controls import LIGHTS
from arcinvert.inversion.invert import Inversion
from arcinvert.inversion.objectives import CosineMatch
from arcinvert.inversion.reconstruct import (
    FRAMES,
    POINTS,
    PRECISIONS,
    SIZES,
    Job,
    Reconstruction,
    Settings,
    batches_of,
    generator_for,
    margin_objective,
    sized,
)
from arcinvert.inverter import Inverter
from arcinvert.recognizer import Trace

QUICK = Settings(steps=4, batch_size=4)


def run(
    inverter: Inverter, targets: Tensor, settings: Settings = QUICK, *, batches: Any = None, **options: Any
) -> list[Reconstruction]:
    parts = inverter.reconstruct_batches(targets, settings, batches=batches, **options)
    return [found for part in parts for found in part]


def difference(one: Reconstruction, other: Reconstruction) -> int:
    """The largest difference of a pixel, of 255."""
    return int((one.pixels.int() - other.pixels.int()).abs().max())


def count_inversions(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of images of every inversion from now on."""
    sizes: list[int] = []
    real = reconstruct.invert
    monkeypatch.setattr(
        reconstruct, "invert", lambda *a, target, **k: (sizes.append(len(target)), real(*a, target=target, **k))[1]
    )
    return sizes


# --- settings


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"variations": 0}, "variations of at least 1, got 0"),
        ({"batch_size": 0}, "batch_size of at least 1, got 0"),
        ({"steps": -1}, "steps of at least 1, got -1"),
        ({"seed": -1}, "seed of at least 0, got -1"),
        ({"retries": -1}, "retries of at least 0, got -1"),
        ({"preset": "slow"}, "got 'slow'"),
        ({"precision": "half"}, "got 'half'"),
        ({"min_cosine": 1.01}, "got 1.01"),
        ({"min_cosine": float("nan")}, "got nan"),
        ({"pose": "sideways"}, "got 'sideways'"),
        ({"size": 225}, "got 225"),
        ({"vary": ("pose", "hair")}, "got 'hair'"),
        ({"preset": "paper", "pose": "left"}, "fast, best .*not 'paper'"),
        ({"preset": "pixels", "expression": "smile"}, "fast, best .*not 'pixels'"),
        ({"preset": "pixels", "light": "left"}, "fast, best .*not 'pixels'"),
        ({"preset": "pixels", "vary": ("age",)}, "fast, best vary .*not 'pixels'"),
    ],
    ids=str,
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        Settings(**settings)


# --- objectives


def test_an_objective_takes_the_place_of_the_embedding(tiny_inverter: Inverter, targets: Tensor) -> None:
    called: list[list[int]] = []

    def objective(rows: Sequence[int]) -> CosineMatch:
        called.append(list(rows))
        return CosineMatch(targets[[2 - row for row in rows]])

    settings = replace(QUICK, steps=25, batch_size=2)
    swapped, plain = run(tiny_inverter, targets, settings, objective=objective), run(tiny_inverter, targets, settings)
    assert called == [[0, 1], [2]]
    towards = tiny_inverter.recognizer.embed(torch.stack([swapped[0].pixels, plain[0].pixels])) @ targets[2]
    assert towards[0] > towards[1] + 0.05


def test_a_preset_without_controls_takes_no_objective(tiny_inverter: Inverter, targets: Tensor) -> None:
    with pytest.raises(UsageError, match=r"fast, best .*not 'pixels'"):
        run(tiny_inverter, targets, replace(QUICK, preset="pixels"), objective=lambda rows: CosineMatch(targets))


def test_the_margin_objective_labels_each_target_with_its_class(targets: Tensor) -> None:
    term = margin_objective(targets, [2, 0])([1, 0, 1])
    right, wrong = (term(Trace(torch.zeros(3, 3, 8, 8), targets[rows])) for rows in ([0, 2, 0], [2, 1, 1]))
    assert bool((right < wrong).all())


# --- precision


@pytest.mark.slow
def test_lower_precision_reaches_the_same_cosine() -> None:
    """With the default checkpoint: the tiny one, of random weights, takes another path for the smallest change."""
    inverter = Inverter.load(device="cpu")
    prior = inverter.prior
    targets = inverter.recognizer.embed(prior.render(prior.latents(range(30, 32))).clamp(0, 1))
    found = {name: run(inverter, targets, replace(QUICK, steps=10, precision=name)) for name in PRECISIONS}
    for precision in ("bf16", "fp16"):
        for full, low in zip(found["float32"], found[precision], strict=True):
            assert low.cosine == pytest.approx(full.cosine, abs=0.01)
            assert 0 < float((low.pixels.float() - full.pixels.float()).abs().mean()) < 12  # 7 at most on a CPU


# --- sizes and what is asked


def reduced_by_hand(picture: Tensor) -> Tensor:
    """(S, S, 3) -> (112, 112, 3): the mean of the pixels in each place."""
    return picture.float().unflatten(0, (112, -1)).unflatten(2, (112, -1)).mean((1, 3))


def test_the_picture_is_what_the_recognizer_sees_at_the_size_that_is_asked(
    tiny_inverter: Inverter, targets: Tensor
) -> None:
    small, usual, large = (run(tiny_inverter, targets[:1], replace(QUICK, size=size))[0] for size in SIZES)
    assert [found.picture.shape for found in (small, usual, large)] == [(size, size, 3) for size in SIZES]
    assert torch.equal(small.picture, usual.pixels)
    assert torch.equal(small.pixels, usual.pixels)
    assert float((reduced_by_hand(usual.picture) - usual.pixels.float()).abs().max()) <= 0.5 + 1e-3
    assert torch.equal(large.picture, sized(usual.pixels, usual.picture, 448))  # without a generator: resampled
    (plain,) = run(tiny_inverter, targets[:1], replace(QUICK, preset="pixels", size=112))
    assert torch.equal(plain.picture, plain.pixels)


def test_best_draws_pictures_of_448_pixels() -> None:
    inverter = Inverter.load(device="cpu")
    prior = inverter.prior
    targets = inverter.recognizer.embed(prior.pictures([30]).permute(0, 3, 1, 2) / 255)
    (found,) = run(inverter, targets, replace(QUICK, steps=2, preset="best", size=448))
    assert found.picture.shape == (448, 448, 3)
    assert float((reduced_by_hand(found.picture) - found.pixels.float()).abs().max()) <= 0.5 + 1e-3
    half = found.picture[::2, ::2]
    blown_up = half.repeat_interleave(2, 0).repeat_interleave(2, 1)
    assert float((blown_up.float() - found.picture.float()).abs().mean()) > 1  # detail that 224 pixels do not have


def test_a_reconstruction_says_what_was_asked_of_it(tiny_inverter: Inverter, targets: Tensor) -> None:
    settings = replace(QUICK, steps=1, variations=2, light="left", vary=("expression",))
    first, second = run(tiny_inverter, targets[:1], settings)
    assert first.asked == {"light": pytest.approx(LIGHTS["left"])}
    assert set(second.asked) == {"light", "smile"}
    first, second = run(tiny_inverter, targets[:1], replace(settings, vary=("age",)))
    assert set(first.asked) == {"light"}
    assert set(second.asked) == {"light", "age"}
    assert all(not one.asked for one in run(tiny_inverter, targets[:1], replace(settings, light=None, vary=())))


# --- batches, seeds and neighbors


def test_batches_are_all_images_in_order() -> None:
    settings = Settings(variations=2, batch_size=3)
    assert batches_of(3, settings) == [[(0, 0), (0, 1), (1, 0)], [(1, 1), (2, 0), (2, 1)]]


@pytest.mark.parametrize("preset", ["fast", "pixels"])
def test_an_image_does_not_depend_on_its_neighbors(tiny_inverter: Inverter, targets: Tensor, preset: str) -> None:
    single, pairs, together = (
        run(tiny_inverter, targets, replace(QUICK, preset=preset, batch_size=size)) for size in (1, 2, 8)
    )
    for one, *others in zip(single, pairs, together, strict=True):
        assert max(difference(one, other) for other in others) <= 2


def test_more_variations_leave_the_first_as_it_was(tiny_inverter: Inverter, targets: Tensor) -> None:
    """To the rounding; in batches of one, to the last bit."""
    (one,), (first, *_) = (run(tiny_inverter, targets[:1], replace(QUICK, variations=count)) for count in (1, 4))
    assert difference(one, first) <= 2
    single = replace(QUICK, batch_size=1)
    (one,), (first, *_) = (run(tiny_inverter, targets[:1], replace(single, variations=count)) for count in (1, 4))
    assert torch.equal(one.pixels, first.pixels)


def test_a_generator_is_that_of_its_image_and_attempt_alone() -> None:
    def first(*key: int) -> float:
        return float(torch.rand(1, generator=generator_for(*key)))

    assert first(0, 1, 2) == first(0, 1, 2) == first(0, 1, 2, 0)
    keys = list(itertools.product(range(4), repeat=4))
    assert len({first(*key) for key in keys}) == len(keys)


def test_single_batches_are_those_of_the_whole(tiny_inverter: Inverter, targets: Tensor) -> None:
    settings = replace(QUICK, batch_size=1)
    (third,) = run(tiny_inverter, targets, settings, batches=[[(2, 0)]])
    assert (third.target, third.variation) == (2, 0)
    assert torch.equal(third.pixels, run(tiny_inverter, targets, settings)[2].pixels)


def test_progress_and_steps_run_over_all_batches(tiny_inverter: Inverter, targets: Tensor) -> None:
    done: list[tuple[int, int]] = []
    steps: list[tuple[Sequence[Job], int, tuple[int, ...]]] = []
    run(
        tiny_inverter,
        targets,
        replace(QUICK, batch_size=2),
        progress=lambda step, total, text: done.append((step, total)),
        on_step=lambda jobs, step, images: steps.append((jobs, step, tuple(images.shape))),
    )
    assert done == [(step, 8) for step in range(1, 9)]
    first = [([(0, 0), (1, 0)], step, (2, 3, 112, 112)) for step in range(4)]
    assert steps == [*first, *(([(2, 0)], step, (1, 3, 112, 112)) for step in range(4))]


# --- memory


def limit_memory(monkeypatch: pytest.MonkeyPatch, largest: int) -> None:
    real = reconstruct.invert

    def limited(recipe: Any, *, target: Tensor, **options: Any) -> Inversion:
        if len(target) > largest:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")
        return real(recipe, target=target, **options)

    monkeypatch.setattr(reconstruct, "invert", limited)


def test_out_of_memory_halves_the_batch_and_gives_the_same_images(
    tiny_inverter: Inverter, targets: Tensor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    together = run(tiny_inverter, targets)
    limit_memory(monkeypatch, 1)
    done: list[tuple[int, int]] = []
    apart = run(tiny_inverter, targets, progress=lambda step, total, text: done.append((step, total)))
    assert caplog.messages == ["out of memory with 3 images at once, continuing with 1"]
    assert [found.target for found in apart] == [0, 1, 2]
    assert max(difference(*pair) for pair in zip(together, apart, strict=True)) <= 2
    assert done == sorted(done)
    assert done[-1] == (4, 4)
    limit_memory(monkeypatch, 0)
    with pytest.raises(MemoryError):
        run(tiny_inverter, targets)


# --- retries


def test_an_image_below_the_least_cosine_is_regenerated_and_the_best_is_kept(
    tiny_inverter: Inverter, targets: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = reconstruct.invert
    # Cosines and divergence of each attempt, of the images that take part: the first target is above 0.8 at once, the
    # second after a retry, the third never; its second attempt is the best, and the last one diverges.
    results = [([0.9, 0.2, 0.1], [0, 0, 0]), ([0.8, 0.3], [0, 0]), ([0.95], [1])]
    attempts: list[tuple[Inversion, list[int]]] = []

    def fake(*args: Any, generators: Sequence[torch.Generator], **options: Any) -> Inversion:
        found = real(*args, generators=generators, **options)
        cosine, diverged = results[len(attempts)]
        attempts.append((found, [generator.initial_seed() for generator in generators]))
        return replace(found, cosine=torch.tensor(cosine), diverged=torch.tensor(diverged, dtype=torch.bool))

    monkeypatch.setattr(reconstruct, "invert", fake)
    found = run(tiny_inverter, targets, replace(QUICK, min_cosine=0.8, retries=2))
    assert [one.attempts for one in found] == [1, 2, 3]
    assert [one.cosine for one in found] == pytest.approx([0.9, 0.8, 0.3])
    assert not any(one.diverged for one in found)
    assert [one.below(0.8) for one in found] == [False, False, True]
    for one, (attempt, row) in zip(found, ((0, 0), (1, 0), (1, 1)), strict=True):
        assert torch.equal(one.pixels, attempts[attempt][0].images[row])
    assert found[2].seconds > found[0].seconds
    for number, rows in enumerate(([0, 1, 2], [1, 2], [2])):
        expected = [generator_for(0, target, 0, number).initial_seed() for target in rows]
        assert attempts[number][1] == expected


@pytest.mark.parametrize(
    ("settings", "attempts"), [({}, 1), ({"min_cosine": 1.0}, 3), ({"min_cosine": 1.0, "retries": 0}, 1)]
)
def test_retries_bound_the_attempts(
    tiny_inverter: Inverter,
    targets: Tensor,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, Any],
    attempts: int,
) -> None:
    sizes = count_inversions(monkeypatch)
    (found,) = run(tiny_inverter, targets[:1], replace(QUICK, steps=1, **settings))
    assert (sizes, found.attempts) == ([1] * attempts, attempts)


# --- records


def test_the_path_of_each_first_image_is_recorded(tiny_inverter: Inverter, targets: Tensor) -> None:
    settings = replace(QUICK, variations=2, record=True)
    found = run(tiny_inverter, targets[:2], settings)
    plain = run(tiny_inverter, targets[:2], replace(settings, record=False))
    assert [len(one.frames) for one in found] == [4, 0, 4, 0]
    terms = {"match", "maps", "batchnorm", "prior"}
    names = {"step", "cosine", *terms, *(f"auxiliary.{name}" for name in terms - {"batchnorm"})}
    names |= {f"noisy.{name}" for name in terms}
    for one, other in zip(found, plain, strict=True):
        assert torch.equal(one.pixels, other.pixels)  # a record changes nothing
        assert other.frames == ()
        assert set(one.history) == set(other.history) == names
        assert one.history["step"] == [0, 1, 2, 3]
    assert not torch.equal(found[0].frames[0], found[2].frames[0])
    differences = [float((frame.int() - found[0].pixels.int()).abs().float().mean()) for frame in found[0].frames]
    assert differences[0] > differences[-1] > 0


def fake_inversion(steps: int) -> Callable[..., Inversion]:
    """An ``invert`` of two images that needs no network; the first one becomes lighter in each step."""

    def fake(recipe: Any, *, target: Tensor, on_step: Callable[[int, Tensor], None], **options: Any) -> Inversion:
        for step in range(steps):
            on_step(step, torch.stack([torch.full((3, 2, 2), step / steps), torch.full((3, 2, 2), 2.0)]))
        along = (torch.arange(steps) / steps)[:, None].expand(-1, 2)
        history = {"cosine": along, "match": torch.where(along == 0, torch.nan, 1e-8 / along)}
        images = torch.zeros(2, 2, 2, 3, dtype=torch.uint8)
        return Inversion(images, images, torch.zeros(2), torch.zeros(2) > 0, history)

    return fake


@pytest.mark.parametrize("steps", [1, 39, 40, 100, 20_000])
def test_a_record_is_short_and_keeps_its_ends(
    tiny_inverter: Inverter, targets: Tensor, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    monkeypatch.setattr(reconstruct, "invert", fake_inversion(steps))
    settings = Settings(variations=2, steps=steps, record=True)
    first, second = run(tiny_inverter, targets[:1], settings)
    frames = [int(frame[0, 0, 0]) for frame in first.frames]
    assert second.frames == ()
    assert first.frames[0].shape == (2, 2, 3)
    assert min(steps, FRAMES // 2) <= len(frames) <= FRAMES - 1
    every = -(-steps // (FRAMES - 1))
    assert frames == [round(255 * step / steps) for step in range(0, steps, every)]
    chosen = first.history["step"]
    assert min(steps, POINTS // 2) <= len(chosen) <= POINTS + 1
    assert (chosen[0], chosen[-1]) == (0, steps - 1)
    assert first.history["cosine"] == [float(f"{step / steps:.5g}") for step in chosen if step is not None]
    assert first.history["match"][0] is None  # not finite
    assert first.history["match"][1:] == pytest.approx([1e-8 * steps / step for step in chosen[1:] if step], rel=1e-4)
