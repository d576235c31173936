"""A run in a folder: what ``arcinvert synth`` does, from targets to ``manifest.json``."""

import hashlib
import json
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import arcinvert
from arcinvert.calibration.calibration import Calibration
from arcinvert.checkpoint import atomic_write
from arcinvert.distributed import SINGLE_PROCESS, Processes
from arcinvert.errors import DivergedError, EnvironmentProblem
from arcinvert.faceprior.prior import FacePrior
from arcinvert.faces.alignment import Detector
from arcinvert.progress import Progress, silent
from arcinvert.recognizer import Recognizer
from arcinvert.synthesis import journal
from arcinvert.synthesis.diversity import Distance, open_distance
from arcinvert.synthesis.film import write_animation, write_plot
from arcinvert.synthesis.journal import MANIFEST, SHEET, Row, stem
from arcinvert.synthesis.reconstruct import (
    Objective,
    Reconstruction,
    Say,
    SynthConfig,
    Watch,
    batches_of,
    reconstruct,
    unheard,
)
from arcinvert.synthesis.robustness import crop_detector
from arcinvert.synthesis.sheets import SYNTHETIC, read_png, sheet_of_files, write_png


def synthesize(
    recognizer: Recognizer,
    targets: Tensor,
    prior: FacePrior,
    calibration: Calibration,
    out: Path,
    *,
    config: SynthConfig,
    force: bool = False,
    ranks: Processes = SINGLE_PROCESS,
    objective: Objective | None = None,
    about: str = "",
    say: Say = unheard,
    progress: Progress = silent,
    watch: Watch | None = None,
) -> dict[str, Any]:
    """Reconstruct, and write ``out/TTTT_VV.png``, ``out/sheet.png`` and ``out/manifest.json``.

    A run that was killed goes on where it was; one that is complete only writes its manifest again.
    With ``config.record`` each target's first picture also gets ``TTTT_00.webp`` and ``TTTT_00.plot.png``.

    Args:
        recognizer, targets, prior, calibration, config, objective, say, progress, watch: see
            :func:`~arcinvert.synthesis.reconstruct.reconstruct`.
        out: the folder.
        force: start anew, and remove what another run, of other targets or settings, has left.
        ranks: of several processes each computes its share of the batches; the first one writes what concerns all.
        about: names the objective; two runs of different ones are not the same run.

    Returns:
        The manifest: ``results`` with target, variation, file and its sha256, cosine (of the 8-bit image),
        steps and seconds (an image's share of its batch), and what the settings ask for beyond that
        (``holds``, ``attempts``, ``history``); and the settings, digests and versions behind them.

    Raises:
        UsageError: the folder holds another run.
        DivergedError: no target gave a finite image; the manifest is written all the same.
        EnvironmentProblem: the folder cannot be written, or another process writes to it.
        MemoryError: there is too little for a single image.
    """
    started = time.perf_counter()
    run = run_of(recognizer, targets, config, about)
    if not force:
        journal.refuse_other_run(out, run)
    distance = open_distance(recognizer, calibration) if config.report and config.variations > 1 else None
    detector = _detector(say) if config.report else None
    ranks.wait()  # all have looked
    with journal.locked(out, wanted=ranks.rank == 0):
        if ranks.rank == 0:
            journal.clear(out, all_of_it=force)
        ranks.wait()  # nothing foreign is left
        there = journal.finished(out, run)
        mine = [
            batch
            for batch in batches_of(len(targets), config)[ranks.rank :: ranks.world_size]
            if not {*batch} <= {*there}
        ]
        for found in reconstruct(
            recognizer,
            targets,
            prior,
            calibration,
            config=config,
            batches=mine,
            detector=detector,
            objective=objective,
            say=say,
            progress=progress,
            watch=watch,
        ):
            if (found.target, found.variation) not in there:
                journal.append(out, ranks.rank, run, _written(out, found, config))
        ranks.wait()  # all pictures are there
        if ranks.rank == 0:
            _finish(out, run, recognizer, prior, config, len(targets), distance, ranks.world_size, started)
        ranks.wait()  # the manifest is written
    manifest: dict[str, Any] = json.loads((out / MANIFEST).read_bytes())
    if manifest["mean_cosine"] is None:
        raise DivergedError(f"none of the {len(manifest['results'])} reconstructions stayed finite")
    return manifest


def run_of(recognizer: Recognizer, targets: Tensor, config: SynthConfig, about: str = "") -> dict[str, Any]:
    """What makes two runs the same, as JSON knows it; how many pictures share a batch is no part of it."""
    run = {
        "targets": hashlib.sha256(targets.contiguous().numpy().tobytes()).hexdigest(),
        "checkpoint": recognizer.digest,
        **{name: value for name, value in asdict(config).items() if name != "batch_size"},
        **({"objective": about} if about else {}),
    }
    return json.loads(json.dumps(run))  # type: ignore[no-any-return]


def _detector(say: Say) -> Detector | None:
    try:
        return crop_detector()
    except EnvironmentProblem as problem:
        say(f"no face detector looks at the pictures, the manifest leaves its entries empty: {problem}")
        return None


def _written(out: Path, found: Reconstruction, config: SynthConfig) -> Row:
    """Write the files of a picture; what the manifest says of it."""
    name = stem((found.target, found.variation))
    if config.record and found.variation == 0:
        write_animation(out / f"{name}.webp", [*found.frames, found.image])
        write_plot(out / f"{name}.plot.png", found.history or {})
    row: Row = {
        "target": found.target,
        "variation": found.variation,
        "file": f"{name}.png",
        "sha256": write_png(out / f"{name}.png", found.image),
        "cosine": round(found.cosine, 6),
        "steps": found.steps,
        "seconds": round(found.seconds, 3),
    }
    row |= {"diverged": True} if found.diverged else {}
    if config.min_cosine is not None:
        row |= {"attempts": found.attempts, "below_min_cosine": found.short_of(config.min_cosine)}
    return row | {k: v for k, v in {"holds": found.holds, "history": found.history}.items() if v is not None}


def _finish(
    out: Path,
    run: dict[str, Any],
    recognizer: Recognizer,
    prior: FacePrior,
    config: SynthConfig,
    targets: int,
    distance: Distance | None,
    processes: int,
    started: float,
) -> None:
    """Sheet and manifest, from what the journals say and the pictures that are there; then the journals go."""
    rows = [row for _, row in sorted(journal.finished(out, run, check=False).items())]
    if len(rows) != targets * config.variations:
        raise EnvironmentProblem(
            f"{targets * config.variations - len(rows)} pictures are in no journal of {str(out)!r}"
        )
    paths = [out / f"{stem((row['target'], row['variation']))}.png" for row in rows]
    good = [row["cosine"] for row in rows if "diverged" not in row]
    manifest = {
        "results": rows,
        "mean_cosine": round(sum(good) / len(good), 6) if good else None,
        "diverged": len(rows) - len(good),
        "below_min_cosine": sum(row.get("below_min_cosine", False) for row in rows),
        **_report(rows),
        **({} if distance is None else _variety(paths, config.variations, distance)),
        "sheet": sheet_of_files(paths, config.variations, out / SHEET),
        "checkpoint": {"digest": recognizer.digest, "backbone": recognizer.header.get("backbone")},
        "face_prior": prior.digest,
        "settings": asdict(config)
        | {"steps": rows[0]["steps"], "device": str(recognizer.device), "processes": processes},
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
    with atomic_write(out / MANIFEST) as temporary:
        temporary.write_text(json.dumps(manifest, indent=2) + "\n")
    journal.close(out)


def _report(rows: Sequence[Row]) -> dict[str, Any]:
    """Means over the pictures of what was tested; of ``face_found`` the share."""
    tested = [row["holds"] for row in rows if "holds" in row]
    means = {}
    for name in tested[0] if tested else ():
        values = [row[name] for row in tested if row[name] is not None]
        means[name] = round(sum(values) / len(values), 4) if values else None
    return {"holds": means} if tested else {}


def _variety(paths: Sequence[Path], variations: int, distance: Distance) -> dict[str, Any]:
    """The mean distance among the variations of each target, from the pictures on the disk."""
    found: list[dict[str, Any]] = []
    for target in range(len(paths) // variations):
        own = torch.stack([read_png(path) for path in paths[target * variations : (target + 1) * variations]])
        mean = distance.mean(own)
        found.append({"target": target, distance.name: None if mean is None else round(mean, 4)})
    values = [row[distance.name] for row in found if row[distance.name] is not None]
    overall = round(sum(values) / len(values), 4) if values else None
    return {"variety": {"measure": distance.name, "note": distance.note, "mean": overall, "targets": found}}
