"""From attempts to the report: every judge's rates and controls, re-identification, and the summaries."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from arcinvert.audit.attack import Attacker, Attempts
from arcinvert.audit.attack_defenses import KnownFaces
from arcinvert.audit.checks import mismatch, rank1
from arcinvert.audit.config import AuditConfig
from arcinvert.audit.defenses.sweep import DefenseResult
from arcinvert.audit.judges import Judge, ThresholdFaces
from arcinvert.audit.photos import Photos
from arcinvert.audit.rates import (
    TYPE_I,
    Rate,
    References,
    attack_rates,
    control_faces,
    control_rates,
    embed_attempts,
    ratio,
    someone_else,
)
from arcinvert.audit.report import (
    VERSION,
    AttackSummary,
    JudgeResult,
    LeakageReport,
    Reidentification,
    RestartResult,
    Restarts,
    Run,
    SampleSummary,
    StoreSummary,
)
from arcinvert.audit.sample import Sample
from arcinvert.audit.stores import Store
from arcinvert.audit.verdict import limitations, verdict

NEEDS_PHOTOS = "only the attacked network reads stored templates; this judge needs --photos"


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
    attacked: Judge
    judges: tuple[Judge, ...]
    faces: ThresholdFaces
    photos: Photos | None
    references: Mapping[str, References]
    config: AuditConfig


@dataclass(frozen=True, eq=False)
class Defended:
    """The attacks through defenses, with the faces that the accuracy and the attacker rest on."""

    results: list[DefenseResult]
    measured_on: KnownFaces
    own: KnownFaces


def build_report(
    case: Case, attempts: Attempts, defended: Defended | None, fingerprint: str, started: float
) -> LeakageReport:
    """Judge the attempts and write everything down.

    Args:
        case: what was attacked.
        attempts: the attack on the bare templates.
        defended: the attacks through defenses; None without any.
        fingerprint: equal for two audits that are the same.
        started: by ``time.perf_counter``.
    """
    sample, config, store, attacker = case.sample, case.config, case.store, case.attacker
    embedded = {judge.name: embed_attempts(judge, *attempts.chosen()) for judge in case.judges}
    judges = _judge_results(case, embedded)
    suspicion = mismatch(case.attacked.own.numpy(), sample.targets.numpy())
    return LeakageReport(
        version=VERSION,
        verdict=verdict(judges, suspicion, len(sample.positions)),
        store=StoreSummary(
            store.kind,
            store.name,
            store.count,
            store.size,
            sample.scan.digest,
            sample.scan.identities,
            sample.scan.norms,
            sample.scan.skipped_rows,
        ),
        sample=SampleSummary(
            len(sample.positions),
            None if sample.identities is None else len({*sample.identities} - {None}),
            int((~sample.seconds.isnan().any(1)).sum()),
            sample.digest,
        ),
        attack=AttackSummary(
            case.attacked.name,
            attacker.inverter.recognizer.digest,
            attempts.mean_score(),
            int(attempts.failed.sum()),
            attempts.failed.numel(),
            attempts.steps,
        ),
        judges=judges,
        reidentification=_reidentification(case, embedded[case.attacked.name]),
        restarts=_restarts(case, attempts, embedded),
        hygiene=sample.scan.findings,
        mismatch=suspicion,
        defenses=() if defended is None else tuple(defended.results),
        accuracy_on=None if defended is None else defended.measured_on.source,
        attacker_faces=None if defended is None else len(defended.own.embeddings),
        photos=None if case.photos is None else case.photos.matches,
        config=config,
        run=Run(
            fingerprint,
            case.faces.source,
            case.faces.digest,
            attacker.inverter.prior.digest,
            str(attacker.inverter.recognizer.device),
            attacker.ranks.world_size,
            round(time.perf_counter() - started, 1),
        ),
        limitations=limitations(
            others=any(judge.rates for judge in judges if not judge.attacked),
            photos=case.photos is not None,
            restarts=config.attack.restarts,
            preset=config.attack.preset,
            defended=defended is not None,
        ),
        files=(),
    )


def _judge_results(case: Case, embedded: Mapping[str, Tensor]) -> tuple[JudgeResult, ...]:
    count = len(case.sample.positions)
    controls = control_faces(case.attacker.inverter.prior, count, case.config.seed)
    others = someone_else(case.sample.identities, count)
    results = []
    for judge in case.judges:
        references, rows = case.references.get(judge.name), embedded[judge.name]
        rates: list[Rate] = []
        if references is not None:
            rates = attack_rates(judge, references, rows)
            rates += control_rates(judge, references, rows, controls, others)
        note = NEEDS_PHOTOS if references is None else None
        digest = judge.recognizer.digest
        results.append(JudgeResult(judge.name, digest, judge.attacked, judge.thresholds, tuple(rates), note))
    return tuple(results)


def _restarts(case: Case, attempts: Attempts, embedded: Mapping[str, Tensor]) -> Restarts:
    """The type I rates of the best restart of each target, and their mean over the restarts."""
    count = case.config.attack.restarts
    finite = attempts.score[attempts.score.isfinite()].double()
    mean = round(float(finite.mean()), 4) if len(finite) else None
    results = [RestartResult("cosine to the template", attempts.mean_score(), mean)]
    for judge in case.judges:
        references = case.references.get(judge.name)
        if references is None:
            continue
        first, chosen = embedded[judge.name], attempts.chosen
        rows = [first] if count == 1 else [embed_attempts(judge, *chosen(restart)) for restart in range(count)]
        best, *single = (
            [rate for rate in attack_rates(judge, references, one) if rate.kind == TYPE_I] for one in (first, *rows)
        )
        for rate, *restarts in zip(best, *single, strict=True):
            if rate.rate is not None:
                mean = round(float(np.mean([one.rate for one in restarts])), 6)
                results.append(RestartResult(f"{judge.name} at {rate.fmr:g}", rate.rate, mean))
    return Restarts(count, "the attacked network's cosine to the template", tuple(results))


def _reidentification(case: Case, rows: Tensor) -> Reidentification:
    """Rank 1 of the reconstructions in the whole store, by the attacked network."""
    size, scan = len(case.sample.positions), case.sample.scan
    there = np.flatnonzero(~rows.isneginf().any(1).numpy())
    accepted = 0
    if len(there):
        ranks = rank1(case.store, rows.numpy()[there], case.sample.positions[there], scanned=scan)
        accepted = int((ranks == 1).sum())
    return Reidentification(accepted, size, *ratio(accepted, size), case.store.count)
