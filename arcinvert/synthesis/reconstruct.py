"""From embeddings to pictures: every target, batch by batch, and again where a picture is not like enough.

A batch is fixed by the number of its pictures, not by what is still to do: a run that goes on where
it was killed, or with more processes, computes the same batches and so the same pictures.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from arcinvert.calibration.calibration import Calibration
from arcinvert.errors import UsageError
from arcinvert.faceprior.prior import FacePrior
from arcinvert.faces.alignment import Detector
from arcinvert.inversion.compiled import CompiledNetwork
from arcinvert.inversion.controls import Controls
from arcinvert.inversion.invert import invert
from arcinvert.inversion.objectives import MarginMatch
from arcinvert.inversion.presets import CONTROLLED, Attack, preset
from arcinvert.inversion.terms import Term
from arcinvert.progress import Progress, silent
from arcinvert.recognizer import Recognizer
from arcinvert.synthesis.film import Film, history_of
from arcinvert.synthesis.journal import Job
from arcinvert.synthesis.memory import in_parts
from arcinvert.synthesis.robustness import holds

Say = Callable[[str], None]
PRECISIONS = {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
Objective = Callable[[Sequence[int]], Term]
"""From the rows of some targets to what their images are to match."""
Watch = Callable[[Sequence[Job], int, Tensor], None]
"""Shown (pictures of a batch, step, their images (B, 3, 112, 112), not clamped) before each step."""


def unheard(line: str) -> None:
    """Says nothing."""


@dataclass(frozen=True)
class SynthConfig:
    """How many faces, and how.

    Attributes:
        variations: images per target.
        preset: a name of :data:`~arcinvert.inversion.presets.PRESETS`.
        steps: None takes the preset's own.
        seed: of every draw; each image has a generator of its own, from (seed, target, variation).
        batch_size: images optimized together.
        min_cosine: a picture less like its target is made again; None makes each once.
        retries: how often at most; the best is kept.
        report: whether each picture is tested (see :mod:`~arcinvert.synthesis.robustness`) and the
            variations of a target are compared (see :mod:`~arcinvert.synthesis.diversity`).
        record: whether the path of each target's first picture is kept.
        pose, expression: see :meth:`~arcinvert.inversion.controls.Controls.parse`; None leaves them free.
        precision: a name of :data:`PRECISIONS`; the lower ones are for GPUs.
        compile: run the network under torch.compile: half a minute to start, for many targets on a GPU.
    """

    variations: int = 1
    preset: str = "fast"
    steps: int | None = None
    seed: int = 0
    batch_size: int = 8
    min_cosine: float | None = None
    retries: int = 2
    report: bool = True
    record: bool = False
    pose: str | None = None
    expression: str | None = None
    precision: str = "float32"
    compile: bool = False

    def __post_init__(self) -> None:
        if self.variations < 1 or self.batch_size < 1 or (self.steps is not None and self.steps < 1):
            raise UsageError("expected variations, steps and batch size of at least 1")
        if self.seed < 0 or self.retries < 0:
            raise UsageError(f"expected a seed and retries of at least 0, got {min(self.seed, self.retries)}")
        if self.min_cosine is not None and not -1 <= self.min_cosine <= 1:
            raise UsageError(f"expected a least cosine in -1 to 1, got {self.min_cosine}")
        preset(self.preset)
        if self.precision not in PRECISIONS:
            raise UsageError(f"expected a precision out of {', '.join(PRECISIONS)}, got {self.precision!r}")
        if Controls.parse(self.pose, self.expression) != Controls() and self.preset not in CONTROLLED:
            raise UsageError(f"only {', '.join(CONTROLLED)} keep a pose or an expression, not {self.preset!r}")


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """One image of one target.

    Attributes:
        target, variation: which.
        image: (112, 112, 3) uint8.
        cosine: of the 8-bit image to the target, by the attacked network.
        steps: of an attempt.
        seconds: of all attempts, its share of its batch.
        diverged: no finite step was found.
        attempts: how often it was made.
        holds: see :func:`arcinvert.synthesis.robustness.holds`; None without a report.
        history: see :func:`arcinvert.synthesis.film.history_of`; None if not recorded.
        frames: pictures of the path, without the result.
    """

    target: int
    variation: int
    image: Tensor
    cosine: float
    steps: int
    seconds: float
    diverged: bool
    attempts: int = 1
    holds: dict[str, float | bool | None] | None = None
    history: dict[str, list[float | None]] | None = field(default=None, repr=False)
    frames: tuple[Tensor, ...] = field(default=(), repr=False)

    def short_of(self, least: float | None) -> bool:
        """Whether it stays below the least cosine, or has none."""
        return least is not None and (self.diverged or not self.cosine >= least)


@dataclass(frozen=True, eq=False)
class _Known:
    """What every batch needs."""

    recognizer: Recognizer
    targets: Tensor
    prior: FacePrior
    calibration: Calibration
    config: SynthConfig
    detector: Detector | None
    objective: Objective | None
    watch: Watch | None
    compiled: CompiledNetwork | None


def targets_tensor(rows: NDArray[np.float32]) -> Tensor:
    """(T, D) as a tensor of its own."""
    return torch.from_numpy(np.array(rows, dtype=np.float32))


def margin_objective(centers: Tensor, classes: Sequence[int]) -> Objective:
    """The margin loss over all classes (C, D), for targets that are ``classes`` in turn."""

    def objective(rows: Sequence[int]) -> Term:
        return MarginMatch(centers, torch.tensor([classes[row] for row in rows], device=centers.device))

    return objective


def generator_for(seed: int, target: int, variation: int, attempt: int = 0) -> torch.Generator:
    """The generator of one attempt at one image, whoever its neighbors are."""
    key = [seed, target, variation, *([attempt] if attempt else [])]
    mixed = np.random.SeedSequence(key).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(mixed) & (2**63 - 1))


def batches_of(targets: int, config: SynthConfig) -> list[list[Job]]:
    """Every picture of a run, in order, in batches."""
    jobs = [(target, variation) for target in range(targets) for variation in range(config.variations)]
    return [jobs[i : i + config.batch_size] for i in range(0, len(jobs), config.batch_size)]


def reconstruct(
    recognizer: Recognizer,
    targets: Tensor,
    prior: FacePrior,
    calibration: Calibration,
    *,
    config: SynthConfig,
    batches: Sequence[Sequence[Job]] | None = None,
    detector: Detector | None = None,
    objective: Objective | None = None,
    say: Say = unheard,
    progress: Progress = silent,
    watch: Watch | None = None,
) -> Iterator[Reconstruction]:
    """Invert every target ``config.variations`` times, batch by batch; smaller ones when memory runs out.

    Args:
        recognizer: the network that is inverted.
        targets: (T, D), unit norm.
        prior: on the recognizer's device.
        calibration: of the recognizer.
        config: how many and how.
        batches: those of :func:`batches_of` that are wanted; None is all of them.
        detector: for the report.
        objective: what the images of some targets (by their rows) are to match in place of the target's
            embedding, which then is a guess to start from; only the presets that keep a pose know it.
        say: told when memory runs out, or the network cannot be compiled.
        progress: told (steps done, steps in all, text); of first attempts.
        watch: see :data:`Watch`; what it raises ends the run.

    Raises:
        UsageError: the calibration is of another face prior, or the preset takes no objective.
        MemoryError: there is too little for a single image.
    """
    if objective is not None and config.preset not in CONTROLLED:
        raise UsageError(f"only {', '.join(CONTROLLED)} match anything but an embedding, not {config.preset!r}")
    if calibration.prior_digest != prior.digest:
        raise UsageError("the checkpoint was calibrated with another face prior; run `arcinvert calibrate` again")
    batches = batches_of(len(targets), config) if batches is None else batches

    network = CompiledNetwork(recognizer, say) if config.compile else None

    def work(number: int, done: int, jobs: Sequence[Job]) -> list[Reconstruction]:
        def tell(step: int, steps: int, text: str) -> None:
            within = (done * steps + len(jobs) * step) // len(batches[number])
            progress(number * steps + within, steps * len(batches), text)

        return _pictures(known, jobs, tell)

    with network or contextlib.nullcontext():
        known = _Known(recognizer, targets, prior, calibration, config, detector, objective, watch, network)
        yield from in_parts(batches, work, say=say)


def _pictures(known: _Known, jobs: Sequence[Job], progress: Progress) -> list[Reconstruction]:
    """The best of all attempts at each picture, tested if that is wanted."""
    config = known.config
    best = _attempt(known, jobs, 0, progress)
    for attempt in range(1, 1 + (0 if config.min_cosine is None else config.retries)):
        again = [i for i, found in enumerate(best) if found.short_of(config.min_cosine)]
        if not again:
            break
        for i, new in zip(again, _attempt(known, [jobs[i] for i in again], attempt, silent), strict=True):
            old = best[i]
            better = (not new.diverged, new.cosine) > (not old.diverged, old.cosine)
            best[i] = replace(
                new if better else old,
                attempts=attempt + 1,
                seconds=old.seconds + new.seconds,
            )
    if not config.report:
        return best
    images = torch.stack([found.image for found in best])
    tested = holds(known.recognizer, images, known.targets[[target for target, _ in jobs]], known.detector)
    return [replace(found, holds=row) for found, row in zip(best, tested, strict=True)]


def _attempt(known: _Known, jobs: Sequence[Job], attempt: int, progress: Progress) -> list[Reconstruction]:
    """One inversion of a batch."""
    config = known.config
    rows = known.targets[[target for target, _ in jobs]].to(known.recognizer.device)
    attack = Attack(
        known.recognizer,
        known.prior,
        known.calibration,
        rows,
        torch.tensor([variation for _, variation in jobs], device=rows.device),
        [generator_for(config.seed, *job, attempt) for job in jobs],
        Controls.parse(config.pose, config.expression),
        None if known.objective is None else known.objective([target for target, _ in jobs]),
    )
    recipe = preset(config.preset)(attack, config.steps)
    recorded = [i for i, (_, variation) in enumerate(jobs) if config.record and variation == 0]
    film = Film(recorded, recipe.steps)

    def watch(step: int, image: Tensor) -> None:
        film(step, image)
        if known.watch is not None:
            known.watch(jobs, step, image)

    started = time.perf_counter()
    found = invert(
        known.recognizer,
        recipe,
        target=rows,
        generators=attack.generators,
        precision=PRECISIONS[config.precision],
        compiled=known.compiled,
        progress=progress,
        watch=watch if recorded or known.watch is not None else None,
    )
    seconds = (time.perf_counter() - started) / len(jobs)
    return [
        Reconstruction(
            target,
            variation,
            found.images[i],
            float(found.cosine[i]),
            recipe.steps,
            seconds,
            bool(found.diverged[i]),
            history=history_of(found.history, i) if config.record else None,
            frames=tuple(film.frames.get(i, ())),
        )
        for i, (target, variation) in enumerate(jobs)
    ]
