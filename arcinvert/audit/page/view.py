"""What the templates show beyond the report's own fields: headline, rates by threshold, and the defenses compared."""

import base64
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

from arcinvert.audit.defenses.sweep import NONE, DefenseResult
from arcinvert.audit.groups import Group
from arcinvert.audit.page.formatting import family, is_control, one_in, scheme, setting
from arcinvert.audit.page.scatter import Point, Scatter
from arcinvert.audit.rates import SECOND, TYPE_I, TYPE_II, Rate
from arcinvert.audit.report import JudgeResult, LeakageReport
from arcinvert.audit.thresholds import Threshold
from arcinvert.audit.verdict import headline
from arcinvert.errors import InputError

GROUP_KINDS = (TYPE_I, TYPE_II, SECOND)
UNDEFENDED = 2
"""Series of the point of the bare templates in the plot of the defenses."""
_MAGIC = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg", b"RIFF": "image/webp"}


def data_uri(content: bytes, name: str) -> str:
    """A PNG, JPEG or WebP as a ``data:`` address.

    Raises:
        InputError: other bytes.
    """
    kind = next((kind for magic, kind in _MAGIC.items() if content.startswith(magic)), None)
    if kind is None:
        raise InputError(f"expected a PNG, JPEG or WebP, got other bytes as {name}")
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


@dataclass(frozen=True)
class PageView:
    """What the pages derive from a report."""

    report: LeakageReport

    @property
    def title(self) -> str:
        """The store's name; a file without its folders."""
        name = self.report.store.name or self.report.store.kind
        return name if "://" in name else name.rstrip("/").rpartition("/")[2] or name

    @property
    def operating_fmr(self) -> float:
        """The one false match rate of the headline."""
        return self.report.verdict.operating_fmr

    @property
    def independent(self) -> str:
        """The judges that were not attacked."""
        return ", ".join(judge.name for judge in self.report.judges if not judge.attacked)

    @cached_property
    def headline(self) -> JudgeResult | None:
        """The judge with the highest rate at the operating point, or the strictest with a rate; None without any."""
        fmrs = sorted({rate.fmr for judge in self.report.judges for rate in judge.rates})
        found = (headline(self.report.judges, fmr) for fmr in (self.operating_fmr, *fmrs))
        return next((pair[0] for pair in found if pair is not None), None)

    @property
    def headline_rates(self) -> list[Rate]:
        """Its type I and type II rates at the operating point, or at the strictest one that was measured."""
        if self.headline is None:
            return []
        known = [rate for rate in self.headline.rates if rate.rate is not None and not rate.given]
        known.sort(key=lambda rate: (rate.fmr != self.operating_fmr, rate.fmr))
        found = (next((rate for rate in known if rate.kind == kind), None) for kind in (TYPE_I, TYPE_II))
        return [rate for rate in found if rate is not None]

    def rates_by_threshold(self, judge: JudgeResult) -> Iterator[tuple[Threshold, list[Rate]]]:
        """The thresholds of a judge, the least strict first, with their rates: the attack, then the controls."""
        for threshold in sorted(judge.thresholds, key=lambda threshold: -threshold.fmr):
            rates = [rate for rate in judge.rates if (rate.fmr, rate.given) == (threshold.fmr, threshold.given)]
            if rates:
                yield threshold, sorted(rates, key=lambda rate: is_control(rate.kind))

    @property
    def search_rate(self) -> Rate:
        """The re-identification as a rate, whose chance is one row of the store."""
        found = self.report.reidentification
        return Rate("", TYPE_I, 1 / found.gallery, found.accepted, found.tried, found.rate, found.low, found.high, None)

    @property
    def group_tables(self) -> list[tuple[JudgeResult, list[tuple[Group, list[Rate | None]]]]]:
        """Judges, the attacked one last, with each group's rates at the operating point: type I, II, second photo."""
        groups = () if self.report.groups is None else self.report.groups.groups
        tables = []
        for judge in sorted(self.report.judges, key=lambda judge: judge.attacked):
            found = [(group, [self._group_rate(group, judge, kind) for kind in GROUP_KINDS]) for group in groups]
            if any(rate is not None for _, rates in found for rate in rates):
                tables.append((judge, found))
        return tables

    def _group_rate(self, group: Group, judge: JudgeResult, kind: str) -> Rate | None:
        wanted = (judge.name, kind, self.operating_fmr, False)
        return next((rate for rate in group.rates if (rate.judge, rate.kind, rate.fmr, rate.given) == wanted), None)

    @property
    def thresholds(self) -> list[tuple[JudgeResult, Threshold]]:
        """Every threshold of every judge."""
        return [(judge, threshold) for judge in self.report.judges for threshold in judge.thresholds]

    def synthetic_threshold(self, judge: JudgeResult, threshold: Threshold) -> float | None:
        """The threshold that synthetic faces would give at the same false match rate."""
        same = (t.threshold for t in judge.synthetic_thresholds if t.fmr == threshold.fmr and not threshold.given)
        return next(same, None)

    @property
    def mismatch_figures(self) -> list[tuple[str, Any]]:
        """What the test of a mismatch measured."""
        figures = asdict(self.report.mismatch.figures)
        return [(name.replace("_", " "), value) for name, value in figures.items() if value is not None]

    @property
    def settings(self) -> dict[str, Any]:
        """Settings and circumstances by name; what stands elsewhere on the page is left out."""
        found = asdict(self.report.config) | asdict(self.report.config.attack) | asdict(self.report.run)
        elsewhere = {"attack", "authorization", "thresholds", "fingerprint", "seconds", "date", "version", "command"}
        return {name: value for name, value in found.items() if name not in elsewhere | {"licenses"}}

    @cached_property
    def defenses(self) -> "DefenseView | None":
        """The defenses as one judge sees them; None without any that was judged."""
        judges = [rate.judge for entry in self.report.defenses for rate in _type_i(entry)]
        if not judges:
            return None
        return DefenseView(self.report, judges[0] if self.headline is None else self.headline.name)


@dataclass(frozen=True)
class DefenseRow:
    """One defense with its attackers; None where there is no such attacker."""

    spec: str
    any: DefenseResult
    with_key: DefenseResult | None
    without_key: DefenseResult | None


@dataclass(frozen=True)
class DefenseView:
    """Accuracy kept and acceptance left, by one judge at one false match rate."""

    report: LeakageReport
    judge: str

    @property
    def accuracy_on(self) -> str | None:
        """The faces behind the accuracy."""
        return self.report.accuracy_on

    @cached_property
    def fmr(self) -> float:
        """The operating point; the smallest false match rate that was measured if it has no rate there."""
        measured = {rate.fmr for entry in self.report.defenses for rate in _type_i(entry) if rate.rate is not None}
        point = self.report.verdict.operating_fmr
        return point if point in measured or not measured else min(measured)

    @cached_property
    def rows(self) -> list[DefenseRow]:
        """Each defense once, in the order of the report."""
        results: dict[str, dict[bool, DefenseResult]] = {}
        for entry in self.report.defenses:
            results.setdefault(entry.spec, {})[entry.key_known] = entry
        return [
            DefenseRow(spec, next(iter(found.values())), found.get(True), found.get(False))
            for spec, found in results.items()
        ]

    def rate(self, entry: DefenseResult, judge: str | None = None) -> Rate | None:
        """A judge's type I rate."""
        wanted = (judge or self.judge, self.fmr)
        return next((rate for rate in _type_i(entry) if (rate.judge, rate.fmr) == wanted), None)

    def other_judges(self, entry: DefenseResult) -> list[str]:
        """The other judges that have a rate at this false match rate."""
        names = dict.fromkeys(rate.judge for rate in _type_i(entry) if rate.fmr == self.fmr)
        return [name for name in names if name != self.judge]

    def tar(self, entry: DefenseResult) -> float | None:
        """The share of genuine pairs accepted; None if it was not measured."""
        return next((point.tar for point in entry.accuracy.points if point.fmr == self.fmr), None)

    @property
    def plot(self) -> Scatter | None:
        """A point for each attack; a line joins a defense without its key and with it. None without points."""
        numbers = {row.spec: str(n) for n, row in enumerate(self.rows, 1)}
        points = [
            replace(point, label=numbers[spec], series=UNDEFENDED if spec == NONE else int(point.hollow))
            for spec, point in self._points
        ]
        pairs = [(a, b) for a in points for b in points if a.label == b.label and a.hollow and not b.hollow]
        return self._scatter(points, pairs) if points else None

    @cached_property
    def curves(self) -> list[tuple[str, list[Point]]]:
        """The settings of each scheme and attacker, in the order of the accuracy that they keep."""
        families = list(dict.fromkeys(family(entry.spec) for entry in self.report.defenses))
        lines: dict[str, list[Point]] = {}
        for spec, point in self._points:
            name = family(spec)
            title = f"{name} without the key" if point.hollow else name
            lines.setdefault(title, []).append(replace(point, label=setting(spec), series=families.index(name)))
        return [(name, sorted(line, key=lambda point: point.x)) for name, line in lines.items()]

    @property
    def curve_plot(self) -> Scatter:
        """The curves as a plot; there is at least one."""
        lines = [line for _, line in self.curves]
        return self._scatter([point for line in lines for point in line], lines)

    @cached_property
    def _points(self) -> list[tuple[str, Point]]:
        """Spec and place of every attack; without those whose accuracy or rate was not measured."""
        points = []
        for entry in self.report.defenses:
            kept, left = self.tar(entry), self.rate(entry)
            if kept is None or left is None or left.rate is None or left.low is None or left.high is None:
                continue
            title = scheme(entry.spec) + ("" if entry.key_known else " without the key")
            points.append((entry.spec, Point(kept, left.rate, left.low, left.high, title, hollow=not entry.key_known)))
        return points

    def _scatter(self, points: Any, lines: Any) -> Scatter:
        across = f"Accuracy kept: genuine pairs accepted (TAR), at a false match rate of {one_in(self.fmr)}"
        up = f"Leakage left: reconstructions accepted by {self.judge}"
        return Scatter(tuple(points), tuple(tuple(line) for line in lines), across, up)


def _type_i(entry: DefenseResult) -> list[Rate]:
    return [rate for rate in entry.rates if rate.kind == TYPE_I]
