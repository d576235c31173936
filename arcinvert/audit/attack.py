"""The attack on a sample: inverts every template, once or in several restarts, bare or through a defense."""

import contextlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from arcinvert.audit.defenses import Defense
from arcinvert.distributed import SINGLE_PROCESS, Processes
from arcinvert.errors import DivergedError
from arcinvert.inversion.reconstruct import Objective, Settings
from arcinvert.inversion.terms import Term
from arcinvert.inverter import Inverter
from arcinvert.progress import Progress, silent
from arcinvert.synthesis import journal
from arcinvert.synthesis.job import synthesize
from arcinvert.synthesis.sheets import read_png

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Attacker:
    """The attacker: an inverter, and the settings of the inversion.

    Attributes:
        inverter: of the attacked recognizer.
        settings: ``variations`` are the restarts.
        ranks: the processes that share the targets.
        progress: called with (done, all, text).
    """

    inverter: Inverter
    settings: Settings
    ranks: Processes = SINGLE_PROCESS
    progress: Progress = silent


@dataclass(frozen=True, eq=False)
class Attempts:
    """The attempts at N targets, with k restarts each.

    Attributes:
        images: (N, k, 112, 112, 3) uint8.
        own: (N, k, D) the attacked network's embeddings of them, unit norm; minus infinity where an attempt failed.
        score: (N, k) the success as the attacker measures it: cosine to the template, or, under a defense, the score of
            the protected templates; minus infinity where an attempt failed.
        steps: of one attempt.
        seconds: of all attempts.
    """

    images: Tensor
    own: Tensor
    score: Tensor
    steps: int
    seconds: float

    @property
    def best(self) -> Tensor:
        """(N,) the restart with the highest score, chosen without any judge."""
        return self.score.argmax(1)

    @property
    def failed(self) -> Tensor:
        """(N, k) bool."""
        return self.score.isneginf()

    def mean_score(self) -> float | None:
        """Mean score of the best restart of each target, over the targets that have an image; None without any."""
        best = self.score.max(1).values
        return round(float(best[best.isfinite()].double().mean()), 4) if bool(best.isfinite().any()) else None

    def chosen(self, restart: int | None = None) -> tuple[Tensor, Tensor]:
        """Images (N, 112, 112, 3) and failed (N,) of one restart, or, with None, of the best one of each target."""
        rows = torch.arange(len(self.images))
        columns = self.best if restart is None else torch.full_like(rows, restart)
        return self.images[rows, columns], self.failed[rows, columns]


def attack(attacker: Attacker, targets: Tensor, out: Path) -> Attempts:
    """Invert bare templates.

    Args:
        attacker: the recognizer and the settings.
        targets: (N, D), unit norm.
        out: folder of the journal and the images; a run that was killed resumes there.

    Raises:
        UsageError: the folder holds another run.
        EnvironmentProblem: it cannot be written.
    """
    manifest = _run(attacker, targets, out, None, "")
    return _attempts(attacker, manifest, out, lambda own: (own * targets[:, None]).sum(2))


def attack_defended(attacker: Attacker, believed: Defense, templates: Tensor, own: Tensor, out: Path) -> Attempts:
    """Invert protected templates, through the defense as the attacker believes it to be.

    The attack starts at an estimate of the embedding, and follows the gradient of the protected score to the pixels.

    Args:
        attacker: see :func:`attack`.
        believed: fitted; the store's own defense, or one with another key.
        templates: (N, K) as stored.
        own: (M, D), unit norm, of faces outside the store.
        out: see :func:`attack`.
    """
    estimate = believed.estimate(templates, own)

    def objective(rows: Sequence[int]) -> Term:
        return believed.term(templates[list(rows)])

    manifest = _run(attacker, estimate, out, objective, believed.fingerprint)
    wanted = normalize(believed.values(templates))

    def score(embeddings: Tensor) -> Tensor:
        with torch.no_grad():
            got = normalize(believed.soft(embeddings.flatten(0, 1)))
        scores: Tensor = (got.view(*embeddings.shape[:2], -1) * wanted[:, None]).sum(2)
        return scores

    return _attempts(attacker, manifest, out, score)


def clear(out: Path) -> None:
    """Remove the files of an attack from a folder, and the folder if nothing else is in it."""
    if out.is_dir():
        journal.clear(out, all_of_it=True)
        with contextlib.suppress(OSError):  # it holds files that are not ours
            out.rmdir()


def _run(attacker: Attacker, targets: Tensor, out: Path, objective: Objective | None, about: str) -> dict[str, Any]:
    """The manifest, even of a run in which every attempt diverged."""
    try:
        return synthesize(
            attacker.inverter,
            targets,
            out,
            settings=attacker.settings,
            report=False,
            ranks=attacker.ranks,
            objective=objective,
            objective_name=about,
            progress=attacker.progress,
        )
    except DivergedError as error:
        log.warning("the attack failed on every target: %s", error)
        manifest: dict[str, Any] = json.loads((out / journal.MANIFEST).read_bytes())
        return manifest


def _attempts(attacker: Attacker, manifest: dict[str, Any], out: Path, score: Callable[[Tensor], Tensor]) -> Attempts:
    restarts = attacker.settings.variations
    rows = manifest["results"]
    failed = torch.tensor(["diverged" in row for row in rows]).view(-1, restarts)
    images = torch.stack([read_png(out / row["file"]) for row in rows])
    own = attacker.inverter.recognizer.embed(images).cpu()
    own = own.view(-1, restarts, own.shape[1])
    scores = score(own).masked_fill(failed, -torch.inf)
    seconds = sum(row["seconds"] for row in rows)
    return Attempts(
        images.view(-1, restarts, *images.shape[1:]),
        own.masked_fill(failed[..., None], -torch.inf),
        scores,
        rows[0]["steps"],
        seconds,
    )
