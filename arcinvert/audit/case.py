"""The case of an audit: everything that is known before the attack, with thresholds and references fixed."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from arcinvert.audit.attack import Attacker
from arcinvert.audit.black_box.box import NAME, BlackBox
from arcinvert.audit.checks.mismatch import SURE
from arcinvert.audit.config import AuditConfig
from arcinvert.audit.domain import domain_faces, fixed_on
from arcinvert.audit.judges import Judge, ThresholdFaces, folder_faces, make_judge, prior_faces
from arcinvert.audit.photos import Photos, match_photos
from arcinvert.audit.rates import References
from arcinvert.audit.sample import Sample, impostor_templates
from arcinvert.audit.stores import Store
from arcinvert.errors import UsageError
from arcinvert.recognizer import Recognizer

SAME = 0.99
"""A judge whose embeddings have at least this mean cosine to those of the attacked network is the attacked network."""


@dataclass(frozen=True, eq=False)
class Case:
    """Everything an audit knows before it attacks.

    Attributes:
        store, sample, attacker, config: what is attacked, and how.
        attacked: the attacked network as a judge; the last of ``judges``.
        judges: all.
        faces: outside the store: those of ``calibration_faces``, else the face prior's.
        reference: (M, D) the attacked network's embeddings of the face prior's faces, and of ``calibration_faces``.
        domain_digest: SHA-256 of the photos and crops that fixed the judges' thresholds, else that of ``faces``.
        photos: of the sample, or None.
        references: name of a judge -> what it compares reconstructions with; a judge without references is missing.
        stored: the sample as it is stored; ``sample`` is another one only behind a black box, which maps it.
        black_box: the system that made the templates, if it is known by pairs alone.
    """

    store: Store
    sample: Sample
    attacker: Attacker
    config: AuditConfig
    attacked: Judge
    judges: tuple[Judge, ...]
    faces: ThresholdFaces
    reference: Tensor
    domain_digest: str
    photos: Photos | None
    references: Mapping[str, References]
    stored: Sample
    black_box: BlackBox | None = None

    @property
    def gallery(self) -> Store:
        """The store as the attacked network reads it."""
        return self.store if self.black_box is None else self.black_box.gallery(self.store)

    @property
    def made_by_system(self) -> NDArray[np.float32]:
        """(M, D) embeddings of other faces by the system that made the templates, unit norm."""
        return self.reference.numpy() if self.black_box is None else self.black_box.pairs.rows


def prepare(
    store: Store,
    stored: Sample,
    attacker: Attacker,
    name: str,
    judges: Mapping[str, Recognizer],
    config: AuditConfig,
    black_box: BlackBox | None = None,
) -> Case:
    """Fix the thresholds, and find the references; see :func:`~arcinvert.audit.run.audit`."""
    sample = stored if black_box is None else black_box.mapped(stored)
    gallery = store if black_box is None else black_box.gallery(store)
    sure = SURE if black_box is None else black_box.quality.cosine_low
    recognizer, folder, prior = attacker.inverter.recognizer, config.calibration_faces, attacker.inverter.prior
    known = {name, *judges} | (set() if black_box is None else {NAME})
    if unknown := sorted(set(config.thresholds) - known):
        raise UsageError(f"expected the threshold of one of {', '.join(sorted(known))}, got {unknown[0]!r}")
    synthetic = prior_faces(prior)
    own = None if folder is None else folder_faces(folder)
    bare = make_judge(name, recognizer, synthetic, attacked=True, progress=attacker.progress)
    judges = {} if attacker.ranks.rank else judges  # the first process judges for all
    others = [make_judge(title, judge, synthetic, progress=attacker.progress) for title, judge in judges.items()]
    for judge in others:
        if judge.own.shape == bare.own.shape and float((judge.own * bare.own).sum(1).mean()) > SAME:
            raise UsageError(f"expected judges that are not attacked; {judge.name!r} is the attacked network itself")
    photos = None
    if config.photos is not None:
        positions = sample.positions.tolist()
        photos = match_photos(
            config.photos, recognizer, sample.targets, positions=positions, identities=sample.identities, sure=sure
        )
    domain = None if attacker.ranks.rank else domain_faces(own, None if photos is None else photos.faces())
    templates = impostor_templates(gallery, sample.scan, config.seed)
    faces = own or synthetic
    attacked = fixed_on(bare, domain, faces, config.thresholds, templates=templates, progress=attacker.progress)
    others = [fixed_on(judge, domain, faces, config.thresholds, progress=attacker.progress) for judge in others]
    references = {} if photos is None else {judge.name: photos.references(judge) for judge in (*others, attacked)}
    references[name] = sample.references(references.get(name))
    digest = faces.digest if domain is None else domain.digest
    every = (*others, attacked)
    reference = bare.own if own is None else torch.cat([bare.own, attacked.own])
    found = (attacked, every, faces, reference, digest, photos, references)
    return Case(store, sample, attacker, config, *found, stored, black_box)
