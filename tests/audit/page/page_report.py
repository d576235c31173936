"""A report as an audit gives it, and one whose strings attack the page."""

import base64
from dataclasses import fields, is_dataclass, replace
from typing import Any

from arcinvert.audit.checks.hygiene import Norms
from arcinvert.audit.checks.mismatch import Mismatch, MismatchFigures
from arcinvert.audit.claims import with_p_values
from arcinvert.audit.config import AttackConfig, AuditConfig
from arcinvert.audit.defenses.accuracy import Accuracy
from arcinvert.audit.defenses.sweep import DefenseResult
from arcinvert.audit.defenses.unlinkability import Linkability
from arcinvert.audit.groups import Group, Groups
from arcinvert.audit.photos import PhotoMatches
from arcinvert.audit.rates import Kind, Rate, with_bounds
from arcinvert.audit.report import (
    AttackSummary,
    Finding,
    JudgeResult,
    LeakageReport,
    Reidentification,
    RestartResult,
    Restarts,
    Run,
    SampleSummary,
    StoreSummary,
    Verdict,
)
from arcinvert.audit.thresholds import Threshold
from arcinvert.evaluation.metrics import OperatingPoint

TRIED = 60
FMRS = (0.01, 0.001)
KINDS: tuple[Kind, ...] = (
    "type I",
    "type II",
    "control: mean face",
    "control: random face",
    "control: shuffled targets",
    "control: second photo",
)
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGNgYGBgAAAABQABpfZFQAAAAABJRU5ErkJggg=="
)


def judge(name: str, attacked: bool, *counts: tuple[int, int]) -> JudgeResult:
    """Accepted attempts of each kind, at both false match rates."""
    thresholds = tuple(
        Threshold(fmr, value, 176_130, impostor_identities=594, basis="photos", low=value - 0.01, high=value + 0.01)
        for fmr, value in zip(FMRS, (0.2971, 0.4116), strict=True)
    )
    rates = [
        Rate.measured(name, kind, fmr, accepted, TRIED)
        for kind, pair in zip(KINDS, counts, strict=True)
        for fmr, accepted in zip(FMRS, pair, strict=True)
    ]
    return JudgeResult(
        name, name.encode().hex() * 4, attacked, thresholds, tuple(with_bounds(rates)), None, "594 photos", thresholds
    )


def defense(spec: str, known: bool, eer: float, tar: float | None, accepted: int, d_sys: float = 0.87) -> DefenseResult:
    counts = {("mobileface-v3", 0.01): accepted + 9, ("mobileface-v3", 0.001): accepted}
    counts |= {("mobilefacenet-y1", 0.001): accepted + 6}
    points = tuple(OperatingPoint(fmr, 0.3, value, 44_550, 300) for fmr, value in zip(FMRS, (0.5, tar), strict=True))
    rates = tuple(Rate.measured(name, "type I", fmr, min(TRIED, n), TRIED) for (name, fmr), n in counts.items())
    linkability = Linkability(d_sys, 0.031, 300, 44_550, d_sys)
    return DefenseResult(spec, known, Accuracy(eer, points, 300), linkability, rates, 0.9, 0)


def example(**changes: Any) -> LeakageReport:
    report = LeakageReport(
        version=3,
        verdict=Verdict(
            "leaks",
            "A judge that had no part in the attack accepts 27 of 60 reconstructions at one false match in 1,000.",
        ),
        store=StoreSummary(
            "sqlite", "data/people.sqlite", 1_000_000, 512, "9f" * 32, 480_000, Norms(9.8123, 20.1, 31.2, 0), 3
        ),
        sample=SampleSummary(60, 60, 60, "7e" * 32),
        attack=AttackSummary("mobilefacenet-y1", "3c" * 32, 0.931, 1, 120, 60),
        judges=with_p_values(
            (
                judge("mobilefacenet-y1", True, (60, 60), (57, 50), (0, 0), (1, 0), (1, 0), (49, 37)),
                judge("mobileface-v3", False, (55, 27), (33, 16), (0, 0), (0, 0), (6, 0), (47, 35)),
            )
        ),
        reidentification=Reidentification(57, 60, 0.95, 0.863, 0.983, 1_000_000),
        groups=Groups(
            "sex", (Group("f", 30, (Rate.measured("mobileface-v3", "type I", 0.001, 9, 30),)),), 20, ("x",), 5
        ),
        restarts=Restarts(
            2,
            "the attacked network's cosine to the template",
            (RestartResult("own cosine", 0.931, 0.925), RestartResult("mobileface-v3 at 0.001", 0.45, 0.408333)),
        ),
        hygiene=(
            Finding("unnormalized", "info", "The templates are not of unit length (norms 9.8 to 31.2).", 1_000_000),
            Finding("names", "problem", "Names stand beside the templates (column person).", 1_000_000),
            Finding("duplicates", "warning", "Templates that occur more than once.", 12),
        ),
        mismatch=Mismatch(
            False,
            True,
            ("512 numbers, as the network gives", "the mean points where the network's own mean points"),
            MismatchFigures(512, 512, 60, 58, 60, 7.2, 40.5),
        ),
        defenses=(
            defense("none", True, 0.077, 0.367, 27),
            defense("noise:0.05", True, 0.083, 0.351, 22),
            defense("truncate:256", True, 0.095, 0.302, 18),
            defense("int8", True, 0.078, 0.366, 27),
            defense("pq:64", True, 0.085, 0.340, 24),
            defense("sign", True, 0.089, 0.331, 19),
            defense("rotate:17", False, 0.077, 0.366, 0, 0.04),
            defense("rotate:17", True, 0.077, 0.366, 27, 0.04),
            defense("biohash:17", False, 0.091, 0.322, 0, 0.03),
            defense("biohash:17", True, 0.091, 0.322, 15, 0.03),
            defense("polyprotect:17", False, 0.102, 0.262, 1, 0.06),
            defense("polyprotect:17", True, 0.102, 0.262, 11, 0.06),
            defense("mlphash:17", False, 0.107, 0.241, 0, 0.03),
            defense("mlphash:17", True, 0.107, 0.241, 9, 0.03),
        ),
        accuracy_on="300 synthetic faces of 100 people",
        attacker_faces=880,
        photos=PhotoMatches("photos", 60, 60, 58, 0, "by the name of the identity"),
        black_box=None,
        config=AuditConfig(seed=7, attack=AttackConfig(steps=60, restarts=2), authorization="Ticket 4711, Dr. Example"),
        run=Run(
            *("5a" * 32, "880 synthetic faces, one image each", "b1" * 32, "c2" * 32, "cpu", 1, 431.2),
            *("2026-01-31T13:45:00Z", "0.3.0", "arcinvert audit data/people.sqlite --defense rotate:KEY -o audit"),
            {"mobilefacenet-y1": "not stated", "mobileface-v3": "MIT", "face prior": "research only"},
        ),
        limitations=(
            "Stronger attacks: other networks, more steps, decoders trained for this recognizer.",
            "Whether a live system would accept the images: none was attacked.",
        ),
        files=("report.html", "report.json"),
    )
    return replace(report, **changes)


def hostile(value: Any) -> Any:
    """Every free string of a report, followed by an attack."""
    if isinstance(value, str):
        return value + "<script>fetch('//x')</script>\"' onload=x\x1b[31m\u202e" + "long" * 60
    if isinstance(value, tuple):
        return tuple(map(hostile, value))
    if is_dataclass(value) and not isinstance(value, type):
        free = [f.name for f in fields(value) if f.init and f.name not in ("kind", "severity", "spec", "config")]
        return replace(value, **{name: hostile(getattr(value, name)) for name in free})
    return value
