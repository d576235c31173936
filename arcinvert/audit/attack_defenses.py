"""Defenses applied to the sample: the accuracy each keeps, and the rates of an attacker who adapts to it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from arcinvert.audit.attack import Attacker, attack_defended
from arcinvert.audit.defenses import Defense
from arcinvert.audit.defenses.sweep import DefenseResult, Outcome, sweep
from arcinvert.audit.judges import Judge, ThresholdFaces, render
from arcinvert.audit.rates import References, attack_rates, embed_attempts
from arcinvert.audit.sample import Sample
from arcinvert.errors import InputError
from arcinvert.faceprior.prior import FacePrior
from arcinvert.progress import Progress, silent

ENOUGH_PEOPLE = 40
"""If so many people of the sample have two templates, accuracy is measured on them; else on other faces."""
FACES_A_PERSON = 3
"""Faces of each identity of the face prior that the attacker learns from."""
FACES_A_NUMBER = 2
"""So many faces for every number of an embedding are enough to learn from."""


@dataclass(frozen=True, eq=False)
class KnownFaces:
    """Embeddings (N, D), unit norm, their identities (N,), and where they come from, in words."""

    embeddings: Tensor
    labels: Tensor
    source: str


def attack_defenses(
    attacker: Attacker,
    defenses: Sequence[Defense],
    sample: Sample,
    judges: Sequence[Judge],
    references: Mapping[str, References],
    measured_on: KnownFaces,
    own: KnownFaces,
    out: Path,
) -> list[DefenseResult]:
    """Attack the sample through each defense; one with a key by an attacker who knows it, and by one who does not.

    Args:
        attacker: the attack.
        defenses: fitted.
        sample: is protected.
        judges: judge the reconstructions.
        references: name of a judge -> its references.
        measured_on: for the accuracy, see :func:`accuracy_faces`.
        own: the attacker's own faces.
        out: gets a folder for each attack.
    """
    count = 0

    def attack(defense: Defense, key_known: bool) -> Outcome:
        nonlocal count
        templates = defense.protect(sample.targets, sample.positions.tolist())
        believed = defense if key_known else defense.guessed(templates, own.embeddings, attacker.settings.seed)
        found = attack_defended(attacker, believed, templates, own.embeddings, out / f"defense-{count:02d}")
        count += 1
        rates = [
            rate
            for judge in judges
            if judge.name in references
            for rate in attack_rates(judge, references[judge.name], embed_attempts(judge, *found.chosen()))
        ]
        return Outcome(rates, found.mean_score(), int(found.failed.sum()))

    return sweep(defenses, measured_on.embeddings, measured_on.labels, attack)


def own_faces(attacked: Judge, faces: ThresholdFaces, prior: FacePrior, progress: Progress = silent) -> KnownFaces:
    """The attacker's own faces.

    A folder that fixed the thresholds, if it has :data:`FACES_A_NUMBER` for every number of an embedding; else faces of
    the prior.
    """
    if faces.folder and len(attacked.own) >= FACES_A_NUMBER * attacked.own.shape[1]:
        return KnownFaces(attacked.own, torch.from_numpy(faces.labels), faces.source)
    labels = prior.labels.cpu()
    people = torch.unique(labels)
    rows = torch.cat([(labels == label).nonzero()[:FACES_A_PERSON, 0] for label in people])
    parts: list[Tensor] = []
    for images in render(prior, rows):
        parts.append(attacked.embed(images))
        progress(sum(map(len, parts)), len(rows), "the attacker's own faces")
    source = f"the face prior's own synthetic faces, {FACES_A_PERSON} of each of {len(people)} people"
    return KnownFaces(torch.cat(parts), labels[rows], source)


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
