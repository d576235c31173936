"""The case of an audit: everything that is known before the attack, with thresholds and references fixed."""

from collections.abc import Mapping
from dataclasses import dataclass

from arcinvert.audit.attack import Attacker
from arcinvert.audit.config import AuditConfig
from arcinvert.audit.judges import Judge, ThresholdFaces, folder_faces, make_judge, prior_faces
from arcinvert.audit.photos import Photos, match_photos
from arcinvert.audit.rates import References
from arcinvert.audit.sample import Sample
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
        faces: that fixed the thresholds.
        photos: of the sample, or None.
        references: name of a judge -> what it compares reconstructions with; a judge without references is missing.
    """

    store: Store
    sample: Sample
    attacker: Attacker
    config: AuditConfig
    attacked: Judge
    judges: tuple[Judge, ...]
    faces: ThresholdFaces
    photos: Photos | None
    references: Mapping[str, References]


def prepare(
    store: Store, sample: Sample, attacker: Attacker, name: str, judges: Mapping[str, Recognizer], config: AuditConfig
) -> Case:
    """Fix the thresholds, and find the references; see :func:`~arcinvert.audit.run.audit`."""
    recognizer, folder = attacker.inverter.recognizer, config.calibration_faces
    faces = prior_faces(attacker.inverter.prior) if folder is None else folder_faces(folder)
    attacked = make_judge(name, recognizer, faces, attacked=True, progress=attacker.progress)
    judges = {} if attacker.ranks.rank else judges  # the first process judges for all
    others = [make_judge(title, judge, faces, progress=attacker.progress) for title, judge in judges.items()]
    for judge in others:
        if judge.own.shape == attacked.own.shape and float((judge.own * attacked.own).sum(1).mean()) > SAME:
            raise UsageError(f"expected judges that are not attacked; {judge.name!r} is the attacked network itself")
    photos, references = None, {}
    if config.photos is not None:
        positions = sample.positions.tolist()
        photos = match_photos(
            config.photos, recognizer, sample.targets, positions=positions, identities=sample.identities
        )
        references = {judge.name: photos.references(judge) for judge in (*others, attacked)}
    references[name] = sample.references(references.get(name))
    return Case(store, sample, attacker, config, attacked, (*others, attacked), faces, photos, references)
