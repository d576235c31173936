"""From embeddings to files: the targets in batches, PNGs, a contact sheet and a manifest."""

import hashlib
import json
import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin
from torch import Tensor

import arcinvert
from arcinvert.calibration import Calibration
from arcinvert.checkpoint import atomic_write
from arcinvert.errors import DivergedError, EnvironmentProblem, UsageError
from arcinvert.faceprior import FacePrior
from arcinvert.inversion.invert import Inversion, invert
from arcinvert.inversion.presets import Attack, preset
from arcinvert.progress import Progress, silent
from arcinvert.recognizer import Recognizer

SYNTHETIC = "synthetic face, reconstructed from an embedding by arcinvert; not a photograph"


@dataclass(frozen=True)
class SynthConfig:
    """How many faces, and how.

    Attributes:
        variations: images per target.
        preset: a name of :data:`~arcinvert.inversion.presets.PRESETS`.
        steps: None takes the preset's own.
        seed: of every draw; each image has a generator of its own, from (seed, target, variation).
        batch_size: images optimised together.
    """

    variations: int = 1
    preset: str = "fast"
    steps: int | None = None
    seed: int = 0
    batch_size: int = 8

    def __post_init__(self) -> None:
        if self.variations < 1 or self.batch_size < 1 or (self.steps is not None and self.steps < 1):
            raise UsageError("expected variations, steps and batch size of at least 1")
        if self.seed < 0:
            raise UsageError(f"expected a seed of at least 0, got {self.seed}")
        preset(self.preset)


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """One image of one target."""

    target: int
    variation: int
    image: Tensor
    cosine: float
    steps: int
    seconds: float
    diverged: bool


def generator_for(seed: int, target: int, variation: int) -> torch.Generator:
    """The generator of one image, whoever its neighbours are."""
    mixed = np.random.SeedSequence([seed, target, variation]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(mixed) & (2**63 - 1))


def reconstruct(
    recognizer: Recognizer,
    targets: Tensor,
    prior: FacePrior,
    calibration: Calibration,
    *,
    config: SynthConfig,
    progress: Progress = silent,
) -> Iterator[Reconstruction]:
    """Invert every target ``config.variations`` times, batch by batch.

    Args:
        recognizer: the network that is inverted.
        targets: (T, D), unit norm.
        prior: on the recognizer's device.
        calibration: of the recognizer.
        config: how many and how.
        progress: told (steps done, steps in all, text).
    """
    if calibration.prior_digest != prior.digest:
        raise UsageError("the checkpoint was calibrated with another face prior; run `arcinvert calibrate` again")
    jobs = [(t, v) for t in range(len(targets)) for v in range(config.variations)]
    batches = [jobs[i : i + config.batch_size] for i in range(0, len(jobs), config.batch_size)]
    for number, batch in enumerate(batches):
        rows = targets[[t for t, _ in batch]].to(recognizer.device)
        attack = Attack(
            recognizer,
            prior,
            calibration,
            rows,
            torch.tensor([v for _, v in batch], device=rows.device),
            [generator_for(config.seed, t, v) for t, v in batch],
        )
        recipe = preset(config.preset)(attack, config.steps)
        done = number * recipe.steps

        def tell(step: int, steps: int, text: str, done: int = done) -> None:
            progress(done + step, steps * len(batches), text)

        started = time.perf_counter()
        found = invert(recognizer, recipe, target=rows, generators=attack.generators, progress=tell)
        seconds = (time.perf_counter() - started) / len(batch)
        for i, (target, variation) in enumerate(batch):
            yield _reconstruction(found, i, target, variation, recipe.steps, seconds)


def synthesise(
    recognizer: Recognizer,
    targets: Tensor,
    prior: FacePrior,
    calibration: Calibration,
    out: Path,
    *,
    config: SynthConfig,
    force: bool = False,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Reconstruct, and write ``out/TTTT_VV.png``, ``out/sheet.png`` and ``out/manifest.json``.

    Args:
        recognizer, targets, prior, calibration, config, progress: see :func:`reconstruct`.
        out: the folder.
        force: write even where another run, of other targets or settings, has left its manifest.

    Returns:
        The manifest: ``results`` with target, variation, file, cosine (of the 8-bit image), steps and
        seconds (an image's share of its batch); and the settings, digests and versions behind them.

    Raises:
        UsageError: the folder holds another run.
        DivergedError: no target gave a finite image; the manifest is written all the same.
        EnvironmentProblem: the folder cannot be written.
    """
    started = time.perf_counter()
    run = {
        "targets": hashlib.sha256(targets.contiguous().numpy().tobytes()).hexdigest(),
        "checkpoint": recognizer.digest,
        **vars(config),
    }
    if not force:
        _refuse_other_run(out, run)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:  # said before the work, not after it
        raise EnvironmentProblem(f"cannot write to {str(out)!r}: {error.strerror or error}") from None
    results: list[dict[str, Any]] = []
    images: list[Tensor] = []
    for found in reconstruct(recognizer, targets, prior, calibration, config=config, progress=progress):
        name = f"{found.target:04d}_{found.variation:02d}.png"
        write_png(out / name, found.image)
        images.append(found.image)
        results.append(
            {
                "target": found.target,
                "variation": found.variation,
                "file": name,
                "cosine": round(found.cosine, 6),
                "steps": found.steps,
                "seconds": round(found.seconds, 3),
                **({"diverged": True} if found.diverged else {}),
            }
        )
    write_png(out / "sheet.png", contact_sheet(images, config.variations))
    good = [row["cosine"] for row in results if "diverged" not in row]
    manifest = {
        "results": results,
        "mean_cosine": round(sum(good) / len(good), 6) if good else None,
        "diverged": len(results) - len(good),
        "checkpoint": {"digest": recognizer.digest, "backbone": recognizer.header.get("backbone")},
        "face_prior": prior.digest,
        "settings": vars(config) | {"steps": results[0]["steps"], "device": str(recognizer.device)},
        "run": run,
        "versions": {
            "arcinvert": arcinvert.__version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "seconds": round(time.perf_counter() - started, 3),
        "note": SYNTHETIC,
    }
    with atomic_write(out / "manifest.json") as temporary:
        temporary.write_text(json.dumps(manifest, indent=2) + "\n")
    if not good:
        raise DivergedError(f"none of the {len(results)} reconstructions stayed finite")
    return manifest


def targets_tensor(rows: NDArray[np.float32]) -> Tensor:
    """(T, D) as a tensor of its own."""
    return torch.from_numpy(np.array(rows, dtype=np.float32))


def contact_sheet(images: list[Tensor], columns: int, gap: int = 4) -> Tensor:
    """Images (H, W, 3) uint8 in rows of ``columns`` (a target a row, or eight targets where one each)."""
    columns = columns if columns > 1 else min(8, len(images))
    rows = -(-len(images) // columns)
    height, width = images[0].shape[:2]
    sheet = torch.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, dtype=torch.uint8)
    for i, image in enumerate(images):
        top, left = (i // columns) * (height + gap), (i % columns) * (width + gap)
        sheet[top : top + height, left : left + width] = image
    return sheet


def write_png(path: Path, image: Tensor) -> None:
    """(H, W, 3) uint8 -> PNG with a text chunk that says it is synthetic."""
    info = PngImagePlugin.PngInfo()
    info.add_text("Description", SYNTHETIC)
    info.add_text("Software", f"arcinvert {arcinvert.__version__}")
    with atomic_write(path) as temporary:
        Image.fromarray(image.numpy()).save(temporary, format="PNG", pnginfo=info)


def _refuse_other_run(out: Path, run: dict[str, Any]) -> None:
    path = out / "manifest.json"
    if not path.is_file():
        return
    try:
        other = json.loads(path.read_text()).get("run")
    except (ValueError, AttributeError):
        other = None
    if other != run:
        raise UsageError(f"{str(out)!r} holds the pictures of another run; choose another folder, or --force")


def _reconstruction(
    found: Inversion, row: int, target: int, variation: int, steps: int, seconds: float
) -> Reconstruction:
    return Reconstruction(
        target, variation, found.images[row], float(found.cosine[row]), steps, seconds, bool(found.diverged[row])
    )
