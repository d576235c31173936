"""From embeddings to pictures."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from arcinvert.synthesis.reconstruct import (
    PRECISIONS,
    SynthConfig,
    batches_of,
    generator_for,
    reconstruct,
    targets_tensor,
)
from torch import Tensor

from arcinvert.calibration.calibration import calibration_of
from arcinvert.errors import UsageError
from arcinvert.faceprior.prior import default_face_prior
from arcinvert.inversion.objectives import CosineMatch
from arcinvert.recognizer import Recognizer
from arcinvert.synthesis import reconstruct as synthesis

QUICK = SynthConfig(steps=4, batch_size=4, report=False)


# --- what is matched


def test_an_objective_takes_the_place_of_the_embedding(
    tiny_recognizer: Recognizer, targets: Tensor, known: Any
) -> None:
    asked: list[list[int]] = []

    def objective(rows: Sequence[int]) -> CosineMatch:
        asked.append(list(rows))
        return CosineMatch(targets[[2 - row for row in rows]])

    config = replace(QUICK, steps=25, batch_size=2)
    swapped = list(reconstruct(tiny_recognizer, targets, *known, config=config, objective=objective))
    plain = list(reconstruct(tiny_recognizer, targets, *known, config=config))
    assert asked == [[0, 1], [2]]
    towards = tiny_recognizer.embed(torch.stack([swapped[0].image, plain[0].image]).permute(0, 3, 1, 2)) @ targets[2]
    assert towards[0] > towards[1] + 0.05


def test_a_preset_that_takes_no_objective(tiny_recognizer: Recognizer, targets: Tensor, known: Any) -> None:
    config = replace(QUICK, preset="fourier")
    with pytest.raises(UsageError, match="fast, best"):
        list(reconstruct(tiny_recognizer, targets, *known, config=config, objective=lambda rows: CosineMatch(targets)))


# --- precision


@pytest.mark.slow
def test_lower_precision_reaches_the_same_likeness() -> None:
    """On the network that ships: the tiny one, of random weights, goes another way for the smallest change."""
    recognizer, prior = Recognizer.load(), default_face_prior()
    calibration = calibration_of(recognizer)
    assert calibration is not None
    targets = recognizer.embed(prior.render(prior.coefficients(slice(30, 32))).clamp(0, 1))
    config = replace(QUICK, steps=10)
    found = {
        precision: list(
            reconstruct(recognizer, targets, prior, calibration, config=replace(config, precision=precision))
        )
        for precision in PRECISIONS
    }
    for precision in ("bf16", "fp16"):
        for full, low in zip(found["float32"], found[precision], strict=True):
            assert low.cosine == pytest.approx(full.cosine, abs=0.01)
            assert 0 < float((low.image.float() - full.image.float()).abs().mean()) < 4


# --- seeds and neighbors


@pytest.mark.parametrize("preset", ["fast", "fourier"])
@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_a_target_does_not_depend_on_its_neighbors(
    tiny_recognizer: Recognizer, targets: Tensor, known: Any, preset: str, batch_size: int
) -> None:
    config = replace(QUICK, preset=preset, batch_size=batch_size)
    together = [found.image.int() for found in reconstruct(tiny_recognizer, targets, *known, config=config)]
    (alone,) = reconstruct(tiny_recognizer, targets[:1], *known, config=config)
    assert int((together[0] - alone.image.int()).abs().max()) <= 2
    if batch_size != 1:
        single = list(reconstruct(tiny_recognizer, targets, *known, config=replace(config, batch_size=1)))
        assert max(int((a - b.image.int()).abs().max()) for a, b in zip(together, single, strict=True)) <= 2


def test_more_variations_leave_the_first_as_it_was(tiny_recognizer: Recognizer, targets: Tensor, known: Any) -> None:
    one = list(reconstruct(tiny_recognizer, targets[:1], *known, config=QUICK))
    three = list(reconstruct(tiny_recognizer, targets[:1], *known, config=replace(QUICK, variations=3)))
    assert int((one[0].image.int() - three[0].image.int()).abs().max()) <= 2


def test_generators_are_one_per_image() -> None:
    def first(*key: int) -> float:
        return float(torch.rand(1, generator=generator_for(*key)))

    assert first(0, 1, 2) == first(0, 1, 2)
    assert first(0, 1, 2, 0) == first(0, 1, 2)
    numbers = range(4)
    keys = [
        (seed, target, v, attempt) for seed in numbers for target in numbers for v in numbers for attempt in numbers
    ]
    assert len({first(*key) for key in keys}) == len(keys)


def test_progress_runs_over_all_batches(tiny_recognizer: Recognizer, targets: Tensor, known: Any) -> None:
    told: list[tuple[int, int]] = []
    list(
        reconstruct(
            tiny_recognizer,
            targets,
            *known,
            config=replace(QUICK, batch_size=2),
            progress=lambda done, total, text: told.append((done, total)),
        )
    )
    assert told == [(step, 8) for step in range(1, 9)]


def test_batches_are_all_pictures_in_order() -> None:
    config = SynthConfig(variations=2, batch_size=3)
    assert batches_of(3, config) == [[(0, 0), (0, 1), (1, 0)], [(1, 1), (2, 0), (2, 1)]]


def test_single_batches_can_be_asked_for(tiny_recognizer: Recognizer, targets: Tensor, known: Any) -> None:
    config = replace(QUICK, batch_size=1)
    (third,) = reconstruct(tiny_recognizer, targets, *known, config=config, batches=[[(2, 0)]])
    everything = list(reconstruct(tiny_recognizer, targets, *known, config=config))
    assert (third.target, third.variation) == (2, 0)
    assert torch.equal(third.image, everything[2].image)


# --- memory


def with_room_for(monkeypatch: pytest.MonkeyPatch, largest: int) -> None:
    real = synthesis.invert

    def fake(recognizer: Recognizer, recipe: Any, *, target: Tensor, **kwargs: Any) -> Any:
        if len(target) > largest:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")
        return real(recognizer, recipe, target=target, **kwargs)

    monkeypatch.setattr(synthesis, "invert", fake)


def test_out_of_memory_halves_the_batch_and_gives_the_same_pictures(
    tiny_recognizer: Recognizer, targets: Tensor, known: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = list(reconstruct(tiny_recognizer, targets, *known, config=QUICK))
    with_room_for(monkeypatch, 1)
    said: list[str] = []
    told: list[tuple[int, int]] = []
    apart = list(
        reconstruct(
            tiny_recognizer,
            targets,
            *known,
            config=QUICK,
            say=said.append,
            progress=lambda done, total, text: told.append((done, total)),
        )
    )
    assert said == ["out of memory with 3 pictures at once; going on with 1"]
    assert [found.target for found in apart] == [0, 1, 2]
    assert max(int((a.image.int() - b.image.int()).abs().max()) for a, b in zip(together, apart, strict=True)) <= 2
    assert told == sorted(told)
    assert told[-1] == (4, 4)


def test_no_room_for_a_single_picture(
    tiny_recognizer: Recognizer, targets: Tensor, known: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_room_for(monkeypatch, 0)
    with pytest.raises(MemoryError):
        list(reconstruct(tiny_recognizer, targets, *known, config=QUICK))


# --- again


def test_what_is_below_the_floor_is_made_again_and_the_best_is_kept(
    tiny_recognizer: Recognizer, targets: Tensor, known: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = synthesis.invert
    # Attempt by attempt, of those that take part: the first target is fine at once, the second after
    # one more, the third never, and is best at its second attempt; there it even diverges at last.
    says = [([0.9, 0.2, 0.1], [0, 0, 0]), ([0.8, 0.3], [0, 0]), ([0.95], [1])]
    made: list[Any] = []

    def fake(*args: Any, generators: Any, **kwargs: Any) -> Any:
        found = real(*args, generators=generators, **kwargs)
        cosine, diverged = says[len(made)]
        made.append((found, [generator.initial_seed() for generator in generators]))
        return replace(found, cosine=torch.tensor(cosine), diverged=torch.tensor(diverged, dtype=torch.bool))

    monkeypatch.setattr(synthesis, "invert", fake)
    config = replace(QUICK, min_cosine=0.8, retries=2)
    found = list(reconstruct(tiny_recognizer, targets, *known, config=config))
    assert [row.attempts for row in found] == [1, 2, 3]
    assert [row.cosine for row in found] == pytest.approx([0.9, 0.8, 0.3])
    assert [row.diverged for row in found] == [False, False, False]
    assert [row.short_of(0.8) for row in found] == [False, False, True]
    assert torch.equal(found[0].image, made[0][0].images[0])
    assert torch.equal(found[1].image, made[1][0].images[0])
    assert torch.equal(found[2].image, made[1][0].images[1])
    assert found[2].seconds > found[0].seconds
    seeds = [
        [generator_for(0, target, 0, attempt).initial_seed() for target in rows]
        for attempt, rows in enumerate(([0, 1, 2], [1, 2], [2]))
    ]
    assert [drawn for _, drawn in made] == seeds


@pytest.mark.parametrize(
    ("settings", "calls"), [({}, 1), ({"min_cosine": 1.0}, 3), ({"min_cosine": 1.0, "retries": 0}, 1)]
)
def test_how_often_at_most(
    tiny_recognizer: Recognizer,
    targets: Tensor,
    known: Any,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, Any],
    calls: int,
) -> None:
    real, made = synthesis.invert, []
    monkeypatch.setattr(synthesis, "invert", lambda *a, **k: (made.append(1), real(*a, **k))[1])
    config = replace(QUICK, steps=1, **settings)
    (found,) = reconstruct(tiny_recognizer, targets[:1], *known, config=config)
    assert (len(made), found.attempts) == (calls, calls)


# --- recording


def test_the_path_of_each_first_picture_is_kept(tiny_recognizer: Recognizer, targets: Tensor, known: Any) -> None:
    config = replace(QUICK, variations=2, record=True)
    found = list(reconstruct(tiny_recognizer, targets[:2], *known, config=config))
    plain = list(reconstruct(tiny_recognizer, targets[:2], *known, config=replace(config, record=False)))
    assert [len(row.frames) for row in found] == [4, 0, 4, 0]
    for row, other in zip(found, plain, strict=True):
        assert torch.equal(row.image, other.image)  # being watched changes nothing
        assert row.history is not None
        assert set(row.history) == {"step", "match", "auxiliary", "expected", "batchnorm", "face", "cosine"}
        assert row.history["step"] == [0, 1, 2, 3]
        assert (other.history, other.frames) == (None, ())
    assert not torch.equal(found[0].frames[0], found[2].frames[0])
    differences = [float((frame.int() - found[0].image.int()).abs().float().mean()) for frame in found[0].frames]
    assert differences[0] > differences[-1] > 0


# --- refusals


@pytest.mark.parametrize(
    "settings",
    [
        {"variations": 0},
        {"batch_size": 0},
        {"steps": 0},
        {"steps": -1},
        {"seed": -1},
        {"preset": "slow"},
        {"precision": "half"},
        {"retries": -1},
        {"min_cosine": 1.01},
        {"min_cosine": float("nan")},
    ],
    ids=str,
)
def test_settings_that_do_not_fit(settings: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        SynthConfig(**settings)


def test_targets_are_copied() -> None:
    rows = np.ones((2, 4), np.float32)
    tensor = targets_tensor(rows[::-1])
    rows[:] = 0
    assert torch.equal(tensor, torch.ones(2, 4))
