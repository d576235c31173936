"""From attempts to the report: every judge's rates and controls, re-identification, and the summaries."""

import time
from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from arcinvert import __version__
from arcinvert.audit import report
from arcinvert.audit.attack import Attempts
from arcinvert.audit.attack_defenses import DefensePlan
from arcinvert.audit.black_box.box import NAME
from arcinvert.audit.case import Case
from arcinvert.audit.checks import mismatch, rank1
from arcinvert.audit.claims import with_p_values
from arcinvert.audit.defenses.sweep import DefenseResult
from arcinvert.audit.groups import group_rates
from arcinvert.audit.rates import (
    TYPE_I,
    Rate,
    attack_rates,
    control_faces,
    control_rates,
    embed_attempts,
    other_people,
    ratio,
    with_bounds,
)
from arcinvert.audit.report import JudgeResult, LeakageReport, Reidentification, RestartResult, Restarts
from arcinvert.audit.sample import impostor_templates
from arcinvert.audit.verdict import limitations, verdict

NEEDS_PHOTOS = "only the attacked network reads stored templates; this judge needs --photos"


def build_report(
    case: Case,
    attempts: Attempts,
    plan: DefensePlan | None,
    defenses: Sequence[DefenseResult],
    fingerprint: str,
    started: float,
    labels: Sequence[str] | None = None,
    command: str | None = None,
) -> LeakageReport:
    """Judge the attempts and write everything down.

    Args:
        case: what was attacked.
        attempts: the attack on the bare templates.
        plan, defenses: the attacks through defenses; None and empty without any.
        fingerprint: equal for two audits that are the same.
        started: by ``time.perf_counter``.
        labels: (N) the group of each target, or None.
        command: the command line, or None.
    """
    sample, config, store, attacker = case.sample, case.config, case.store, case.attacker
    scan = sample.scan
    embedded = {judge.name: embed_attempts(judge, *attempts.chosen()) for judge in case.judges}
    judges = _judge_results(case, embedded)
    box = case.black_box
    cosines = None if case.photos is None or box is not None else case.photos.cosines
    suspicion = mismatch(case.made_by_system, case.stored.targets.numpy(), cosines)
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
            case.stored.digest,
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
        groups=None
        if labels is None
        else group_rates(config.group or "", labels, case.judges, case.references, embedded),
        hygiene=scan.findings,
        mismatch=suspicion,
        defenses=tuple(defenses),
        accuracy_on=plan.measured_on.source if plan else None,
        attacker_faces=len(plan.own.embeddings) if plan else None,
        photos=None if case.photos is None else case.photos.matches,
        black_box=None if box is None else box.summary(),
        config=config.without_keys(),
        run=report.Run(
            fingerprint,
            "; ".join(dict.fromkeys(judge.source for judge in case.judges)),
            case.domain_digest,
            attacker.inverter.prior.digest,
            str(attacker.inverter.recognizer.device),
            attacker.ranks.world_size,
            round(time.perf_counter() - started, 1),
            report.utc_now(),
            __version__,
            command,
            _licenses(case),
        ),
        limitations=(() if box is None else box.limitations())
        + limitations(
            others=any(judge.rates for judge in judges if not judge.attacked),
            photos=case.photos is not None,
            restarts=config.attack.restarts,
            preset=config.attack.preset,
            defended=plan is not None,
        ),
        files=(),
    )


def _licenses(case: Case) -> dict[str, str]:
    """The license of every network and file of weights that had a part in the audit, by its name."""
    found = case.attacker.inverter.licenses
    del found["recognizer"]  # the attacked network is among the judges
    return {judge.name: judge.recognizer.license for judge in case.judges} | found


def _judge_results(case: Case, embedded: Mapping[str, Tensor]) -> tuple[JudgeResult, ...]:
    count = len(case.sample.positions)
    controls = control_faces(case.attacker.inverter.prior, count, case.config.seed)
    others = other_people(case.sample.identities, count)
    results: list[JudgeResult] = []
    system = None
    if case.black_box is not None:
        templates = impostor_templates(case.store, case.stored.scan, case.config.seed)
        system = case.black_box.judge(case.stored, others, templates, case.config.thresholds.get(NAME))
    if system is not None:
        results.append(system)
    for judge in case.judges:
        references, rows = case.references.get(judge.name), embedded[judge.name]
        rates: list[Rate] = []
        if references is not None:
            rates = attack_rates(judge, references, rows)
            rates = with_bounds(rates + control_rates(judge, references, rows, controls, others))
        note = NEEDS_PHOTOS if references is None else None
        results.append(
            JudgeResult(
                judge.name,
                judge.recognizer.digest,
                judge.attacked,
                judge.thresholds,
                tuple(rates),
                note,
                judge.source,
                judge.synthetic,
            )
        )
    return with_p_values(results)


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
        ranks = rank1(case.gallery, rows.numpy()[there], case.sample.positions[there], scanned=scan)
        accepted = int((ranks == 1).sum())
    return Reidentification(accepted, size, *ratio(accepted, size), case.store.count)
