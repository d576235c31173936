"""The inverter: a recognizer, the face prior and the calibration, which turn embeddings into faces."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from arcinvert.calibration.auxiliary import default_auxiliary
from arcinvert.calibration.cache import load_calibration
from arcinvert.calibration.calibration import Calibration
from arcinvert.device import choose_device
from arcinvert.embeddings import check_embeddings
from arcinvert.errors import InputError, UsageError
from arcinvert.faceprior.prior import FacePrior, default_face_prior
from arcinvert.formats.license import GENERATOR, license_of_digest
from arcinvert.inversion.controls import VARIED, Controls
from arcinvert.inversion.memory import images_at_once, in_parts
from arcinvert.inversion.presets import Attack, preset_of
from arcinvert.inversion.reconstruct import (
    PRECISIONS,
    Job,
    Objective,
    OnStep,
    Reconstruction,
    Settings,
    batches_of,
    generator_for,
    reconstruct_batch,
    with_controls,
)
from arcinvert.inversion.terms import Term
from arcinvert.inversion.tracer import Tracer
from arcinvert.progress import Progress, silent
from arcinvert.recognizer import Recognizer

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

FREE = Controls()


@dataclass(frozen=True, eq=False)
class Face:
    """The reconstructions of one target: the first image and its variations.

    Attributes:
        reconstructions: V of them, with pixels, cosine and history of each.
    """

    reconstructions: tuple[Reconstruction, ...]

    @property
    def images(self) -> list[Image.Image]:
        """V PIL images, RGB, 224x224 unless the settings ask for another size."""
        return [found.image for found in self.reconstructions]

    @property
    def pixels(self) -> Tensor:
        """(V, 112, 112, 3) uint8 RGB."""
        return torch.stack([found.pixels for found in self.reconstructions])

    @property
    def cosine(self) -> float:
        """Cosine of the first image to the target, by the attacked network."""
        return self.reconstructions[0].cosine

    @property
    def history(self) -> dict[str, list[float | None]]:
        """Every term and the cosine along the steps of the first image."""
        return self.reconstructions[0].history

    @property
    def cosines(self) -> tuple[float, ...]:
        """Cosine of every image to the target."""
        return tuple(found.cosine for found in self.reconstructions)


@dataclass(frozen=True, eq=False)
class Inverter:
    """Turns the embeddings of one recognizer into faces.

    Attributes:
        recognizer: the network that is attacked.
        prior: the face prior, on the recognizer's device.
        calibration: fitted to the recognizer with this face prior.

    Raises:
        UsageError: the calibration belongs to another face prior.
    """

    recognizer: Recognizer
    prior: FacePrior = field(repr=False)
    calibration: Calibration = field(repr=False)

    def __post_init__(self) -> None:
        if self.calibration.prior_digest != self.prior.digest:
            raise UsageError("the checkpoint was calibrated with another face prior; run `arcinvert calibrate` again")

    @classmethod
    def load(
        cls, path: Path | str | None = None, *, device: torch.device | str = "auto", progress: Progress = silent
    ) -> "Inverter":
        """Open a recognizer and its calibration. A missing calibration is fitted, which may take minutes, and kept.

        Args:
            path: of a checkpoint of any known format, or the name of a known recognizer; None is the default one.
            device: ``auto`` takes a GPU where there is one.
            progress: of the calibration; called with (faces done, faces in all, text).

        Raises:
            CheckpointError: see :meth:`~arcinvert.recognizer.Recognizer.load`.
            UsageError: this machine has no such device.
        """
        return cls.of(Recognizer.load(path, device=choose_device(device)), progress=progress)

    @classmethod
    def of(cls, recognizer: Recognizer, *, progress: Progress = silent) -> "Inverter":
        """The inverter of a loaded recognizer; see :meth:`load`."""
        prior = default_face_prior().to(recognizer.device)
        return cls(recognizer, prior, load_calibration(recognizer, prior, progress=progress))

    @property
    def licenses(self) -> dict[str, str]:
        """The license of every weight file that an inversion uses, by the part that it plays."""
        generator = {} if self.prior.generator is None else {"generator": GENERATOR}
        return {
            "recognizer": self.recognizer.license,
            "face prior": license_of_digest(self.prior.digest),
            **generator,
            "auxiliary network": license_of_digest(default_auxiliary().digest),
        }

    def reconstruct(
        self,
        embeddings: "Tensor | ArrayLike",
        *,
        objective: Objective | None = None,
        progress: Progress = silent,
        **settings: Any,
    ) -> list[Face]:
        """Turn embeddings back into faces.

        Args:
            embeddings: (D,) or (N, D), of any length; they are normalized.
            objective: see :meth:`reconstruct_batches`.
            progress: called with (steps done, steps in all, text).
            settings: those of :class:`~arcinvert.inversion.reconstruct.Settings`: ``variations``, ``preset``,
                ``steps``, ``seed``, ``pose``, ``expression``, ``vary``, ``min_cosine``, ...

        Returns:
            A face for each embedding, in order.

        Raises:
            InputError: embeddings of another shape or dimension, not finite, or of length 0.
            UsageError: a setting out of its range.
            MemoryError: there is too little for a single image.
        """
        config = Settings(**settings)
        targets = torch.from_numpy(check_embeddings(_array(embeddings), self.recognizer.embedding_size).rows)
        parts = self.reconstruct_batches(targets, config, objective=objective, progress=progress)
        found = [one for part in parts for one in part]
        step = config.variations
        return [Face(tuple(found[i : i + step])) for i in range(0, len(found), step)]

    def attack(
        self,
        target: Tensor,
        variation: Tensor,
        generators: Sequence[torch.Generator],
        *,
        controls: Controls = FREE,
        vary: Sequence[str] = VARIED,
        objective: Term | None = None,
        tracer: Tracer | None = None,
    ) -> Attack:
        """A batch for a preset; see :class:`~arcinvert.inversion.presets.Attack`."""
        parts = (self.recognizer, self.prior, self.calibration)
        return Attack(*parts, target, variation, generators, controls, tuple(vary), objective, tracer or Tracer())

    def reconstruct_batches(
        self,
        targets: Tensor,
        settings: Settings,
        *,
        batches: Sequence[Sequence[Job]] | None = None,
        objective: Objective | None = None,
        progress: Progress = silent,
        on_step: OnStep | None = None,
    ) -> Iterator[list[Reconstruction]]:
        """Invert every target ``settings.variations`` times, batch by batch; smaller ones when memory runs out.

        Args:
            targets: (T, D), unit norm.
            settings: how many images, and how.
            batches: some of those of :func:`~arcinvert.inversion.reconstruct.batches_of`; None is all of them.
            objective: gives the term that the images of some targets (by their rows) match in place of the target's
                embedding, which is then only a guess to start from. Only the presets with controls use it.
            progress: called with (steps done, steps in all, text), during first attempts.
            on_step: see :data:`~arcinvert.inversion.reconstruct.OnStep`; an exception of it ends the run.

        Raises:
            UsageError: the preset takes no objective.
            MemoryError: there is too little for a single image.
        """
        if objective is not None and not preset_of(settings.preset).controlled:
            raise UsageError(f"only {with_controls()} match anything but an embedding, not {settings.preset!r}")
        batches = batches_of(len(targets), settings) if batches is None else batches

        with Tracer(PRECISIONS[settings.precision], compile=settings.compile) as tracer:

            def attempt(jobs: Sequence[Job], number: int, progress: Progress) -> list[Reconstruction]:
                rows = targets[[target for target, _ in jobs]].to(self.recognizer.device)
                attack = self.attack(
                    rows,
                    torch.tensor([variation for _, variation in jobs], device=rows.device),
                    [generator_for(settings.seed, *job, number) for job in jobs],
                    controls=settings.controls,
                    vary=settings.vary,
                    objective=None if objective is None else objective([target for target, _ in jobs]),
                    tracer=tracer,
                )
                return reconstruct_batch(attack, jobs, settings, progress=progress, on_step=on_step)

            def work(number: int, done: int, jobs: Sequence[Job]) -> list[Reconstruction]:
                def report(step: int, steps: int, text: str) -> None:
                    within = (done * steps + len(jobs) * step) // len(batches[number])
                    progress(number * steps + within, steps * len(batches), text)

                best = attempt(jobs, 0, report)
                for retry in range(1, 1 + settings.retries):
                    again = [i for i, found in enumerate(best) if found.below(settings.min_cosine)]
                    if not again:
                        break
                    for i, new in zip(again, attempt([jobs[i] for i in again], retry, silent), strict=True):
                        old = best[i]
                        better = (not new.diverged, new.cosine) > (not old.diverged, old.cosine)
                        seconds = old.seconds + new.seconds
                        best[i] = replace(new if better else old, attempts=retry + 1, seconds=seconds)
                return best

            drawn = self.prior.refined_bytes if preset_of(settings.preset).refine_steps else 0
            largest = max(map(len, batches), default=1)
            yield from in_parts(batches, work, most=images_at_once(self.recognizer, largest, drawn))


def _array(embeddings: "Tensor | ArrayLike") -> "NDArray[Any]":
    if isinstance(embeddings, Tensor):
        there = embeddings.detach().cpu()
        return (there.double() if there.is_floating_point() else there).numpy()  # numpy has no bfloat16
    try:
        return np.asarray(embeddings)
    except ValueError:
        raise InputError("expected embeddings (D,) or (N, D), got rows of different lengths") from None
