"""The answers of the protocols as rows of a table: one figure each, with what it rests on."""

from collections.abc import Sequence
from dataclasses import dataclass

from arcinvert.evaluation.metrics import OperatingPoint
from arcinvert.evaluation.protocols.angles import AngleStatistics
from arcinvert.evaluation.protocols.identification import Identification, Rate
from arcinvert.evaluation.protocols.megaface import MegaFace
from arcinvert.evaluation.protocols.retrieval import Retrieval
from arcinvert.evaluation.protocols.templates import TemplateIdentification, TemplateVerification


@dataclass(frozen=True)
class Figure:
    """A row of a table.

    Attributes:
        name: what is measured.
        value: None where the data do not support it; ``note`` then says why.
        of: what it is counted over.
        threshold, interval: where there are any; the interval is Wilson's at 95 %.
        note: what else must be said.
        digits: after the point.
    """

    name: str
    value: float | None
    of: str
    threshold: float | None = None
    interval: tuple[float, float] | None = None
    note: str | None = None
    digits: int = 4


def markdown(figures: Sequence[Figure]) -> list[str]:
    """Lines of a Markdown table."""
    lines = ["| figure | value | 95 % | threshold | over | remark |", "|---|---|---|---|---|---|"]
    for figure in figures:
        interval = "" if figure.interval is None else f"{figure.interval[0]:.4f} to {figure.interval[1]:.4f}"
        threshold = "" if figure.threshold is None else f"{figure.threshold:.4f}"
        cells = (figure.name, shown(figure), interval, threshold, figure.of, figure.note or "")
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def shown(figure: Figure) -> str:
    """The value as text, ``null`` where there is none."""
    return "null" if figure.value is None else f"{figure.value:.{figure.digits}f}"


def of_points(name: str, points: Sequence[OperatingPoint]) -> list[Figure]:
    """``name=rate`` for each operating point."""
    return [
        Figure(
            f"{name}={point.fmr:g}",
            point.tar,
            f"{point.genuine_pairs} genuine, {point.impostor_pairs} impostor pairs",
            point.threshold,
            point.interval,
            point.reason or point.warning,
        )
        for point in points
    ]


def of_identification(found: Identification, among: MegaFace | None = None) -> list[Figure]:
    """Ranks, DIR at each FAR, and rank 1 against distractors."""
    entries = f"{found.identities} identities" + (f" + {found.distractors} distractors" if found.distractors else "")
    figures = [_rate(f"rank-{rate.at}", rate, f"probes in {entries}") for rate in found.ranks]
    if found.cmc is None:
        figures.append(Figure("rank-1", None, f"{found.mated} probes in {entries}", note=found.note))
    for point in found.open_set:
        over = f"{point.mated} mated, {point.unmated} non-mated probes"
        figures.append(Figure(f"DIR@FAR={point.far:g}", point.dir, over, point.threshold, note=point.note))
    if among is not None:
        figures += [_rate(f"MegaFace rank-1 among {rate.at}", rate, "pairs") for rate in among.rank1]
        figures += of_points("MegaFace TPR@FPR", among.tpr)
        if among.note:
            figures.append(Figure("MegaFace rank-1", None, f"{among.pairs} pairs", note=among.note))
    return figures


def of_templates(verified: TemplateVerification, identified: TemplateIdentification | None = None) -> list[Figure]:
    """TPR at each FPR, and the mean rank-1 and rank-5 rates over the galleries."""
    figures = of_points("template TPR@FPR", verified.points)
    if identified is not None:
        galleries = identified.galleries
        note = next((one.note for one in galleries if one.note), None)
        over = f"{sum(one.mated for one in galleries)} probes, {len(galleries)} galleries"
        figures.append(Figure("template rank-1", identified.rank1, over, note=note))
        few = note or (None if identified.rank5 is not None else "a gallery has fewer than five identities")
        figures.append(Figure("template rank-5", identified.rank5, over, note=few))
    return figures


def of_retrieval(found: Retrieval) -> list[Figure]:
    """The mean average precision."""
    remarks = [found.note] if found.note else []
    if found.without_videos:
        remarks.append(f"{found.without_videos} queries without a video are left out")
    if found.beyond_top:
        remarks.append(f"{found.beyond_top} queries have more than {found.top} videos and cannot reach 1")
    over = f"{found.queries} queries, {found.videos} videos"
    return [Figure(f"MAP@{found.top}", found.map, over, note="; ".join(remarks) or None)]


def of_angles(found: AngleStatistics) -> list[Figure]:
    """The angles in degrees, those to class centers only where there are any."""
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
        Figure(f"{name}, degrees", value, over, digits=2, note=why if value is None else None)
        for name, value, over in rows
    ]


def _rate(name: str, rate: Rate, over: str) -> Figure:
    return Figure(name, rate.rate, f"{rate.trials} {over}", interval=rate.interval)
