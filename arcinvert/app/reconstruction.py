"""Reconstruction of a target as ``arcinvert synth`` does it, with the images of every step kept for the page."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from arcinvert.app.state import AppState
from arcinvert.app.targets import Target
from arcinvert.app.task import Task
from arcinvert.errors import UsageError
from arcinvert.inversion.invert import reduced, to_bytes
from arcinvert.inversion.reconstruct import Job, Settings
from arcinvert.synthesis.job import synthesize
from arcinvert.synthesis.journal import MANIFEST
from arcinvert.synthesis.sheets import contact_sheet, read_png, write_png

MAX_FRAMES = 60
"""Frames that are kept of the steps, besides the result."""
STRIP_FRAMES = 8
"""Images of the film strip."""
MAX_STEPS, MAX_VARIATIONS = 400, 6
STRIP = "strip.png"


@dataclass(frozen=True, eq=False)
class Frame:
    """The images after some steps.

    Attributes:
        step: steps done.
        images: (V, S, S, 3) uint8, one for each variation; the result is larger than the steps before it.
        cosine: (V,) of these images to the target, by the attacked recognizer.
    """

    step: int
    images: Tensor
    cosine: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class FinishedReconstruction:
    """A finished reconstruction.

    Attributes:
        name: of the attacked recognizer.
        target: that was inverted.
        images: (V, 112, 112, 3) uint8, as recognizers see them.
        frames: of the steps, the result last.
        files: PNGs, manifest, film and film strip.
        manifest: the content of ``manifest.json``.
    """

    name: str
    target: Target
    images: Tensor
    frames: tuple[Frame, ...]
    files: tuple[Path, ...]
    manifest: dict[str, Any] = field(repr=False)


def check_settings(
    preset: str, steps: float, variations: float, seed: float, pose: str | None, expression: str | None
) -> Settings:
    """The settings of the page's controls.

    Raises:
        UsageError: a setting is out of the page's range; or see
            :class:`~arcinvert.inversion.reconstruct.Settings`.
    """
    if not 1 <= steps <= MAX_STEPS or not 1 <= variations <= MAX_VARIATIONS:
        raise UsageError(
            f"expected 1 to {MAX_STEPS} steps and 1 to {MAX_VARIATIONS} variations, got {steps:g} and {variations:g}"
        )
    return Settings(
        variations=int(variations),
        preset=preset,
        steps=int(steps),
        seed=int(seed),
        pose=pose,
        expression=expression,
        record=True,
    )


class LiveReconstruction:
    """A reconstruction that runs in the background for a visitor.

    Attributes:
        name: of the attacked recognizer.
        target: to invert.
        settings: how.
        frames: of the steps so far.
        task: the work; see :meth:`_run` for its errors.
    """

    def __init__(self, state: AppState, visitor: str, name: str, target: Target, settings: Settings) -> None:
        self.name, self.target, self.settings = name, target, settings
        self.frames: list[Frame] = []
        self.task: Task[FinishedReconstruction] = state.start(visitor, lambda task: self._run(state, visitor, task))

    def _run(self, state: AppState, visitor: str, task: Task[FinishedReconstruction]) -> FinishedReconstruction:
        """Calibrate if needed, invert, write the files.

        Raises:
            ArcInvertError: see :func:`~arcinvert.synthesis.job.synthesize`.
            Canceled: the task was canceled.
        """
        settings, target = self.settings, self.target
        inverter = state.inverter(self.name, task.progress)
        recognizer = inverter.recognizer
        every = max(1, -(-(settings.steps or 1) // MAX_FRAMES))
        rows = target.embedding[None].to(recognizer.device)

        def keep(step: int, images: Tensor) -> None:
            cosine = (recognizer.embed(reduced(images).permute(0, 3, 1, 2)) * rows).sum(1)
            self.frames.append(Frame(step, images, tuple(cosine.tolist())))
            task.step()

        def on_step(jobs: Sequence[Job], step: int, images: Tensor) -> None:
            if step % every == 0 and len(jobs) == settings.variations:  # fewer only when memory runs out
                keep(step, to_bytes(images).cpu())

        out = state.new_folder(visitor, "face-")
        manifest = synthesize(
            inverter,
            target.embedding[None],
            out,
            settings=settings,
            progress=task.progress,
            on_step=on_step,
        )
        pictures = torch.stack([read_png(out / row["file"]) for row in manifest["results"]])
        keep(manifest["results"][0]["steps"], pictures)
        frames = self.frames
        strip = [reduced(frames[i].images[:1])[0] for i in _evenly_spaced(len(frames), STRIP_FRAMES)]
        write_png(out / STRIP, contact_sheet(strip, STRIP_FRAMES))
        files = sorted(path for path in out.iterdir() if path.suffix in (".png", ".json", ".webp"))
        manifest = json.loads((out / MANIFEST).read_bytes())
        return FinishedReconstruction(self.name, target, reduced(pictures), tuple(frames), tuple(files), manifest)


def _evenly_spaced(count: int, wanted: int) -> list[int]:
    """At most ``wanted`` of ``count`` indices, the first and the last among them."""
    if count <= wanted:
        return list(range(count))
    return [round(i * (count - 1) / (wanted - 1)) for i in range(wanted)]
