"""From attempts to the report: every judge's rates and controls, re-identification, and the summaries."""

import time
from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from arcinvert.audit import report
from arcinvert.audit.attack import Attempts
from arcinvert.audit.attack_defenses import DefensePlan
from arcinvert.audit.case import Case
from arcinvert.audit.checks import mismatch, rank1
from arcinvert.audit.defenses.sweep import DefenseResult
from arcinvert.audit.rates import (
    TYPE_I,
    Rate,
    attack_rates,
    control_faces,
    control_rates,
    embed_attempts,
    other_people,
    ratio,
)
from arcinvert.audit.report import JudgeResult, LeakageReport, Reidentification, RestartResult, Restarts
from arcinvert.audit.verdict import limitations, verdict

NEEDS_PHOTOS = "only the attacked network reads stored templates; this judge needs --photos"


def build_report(
    case: Case,
    attempts: Attempts,
    plan: DefensePlan | None,
    defenses: Sequence[DefenseResult],
    fingerprint: str,
    started: float,
) -> LeakageReport:
    """Judge the attempts and write everything down.

    Args:
        case: what was attacked.
        attempts: the attack on the bare templates.
        plan, defenses: the attacks through defenses; None and empty without any.
        fingerprint: equal for two audits that are the same.
        started: by ``time.perf_counter``.
    """
    sample, config, store, attacker = case.sample, case.config, case.store, case.attacker
    scan = sample.scan
    embedded = {judge.name: embed_attempts(judge, *attempts.chosen()) for judge in case.judges}
    judges = _judge_results(case, embedded)
    suspicion = mismatch(case.attacked.own.numpy(), sample.targets.numpy())
    return LeakageReport(
        version=report.VERSION,
        verdict=verdict(judges, suspicion, len(sample.positions)),
        store=report.StoreSummary(
            *(store.kind, store.name, store.count, store.size),
            *(scan.digest, scan.identities, scan.norms, scan.skipped_rows),
        ),
        sample=report.SampleSummary(
            len(sample.positions),
            None if sample.identities is None else len({*sample.identities} - {None}),
            int((~sample.seconds.isnan().any(1)).sum()),
            sample.digest,
        ),
        attack=report.AttackSummary(
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
        hygiene=scan.findings,
        mismatch=suspicion,
        defenses=tuple(defenses),
        accuracy_on=plan.measured_on.source if plan else None,
        attacker_faces=len(plan.own.embeddings) if plan else None,
        photos=None if case.photos is None else case.photos.matches,
        config=config.without_keys(),
        run=report.Run(
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
            defended=plan is not None,
        ),
        files=(),
    )


def _judge_results(case: Case, embedded: Mapping[str, Tensor]) -> tuple[JudgeResult, ...]:
    count = len(case.sample.positions)
    controls = control_faces(case.attacker.inverter.prior, count, case.config.seed)
    others = other_people(case.sample.identities, count)
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
