"""The report of an audit for a terminal."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from arcinvert.audit import LeakageReport
    from arcinvert.audit.groups import Groups
    from arcinvert.audit.rates import Rate


def summary(report: "LeakageReport") -> list[str]:
    """The report for a terminal: the verdict, then Markdown tables."""
    from arcinvert.audit.rates import TYPE_I

    lines = [f"{report.verdict.word.upper()}: {report.verdict.text}", ""]
    if report.black_box is not None:
        lines += [f"the recognizer of the store was never opened; the map: {report.black_box.map.lines()[0]}", ""]
    columns = ("judge", "compared", "FMR", "accepted", "rate", "95 %", "mean cosine", "floor", "ceiling", "p", "people")
    lines += [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for judge in report.judges:
        name = judge.name + (" (attacked)" if judge.attacked else "")
        lines += [f"| {name} | {_cells(rate)} |" for rate in judge.rates]
    again = report.reidentification
    lines += ["", f"rank 1 in the whole store of {again.gallery}: {again.accepted} of {again.tried}"]
    if report.defenses:
        lines += ["", "| defense | key | judge | FMR | accepted | EER kept | D_sys |", "|---|---|---|---|---|---|---|"]
    for entry in report.defenses:
        key = "known" if entry.key_known else "unknown"
        for rate in entry.rates:
            if rate.kind == TYPE_I:
                kept = f"{entry.accuracy.eer:.4f} | {entry.linkability.d_sys:.2f}"
                counts = f"{rate.accepted} of {rate.tried}"
                lines.append(f"| {entry.spec} | {key} | {rate.judge} | {rate.fmr:g} | {counts} | {kept} |")
    if report.groups is not None:
        lines += ["", *_groups(report.groups)]
    lines += [""] + [f"{finding.severity}: {finding.text}" for finding in report.hygiene]
    lines += [f"limitation: {text}" for text in report.limitations]
    return [*lines, f"{report.run.date}, arcinvert {report.run.version}: {report.run.command or 'from Python'}"]


def _groups(groups: "Groups") -> list[str]:
    lines = [
        f"| {groups.column} | templates | judge | compared | FMR | accepted | 95 % |",
        "|---|---|---|---|---|---|---|",
    ]
    for group in groups.groups:
        for rate in group.rates:
            ends = "-" if rate.rate is None else f"{rate.low:.3f} to {rate.high:.3f}"
            counts = f"{'-' if rate.accepted is None else rate.accepted} of {rate.tried} | {ends}"
            lines.append(f"| {group.name} | {group.count} | {rate.judge} | {rate.kind} | {rate.fmr:g} | {counts} |")
    if groups.withheld:
        lines.append(f"withheld: {groups.withheld} templates of groups under {groups.least}")
    return lines


def _cells(rate: "Rate") -> str:
    head = f"{rate.kind} | {rate.fmr:g}" + (f" (own threshold {rate.threshold:g})" if rate.given else "")
    floor, ceiling = (_figure(value, ".3f") for value in (rate.floor, rate.ceiling))
    tail = f"{_figure(rate.cosine, '.3f')} | {floor} | {ceiling} | {_figure(rate.p_value, '.2g')}"
    tail += f" | {rate.impostor_identities}"
    if rate.rate is None:
        return f"{head} | - of {rate.tried} | - | - | {tail}"
    ends = f"{rate.low:.3f} to {rate.high:.3f}"
    return f"{head} | {rate.accepted} of {rate.tried} | {rate.rate:.3f} | {ends} | {tail}"


def _figure(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
