"""What a preset costs."""

import time
from dataclasses import replace
from typing import Any

import pytest

from arcinvert.calibration.calibration import Calibration
from arcinvert.faceprior.prior import FacePrior
from arcinvert.inversion.presets import PRESETS, Attack
from arcinvert.recognizer import Recognizer
from arcinvert.synthesis import cost
from arcinvert.synthesis.cost import Cost, cost_of


@pytest.mark.parametrize("name", ["fast", "paper"])
def test_steps_and_passes_are_those_of_the_recipe(
    tiny_recognizer: Recognizer, small_prior: FacePrior, tiny_calibration: Calibration, name: str
) -> None:
    steps = []

    def watched(attack: Attack, wanted: int | None) -> Any:
        recipe = PRESETS[name](attack, wanted)
        steps.append(recipe.steps)
        return recipe

    found = cost_of(tiny_recognizer, small_prior, tiny_calibration, watched)
    assert found == Cost(steps[0], 2 * steps[0] + 1, None)


def test_seconds_are_those_of_all_steps_for_one_face(
    tiny_recognizer: Recognizer,
    small_prior: FacePrior,
    tiny_calibration: Calibration,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A clock that a step moves by 8 seconds, and each run by 40 more."""
    now = [0.0]

    def fake(recognizer: Recognizer, recipe: Any, **kwargs: Any) -> None:
        now[0] += 40 + 8 * recipe.steps

    monkeypatch.setattr(cost, "invert", fake)
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    preset = lambda attack, steps: replace(PRESETS["fast"](attack, steps), steps=60 if steps is None else steps)  # noqa: E731
    found = cost_of(tiny_recognizer, small_prior, tiny_calibration, preset, batch_size=4, steps=3)
    assert found.seconds == pytest.approx((40 + 8 * 60) / 4)


def test_it_runs(tiny_recognizer: Recognizer, small_prior: FacePrior, tiny_calibration: Calibration) -> None:
    found = cost_of(tiny_recognizer, small_prior, tiny_calibration, PRESETS["fast"], batch_size=2, steps=1)
    assert found.seconds is not None
    assert found.seconds > 0
