"""Judges with given counts, and a report of them."""

from collections.abc import Mapping

from arcinvert.audit import AuditConfig
from arcinvert.audit.checks import Finding
from arcinvert.audit.checks.mismatch import Mismatch, MismatchFigures
from arcinvert.audit.claims import with_p_values
from arcinvert.audit.rates import MEAN, RANDOM, SHUFFLED, TYPE_I, TYPE_II, Kind, Rate
from arcinvert.audit.report import (
    AttackSummary,
    JudgeResult,
    LeakageReport,
    Reidentification,
    Restarts,
    Run,
    SampleSummary,
    StoreSummary,
)
from arcinvert.audit.thresholds import Basis, Threshold
from arcinvert.audit.verdict import verdict

FINE = Mismatch(False, True, (), MismatchFigures(16, 16))
SUSPECTED = Mismatch(True, False, ("the mean points elsewhere",), MismatchFigures(16, 16))


def judge(
    name: str,
    wide: int | None,
    narrow: int | None,
    *,
    second: tuple[int, int] | None = None,
    controls: Mapping[Kind, int] | None = None,
    attacked: bool = False,
    tried: int = 60,
    basis: Basis = "photos",
) -> JudgeResult:
    """Accepted of ``tried`` at 1e-2 and 1e-3: type I, type II if given, and controls (none accepted by default)."""
    fmrs, counts = (1e-2, 1e-3), (wide, narrow)
    thresholds = tuple(
        Threshold(fmr, None if count is None else 0.3, 10**6, impostor_identities=1000, basis=basis)
        for fmr, count in zip(fmrs, counts, strict=True)
    )
    kinds: dict[Kind, tuple[int | None, ...]] = {TYPE_I: counts}
    if second is not None:
        kinds[TYPE_II] = tuple(None if c is None else other for other, c in zip(second, counts, strict=True))
    there = {MEAN: 0, RANDOM: 0, SHUFFLED: 0} | dict(controls or {})
    kinds |= {kind: tuple(None if c is None else value for c in counts) for kind, value in there.items()}
    cells = [(kind, fmr, n) for kind, ns in kinds.items() for fmr, n in zip(fmrs, ns, strict=True)]
    rates = [Rate.measured(name, kind, fmr, n, tried, 0.5) for kind, fmr, n in cells]
    return JudgeResult(name, "", attacked, thresholds, tuple(rates), None)


OWN = judge("own", 60, 60, attacked=True)


def report(*judges: JudgeResult, mismatch: Mismatch = FINE) -> LeakageReport:
    return LeakageReport(
        version=3,
        verdict=verdict(judges, mismatch, 60),
        store=StoreSummary("npy", "store.npy", 120, 16, "", 60, None, 0),
        sample=SampleSummary(60, None, 0, ""),
        attack=AttackSummary("own", "", 0.9, 0, 60, 1),
        judges=with_p_values(judges),
        reidentification=Reidentification(30, 60, 0.5, 0.4, 0.6, 120),
        restarts=Restarts(1, "", ()),
        hygiene=(Finding("nan", "problem", "3 rows", 3),),
        mismatch=mismatch,
        defenses=(),
        accuracy_on=None,
        attacker_faces=None,
        photos=None,
        black_box=None,
        groups=None,
        config=AuditConfig(),
        run=Run("", "", "", "", "cpu", 1, 1.0, "2026-01-31T13:45:00Z", "0.3.0", None, {}),
        limitations=("x",),
        files=(),
    )
