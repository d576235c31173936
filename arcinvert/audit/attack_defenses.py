"""Defenses applied to the sample: the accuracy each keeps, and the rates of an attacker who adapts to it."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from arcinvert.audit.attack import Attempts, attack_defended
from arcinvert.audit.case import Case
from arcinvert.audit.defenses import Defense
from arcinvert.audit.defenses.sweep import NONE, DefenseResult, Outcome, fit_defenses, sweep
from arcinvert.audit.judges import Judge, ThresholdFaces
from arcinvert.audit.rates import attack_rates, embed_attempts
from arcinvert.audit.sample import Sample
from arcinvert.errors import InputError
from arcinvert.faceprior.prior import FacePrior
from arcinvert.progress import Progress, silent

ENOUGH_PEOPLE = 40
"""If so many people of the sample have two templates, accuracy is measured on them; else on other faces."""
PEOPLE, FACES_A_PERSON = 1000, 3
"""Faces of each identity of the face prior that the attacker learns from."""
FACES_A_NUMBER = 2
"""So many faces for every number of an embedding are enough to learn from."""


@dataclass(frozen=True, eq=False)
class KnownFaces:
    """Embeddings (N, D), unit norm, their identities (N,), and where they come from, in words."""

    embeddings: Tensor
    labels: Tensor
    source: str


@dataclass(frozen=True, eq=False)
class DefensePlan:
    """The fitted defenses, none of them first; the faces that accuracy is measured on, and the attacker's own faces."""

    defenses: list[Defense]
    measured_on: KnownFaces
    own: KnownFaces


def plan_defenses(case: Case) -> DefensePlan:
    """Fit the defenses of a case, and the bare templates as the first of them, with which they are compared.

    Raises:
        UsageError: one does not fit the embeddings.
        InputError: see :func:`accuracy_faces`.
    """
    own = own_faces(case.attacked, case.faces, case.attacker.inverter.prior, case.attacker.progress)
    measured_on = accuracy_faces(case.sample, case.attacked, case.faces, own)
    specs = [spec for spec in case.config.specs(case.store.size) if spec != NONE]
    return DefensePlan(fit_defenses([NONE, *specs], own.embeddings), measured_on, own)


def attack_defenses(case: Case, plan: DefensePlan, bare: Attempts, out: Path) -> list[DefenseResult]:
    """Attack the sample through each defense, in a folder of ``out`` each; ``bare`` is the attack without any."""
    sample, attacker, references, own = case.sample, case.attacker, case.references, plan.own.embeddings
    count = 0

    def attack(defense: Defense, key_known: bool) -> Outcome:
        nonlocal count
        if defense.label == NONE:
            return outcome(bare)
        templates = defense.protect(sample.targets, sample.positions.tolist())
        believed = defense if key_known else defense.guessed(templates, own, attacker.settings.seed)
        found = attack_defended(attacker, believed, templates, own, out / f"defense-{count:02d}")
        count += 1
        return outcome(found)

    def outcome(found: Attempts) -> Outcome:
        rates = [
            rate
            for judge in case.judges
            if judge.name in references
            for rate in attack_rates(judge, references[judge.name], embed_attempts(judge, *found.chosen()))
        ]
        return Outcome(rates, found.mean_score(), int(found.failed.sum()))

    return sweep(plan.defenses, plan.measured_on.embeddings, plan.measured_on.labels, attack)


def own_faces(attacked: Judge, faces: ThresholdFaces, prior: FacePrior, progress: Progress = silent) -> KnownFaces:
    """The attacker's own faces.

    A folder that fixed the thresholds, if it has :data:`FACES_A_NUMBER` for every number of an embedding; else faces of
    the prior.
    """
    if faces.folder and len(attacked.own) >= FACES_A_NUMBER * attacked.own.shape[1]:
        return KnownFaces(attacked.own, torch.from_numpy(faces.labels), faces.source)
    people = range(min(PEOPLE, len(prior)))
    parts: list[Tensor] = []
    for start in people[::16]:
        images = prior.portraits(people[start : start + 16], FACES_A_PERSON, seed=start).flatten(0, 1)
        parts.append(attacked.embed(images))
        progress(start, len(people), "people embedded, for the attacker to learn the defense")
    source = f"the face prior's own synthetic faces, {FACES_A_PERSON} of each of {len(people)} people"
    return KnownFaces(torch.cat(parts), torch.arange(len(people)).repeat_interleave(FACES_A_PERSON), source)


def accuracy_faces(sample: Sample, attacked: Judge, faces: ThresholdFaces, own: KnownFaces) -> KnownFaces:
    """Faces with several of each person, on which accuracy is measured.

    People of the sample if :data:`ENOUGH_PEOPLE` of them have two templates, else the faces that fixed the thresholds,
    else those of the attacker.

    Raises:
        InputError: none of them show a person more than once.
    """
    two = ~sample.seconds.isnan().any(1)
    if int(two.sum()) >= ENOUGH_PEOPLE:
        people = torch.arange(int(two.sum())).repeat(2)
        rows = torch.cat([sample.targets[two], sample.seconds[two]])
        return KnownFaces(rows, people, "two templates of each person of the sample")
    for known in (KnownFaces(attacked.own, torch.from_numpy(faces.labels), faces.source), own):
        if len(torch.unique(known.labels)) < len(known.labels):
            return known
    raise InputError("expected several faces of a person to measure accuracy on; see --calibration-faces")
