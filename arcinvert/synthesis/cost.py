"""What a preset costs."""

import time
from dataclasses import dataclass

import torch

from arcinvert.calibration.calibration import Calibration
from arcinvert.faceprior.prior import FacePrior
from arcinvert.inversion.invert import invert
from arcinvert.inversion.presets import Attack, Preset
from arcinvert.recognizer import Recognizer
from arcinvert.synthesis.reconstruct import generator_for


@dataclass(frozen=True)
class Cost:
    """For one face.

    Attributes:
        steps: of the optimization.
        passes: through the network, forward and backward counted one each, and one forward for the result.
        seconds: extrapolated from a few steps; None if not measured.
    """

    steps: int
    passes: int
    seconds: float | None


def cost_of(
    recognizer: Recognizer,
    prior: FacePrior,
    calibration: Calibration,
    preset: Preset,
    *,
    batch_size: int = 4,
    steps: int | None = None,
) -> Cost:
    """The cost of a preset's own number of steps.

    Args:
        recognizer, prior, calibration: of the attack.
        preset: see :data:`arcinvert.inversion.presets.PRESETS`.
        batch_size: how many faces are optimized together while measuring, at most those of the prior.
        steps: how many are run to measure, beside one; None measures nothing.
    """
    faces = prior.decode(prior.coefficients(slice(0, batch_size)))
    target = recognizer.embed(faces.clamp(0, 1))
    attack = Attack(
        recognizer,
        prior,
        calibration,
        target,
        torch.zeros(batch_size, dtype=torch.int64, device=target.device),
        [generator_for(0, i, 0) for i in range(batch_size)],
    )
    own = preset(attack, None).steps

    def timed(count: int) -> float:
        started = time.perf_counter()
        invert(recognizer, preset(attack, count), target=target, generators=attack.generators)
        return (time.perf_counter() - started) / batch_size

    seconds = None
    if steps is not None:
        timed(1)  # the first run is slower
        one, more = timed(1), timed(steps + 1)
        seconds = one + (own - 1) * max(more - one, 0) / steps
    return Cost(own, 2 * own + 1, seconds)
