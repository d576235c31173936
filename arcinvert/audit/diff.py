"""Two audits compared: which rates rose beyond chance, and which cannot be compared."""

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from arcinvert.audit.defenses.sweep import NONE
from arcinvert.audit.rates import TYPE_I, TYPE_II, Rate
from arcinvert.audit.report import MAX_BYTES, JudgeResult, LeakageReport
from arcinvert.audit.significance import holm
from arcinvert.errors import InputError, UsageError
from arcinvert.file_bytes import read_bytes

ALPHA = 0.05
"""Chance of any "rose" where no rate did, over all rates together."""


@dataclass(frozen=True)
class Count:
    """``accepted`` of ``tried`` attempts."""

    accepted: int
    tried: int


@dataclass(frozen=True)
class Change:
    """One rate in both reports.

    Attributes:
        name: who judged what, and behind which defense.
        fmr: false match rate of the threshold; None for the search in the whole store.
        old, new: counts.
        p_value: of "the rate did not rise", by Fisher's exact test, adjusted by Holm for all rates of the comparison.
        rose: whether that is at most :data:`ALPHA`.
    """

    name: str
    fmr: float | None
    old: Count
    new: Count
    p_value: float
    rose: bool


@dataclass(frozen=True)
class Comparison:
    """What changed from one audit to a later one.

    Attributes:
        changes: the rates that both have.
        not_compared: rates of one report alone, or by another network, with the reason.
        circumstances: what else differs between the audits, in sentences.
        failures: why the change must not pass, in sentences; empty if it may.
    """

    changes: tuple[Change, ...]
    not_compared: tuple[str, ...]
    circumstances: tuple[str, ...]
    failures: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """As plain dicts and lists."""
        return asdict(self)


def read_report(path: Path) -> LeakageReport:
    """Read a ``report.json``.

    Raises:
        InputError: it is none, or of another version.
    """
    try:
        return LeakageReport.read(path)
    except OSError as error:
        raise InputError(f"cannot read {str(path)!r}: {error.strerror or error}") from None
    except UsageError:
        try:
            found = json.loads(read_bytes(path, MAX_BYTES))["version"]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise InputError(f"expected the report.json of an audit, {str(path)!r} is none") from None
        raise InputError(
            f"expected a report of this version of arcinvert, {str(path)!r} has version {found!r} or is damaged"
        ) from None


def compare(old: LeakageReport, new: LeakageReport) -> Comparison:
    """Compare the rates of the attack by the judges that were not attacked, and the search in the whole store.

    Rates are paired by judge (its digest), what was compared, false match rate and defense. The counts are taken as
    independent samples, also where both audits attacked the same templates, which makes the test conservative.
    """
    before, after = dict(_rates(old)), dict(_rates(new))
    shared = [key for key in before if key in after]
    counts = [(_count(before[key]), _count(after[key])) for key in shared]
    again = [Count(report.reidentification.accepted, report.reidentification.tried) for report in (old, new)]
    names = [f"{before[key].judge}, {before[key].kind}{f', behind {key[3]}' if key[3] else ''}" for key in shared]
    rows: list[tuple[str, float | None, Count, Count]] = [
        (name, before[key].fmr, *pair) for name, key, pair in zip(names, shared, counts, strict=True)
    ]
    rows.append(("rank 1 in the whole store, by the attacked network", None, again[0], again[1]))
    adjusted = holm([_chance_of_rise(earlier, later) for _, _, earlier, later in rows])
    changes = tuple(Change(*row, _rounded(p), p <= ALPHA) for row, p in zip(rows, adjusted, strict=True))
    failures = [
        f"{change.name}{'' if change.fmr is None else f' at a false match rate of {change.fmr:g}'}: "
        f"{change.old.accepted} of {change.old.tried} rose to {change.new.accepted} of {change.new.tried} "
        f"(p = {change.p_value:.2g})"
        for change in changes
        if change.rose
    ]
    if not shared:
        failures.append("no rate of a judge that was not attacked is in both reports, so nothing shows that none rose")
    if new.mismatch.suspected:
        failures.append("the new report suspects a store of another network, so its rates mean little")
    alone = [_alone(rate, key[3], "new") for key, rate in before.items() if key not in after]
    alone += [_alone(rate, key[3], "old") for key, rate in after.items() if key not in before]
    return Comparison(changes, tuple(alone), tuple(_circumstances(old, new)), tuple(failures))


def _rates(report: LeakageReport) -> Iterator[tuple[tuple[str, str, float, str, bool], Rate]]:
    """The rates that are compared, by what makes two of them the same."""
    judges = {judge.name: judge for judge in report.judges if not judge.attacked}
    defended = [entry for entry in report.defenses if entry.spec != NONE]  # without any, it is the judges' own rates
    behind = [(f"{e.spec} ({'key known' if e.key_known else 'key unknown'})", e.rates) for e in defended]
    for defense, rates in [("", [r for judge in judges.values() for r in judge.rates]), *behind]:
        for rate in rates:
            if rate.judge in judges and rate.kind in (TYPE_I, TYPE_II) and rate.accepted is not None and rate.tried:
                given = rate.given
                yield (_identity(judges[rate.judge]), rate.kind, rate.fmr, defense, given), rate


def _identity(judge: JudgeResult) -> str:
    return judge.digest or judge.name


def _count(rate: Rate) -> Count:
    return Count(rate.accepted or 0, rate.tried)


def _alone(rate: Rate, defense: str, missing: str) -> str:
    place = f", behind {defense}" if defense else ""
    return f"{rate.judge}, {rate.kind}{place} at {rate.fmr:g}: the {missing} report has no such rate by this network"


def _chance_of_rise(old: Count, new: Count) -> float:
    """P-value of Fisher's exact test (1922), one-sided: so many or more of the accepted are among the new attempts."""
    accepted, tried = old.accepted + new.accepted, old.tried + new.tried
    if not new.tried or not old.tried:
        return 1.0
    every = math.comb(tried, accepted)
    ways = sum(
        math.comb(new.tried, k) * math.comb(old.tried, accepted - k)
        for k in range(new.accepted, min(new.tried, accepted) + 1)
    )
    return ways / every


def _rounded(p: float) -> float:
    return float(f"{p:.3g}")


def _circumstances(old: LeakageReport, new: LeakageReport) -> Iterator[str]:
    """What may explain a change beside the store."""
    pairs: list[tuple[str, object, object]] = [
        ("the attacked network", old.attack.digest, new.attack.digest),
        ("the templates of the store", old.store.digest, new.store.digest),
        ("the attacked templates", old.sample.digest, new.sample.digest),
        ("the settings of the attack", old.config.attack, new.config.attack),
        ("the seed", old.config.seed, new.config.seed),
        ("the face prior", old.run.face_prior, new.run.face_prior),
        ("the version of arcinvert", old.run.version, new.run.version),
    ]
    yield from (f"{name} differ{'' if name.endswith('s') else 's'}" for name, a, b in pairs if a != b)
    before = {(_identity(judge), t.fmr): t.threshold for judge in old.judges for t in judge.thresholds}
    for judge in new.judges:
        for threshold in judge.thresholds:
            earlier = before.get((_identity(judge), threshold.fmr))
            if earlier is not None and threshold.threshold is not None and earlier != threshold.threshold:
                yield (
                    f"the threshold of {judge.name} at {threshold.fmr:g} moved from {earlier:.3f} to "
                    f"{threshold.threshold:.3f}"
                )
    known = {finding.text for finding in old.hygiene}
    yield from (f"new finding: {f.text}" for f in new.hygiene if f.severity != "info" and f.text not in known)
    if old.verdict.word != new.verdict.word:
        yield f"the verdict was {old.verdict.word!r} and is {new.verdict.word!r}"
