"""The audit, from an open store to the report. It resumes after a kill, with the same report in the end."""

import logging
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from arcinvert.audit import files
from arcinvert.audit.attack import Attacker, attack
from arcinvert.audit.attack_defenses import attack_defenses, plan_defenses
from arcinvert.audit.black_box.box import BlackBox
from arcinvert.audit.build_report import build_report
from arcinvert.audit.case import prepare
from arcinvert.audit.checks.mismatch import refuse_other_size
from arcinvert.audit.config import AuditConfig
from arcinvert.audit.groups import group_labels
from arcinvert.audit.report import LeakageReport
from arcinvert.audit.sample import read_sample
from arcinvert.audit.stores import Store
from arcinvert.distributed import SINGLE_PROCESS, Processes
from arcinvert.errors import EnvironmentProblem, UsageError
from arcinvert.inverter import Inverter
from arcinvert.progress import Progress, silent
from arcinvert.recognizer import Recognizer
from arcinvert.synthesis import journal

log = logging.getLogger(__name__)


def audit(
    store: Store,
    inverter: Inverter,
    *,
    name: str = "attacked",
    judges: Mapping[str, Recognizer] | None = None,
    groups: Store | None = None,
    config: AuditConfig | None = None,
    black_box: BlackBox | None = None,
    command: str | None = None,
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
        groups: the store once more, with ``config.group`` as the column of identities; None reports no groups.
        config: the settings.
        black_box: the unknown system that made the templates; ``inverter`` is then of the recognizer that its map leads
            to. The scores of the reconstructions may follow in a second run into the same folder.
        command: the command line, for the report; None from Python. It must hold no password and no key.
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
    size = recognizer.embedding_size if black_box is None else black_box.map.sizes[0]
    refuse_other_size(store, size, by_pairs=black_box is not None)
    if black_box is not None and config.specs(store.size):
        raise UsageError("expected no --defense or --sweep with --pairs: a defense is attacked through its recognizer")
    sample = read_sample(store, config.sample, config.seed, progress=progress)
    networks = {name: recognizer.digest} | {title: judge.digest for title, judge in judges.items()}
    known = {"store": [store.kind, store.name, sample.scan.digest], "networks": networks, "prior": prior.digest}
    before = fingerprint = config.fingerprint(**known | ({} if black_box is None else {"pairs": black_box.digest}))
    if black_box is not None and black_box.scores is not None:
        fingerprint = config.fingerprint(**known, pairs=black_box.digest, scores=black_box.scores_digest)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory())) if out is None else out
        done = None if force else files.existing(folder, fingerprint, before=before)
        ranks.wait()  # every process has looked
        if done is not None:
            log.info("%r has the report of this audit already", str(folder))
            return done
        stack.enter_context(journal.locked(folder, wanted=ranks.rank == 0))
        if force and ranks.rank == 0:
            files.clear(folder)
        ranks.wait()  # nothing foreign is left
        attacker = Attacker(inverter, config.settings(), ranks, progress)
        if black_box is not None:
            black_box.read_scores(sample)  # scores are refused before the attack, not after it
        case = prepare(store, sample, attacker, name, judges, config, black_box)
        inner = folder / files.ATTACK
        labels = None if groups is None else group_labels(groups, store, sample)
        plan = plan_defenses(case) if config.specs(store.size) else None  # refused before the attack, not after it
        attempts = attack(attacker, case.sample.targets, inner / "bare")
        results = attack_defenses(case, plan, attempts, inner) if plan else []
        if ranks.rank == 0:
            report = build_report(case, attempts, plan, results, fingerprint, started, labels, command)
            faces = attempts.chosen()[0] if config.show_faces else None
            enrolled = None if case.photos is None else case.photos.enrolled
            report = files.write(folder, report, faces, sample.positions.tolist(), enrolled, sweep=config.sweep)
            if black_box is None or black_box.scores is not None or not config.show_faces:
                files.clear_attack(folder)  # else it is needed again, for the scores of these faces
        ranks.wait()  # the report is written
        done = files.existing(folder, fingerprint)
    if done is None:
        raise EnvironmentProblem(f"the report in {str(folder)!r} disappeared while it was written")
    return done
