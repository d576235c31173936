"""A job in a folder: what ``arcinvert synth`` does, from targets to ``manifest.json``."""

import hashlib
import json
import logging
import math
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import arcinvert
from arcinvert.checkpoint import atomic_write
from arcinvert.distributed import SINGLE_PROCESS, Processes
from arcinvert.errors import DivergedError, EnvironmentProblem
from arcinvert.faceprior.prior import ATTRIBUTES
from arcinvert.faces.alignment import Detector
from arcinvert.inversion.controls import asked as degrees_asked
from arcinvert.inversion.controls import in_degrees
from arcinvert.inversion.reconstruct import (
    Objective,
    OnStep,
    Reconstruction,
    Settings,
    batches_of,
)
from arcinvert.inverter import Inverter
from arcinvert.progress import Progress, silent
from arcinvert.synthesis import journal
from arcinvert.synthesis.credentials import ContentCredentials
from arcinvert.synthesis.diversity import Distance, open_distance
from arcinvert.synthesis.film import write_animation, write_plot
from arcinvert.synthesis.journal import MANIFEST, SHEET, Row, stem
from arcinvert.synthesis.robustness import crop_detector, robustness
from arcinvert.synthesis.sheets import SYNTHETIC, read_crop, sheet_of_files, write_png

log = logging.getLogger(__name__)

TOLERANCE = {"yaw": 6.0, "pitch": 6.0, "smile": 0.06, "light": 0.08, "brightness": 0.1, "age": 8.0}
"""Degrees, years, and units of the others, within which an attribute is reached: about the spread of measurements."""

VERSION = 2
"""Of the manifest's keys; 1 called robustness ``holds`` and diversity ``variety``."""


def synthesize(
    inverter: Inverter,
    targets: Tensor,
    out: Path,
    *,
    settings: Settings,
    report: bool = True,
    force: bool = False,
    ranks: Processes = SINGLE_PROCESS,
    objective: Objective | None = None,
    objective_name: str = "",
    progress: Progress = silent,
    on_step: OnStep | None = None,
    credentials: ContentCredentials | None = None,
) -> dict[str, Any]:
    """Reconstruct, and write ``out/TTTT_VV.png``, ``out/sheet.png`` and ``out/manifest.json``.

    A job that was killed resumes where it was; one that is complete only writes its manifest again.
    With ``settings.record`` each target's first image also gets ``TTTT_00.webp`` and ``TTTT_00.plot.png``.

    Args:
        inverter: recognizer, face prior and calibration.
        targets: (T, D), unit norm.
        out: the folder.
        settings, objective, progress, on_step: see
            :meth:`~arcinvert.inverter.Inverter.reconstruct_batches`.
        report: measure the robustness of each image and the diversity of a target's variations.
        force: start again, and remove the files of another job.
        ranks: each of several processes computes its share of the batches; the first one writes sheet and manifest.
        objective_name: of the objective; two jobs of different ones are not the same job.
        credentials: sign all images, which then name the attacked network; another certificate makes another job.

    Returns:
        The manifest: ``results`` with target, variation, file and its sha256, cosine (of the 8-bit image),
        steps and seconds (an image's share of its batch), and, if the settings ask for them,
        ``robustness``, ``attempts`` and ``history``; and the settings, digests and versions behind them.

    Raises:
        UsageError: the folder holds another job.
        InputError: C2PA refuses the certificate.
        DivergedError: no target gave a finite image; the manifest is written all the same.
        EnvironmentProblem: the folder cannot be written, or another process writes to it.
        MemoryError: there is too little for a single image.
    """
    started = time.perf_counter()
    run = run_of(inverter, targets, settings, report=report, objective_name=objective_name)
    if credentials is not None:
        credentials = replace(credentials, recognizer=inverter.recognizer.digest)
        run |= {"c2pa_certificate": credentials.fingerprint}
    if not force:
        journal.refuse_other_run(out, run)
    distance = open_distance(inverter) if report and settings.variations > 1 else None
    detector = _detector() if report else None
    ranks.wait()  # every process has checked the folder
    with journal.locked(out, wanted=ranks.rank == 0):
        if ranks.rank == 0:
            journal.clear(out, all_of_it=force)
        ranks.wait()  # nothing foreign is left
        there = journal.finished(out, run)
        batches = batches_of(len(targets), settings)[ranks.rank :: ranks.world_size]
        for part in inverter.reconstruct_batches(
            targets,
            settings,
            batches=[batch for batch in batches if not all(job in there for job in batch)],
            objective=objective,
            progress=progress,
            on_step=on_step,
        ):
            tested: Sequence[dict[str, float | bool | None] | None] = [None] * len(part)
            if report:
                pixels, rows = torch.stack([found.pixels for found in part]), [found.target for found in part]
                tested = robustness(inverter.recognizer, pixels, targets[rows], detector)
            for found, row in zip(part, tested, strict=True):
                if (found.target, found.variation) not in there:
                    journal.append(out, ranks.rank, run, _write(out, found, row, settings, credentials))
        ranks.wait()  # all images are there
        if ranks.rank == 0:
            _finish(out, run, inverter, settings, len(targets), distance, ranks.world_size, started, credentials)
        ranks.wait()  # the manifest is written
    manifest: dict[str, Any] = json.loads((out / MANIFEST).read_bytes())
    if manifest["mean_cosine"] is None:
        raise DivergedError(f"none of the {len(manifest['results'])} reconstructions stayed finite")
    return manifest


def run_of(
    inverter: Inverter, targets: Tensor, settings: Settings, *, report: bool, objective_name: str
) -> dict[str, Any]:
    """The identity of a job, as JSON: two jobs of the same targets, checkpoint and settings but for the batch size."""
    run = {
        "version": VERSION,
        "targets": hashlib.sha256(targets.contiguous().numpy().tobytes()).hexdigest(),
        "checkpoint": inverter.recognizer.digest,
        **{name: value for name, value in asdict(settings).items() if name != "batch_size"},
        "report": report,
        **({"objective": objective_name} if objective_name else {}),
    }
    return json.loads(json.dumps(run))  # type: ignore[no-any-return]


def _detector() -> Detector | None:
    try:
        return crop_detector()
    except EnvironmentProblem as problem:
        log.warning("there is no face detector, so its entries in the manifest stay empty: %s", problem)
        return None


def _write(
    out: Path,
    found: Reconstruction,
    tested: dict[str, float | bool | None] | None,
    settings: Settings,
    credentials: ContentCredentials | None,
) -> Row:
    """Write the files of an image; its row of the manifest."""
    name = stem((found.target, found.variation))
    recorded = settings.record and found.variation == 0
    if recorded:
        write_animation(out / f"{name}.webp", [*found.frames, found.pixels], credentials)
        write_plot(out / f"{name}.plot.png", found.history, credentials)
    row: Row = {
        "target": found.target,
        "variation": found.variation,
        "file": f"{name}.png",
        "sha256": write_png(out / f"{name}.png", found.picture, credentials),
        "cosine": round(found.cosine, 6),
        "steps": found.steps,
        "seconds": round(found.seconds, 3),
    }
    row |= {"diverged": True} if found.diverged else {}
    if settings.min_cosine is not None:
        row |= {"attempts": found.attempts, "below_min_cosine": found.below(settings.min_cosine)}
    row |= {} if tested is None else {"robustness": tested}
    row |= {"attributes": compared(found.asked, tested or {})} if found.asked else {}
    return row | ({"history": found.history} if settings.record else {})


def compared(asked: Mapping[str, float], measured: Mapping[str, float | bool | None]) -> dict[str, dict[str, Any]]:
    """What was asked of an image beside what is measured on it: yaw and pitch in degrees, age in years, the others in
    their units.

    ``missed`` marks those that are further off than a third of what was asked, and than :data:`TOLERANCE`.
    """
    seen = {name: float(value) for name in TOLERANCE if (value := measured.get(name)) is not None}
    found: dict[str, dict[str, Any]] = {}
    for name, wanted in degrees_asked(asked).items():
        got = {**seen, **in_degrees(seen)}.get(name)
        off = None if got is None else abs(got - wanted)
        missed = off is not None and off > max(TOLERANCE[name], abs(wanted) / 3 if name in ("yaw", "pitch") else 0)
        found[name] = {"asked": round(wanted, 3), "measured": None if got is None else round(got, 3), "missed": missed}
    return found


def missed_controls(rows: Sequence[Row], settings: Settings) -> int:
    """How many images miss a pose, expression or light that the settings ask for, not one that a variation drew."""
    values = zip(ATTRIBUTES, settings.controls.attributes(), strict=True)
    asked = [name for name, value in values if not math.isnan(value)]
    found = (row.get("attributes", {}) for row in rows)
    return sum(any(name in one and one[name]["missed"] for name in asked) for one in found)


def _finish(
    out: Path,
    run: dict[str, Any],
    inverter: Inverter,
    settings: Settings,
    targets: int,
    distance: Distance | None,
    processes: int,
    started: float,
    credentials: ContentCredentials | None,
) -> None:
    """Write sheet and manifest from the journals and the images that are there; then remove the journals."""
    rows = [row for _, row in sorted(journal.finished(out, run, check=False).items())]
    if len(rows) != targets * settings.variations:
        raise EnvironmentProblem(
            f"{targets * settings.variations - len(rows)} images are in no journal of {str(out)!r}"
        )
    paths = [out / f"{stem((row['target'], row['variation']))}.png" for row in rows]
    good = [row["cosine"] for row in rows if "diverged" not in row]
    manifest = {
        "version": VERSION,
        "results": rows,
        "mean_cosine": round(sum(good) / len(good), 6) if good else None,
        "diverged": len(rows) - len(good),
        "below_min_cosine": sum(row.get("below_min_cosine", False) for row in rows),
        **_report(rows),
        **({} if distance is None else _diversity(paths, settings.variations, distance)),
        "sheet": sheet_of_files(paths, settings.variations, out / SHEET, credentials),
        "checkpoint": {"digest": inverter.recognizer.digest, "backbone": inverter.recognizer.header.get("backbone")},
        "face_prior": inverter.prior.digest,
        "licenses": inverter.licenses,
        "settings": asdict(settings)
        | {"steps": rows[0]["steps"], "device": str(inverter.recognizer.device), "processes": processes},
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
    if missed := missed_controls(rows, settings):
        log.warning("%d of %d images miss the pose, expression or light that was asked for", missed, len(rows))
    with atomic_write(out / MANIFEST) as temporary:
        temporary.write_text(json.dumps(manifest, indent=2) + "\n")
    journal.close(out)


def _report(rows: Sequence[Row]) -> dict[str, Any]:
    """Means over the images of each test; the share of ``face_found``."""
    tested = [row["robustness"] for row in rows if "robustness" in row]
    means = {}
    for name in tested[0] if tested else ():
        values = [row[name] for row in tested if row[name] is not None]
        means[name] = round(sum(values) / len(values), 4) if values else None
    return {"robustness": means} if tested else {}


def _diversity(paths: Sequence[Path], variations: int, distance: Distance) -> dict[str, Any]:
    """The mean distance among the variations of each target, from the images on the disk."""
    found: list[dict[str, Any]] = []
    for target in range(len(paths) // variations):
        own = torch.stack([read_crop(path) for path in paths[target * variations : (target + 1) * variations]])
        mean = distance.mean(own)
        found.append({"target": target, distance.name: None if mean is None else round(mean, 4)})
    values = [row[distance.name] for row in found if row[distance.name] is not None]
    overall = round(sum(values) / len(values), 4) if values else None
    return {"diversity": {"measure": distance.name, "note": distance.note, "mean": overall, "targets": found}}
