"""From attempts to the report: every judge's rates with the controls beside them, and what else the store says."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from torch import Tensor

from arcinvert.audit.attack import Attacker, Attempts
from arcinvert.audit.checks import mismatch, rank1
from arcinvert.audit.config import AuditConfig
from arcinvert.audit.judges import Faces, Judge, described
from arcinvert.audit.rates import TYPE_I, Held, attack_rows, control_faces, control_rows, judged, someone_else
from arcinvert.audit.references import Photos
from arcinvert.audit.report import LeakageReport, not_shown, verdict
from arcinvert.audit.sample import Sample
from arcinvert.audit.stores import Store
from arcinvert.evaluation.intervals import wilson_interval

NEEDS_PHOTOS = "only the attacked network reads stored templates; this judge needs --photos"


@dataclass(frozen=True, eq=False)
class Case:
    """What an audit has before it attacks.

    Attributes:
        store, sample, attacker, config: what is attacked, and how.
        attacked: the attacked network as a judge; the last of ``judges``.
        judges: all.
        faces: that fixed the thresholds.
        photos: of the sample, or None.
        held: name of a judge -> what it holds reconstructions against; a judge without references is not in it.
    """

    store: Store
    sample: Sample
    attacker: Attacker
    attacked: Judge
    judges: tuple[Judge, ...]
    faces: Faces
    photos: Photos | None
    held: Mapping[str, Held]
    config: AuditConfig


def report_of(case: Case, tried: Attempts, defenses: list[dict[str, Any]], run: str, started: float) -> LeakageReport:
    """Judge the attempts.

    Args:
        case: what was attacked.
        tried: the attempts.
        defenses: entries of the report.
        run: what makes two audits the same.
        started: by ``time.perf_counter``.
    """
    sample, config, store = case.sample, case.config, case.store
    seen = {judge.name: judged(judge, *tried.chosen()) for judge in case.judges}
    judges = _judges(case, seen)
    suspicion = asdict(mismatch(case.attacked.own.numpy(), sample.targets.numpy()))
    searched = _searched(case, seen[case.attacked.name])
    size = len(sample.positions)
    others = any(judge["rows"] for judge in judges if not judge["attacked"])
    limits = not_shown(
        others=others,
        photos=case.photos is not None,
        restarts=config.restarts,
        preset=config.preset,
        defended=bool(defenses),
        searched=searched["rank1"] is not None,
    )
    return LeakageReport(
        verdict=verdict(judges, suspicion, size),
        store=_store(store, sample),
        sample=sample.described(config.sample, config.seed),
        attacked={
            "name": case.attacked.name,
            "digest": case.attacker.recognizer.digest,
            "cosine": tried.mean_score(),
            "failed": int(tried.failed.sum()),
            "attempts": tried.failed.numel(),
            "steps": tried.steps,
        },
        judges=judges,
        reidentification=searched,
        restarts=_restarts(case, tried, seen),
        hygiene=[asdict(finding) for finding in sample.scan.findings],
        mismatch=suspicion,
        defenses=defenses,
        settings=_settings(case),
        authorization=config.authorization,
        photos=None if case.photos is None else case.photos.about,
        not_shown=limits,
        run=run,
        seconds=round(time.perf_counter() - started, 1),
    )


def _store(store: Store, sample: Sample) -> dict[str, Any]:
    known = {"kind": store.kind, "name": store.name, "count": store.count, "size": store.size}
    return known | {"digest": sample.scan.digest, "identities": sample.scan.identities, "norms": sample.scan.norms}


def _judges(case: Case, seen: Mapping[str, Tensor]) -> list[dict[str, Any]]:
    count = len(case.sample.positions)
    controls = control_faces(case.attacker.prior, count, case.config.seed)
    others = someone_else(case.sample.identities, count)
    found = []
    for judge in case.judges:
        held = case.held.get(judge.name)
        if held is None:
            found.append(described(judge, [], NEEDS_PHOTOS))
            continue
        rows = seen[judge.name]
        measured = attack_rows(judge, held, rows) + control_rows(judge, held, rows, controls, others)
        found.append(described(judge, [row.to_json() for row in measured], None))
    return found


def _restarts(case: Case, tried: Attempts, seen: Mapping[str, Tensor]) -> dict[str, Any]:
    """The type-I rates of the best restart of each target, and their mean over the restarts."""
    count = case.config.restarts
    best: dict[str, Any] = {"own cosine": tried.mean_score()}
    mean: dict[str, Any] = {}
    finite = tried.score[tried.score.isfinite()].double()
    mean["own cosine"] = round(float(finite.mean()), 4) if len(finite) else None
    for judge in case.judges:
        held = case.held.get(judge.name)
        if held is None:
            continue
        rates: dict[str, list[float]] = {}
        for restart in (None, *range(count)):
            alone = restart is None or count == 1
            rows = seen[judge.name] if alone else judged(judge, *tried.chosen(restart))
            for row in attack_rows(judge, held, rows):
                name, rate = f"{judge.name} at {row.fmr:g}", row.to_json()["sar"]
                if row.what != TYPE_I or rate is None:
                    continue
                if restart is None:
                    best[name] = rate
                else:
                    rates.setdefault(name, []).append(rate)
        mean |= {name: round(float(np.mean(found)), 6) for name, found in rates.items()}
    return {"k": count, "chosen_by": "the attacked network's cosine to the template", "best": best, "mean": mean}


def _searched(case: Case, rows: Tensor) -> dict[str, Any]:
    """Rank 1 of the reconstructions in the whole store, by the attacked network."""
    size = len(case.sample.positions)
    made = np.flatnonzero(~rows.isneginf().any(1).numpy())
    ranks = (
        rank1(case.store, rows.numpy()[made], case.sample.positions[made], scanned=case.sample.scan)
        if len(made)
        else np.empty(0)
    )
    accepted = int((ranks == 1).sum())
    low, high = wilson_interval(accepted, size)
    return {
        "rank1": round(accepted / size, 6),
        "accepted": accepted,
        "tried": size,
        "gallery": case.store.count,
        "low": round(low, 6),
        "high": round(high, 6),
    }


def _settings(case: Case) -> dict[str, Any]:
    known = {"thresholds_fixed_on": case.faces.what, "thresholds_digest": case.faces.digest}
    known |= {"face_prior": case.attacker.prior.digest, "device": str(case.attacker.recognizer.device)}
    return case.config.to_json() | known | {"processes": case.attacker.ranks.world_size}
