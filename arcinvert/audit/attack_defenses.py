"""Defenses applied to the sample: the accuracy each keeps, and what an attacker who adapts to it still reaches."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from arcinvert.audit.attack import Attacker, attack_defended
from arcinvert.audit.defenses import Defense
from arcinvert.audit.defenses.accuracy import accuracy
from arcinvert.audit.defenses.sweep import linkability
from arcinvert.audit.judges import Faces, Judge
from arcinvert.audit.rates import Held, attack_rows, judged
from arcinvert.audit.sample import Sample
from arcinvert.errors import InputError
from arcinvert.faceprior.prior import FacePrior
from arcinvert.inversion.invert import to_bytes
from arcinvert.progress import Progress, silent

ENOUGH = 40
"""If so many people of the sample have two templates, accuracy is measured on them; else on other faces."""
PICTURES = 3
"""Faces of each person of the face prior that the attacker learns from."""
EACH = 2
"""So many faces for every number of an embedding are enough to learn from."""


def attack_defenses(
    attacker: Attacker,
    defenses: Sequence[Defense],
    sample: Sample,
    judges: Sequence[Judge],
    held: Mapping[str, Held],
    known: tuple[Tensor, Tensor, str],
    own: Tensor,
    out: Path,
) -> list[dict[str, Any]]:
    """Entries of ``report.json``: one for each defense, with a key two, against an attacker with it and without.

    Args:
        attacker: who attacks.
        defenses: fitted.
        sample: what is protected.
        judges, held: judge the reconstructions, see :class:`~arcinvert.audit.rates.Held`.
        known: embeddings, labels and where they come from, see :func:`measured_on`.
        own: (M, D), unit norm, the attacker's own faces.
        out: gets a folder for each attack.
    """
    embeddings, labels, source = known
    entries: list[dict[str, Any]] = []
    for defense in defenses:
        kept, linked = accuracy(defense, embeddings, labels).to_json(), linkability(defense, embeddings, labels)
        templates = defense.protect(sample.targets, sample.positions.tolist())
        for with_key in (True, False) if defense.keyed else (True,):
            attacker.say(f"attacking {defense.spec}{'' if with_key else ', the key not known'}")
            believed = defense if with_key else defense.guessed(templates, own, attacker.config.seed)
            tried = attack_defended(attacker, believed, templates, own, out / f"defense-{len(entries):02d}")
            rows = [
                {"judge": judge.name, **row.to_json()}
                for judge in judges
                if judge.name in held
                for row in attack_rows(judge, held[judge.name], judged(judge, *tried.chosen()))
            ]
            entry = {"spec": defense.spec, "key_known": with_key, **kept, "accuracy_on": source, "own_faces": len(own)}
            entry |= {"d_sys": linked.to_json()["d_sys"], "linkability": linked.to_json()}
            entries.append(entry | {"rows": rows, "score": tried.mean_score(), "failed": int(tried.failed.sum())})
    return entries


def own_faces(attacked: Judge, faces: Faces, prior: FacePrior, progress: Progress = silent) -> tuple[Tensor, Tensor]:
    """The attacker's own: embeddings (M, D), unit norm, and whom they show (M,).

    The faces of a folder that fixed the thresholds, if there are :data:`EACH` for every number of an embedding; else
    faces of the prior.
    """
    if faces.folder and len(attacked.own) >= EACH * attacked.own.shape[1]:
        return attacked.own, torch.from_numpy(faces.labels)
    labels = prior.labels.cpu()
    rows = torch.cat([(labels == label).nonzero()[:PICTURES, 0] for label in torch.unique(labels)])
    parts: list[Tensor] = []
    for part in torch.split(rows, 32):
        codes = prior.codes[part.to(prior.codes.device)].to(prior.code_scale) * prior.code_scale
        with torch.no_grad():
            parts.append(attacked.embed(to_bytes(prior.render(codes)).cpu()))
        progress(sum(map(len, parts)), len(rows), "the attacker's own faces")
    return torch.cat(parts), labels[rows]


def measured_on(
    sample: Sample, attacked: Judge, faces: Faces, own: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor, str]:
    """Embeddings (M, D) with several of each person, to measure accuracy on; their labels (M,), and whose they are.

    People of the sample if :data:`ENOUGH` of them have two templates, else the faces that fixed the thresholds, else
    those of the attacker.

    Raises:
        InputError: none of them show a person more than once.
    """
    two = ~sample.seconds.isnan().any(1)
    if int(two.sum()) >= ENOUGH:
        people = torch.arange(int(two.sum())).repeat(2)
        rows = torch.cat([sample.targets[two], sample.seconds[two]])
        return rows, people, "two templates of each person of the sample"
    shown = torch.from_numpy(faces.labels)
    if len(torch.unique(shown)) < len(shown):
        return attacked.own, shown, faces.what
    if len(torch.unique(labels)) == len(labels):
        raise InputError("expected several faces of a person to measure accuracy on; see --calibration-faces")
    people = torch.unique(labels)
    return own, labels, f"the face prior's own synthetic faces, {PICTURES} of each of {len(people)} people"
