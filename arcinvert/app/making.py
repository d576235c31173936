"""From a target to faces, watched: what ``arcinvert synth`` does, with each picture of the path kept for the page."""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from arcinvert.app.studio import Studio
from arcinvert.app.targets import Target
from arcinvert.app.task import Task
from arcinvert.errors import UsageError
from arcinvert.inversion.invert import to_bytes
from arcinvert.inversion.reconstruct import Job, Settings
from arcinvert.synthesis.job import synthesize
from arcinvert.synthesis.journal import MANIFEST
from arcinvert.synthesis.sheets import contact_sheet, read_png, write_png

FRAMES = 60
"""Pictures of a path that are kept, and the result."""
IN_STRIP = 8
"""Pictures of the film strip."""
MOST_STEPS, MOST_VARIATIONS = 400, 4
STRIP = "strip.png"


@dataclass(frozen=True, eq=False)
class Frame:
    """A moment of the path.

    Attributes:
        step: steps done.
        images: (V, 112, 112, 3) uint8, one for each variation.
        cosine: (V,) of these pictures to the target, by the attacked recognizer.
    """

    step: int
    images: Tensor
    cosine: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Made:
    """What came out.

    Attributes:
        name: of the recognizer that was inverted.
        target: what was asked for.
        images: (V, 112, 112, 3) uint8.
        frames: the path, the result last.
        files: PNGs, manifest, film and film strip.
        manifest: as ``manifest.json`` has it.
    """

    name: str
    target: Target
    images: Tensor
    frames: tuple[Frame, ...]
    files: tuple[Path, ...]
    manifest: dict[str, Any] = field(repr=False)


def checked(
    preset: str, steps: float, variations: float, seed: float, pose: str | None, expression: str | None
) -> Settings:
    """Settings as the page gives them.

    Raises:
        UsageError: one that is out of the page's range; or see :class:`~arcinvert.inversion.reconstruct.Settings`.
    """
    if not 1 <= steps <= MOST_STEPS or not 1 <= variations <= MOST_VARIATIONS:
        raise UsageError(f"expected 1 to {MOST_STEPS} steps and 1 to {MOST_VARIATIONS} variations")
    return Settings(
        variations=int(variations),
        preset=preset,
        steps=int(steps),
        seed=int(seed),
        pose=pose,
        expression=expression,
        record=True,
    )


@dataclass(eq=False)
class Making:
    """Faces that are being made.

    Attributes:
        name: of the recognizer that is inverted.
        target: what is asked for.
        settings: how.
        frames: the path so far; grows.
        task: the work, once it has begun.
    """

    name: str
    target: Target
    settings: Settings
    frames: list[Frame] = field(default_factory=list)
    task: Task[Made] | None = None


def begin(studio: Studio, visitor: str, name: str, target: Target, settings: Settings) -> Making:
    """Begin to make a visitor's faces, in the background."""
    making = Making(name, target, settings)
    making.task = studio.begin(visitor, lambda task: make(studio, name, target, settings, making.frames, task))
    return making


def make(studio: Studio, name: str, target: Target, settings: Settings, frames: list[Frame], task: Task[Made]) -> Made:
    """The work behind the button: calibrate if need be, invert, write the files; ``frames`` grows meanwhile.

    Raises:
        ArcInvertError: see :func:`~arcinvert.synthesis.job.synthesize`.
        Ended: the task was ended.
    """
    inverter = studio.inverter(name, task.progress)
    recognizer = inverter.recognizer
    every = max(1, -(-(settings.steps or 1) // FRAMES))
    rows = target.embedding[None].to(recognizer.device)

    def seen(step: int, images: Tensor) -> None:
        cosine = (recognizer.embed(images.permute(0, 3, 1, 2)) * rows).sum(1)
        frames.append(Frame(step, images, tuple(cosine.tolist())))
        task.step()

    def on_step(jobs: Sequence[Job], step: int, images: Tensor) -> None:
        if step % every == 0 and len(jobs) == settings.variations:  # fewer only when memory runs out
            seen(step, to_bytes(images).cpu())

    out = Path(tempfile.mkdtemp(prefix="face-", dir=studio.folder))
    manifest = synthesize(
        inverter,
        target.embedding[None],
        out,
        settings=settings,
        progress=task.progress,
        on_step=on_step,
    )
    images = torch.stack([read_png(out / row["file"]) for row in manifest["results"]])
    seen(manifest["results"][0]["steps"], images)
    chosen = [frames[i].images[0] for i in _spread(len(frames), IN_STRIP)]
    write_png(out / STRIP, contact_sheet(chosen, IN_STRIP))
    files = sorted(path for path in out.iterdir() if path.suffix in (".png", ".json", ".webp"))
    return Made(name, target, images, tuple(frames), tuple(files), json.loads((out / MANIFEST).read_bytes()))


def _spread(count: int, wanted: int) -> list[int]:
    """At most ``wanted`` of ``count`` places, the first and the last among them."""
    if count <= wanted:
        return list(range(count))
    return [round(i * (count - 1) / (wanted - 1)) for i in range(wanted)]
