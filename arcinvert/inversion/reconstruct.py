"""From embeddings to images: every target, batch by batch; images below a least cosine are regenerated.

A batch is fixed by the number of its images, not by what is still to do: a run that resumes after a
kill, or with more processes, computes the same batches and so the same images.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from arcinvert.errors import UsageError
from arcinvert.inversion.controls import CAN_VARY, VARIED, Controls
from arcinvert.inversion.invert import invert, to_bytes
from arcinvert.inversion.objectives import MarginMatch
from arcinvert.inversion.presets import PRESETS, Attack, preset_of
from arcinvert.inversion.terms import Term
from arcinvert.progress import Progress, silent

PRECISIONS = {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
SIZES = (112, 224, 448)
FRAMES, POINTS = 40, 200
"""Images of a recorded path, and points of a recorded history, at most."""

Job = tuple[int, int]
"""Target and variation: one image."""
Objective = Callable[[Sequence[int]], Term]
"""From the rows of some targets to the term that their images are to match."""
OnStep = Callable[[Sequence[Job], int, Tensor], None]
"""Called with (jobs of a batch, step, their images (B, 3, 112, 112), not clamped) before each step."""


@dataclass(frozen=True)
class Settings:
    """How many images, and how.

    Attributes:
        variations: images per target.
        preset: a name of :data:`~arcinvert.inversion.presets.PRESETS`.
        steps: None takes the preset's own.
        seed: of every draw; each image has a generator of its own, from (seed, target, variation). The same seed gives
            the same bytes on one machine if targets, ``variations`` and ``batch_size`` are the same too: other batches
            change the rounding, and so some pixels a little. With ``batch_size=1``, ``variations`` changes no byte.
        batch_size: images optimized together.
        min_cosine: an image whose cosine to the target is below this value is regenerated; None makes each once.
        retries: how often an image is regenerated at most; the best one is kept.
        record: whether the path of each target's first image is kept.
        pose, expression, light: see :meth:`~arcinvert.inversion.controls.Controls.parse`; None leaves them free.
        vary: what a target's variations differ in, some of :data:`~arcinvert.inversion.controls.CAN_VARY`; with nothing
            they are alike, and differ in what the embedding leaves open.
        size: width and height of the pictures, out of :data:`SIZES`. ``fast`` and ``best`` draw
            224 or 448 pixels, the other presets 112; other sizes are resampled.
        precision: a name of :data:`PRECISIONS`; the lower ones are for GPUs.
        compile: run the network under torch.compile: half a minute to start, for many targets on a GPU.

    Raises:
        UsageError: a value out of its range.
    """

    variations: int = 1
    preset: str = "fast"
    steps: int | None = None
    seed: int = 0
    batch_size: int = 8
    min_cosine: float | None = None
    retries: int = 2
    record: bool = False
    pose: str | None = None
    expression: str | None = None
    light: str | None = None
    vary: tuple[str, ...] = VARIED
    size: int = 224
    precision: str = "float32"
    compile: bool = False

    def __post_init__(self) -> None:
        for name, least in {"variations": 1, "steps": 1, "batch_size": 1, "seed": 0, "retries": 0}.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise UsageError(f"expected {name} of at least {least}, got {value}")
        if self.min_cosine is not None and not -1 <= self.min_cosine <= 1:
            raise UsageError(f"expected a least cosine in -1 to 1, got {self.min_cosine}")
        if self.precision not in PRECISIONS:
            raise UsageError(f"expected a precision out of {', '.join(PRECISIONS)}, got {self.precision!r}")
        if self.size not in SIZES:
            raise UsageError(f"expected a size out of {', '.join(map(str, SIZES))}, got {self.size}")
        if unknown := [name for name in self.vary if name not in CAN_VARY]:
            raise UsageError(f"expected what varies out of {', '.join(CAN_VARY)}, got {', '.join(unknown)!r}")
        controlled = preset_of(self.preset).controlled  # also that there is such a preset
        if self.controls != Controls() and not controlled:
            raise UsageError(f"only {with_controls()} keep a pose, an expression or a light, not {self.preset!r}")
        if self.vary not in (VARIED, ()) and not controlled:
            raise UsageError(f"only {with_controls()} vary what they are asked to, not {self.preset!r}")

    @property
    def controls(self) -> Controls:
        """Pose, expression and light."""
        return Controls.parse(self.pose, self.expression, self.light)


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """One image of one target.

    Attributes:
        target, variation: which image it is.
        pixels: (112, 112, 3) uint8 RGB, what a recognizer sees.
        picture: (S, S, 3) uint8 RGB, the same of the size that the settings ask for.
        cosine: of the 8-bit image to the target, by the attacked network.
        steps: of one attempt.
        seconds: of all attempts, an equal share of the batch's time.
        diverged: no finite step was found.
        attempts: how often it was generated.
        asked: :data:`~arcinvert.faceprior.prior.ATTRIBUTES`, and ``age`` in years, that it was to have, without those
            that were free.
        history: ``step``, and the value of every term and of the cosine along them; see
            :attr:`~arcinvert.inversion.invert.Inversion.history`. At most :data:`POINTS` points; None if not finite.
        frames: images of the path, without the result; empty if not recorded.
    """

    target: int
    variation: int
    pixels: Tensor
    picture: Tensor
    cosine: float
    steps: int
    seconds: float
    diverged: bool
    attempts: int = 1
    asked: dict[str, float] = field(default_factory=dict)
    history: dict[str, list[float | None]] = field(default_factory=dict, repr=False)
    frames: tuple[Tensor, ...] = field(default=(), repr=False)

    @property
    def image(self) -> Image.Image:
        """The PIL image."""
        return Image.fromarray(self.picture.numpy())

    def below(self, least: float | None) -> bool:
        """Whether its cosine is below ``least``, or it has none."""
        return least is not None and (self.diverged or not self.cosine >= least)


def margin_objective(centers: Tensor, classes: Sequence[int]) -> Objective:
    """The margin loss over all classes (C, D), for targets that are ``classes`` in turn."""

    def objective(rows: Sequence[int]) -> Term:
        return MarginMatch(centers, torch.tensor([classes[row] for row in rows], device=centers.device))

    return objective


def sized(pixels: Tensor, picture: Tensor, size: int) -> Tensor:
    """(size, size, 3) uint8: what the recognizer sees, or the picture, or this one resampled (Lanczos).

    Args:
        pixels, picture: (112, 112, 3) and (S, S, 3) uint8.
        size: of the result.
    """
    for drawn in (pixels, picture):
        if size == len(drawn):
            return drawn
    resampled = Image.fromarray(picture.numpy()).resize((size, size), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(resampled))


def with_controls() -> str:
    """The presets that keep a pose and an expression, and take an objective, by name."""
    return ", ".join(name for name, preset in PRESETS.items() if preset.controlled)


def generator_for(seed: int, target: int, variation: int, attempt: int = 0) -> torch.Generator:
    """The generator of one attempt at one image, whatever its neighbors are."""
    key = [seed, target, variation, *([attempt] if attempt else [])]
    mixed = np.random.SeedSequence(key).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(mixed) & (2**63 - 1))


def batches_of(targets: int, settings: Settings) -> list[list[Job]]:
    """Every image of a run, in order, in batches."""
    jobs = [(target, variation) for target in range(targets) for variation in range(settings.variations)]
    return [jobs[i : i + settings.batch_size] for i in range(0, len(jobs), settings.batch_size)]


def reconstruct_batch(
    attack: Attack,
    jobs: Sequence[Job],
    settings: Settings,
    *,
    progress: Progress = silent,
    on_step: OnStep | None = None,
) -> list[Reconstruction]:
    """Invert one batch once; ``jobs`` are the images of the attack's rows."""
    recipe = preset_of(settings.preset, settings.steps).recipe(attack)
    frames: dict[int, list[Tensor]] = {
        i: [] for i, (_, variation) in enumerate(jobs) if settings.record and variation == 0
    }
    every = max(1, -(-recipe.steps // (FRAMES - 1)))  # the result is the last image of a recorded path

    def keep(step: int, images: Tensor) -> None:
        if frames and step % every == 0:
            for kept, frame in zip(frames.values(), to_bytes(images[list(frames)]).cpu(), strict=True):
                kept.append(frame)
        if on_step is not None:
            on_step(jobs, step, images)

    started = time.perf_counter()
    found = invert(
        recipe,
        target=attack.target,
        generators=attack.generators,
        size=settings.size,
        progress=progress,
        on_step=keep,
    )
    seconds = (time.perf_counter() - started) / len(jobs)
    asked = {name: values.tolist() for name, values in recipe.asked.items()}
    return [
        Reconstruction(
            target,
            variation,
            found.images[i],
            sized(found.images[i], found.pictures[i], settings.size),
            float(found.cosine[i]),
            recipe.steps,
            seconds,
            bool(found.diverged[i]),
            asked={name: value for name, values in asked.items() if not math.isnan(value := values[i])},
            history=_history_of(found.history, i),
            frames=tuple(frames.get(i, ())),
        )
        for i, (target, variation) in enumerate(jobs)
    ]


def _history_of(history: Mapping[str, Tensor], row: int) -> dict[str, list[float | None]]:
    """The history of one image of a batch, at most :data:`POINTS` points and the last."""
    steps = len(next(iter(history.values()), ()))
    chosen = sorted({*range(0, steps, max(1, -(-steps // POINTS))), *range(steps)[-1:]})
    found: dict[str, list[float | None]] = {"step": list(chosen)}
    for name, values in history.items():
        along = values[chosen, row].tolist()
        found[name] = [float(f"{value:.5g}") if math.isfinite(value) else None for value in along]
    return found


__all__ = [
    "Job",
    "Objective",
    "OnStep",
    "Reconstruction",
    "Settings",
    "batches_of",
    "generator_for",
    "margin_objective",
    "reconstruct_batch",
]
