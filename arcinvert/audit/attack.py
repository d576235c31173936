"""The attack on a sample: every template inverted, once or in several restarts, bare or through a defense."""

import contextlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from arcinvert.audit.defenses import Defense, DrawnMatch
from arcinvert.calibration.calibration import Calibration
from arcinvert.distributed import ALONE, Ranks
from arcinvert.errors import DivergedError
from arcinvert.faceprior.prior import FacePrior
from arcinvert.inversion.terms import Term
from arcinvert.progress import Progress, silent
from arcinvert.recognizer import Recognizer
from arcinvert.synthesis import journal
from arcinvert.synthesis.job import synthesize
from arcinvert.synthesis.reconstruct import Objective, Say, SynthConfig, unheard
from arcinvert.synthesis.sheets import read_png


@dataclass(frozen=True, eq=False)
class Attacker:
    """Who attacks, with what.

    Attributes:
        recognizer: the attacked one.
        prior, calibration: see :mod:`arcinvert.calibration.calibration`.
        config: ``variations`` are the restarts.
        ranks: the processes that share the targets.
        say, progress: told how it goes.
    """

    recognizer: Recognizer
    prior: FacePrior
    calibration: Calibration
    config: SynthConfig
    ranks: Ranks = ALONE
    say: Say = unheard
    progress: Progress = silent


@dataclass(frozen=True, eq=False)
class Attempts:
    """What came of N targets with k restarts each.

    Attributes:
        images: (N, k, 112, 112, 3) uint8.
        own: (N, k, D) the attacked network's embeddings of them, unit norm; minus infinity where an attempt failed.
        score: (N, k) what the attacker himself can see of his success: cosine to the template, or, under a
            defense, the score of the protected templates; minus infinity where an attempt failed.
        steps: of an attempt.
        seconds: of all of them.
    """

    images: Tensor
    own: Tensor
    score: Tensor
    steps: int
    seconds: float

    @property
    def best(self) -> Tensor:
        """(N,) the restart of the highest score: chosen without any judge."""
        return self.score.argmax(1)

    @property
    def failed(self) -> Tensor:
        """(N, k) bool."""
        return self.score.isneginf()

    def mean_score(self) -> float | None:
        """Over the best of each target, those without a picture left out."""
        best = self.score.max(1).values
        return round(float(best[best.isfinite()].double().mean()), 4) if bool(best.isfinite().any()) else None

    def chosen(self, restart: int | None = None) -> tuple[Tensor, Tensor]:
        """Images (N, 112, 112, 3) and failed (N,) of one restart; None: of the best one of each target."""
        rows = torch.arange(len(self.images))
        columns = self.best if restart is None else torch.full_like(rows, restart)
        return self.images[rows, columns], self.failed[rows, columns]


def attack(attacker: Attacker, targets: Tensor, out: Path) -> Attempts:
    """Invert bare templates.

    Args:
        attacker: who.
        targets: (N, D), unit norm.
        out: folder of the journal and the pictures; a run that was killed goes on there.

    Raises:
        UsageError: the folder holds another run.
        EnvironmentProblem: it cannot be written.
    """
    found = _made(attacker, targets, out, None, "")
    return _attempts(attacker, found, out, lambda own: (own * targets[:, None]).sum(2))


def attack_defended(attacker: Attacker, believed: Defense, templates: Tensor, own: Tensor, out: Path) -> Attempts:
    """Invert protected templates, through the defense as the attacker believes it to be.

    He starts at his estimate of the embedding, and follows the protected score down to the pixels.

    Args:
        attacker: who.
        believed: fitted; the store's own defense, or one with another key.
        templates: (N, K) as stored.
        own: (M, D), unit norm, of faces that are in no store.
        out: see :func:`attack`.
    """
    estimate = believed.estimate(templates, own)
    drawn = attacker.calibration.projected.predict(estimate.to(attacker.recognizer.device))

    def objective(rows: Sequence[int]) -> Term:
        return DrawnMatch(believed.term(templates[list(rows)]), drawn[list(rows)])

    found = _made(attacker, estimate, out, objective, believed.spec)
    wanted = normalize(believed.values(templates))

    def score(embeddings: Tensor) -> Tensor:
        with torch.no_grad():
            got = normalize(believed.soft(embeddings.flatten(0, 1)))
        found: Tensor = (got.view(*embeddings.shape[:2], -1) * wanted[:, None]).sum(2)
        return found

    return _attempts(attacker, found, out, score)


def clear(out: Path) -> None:
    """Remove what an attack has left in a folder, and the folder if nothing else is in it."""
    if out.is_dir():
        journal.clear(out, all_of_it=True)
        with contextlib.suppress(OSError):  # something foreign is in it
            out.rmdir()


def _made(attacker: Attacker, targets: Tensor, out: Path, objective: Objective | None, about: str) -> dict[str, Any]:
    """The manifest; also of a run in which nothing stayed finite."""
    try:
        return synthesize(
            attacker.recognizer,
            targets,
            attacker.prior,
            attacker.calibration,
            out,
            config=attacker.config,
            ranks=attacker.ranks,
            objective=objective,
            about=about,
            say=attacker.say,
            progress=attacker.progress,
        )
    except DivergedError as error:
        attacker.say(f"the attack failed on every target: {error}")
        manifest: dict[str, Any] = json.loads((out / journal.MANIFEST).read_bytes())
        return manifest


def _attempts(attacker: Attacker, manifest: dict[str, Any], out: Path, score: Callable[[Tensor], Tensor]) -> Attempts:
    restarts = attacker.config.variations
    rows = manifest["results"]
    failed = torch.tensor(["diverged" in row for row in rows]).view(-1, restarts)
    images = torch.stack([read_png(out / row["file"]) for row in rows])
    own = attacker.recognizer.embed(images.permute(0, 3, 1, 2)).cpu()
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
