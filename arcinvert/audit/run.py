"""The audit, from an open store to the report. It resumes after a kill, with the same report in the end."""

import logging
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from arcinvert.audit import files
from arcinvert.audit.attack import Attacker, attack
from arcinvert.audit.attack_defenses import accuracy_faces, attack_defenses, own_faces
from arcinvert.audit.build_report import Case, Defended, build_report
from arcinvert.audit.config import AuditConfig
from arcinvert.audit.defenses.sweep import fit_defenses
from arcinvert.audit.judges import folder_faces, make_judge, prior_faces
from arcinvert.audit.photos import match_photos
from arcinvert.audit.report import LeakageReport
from arcinvert.audit.sample import Sample, read_sample
from arcinvert.audit.stores import Store
from arcinvert.distributed import SINGLE_PROCESS, Processes
from arcinvert.embeddings import check_embeddings
from arcinvert.errors import EnvironmentProblem, UsageError
from arcinvert.inverter import Inverter
from arcinvert.progress import Progress, silent
from arcinvert.recognizer import Recognizer
from arcinvert.synthesis import journal

log = logging.getLogger(__name__)
SAME = 0.99
"""A judge whose embeddings have this mean cosine to those of the attacked network, or more, is the attacked network."""


def audit(
    store: Store,
    inverter: Inverter,
    *,
    name: str = "attacked",
    judges: Mapping[str, Recognizer] | None = None,
    config: AuditConfig | None = None,
    out: Path | None = None,
    force: bool = False,
    ranks: Processes = SINGLE_PROCESS,
    progress: Progress = silent,
) -> LeakageReport:
    """Attack a sample of a store, and judge the reconstructions.

    Args:
        store: see :func:`~arcinvert.audit.stores.open_store`; it is only read.
        inverter: of the network that made the templates, which is attacked.
        name: of the recognizer.
        judges: name -> a recognizer that has no part in the attack.
        config: the settings.
        out: gets ``report.html`` and ``report.json``; a run that was killed resumes there. None keeps nothing.
        force: remove the files of another audit from ``out``.
        ranks: each of several processes attacks its share; the first one judges and writes. They need ``out``.
        progress: called with (done, all, text).

    Raises:
        InputError: the store is damaged, or of another dimension; or see the folders of the config.
        UsageError: ``out`` holds another audit, a judge is the attacked network, or a defense does not fit.
        EnvironmentProblem: ``out`` cannot be written, or another process writes to it.
    """
    started = time.perf_counter()
    config = AuditConfig() if config is None else config
    judges = {} if judges is None else judges
    if out is None and ranks.world_size > 1:
        raise UsageError("expected a folder for the report: several processes share it")
    recognizer, prior = inverter.recognizer, inverter.prior
    check_embeddings(np.ones((1, store.size)), recognizer.embedding_size)
    sample = read_sample(store, config.sample, config.seed, progress=progress)
    networks = {name: recognizer.digest} | {title: judge.digest for title, judge in judges.items()}
    fingerprint = config.fingerprint(
        store=[store.kind, store.name, sample.scan.digest], networks=networks, prior=prior.digest
    )
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory())) if out is None else out
        done = None if force else files.existing(folder, fingerprint)
        ranks.wait()  # every process has looked
        if done is not None:
            log.info("%r has the report of this audit already", str(folder))
            return done
        stack.enter_context(journal.locked(folder, wanted=ranks.rank == 0))
        if force and ranks.rank == 0:
            files.clear(folder)
        ranks.wait()  # nothing foreign is left
        attacker = Attacker(inverter, config.settings(), ranks, progress)
        case = _case(store, sample, attacker, name, judges, config)
        inner = folder / files.ATTACK
        specs = config.specs(store.size)
        if specs:
            own = own_faces(case.attacked, case.faces, prior, progress)
            measured_on = accuracy_faces(sample, case.attacked, case.faces, own)
            defenses = fit_defenses(specs, own.embeddings)  # refused before the attack, not after it
        attempts = attack(attacker, sample.targets, inner / "bare")
        defended = None
        if specs:
            results = attack_defenses(attacker, defenses, sample, case.judges, case.references, measured_on, own, inner)
            defended = Defended(results, measured_on, own)
        if ranks.rank == 0:
            report = build_report(case, attempts, defended, fingerprint, started)
            faces = attempts.chosen()[0] if config.show_faces else None
            report = files.write(folder, report, faces, sample.positions.tolist(), sweep=config.sweep)
            files.clear_attack(folder)
        ranks.wait()  # the report is written
        done = files.existing(folder, fingerprint)
    if done is None:
        raise EnvironmentProblem(f"the report in {str(folder)!r} disappeared while it was written")
    return done


def _case(
    store: Store, sample: Sample, attacker: Attacker, name: str, judges: Mapping[str, Recognizer], config: AuditConfig
) -> Case:
    """Fix the thresholds, and find the references."""
    faces = (
        prior_faces(attacker.inverter.prior)
        if config.calibration_faces is None
        else folder_faces(config.calibration_faces)
    )
    attacked = make_judge(name, attacker.inverter.recognizer, faces, attacked=True, progress=attacker.progress)
    judges = {} if attacker.ranks.rank else judges  # the first process judges for all
    others = [make_judge(title, judge, faces, progress=attacker.progress) for title, judge in judges.items()]
    for judge in others:
        if judge.own.shape == attacked.own.shape and float((judge.own * attacked.own).sum(1).mean()) > SAME:
            raise UsageError(f"expected judges that are not attacked; {judge.name!r} is the attacked network itself")
    photos = None
    if config.photos is not None:
        photos = match_photos(
            config.photos,
            attacker.inverter.recognizer,
            sample.targets,
            positions=sample.positions.tolist(),
            identities=sample.identities,
        )
    references = {} if photos is None else {judge.name: photos.references(judge) for judge in (*others, attacked)}
    references[name] = sample.references(references.get(name))
    return Case(store, sample, attacker, attacked, (*others, attacked), faces, photos, references, config)
