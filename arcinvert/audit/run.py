"""The audit, from an open store to the report: one that was killed goes on, and ends with the same report."""

import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from arcinvert.audit import output
from arcinvert.audit.attack import Attacker, attack
from arcinvert.audit.config import AuditConfig
from arcinvert.audit.defended import attack_defenses, measured_on, own_faces
from arcinvert.audit.defenses import Defense, parse_defense
from arcinvert.audit.judges import appoint, folder_faces, prior_faces
from arcinvert.audit.outcome import Case, report_of
from arcinvert.audit.references import match_photos
from arcinvert.audit.report import LeakageReport
from arcinvert.audit.sample import Sample, read_sample
from arcinvert.audit.stores import Store
from arcinvert.calibration.cache import load_calibration
from arcinvert.calibration.calibration import Calibration
from arcinvert.distributed import ALONE, Ranks
from arcinvert.embeddings import check_embeddings
from arcinvert.errors import EnvironmentProblem, UsageError
from arcinvert.faceprior.prior import FacePrior, default_face_prior
from arcinvert.progress import Progress, silent
from arcinvert.recognizer import Recognizer
from arcinvert.synthesis import journal
from arcinvert.synthesis.reconstruct import Say, unheard

SAME = 0.99
"""A judge whose embeddings are as near as this to those of the attacked network is the attacked network."""


def audit(
    store: Store,
    recognizer: Recognizer,
    *,
    name: str = "attacked",
    judges: Mapping[str, Recognizer] | None = None,
    config: AuditConfig | None = None,
    prior: FacePrior | None = None,
    calibration: Calibration | None = None,
    out: Path | None = None,
    force: bool = False,
    ranks: Ranks = ALONE,
    say: Say = unheard,
    progress: Progress = silent,
) -> LeakageReport:
    """Attack a sample of a store, and judge what comes out.

    Args:
        store: see :func:`~arcinvert.audit.stores.open_store`; it is only read.
        recognizer: the network that made the templates, which is attacked.
        name: of it.
        judges: name -> a recognizer that has no part in the attack.
        config: how much, and how.
        prior, calibration: None takes those that ship, or are kept, with the recognizer.
        out: gets ``report.html`` and ``report.json``; a run that was killed goes on there. None keeps nothing.
        force: remove what another audit has left in ``out``.
        ranks: of several processes each attacks its share; the first one judges and writes. They need ``out``.
        say, progress: told how it goes.

    Raises:
        InputError: the store is damaged, or of another dimension; or see the folders of the config.
        UsageError: ``out`` holds another audit, a judge is the attacked network, or a defense does not fit.
        EnvironmentProblem: ``out`` cannot be written, or another process writes to it.
    """
    started = time.perf_counter()
    config = AuditConfig() if config is None else config
    judges = {} if judges is None else judges
    if out is None and ranks.world > 1:
        raise UsageError("expected a folder for the report: several processes share it")
    check_embeddings(np.ones((1, store.size)), recognizer.embedding_size)
    prior = (default_face_prior() if prior is None else prior).to(recognizer.device)
    if ranks.rank:
        ranks.wait()  # for the first process to calibrate, if that is to be done
    if calibration is None:
        calibration = load_calibration(recognizer, prior, progress=progress)
    if not ranks.rank:
        ranks.wait()
    sample = read_sample(store, config.sample, config.seed, progress=progress)
    networks = {name: recognizer.digest} | {title: judge.digest for title, judge in judges.items()}
    run = config.digest(store=[store.kind, store.name, sample.scan.digest], networks=networks, prior=prior.digest)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory())) if out is None else out
        done = None if force else output.existing(folder, run)
        ranks.wait()  # all have looked
        if done is not None:
            say(f"the report is there already, in {str(folder)!r}")
            return done
        stack.enter_context(journal.locked(folder, wanted=ranks.rank == 0))
        if force and ranks.rank == 0:
            output.clear(folder)
        ranks.wait()  # nothing foreign is left
        attacker = Attacker(recognizer, prior, calibration, config.synthesis(), ranks, say, progress)
        case = _case(store, sample, attacker, name, judges, config)
        defenses: list[Defense] = []
        if specs := config.specs(store.size):
            own, labels = own_faces(case.attacked, case.faces, prior, progress)
            known = measured_on(sample, case.attacked, case.faces, own, labels)
            defenses = [parse_defense(spec).fitted(own) for spec in specs]  # refused before the work, not after it
        inner = folder / output.ATTACK
        tried = attack(attacker, sample.targets, inner / "bare")
        entries = []
        if defenses:
            entries = attack_defenses(attacker, defenses, sample, case.judges, case.held, known, own, inner)
        if ranks.rank == 0:
            report = report_of(case, tried, entries, run, started)
            faces = tried.chosen()[0] if config.show_faces else None
            report = output.write(folder, report, faces, sample.positions.tolist(), sweep=config.sweep)
            output.clear_attack(folder)
        ranks.wait()  # the report is written
        done = output.existing(folder, run)
    if done is None:
        raise EnvironmentProblem(f"the report in {str(folder)!r} has gone while it was written")
    return done


def _case(
    store: Store, sample: Sample, attacker: Attacker, name: str, judges: Mapping[str, Recognizer], config: AuditConfig
) -> Case:
    """Fix the thresholds, and find what reconstructions are held against."""
    faces = prior_faces(attacker.prior) if config.calibration_faces is None else folder_faces(config.calibration_faces)
    tell = attacker.progress
    attacked = appoint(name, attacker.recognizer, faces, attacked=True, progress=tell)
    judges = {} if attacker.ranks.rank else judges  # the first process judges for all
    others = [appoint(title, judge, faces, progress=tell) for title, judge in judges.items()]
    for judge in others:
        if judge.own.shape == attacked.own.shape and float((judge.own * attacked.own).sum(1).mean()) > SAME:
            raise UsageError(f"expected judges that are not attacked; {judge.name!r} is the attacked network itself")
    photos = None
    if config.photos is not None:
        photos = match_photos(
            config.photos,
            attacker.recognizer,
            sample.targets,
            positions=sample.positions.tolist(),
            identities=sample.identities,
        )
    held = {} if photos is None else {judge.name: photos.held_by(judge) for judge in (*others, attacked)}
    held[name] = sample.held(held.get(name))
    return Case(store, sample, attacker, attacked, (*others, attacked), faces, photos, held, config)
