"""Plots of an evaluation, PNG or SVG, drawn by matplotlib without a window or global state.

The colors are those of Okabe and Ito (2008), which most color-blind people can distinguish; every line also has its own
dash pattern or marker. The same input gives the same bytes.
"""

import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from arcinvert.checkpoint import atomic_write
from arcinvert.errors import EnvironmentProblem, UsageError
from arcinvert.evaluation.allpairs.search import Floats
from arcinvert.evaluation.curves import SampledCurve, degrees, proportion_bounds, sample_curve
from arcinvert.evaluation.metrics import Scored

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D1F")
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)), (0, (8, 3)), (0, (3, 1, 1, 1)))
MARKERS = "os^Dv<>P"
PAIRS_NOTE = "bands: 95 % Wilson intervals, as if pairs were independent; pale: fewer than 30 impostor pairs decide"
SUFFIXES = (".png", ".svg")
_STYLE: Any = {
    "font.size": 10,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "svg.hashsalt": "arcinvert",
    "svg.fonttype": "path",
    "figure.dpi": 150,
    "savefig.dpi": 150,
}


def check_output(path: Path) -> None:
    """Check that a file is to be a PNG or SVG, and that matplotlib is installed.

    Raises:
        UsageError: another suffix.
        EnvironmentProblem: matplotlib is not installed.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"expected an output .png or .svg, got {str(path)!r}")
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise EnvironmentProblem("pictures need the package matplotlib: pip install 'arcinvert[plot]'") from None


def roc(path: Path, scores: Mapping[str, Scored]) -> None:
    """Draw TAR over FMR (logarithmic), a curve for each named set of scores, with its 95 % interval.

    Raises:
        InputError: too few impostor pairs.
        UsageError, EnvironmentProblem: see :func:`check_output`.
    """
    curves = {name: sample_curve(scored) for name, scored in scores.items()}
    with drawing(path, 6.4, 5.0) as figure:
        axes = figure.add_subplot()
        for number, (name, curve) in enumerate(curves.items()):
            _line(axes, number, name, curve, curve.tar, curve.low, curve.high)
        axes.set(xscale="log", xlim=(None, 1), ylim=(-0.02, 1.02))
        axes.set(xlabel="false match rate (FMR)", ylabel="true accept rate (TAR)")
        figure.legend(loc="outside upper center", handlelength=3)
        footnote(figure, PAIRS_NOTE)


def det(path: Path, scores: Mapping[str, Scored]) -> None:
    """Draw FNMR over FMR, both logarithmic, a curve for each named set of scores, with its 95 % interval.

    Raises:
        InputError: too few impostor pairs.
        UsageError, EnvironmentProblem: see :func:`check_output`.
    """
    curves = {name: sample_curve(scored) for name, scored in scores.items()}
    # Half a pair: where no genuine pair is rejected, the line ends and the interval reaches the edge.
    floor = min(0.5 / curve.genuine for curve in curves.values())
    with drawing(path, 6.4, 5.0) as figure:
        axes = figure.add_subplot()
        for number, (name, curve) in enumerate(curves.items()):
            refused = np.where(curve.tar < 1, 1 - curve.tar, np.nan)
            _line(axes, number, name, curve, refused, np.maximum(1 - curve.high, floor), 1 - curve.low)
        axes.set(xscale="log", yscale="log", xlim=(None, 1), ylim=(floor, 1.2))
        axes.set(xlabel="false match rate (FMR)", ylabel="false non-match rate (FNMR)")
        figure.legend(loc="outside upper center", handlelength=3)
        footnote(figure, PAIRS_NOTE)


def angles(path: Path, scores: Mapping[str, Scored]) -> None:
    """Draw the histograms of genuine and impostor angles in degrees, a panel for each named set.

    Each histogram has area 1, in bins of one degree (Deng et al. 2019, Fig. 10 of the journal version).

    Raises:
        UsageError, EnvironmentProblem: see :func:`check_output`.
    """
    found = {name: (degrees(scored.genuine), degrees(scored.impostor)) for name, scored in scores.items()}
    low = np.floor(min(values.min() for pair in found.values() for values in pair))
    high = np.ceil(max(values.max() for pair in found.values() for values in pair))
    edges = np.arange(low, max(high, low + 1) + 1)
    with drawing(path, 6.4, 1.2 + 2.8 * len(found)) as figure:
        panels = figure.subplots(len(found), 1, sharex=True, squeeze=False)[:, 0]
        for axes, (name, pair) in zip(panels, found.items(), strict=True):
            for number, (kind, values) in enumerate(zip(("genuine", "impostor"), pair, strict=True)):
                label = f"{kind}: {len(values):,} pairs, {values.mean():.1f}° ± {values.std():.1f}°"
                style = {"color": COLORS[number], "label": label}
                axes.hist(values, edges, density=True, histtype="stepfilled", alpha=0.3, **(style | {"label": None}))
                axes.hist(
                    values, edges, density=True, histtype="step", linewidth=1.6, linestyle=DASHES[number], **style
                )
                axes.axvline(values.mean(), 0, 0.8, color=COLORS[number], linewidth=1, linestyle=DASHES[number])
            # The legend is above the bars and the lines of the means.
            axes.set(title=plain(name), ylabel="share a degree", ylim=(0, 1.3 * axes.get_ylim()[1]))
            axes.legend(loc="upper center", ncols=2, columnspacing=1.2, handlelength=1.5, fontsize=9)
        panels[-1].set_xlabel("angle between embeddings, degrees")
        footnote(figure, "upright lines: means; ±: standard deviation")


def cmc(path: Path, rates: Mapping[str, tuple[Sequence[float], int]]) -> None:
    """Draw cumulative match curves with 95 % intervals.

    Args:
        path: the file to write.
        rates: name -> the share of probes found by rank 1, 2, ..., and the number of probes.

    Raises:
        UsageError, EnvironmentProblem: see :func:`check_output`.
    """
    with drawing(path, 6.4, 5.0) as figure:
        axes = figure.add_subplot()
        for number, (name, (found, probes)) in enumerate(rates.items()):
            share = np.asarray(found, np.float64)
            places = np.arange(1, len(share) + 1)
            style: dict[str, Any] = {"color": COLORS[number % len(COLORS)]}
            marks: dict[str, Any] = {
                "marker": MARKERS[number % len(MARKERS)],
                "markersize": 4,
                "linestyle": DASHES[number % len(DASHES)],
            }
            axes.plot(places, share, label=f"{plain(name)}: {probes:,} probes, rank 1 {share[0]:.3f}", **style, **marks)
            axes.fill_between(places, *proportion_bounds(share, probes), alpha=0.15, linewidth=0, **style)
        axes.locator_params(axis="x", integer=True)
        axes.set(xlabel="rank", ylabel="share of probes found by this rank")
        axes.set_ylim(None, min(1.01, axes.get_ylim()[1]))
        figure.legend(loc="outside upper center", handlelength=3)
        footnote(figure, "bands: 95 % Wilson intervals, as if probes were independent")


def logits(path: Path, curves: Mapping[str, tuple[Floats, Floats]], *, scale: float) -> None:
    """Draw the logit of the right class over its angle (Deng et al. 2019, Fig. 4b).

    Args:
        path: the file to write.
        curves: name -> angles (K,) in degrees and logits (K,).
        scale: factor of the logits, shown at the axis.

    Raises:
        UsageError, EnvironmentProblem: see :func:`check_output`.
    """
    with drawing(path, 6.4, 5.0) as figure:
        axes = figure.add_subplot()
        for number, (name, (angle, logit)) in enumerate(curves.items()):
            style: dict[str, Any] = {"color": COLORS[number % len(COLORS)], "linestyle": DASHES[number % len(DASHES)]}
            marks: dict[str, Any] = {
                "marker": MARKERS[number % len(MARKERS)],
                "markevery": (3 * number, 24),
                "markersize": 5,
            }
            axes.plot(angle, logit, label=plain(name), linewidth=1.8, **style, **marks)
        axes.margins(x=0)
        axes.set(xlabel="angle to the center of the right class, degrees", ylabel=f"target logit (scale {scale:g})")
        axes.set_title("Target logits of the margins (m1, m2, m3)")
        axes.legend(loc="upper right", handlelength=3.5)


def toy(path: Path, panels: Mapping[str, tuple[Floats, NDArray[np.int64], Floats]]) -> None:
    """Draw 2-D embeddings on the circle, a panel for each loss (Deng et al. 2019, Fig. 3).

    The radius has no meaning (embeddings have unit norm): the points of each identity are spread over a narrow ring, so
    that they do not overlap. A line points to each class center.

    Args:
        path: the file to write.
        panels: name -> embeddings (N, 2), labels (N,) from 0, class centers (C, 2).

    Raises:
        UsageError, EnvironmentProblem: see :func:`check_output`.
    """
    with drawing(path, 4.4 * len(panels), 5.0) as figure:
        figure.set_layout_engine("constrained", h_pad=0.12)
        for place, (axes, (name, (points, labels, centers))) in enumerate(
            zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True)
        ):
            spread = np.random.default_rng(place).uniform(0.94, 1.06, len(points))
            ring = points / np.linalg.norm(points, axis=1, keepdims=True) * spread[:, None]
            for label, center in enumerate(centers / np.linalg.norm(centers, axis=1, keepdims=True)):
                style = {"color": COLORS[label % len(COLORS)]}
                mine = ring[labels == label]
                axes.plot(*np.outer([0, 0.9], center).T, linewidth=1.4, **style)
                axes.plot(
                    *mine.T,
                    MARKERS[label % len(MARKERS)],
                    markersize=4,
                    alpha=0.45,
                    markeredgewidth=0,
                    rasterized=True,
                    **style,
                )
                axes.text(
                    *(1.2 * center), str(label + 1), ha="center", va="center", weight="bold", fontsize=11, **style
                )
            axes.set(xlim=(-1.35, 1.35), ylim=(-1.35, 1.35), aspect="equal", xticks=[], yticks=[])
            axes.set_title(plain(name), fontsize=10)
            axes.spines[:].set_visible(False)


def _line(axes: "Axes", number: int, name: str, curve: SampledCurve, middle: Floats, low: Floats, high: Floats) -> None:
    style: dict[str, Any] = {"color": COLORS[number % len(COLORS)], "linestyle": DASHES[number % len(DASHES)]}
    label = f"{plain(name)}: {curve.genuine:,} genuine, {curve.impostor:,} impostor pairs"
    axes.plot(curve.fmr, middle, linewidth=1.6, alpha=0.35, **style)
    axes.plot(curve.fmr, np.where(curve.fmr >= curve.sure_from, middle, np.nan), linewidth=1.8, label=label, **style)
    axes.fill_between(curve.fmr, low, high, color=style["color"], alpha=0.15, linewidth=0)


def plain(name: str) -> str:
    """A name as plain text for matplotlib: dollars start no formula, and a leading underscore does not hide it."""
    return ("\u200a" if name.startswith("_") else "") + name.replace("$", r"\$")


def footnote(figure: "Figure", text: str) -> None:
    """Write small gray text below the figure."""
    figure.supxlabel(text, fontsize=8, color="#555555")


@contextmanager
def drawing(path: Path, width: float, height: float) -> Iterator["Figure"]:
    """A figure, size in inches, that is written when the block ends; matplotlib's settings are restored."""
    check_output(path)
    import matplotlib
    from matplotlib.figure import Figure

    kind = path.suffix.lower()[1:]
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)  # boxes are drawn
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure
        stream = io.BytesIO()
        unsigned = {"Software": None} if kind == "png" else {"Date": None, "Creator": None}
        figure.savefig(stream, format=kind, metadata=unsigned)
    with atomic_write(path) as temporary:
        temporary.write_bytes(stream.getvalue())
