"""Results of the protocols as Markdown tables, one number a row."""

from collections.abc import Sequence
from dataclasses import dataclass

from arcinvert.evaluation.metrics import OperatingPoint
from arcinvert.evaluation.protocols.angles import AngleStatistics
from arcinvert.evaluation.protocols.identification import Identification, Rate
from arcinvert.evaluation.protocols.megaface import MegaFace
from arcinvert.evaluation.protocols.retrieval import Retrieval
from arcinvert.evaluation.protocols.templates import TemplateIdentification, TemplateVerification


@dataclass(frozen=True)
class TableRow:
    """One number and its basis.

    Attributes:
        name: what is measured.
        value: None if the data do not support it; ``note`` then says why.
        of: what it is counted over.
        threshold, interval: optional; the interval is a 95 % Wilson interval.
        note: a remark.
        digits: decimals shown.
    """

    name: str
    value: float | None
    of: str
    threshold: float | None = None
    interval: tuple[float, float] | None = None
    note: str | None = None
    digits: int = 4


def markdown(rows: Sequence[TableRow]) -> list[str]:
    """Lines of a Markdown table."""
    lines = ["| figure | value | 95 % | threshold | over | remark |", "|---|---|---|---|---|---|"]
    for row in rows:
        interval = "" if row.interval is None else f"{row.interval[0]:.4f} to {row.interval[1]:.4f}"
        threshold = "" if row.threshold is None else f"{row.threshold:.4f}"
        cells = (row.name, shown(row), interval, threshold, row.of, row.note or "")
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def shown(row: TableRow) -> str:
    """The value as text, or ``null``."""
    return "null" if row.value is None else f"{row.value:.{row.digits}f}"


def point_rows(name: str, points: Sequence[OperatingPoint]) -> list[TableRow]:
    """``name=rate`` for each operating point."""
    return [
        TableRow(
            f"{name}={point.fmr:g}",
            point.tar,
            f"{point.genuine_pairs} genuine, {point.impostor_pairs} impostor pairs",
            point.threshold,
            point.interval,
            point.reason or point.warning,
        )
        for point in points
    ]


def identification_rows(found: Identification, among: MegaFace | None = None) -> list[TableRow]:
    """Rank-k rates, DIR at each FAR, and rank-1 rates against distractors."""
    entries = f"{found.identities} identities" + (f" + {found.distractors} distractors" if found.distractors else "")
    rows = [_rate(f"rank-{rate.at}", rate, f"probes in {entries}") for rate in found.ranks]
    if found.cmc is None:
        rows.append(TableRow("rank-1", None, f"{found.mated} probes in {entries}", note=found.note))
    for point in found.open_set:
        over = f"{point.mated} mated, {point.unmated} non-mated probes"
        rows.append(TableRow(f"DIR@FAR={point.far:g}", point.dir, over, point.threshold, note=point.note))
    if among is not None:
        rows += [_rate(f"MegaFace rank-1 among {rate.at}", rate, "pairs") for rate in among.rank1]
        rows += point_rows("MegaFace TPR@FPR", among.tpr)
        if among.note:
            rows.append(TableRow("MegaFace rank-1", None, f"{among.pairs} pairs", note=among.note))
    return rows


def template_rows(verified: TemplateVerification, identified: TemplateIdentification | None = None) -> list[TableRow]:
    """TPR at each FPR, and the mean rank-1 and rank-5 rates over the galleries."""
    rows = point_rows("template TPR@FPR", verified.points)
    if identified is not None:
        galleries = identified.galleries
        note = next((one.note for one in galleries if one.note), None)
        over = f"{sum(one.mated for one in galleries)} probes, {len(galleries)} galleries"
        rows.append(TableRow("template rank-1", identified.rank1, over, note=note))
        few = note or (None if identified.rank5 is not None else "a gallery has fewer than five identities")
        rows.append(TableRow("template rank-5", identified.rank5, over, note=few))
    return rows


def retrieval_rows(found: Retrieval) -> list[TableRow]:
    """The mean average precision."""
    remarks = [found.note] if found.note else []
    if found.without_videos:
        remarks.append(f"{found.without_videos} queries without a video are left out")
    if found.beyond_top:
        remarks.append(f"{found.beyond_top} queries have more than {found.top} videos and cannot reach 1")
    over = f"{found.queries} queries, {found.videos} videos"
    return [TableRow(f"MAP@{found.top}", found.map, over, note="; ".join(remarks) or None)]


def angle_rows(found: AngleStatistics) -> list[TableRow]:
    """The angles in degrees; those to class centers only if there are centers."""
    classes, samples = f"{found.classes} classes", f"{found.samples} samples"
    rows = [
        ("intra-class angle to embedding center", found.intra, f"{found.intra_samples} samples"),
        ("nearest other embedding center, mean", found.inter, classes),
        ("nearest other embedding center, least", found.inter_least, classes),
    ]
    if found.w_ec is not None:
        rows += [
            ("W to embedding center", found.w_ec, classes),
            ("intra-class angle to W", found.intra_w, samples),
            ("nearest other W, mean", found.w_inter, classes),
            ("nearest other W, least", found.w_inter_least, classes),
        ]
    why = "; ".join(note for note in found.notes if "none are given" not in note)
    return [
        TableRow(f"{name}, degrees", value, over, digits=2, note=why if value is None else None)
        for name, value, over in rows
    ]


def _rate(name: str, rate: Rate, over: str) -> TableRow:
    return TableRow(name, rate.rate, f"{rate.trials} {over}", interval=rate.interval)
