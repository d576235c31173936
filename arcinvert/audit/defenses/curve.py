"""The plot of a sweep: success rate of the attack against the accuracy that each defense keeps."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from arcinvert.audit.defenses.sweep import NONE, DefenseResult
from arcinvert.audit.rates import TYPE_I, Rate
from arcinvert.errors import InputError
from arcinvert.evaluation import plots


def trade_off(path: Path, rows: Sequence[DefenseResult], *, judge: str, fmr: float) -> None:
    """Draw the type I rate over TAR at one FMR: a line for each scheme and attacker, 95 % Wilson intervals.

    Args:
        path: .png or .svg.
        rows: of :func:`~arcinvert.audit.defenses.sweep.sweep`.
        judge: whose rates.
        fmr: of the judge's threshold, and of that on the protected templates.

    Raises:
        InputError: no row has both figures.
        UsageError, EnvironmentProblem: see :func:`arcinvert.evaluation.plots.check_output`.
    """
    lines: dict[tuple[str, bool], list[tuple[float, Rate, str]]] = {}
    for row in rows:
        tar = next((point.tar for point in row.accuracy.points if point.fmr == fmr), None)
        found = [rate for rate in row.rates if (rate.kind, rate.judge, rate.fmr) == (TYPE_I, judge, fmr)]
        if tar is not None and found and found[0].rate is not None:
            scheme, _, setting = row.spec.partition(":")
            lines.setdefault((scheme, row.key_known), []).append((tar, found[0], setting))
    if not lines:
        raise InputError(f"no defense has both a TAR and a SAR by {judge!r} at FMR {fmr:g}")
    with plots.drawing(path, 7.6, 5.4) as figure:
        axes = figure.add_subplot()
        schemes = list(dict.fromkeys(scheme for scheme, _ in lines))
        for (scheme, known), points in lines.items():
            _line(axes, schemes.index(scheme), scheme, known, points)
        axes.set(xlim=(-0.02, 1.04), ylim=(-0.02, 1.04))
        axes.set(xlabel=f"accuracy kept: TAR at FMR {fmr:g} among protected templates")
        axes.set(ylabel=f"attack left: type I SAR at FMR {fmr:g} by {plots.plain(judge)}")
        figure.legend(loc="outside right upper", fontsize=8, handlelength=2.5)
        tried = sorted({rate.tried for points in lines.values() for _, rate, _ in points})
        counts = f"{tried[0]}" if len(tried) == 1 else f"{tried[0]} to {tried[-1]}"
        plots.footnote(figure, f"good is down on the right; bars: 95 % Wilson intervals over {counts} attempts")


def _line(axes: Any, number: int, scheme: str, known: bool, points: Sequence[tuple[float, Rate, str]]) -> None:
    """One scheme: a marker for each setting, in the order of the accuracy; open markers if the key is not known."""
    points = sorted(points, key=lambda point: point[0])
    across = [tar for tar, _, _ in points]
    up = [rate.rate or 0.0 for _, rate, _ in points]
    bars = [
        [y - (rate.low or 0.0) for y, (_, rate, _) in zip(up, points, strict=True)],
        [(rate.high or 0.0) - y for y, (_, rate, _) in zip(up, points, strict=True)],
    ]
    style: dict[str, Any] = {
        "label": "no defense" if scheme == NONE else plots.plain(scheme if known else f"{scheme}, key not known"),
        "color": plots.COLORS[number % len(plots.COLORS)],
        "marker": plots.MARKERS[(number + number // len(plots.COLORS)) % len(plots.MARKERS)],
        "markerfacecolor": None if known else "white",
        "linestyle": plots.DASHES[number % len(plots.DASHES)] if len(points) > 1 else "none",
    }
    axes.errorbar(across, up, yerr=bars, markersize=5, capsize=2, elinewidth=0.8, **style)
    if len(points) > 1:
        for x, y, (_, _, setting) in zip(across, up, points, strict=True):
            axes.annotate(plots.plain(setting), (x, y), (-5, 4), textcoords="offset points", fontsize=7, ha="right")
