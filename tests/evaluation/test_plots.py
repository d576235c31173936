"""The points of a curve against counting; the pictures: that they are there, whole, the same each time, and say n."""

import builtins
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from arcinvert.errors import EnvironmentProblem, InputError, UsageError
from arcinvert.evaluation import plots
from arcinvert.evaluation.curves import degrees, proportion_bounds, sample_curve
from arcinvert.evaluation.metrics import Scored, threshold_at_fmr, wilson_interval

matplotlib = pytest.importorskip("matplotlib")


def scores(seed: int = 0, genuine: int = 300, impostor: int = 2000, decimals: int | None = None) -> Scored:
    random = np.random.default_rng(seed)
    pair = random.normal(0.5, 0.15, genuine).clip(-1, 1), random.normal(0, 0.15, impostor).clip(-1, 1)
    same, other = (values if decimals is None else values.round(decimals) for values in pair)
    return Scored(np.sort(same).astype(np.float32), np.sort(other).astype(np.float32))


# --- the points


@pytest.mark.parametrize("decimals", [None, 1])  # with one decimal almost all scores are ties
def test_every_point_is_what_counting_says(decimals: int | None) -> None:
    scored = scores(decimals=decimals)
    curve = sample_curve(scored)
    assert len(curve.fmr) > (100 if decimals is None else 5)
    for threshold, fmr, tar, low, high in zip(
        curve.thresholds, curve.fmr, curve.tar, curve.low, curve.high, strict=True
    ):
        assert fmr == (scored.impostor >= threshold).mean()
        assert tar == (scored.genuine >= threshold).mean()
        assert (low, high) == wilson_interval(round(tar * 300), 300)
    assert (np.diff(curve.thresholds) < 0).all()
    assert (np.diff(curve.fmr) >= 0).all()
    assert curve.fmr[0] * 2000 >= 3
    assert (curve.fmr[-1], curve.tar[-1]) == (1, 1)
    assert (curve.sure_from, curve.genuine, curve.impostor) == (0.015, 300, 2000)


def test_the_thresholds_are_those_of_the_metrics() -> None:
    scored = scores(impostor=1000)
    curve = sample_curve(scored, count=5000)  # so many that every number of false matches is one
    for fmr in (0.003, 0.01, 0.25):
        place = np.flatnonzero(curve.fmr <= fmr)[-1]
        assert curve.thresholds[place] == threshold_at_fmr(fmr, impostor=scored.impostor)


def test_scores_that_are_all_one(tmp_path: Path) -> None:
    same = Scored(np.full(5, 0.5), np.full(9, 0.5))
    curve = sample_curve(same)
    assert (curve.fmr.tolist(), curve.tar.tolist()) == ([1.0], [1.0])
    for draw in (plots.roc, plots.det, plots.angles):
        draw(tmp_path / "same.png", {"same": same})


def test_three_impostors_fix_no_curve() -> None:
    with pytest.raises(InputError, match="more than 3 impostor pairs for a curve, got 3"):
        sample_curve(Scored(np.ones(2), np.zeros(3)))


def test_degrees_and_bounds() -> None:
    assert degrees(np.array([1.0000001, 0.5, 0, -1])) == pytest.approx([0, 60, 90, 180])
    low, high = proportion_bounds(np.array([0.25, 1]), 8)
    assert (low[0], high[0]) == wilson_interval(2, 8)
    assert high[1] == 1


# --- the pictures

ANGLES = np.linspace(20, 100, 81)
CIRCLE = np.stack([np.cos(np.arange(8)), np.sin(np.arange(8))], 1)
DRAWN: dict[str, Callable[[Path], None]] = {
    "roc": lambda path: plots.roc(path, {"one": scores(), "other": scores(1)}),
    "det": lambda path: plots.det(path, {"one": scores(), "other": scores(1)}),
    "angles": lambda path: plots.angles(path, {"one": scores(), "other": scores(1)}),
    "cmc": lambda path: plots.cmc(path, {"one": ([0.5, 0.75, 1.0], 40), "other": ([0.25, 0.25], 8)}),
    "logits": lambda path: plots.logits(path, {"flat": (ANGLES, 0 * ANGLES), "steep": (ANGLES, -ANGLES)}, scale=64),
    "toy": lambda path: plots.toy(path, {"softmax": (CIRCLE, np.arange(8), CIRCLE)}),
}


def settings() -> dict[str, Any]:
    """Matplotlib's, without the backend: to ask for that is to choose one."""
    return {key: matplotlib.rcParams[key] for key in matplotlib.rcParams if not key.startswith("backend")}


@pytest.mark.parametrize("name", DRAWN)
def test_pictures_are_whole_and_the_same_each_time(name: str, tmp_path: Path) -> None:
    before = settings()
    written = []
    for file in ("a.png", "b.png", "a.svg", "b.SVG"):
        DRAWN[name](tmp_path / file)
        written.append((tmp_path / file).read_bytes())
    assert written[0] == written[1]
    assert written[2] == written[3]
    with Image.open(tmp_path / "a.png") as picture:
        pixels = np.asarray(picture.convert("L"))
    assert min(pixels.shape) > 400
    assert 0.005 < (pixels < 250).mean() < 0.6
    # Nothing reaches the edge, so nothing is cut off.
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    assert (border == 255).all()
    assert written[2].startswith(b"<?xml")
    assert b"<dc:date>" not in written[2]
    assert settings() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "a.svg", "b.SVG", "b.png"]


def texts(monkeypatch: pytest.MonkeyPatch, name: str, tmp_path: Path) -> str:
    """Every word of a picture: an SVG whose letters are kept as text."""
    monkeypatch.setitem(plots._STYLE, "svg.fonttype", "none")
    DRAWN[name](tmp_path / "words.svg")
    return " | ".join(re.findall(r">([^<>]+)</text>", (tmp_path / "words.svg").read_text()))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("roc", ["one: 300 genuine, 2,000 impostor pairs", "FMR", "TAR", "95 % Wilson", "fewer than 30"]),
        ("det", ["other: 300 genuine, 2,000 impostor pairs", "FNMR"]),
        ("angles", ["genuine: 300 pairs", "impostor: 2,000 pairs", "degrees", "one", "other"]),
        ("cmc", ["one: 40 probes, rank 1 0.500", "other: 8 probes, rank 1 0.250", "rank"]),
        ("logits", ["flat", "steep", "degrees", "target logit (scale 64)"]),
        ("toy", ["softmax", "8"]),
    ],
)
def test_pictures_say_what_they_show(
    name: str, expected: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = texts(monkeypatch, name, tmp_path)
    for part in expected:
        assert part in found


@pytest.mark.parametrize("name", ["_hidden", "a$\\\\frac$b"])
def test_odd_names_are_written_as_they_are(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(DRAWN, "odd", lambda path: plots.roc(path, {name: scores()}))
    assert f"{name}: 300 genuine" in texts(monkeypatch, "odd", tmp_path).replace("\u200a", "")
    DRAWN["odd"](tmp_path / "odd.png")


def test_the_lines_go_through_the_points(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    drawn: list[Any] = []
    original = plots._line

    def line(axes: Any, *rest: Any) -> None:
        original(axes, *rest)
        drawn.append(axes)

    monkeypatch.setattr(plots, "_line", line)
    plots.roc(tmp_path / "a.png", {"one": scores()})
    plots.det(tmp_path / "b.png", {"one": scores()})
    curve = sample_curve(scores())
    for axes, expected in zip(drawn, (curve.tar, np.where(curve.tar < 1, 1 - curve.tar, np.nan)), strict=True):
        whole, sure = axes.get_lines()
        np.testing.assert_array_equal(whole.get_xdata(), curve.fmr)
        np.testing.assert_array_equal(whole.get_ydata(), expected)
        np.testing.assert_array_equal(np.isnan(sure.get_ydata()), np.isnan(expected) | (curve.fmr < 0.015))


def test_colors_are_told_apart_also_without_red_or_green() -> None:
    """Brettel-like projections: for a protanope and a deuteranope (Viénot et al. 1999), in linear RGB."""
    rgb = np.array([[int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)] for color in plots.COLORS]) ** 2.2
    protan = np.array([[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]])
    deutan = np.array([[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]])
    for seen in (rgb, rgb @ protan.T, rgb @ deutan.T):
        screen = seen.clip(0, 1) ** (1 / 2.2)
        apart = np.linalg.norm(screen[:, None] - screen[None], axis=-1) + 9 * np.eye(len(rgb))
        # The first six are lines; the last two appear beside them only with markers and numbers.
        assert apart[:6, :6].min() > 0.1


# --- what is refused


@pytest.mark.parametrize("name", ["a.jpg", "png"])
def test_other_suffixes(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"expected an output \.png or \.svg"):
        DRAWN["cmc"](tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_without_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def missing(name: str, *rest: Any, **more: Any) -> Any:
        if name.split(".")[0] == "matplotlib":
            raise ImportError(name)
        return original(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(EnvironmentProblem, match=r"pip install 'arcinvert\[plot\]'"):
        DRAWN["cmc"](tmp_path / "a.png")
