"""Pictures, the curve of the cosine and the scale of a judge, as HTML and SVG."""

import base64
import io
from collections.abc import Sequence

from PIL import Image
from torch import Tensor

from arcinvert.audit.judges import Threshold
from arcinvert.audit.page.markup import Markup, join, tag

WIDTH, HEIGHT = 640, 230
LEFT, RIGHT, TOP, BOTTOM = 44, 12, 14, 30
LOWEST = -0.2
"""Where the scales begin; cosines of faces do not lie below."""
DASHES = ("2 5", "9 4")
"""Of the first threshold's line and of the second's: told apart without color."""


def uri(image: Tensor) -> str:
    """(H, W, 3) uint8 as a ``data:`` address."""
    held = io.BytesIO()
    Image.fromarray(image.numpy()).save(held, format="PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(held.getvalue()).decode()


def figure(image: Tensor | None, caption: str, alt: str, *, note: str = "") -> Markup:
    """A picture with its caption; without one an empty frame that says why."""
    shown = (
        tag("div", alt, class_="ai-empty") if image is None else tag("img", src=uri(image), alt=alt, class_="ai-face")
    )
    said = [tag("strong", caption), tag("span", note, class_="ai-note") if note else None]
    return tag("figure", shown, tag("figcaption", *said), class_="ai-figure")


def row(figures: Sequence[Markup]) -> Markup:
    """Figures beside each other, below each other on a phone."""
    return tag("div", *figures, class_="ai-row")


def odds(fmr: float) -> str:
    """A false match rate in plain words."""
    return f"1 in {round(1 / fmr):,}"


def _x(step: float, steps: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * (step / steps if steps else 0.0)


def _y(cosine: float) -> float:
    share = (min(max(cosine, LOWEST), 1.0) - LOWEST) / (1 - LOWEST)
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share


def curve(
    points: Sequence[tuple[int, float]], steps: int, thresholds: Sequence[Threshold] = (), *, at: int | None = None
) -> Markup:
    """The cosine along the steps, with the recognizer's thresholds as lines.

    Args:
        points: (step, cosine), in order.
        steps: of the whole run.
        thresholds: those without a value are left out.
        at: which of the points is marked; default: the last.
    """
    parts = []
    for value in (0.0, 0.5, 1.0):
        parts.append(_line(LEFT, _y(value), WIDTH - RIGHT, _y(value), class_="ai-grid"))
        parts.append(_label(f"{value:g}", LEFT - 8, _y(value) + 5, "end"))
    drawn_at = [t for t in sorted(thresholds, key=lambda t: -t.fmr) if t.threshold is not None]
    for place, (dash, threshold) in enumerate(zip(DASHES, drawn_at, strict=False)):
        y = _y(threshold.threshold or 0.0)
        parts.append(_line(LEFT, y, WIDTH - RIGHT, y, class_="ai-mark", stroke_dasharray=dash))
        said = f"lets in {odds(threshold.fmr)} strangers"
        parts.append(_label(said, WIDTH - RIGHT - 4, y - 7 if place else y + 18, "end"))
    parts += [
        _label("step 0", LEFT, HEIGHT - 8, "start"),
        _label(f"step {steps}", WIDTH - RIGHT, HEIGHT - 8, "end"),
    ]
    if points:
        drawn = " ".join(f"{_x(step, steps):.1f},{_y(cosine):.1f}" for step, cosine in points)
        parts.append(tag("polyline", points=drawn, class_="ai-curve"))
        step, cosine = points[-1 if at is None else at]
        parts.append(tag("circle", cx=f"{_x(step, steps):.1f}", cy=f"{_y(cosine):.1f}", r="6", class_="ai-dot"))
    said = f"likeness {points[-1][1]:.2f} after {points[-1][0]} of {steps} steps" if points else "no step yet"
    return _svg(parts, WIDTH, HEIGHT, f"Curve of the likeness to the target: {said}")


def scale(cosine: float | None, thresholds: Sequence[Threshold]) -> Markup:
    """A cosine on a line from -0.2 to 1, with a recognizer's thresholds as marks."""
    height = 90

    def x(value: float) -> float:
        return 10 + (WIDTH - 20) * (min(max(value, LOWEST), 1.0) - LOWEST) / (1 - LOWEST)

    parts, marks = [_line(10, 46, WIDTH - 10, 46, class_="ai-track")], []
    for place, threshold in enumerate(sorted(thresholds, key=lambda t: -t.fmr)):
        if threshold.threshold is not None:
            at = x(threshold.threshold)
            marks.append(_line(at, 32, at, 60, class_="ai-mark"))
            side = ("end", 8) if place == 0 else ("start", -8)
            marks.append(_label(odds(threshold.fmr), at + side[1], 24, side[0]))
    if cosine is not None:
        parts.append(_line(10, 46, x(cosine), 46, class_="ai-fill"))
        marks.append(tag("circle", cx=f"{x(cosine):.1f}", cy="46", r="9", class_="ai-dot"))
        marks.append(_label(f"{cosine:.2f}", x(cosine), 82, "middle"))
    said = "no picture to compare with" if cosine is None else f"cosine {cosine:.2f}"
    return _svg([*parts, *marks], WIDTH, height, f"Scale from -0.2 to 1: {said}")


def verdict(cosine: float, threshold: Threshold) -> Markup:
    """Whether a recognizer accepts, as a sign and words."""
    if threshold.threshold is None:
        return tag("li", f"{odds(threshold.fmr)}: {threshold.reason or 'no threshold is known'}")
    accepts = cosine >= threshold.threshold
    sign = tag("span", "✔" if accepts else "✘", aria_hidden="true", class_="ai-yes" if accepts else "ai-no")
    word = tag("strong", "accepted" if accepts else "not accepted")
    return tag(
        "li",
        sign,
        " ",
        word,
        f" by a system that lets in {odds(threshold.fmr)} strangers (from {threshold.threshold:.2f})",
    )


def remark(text: str, kind: str = "") -> Markup:
    """A line that the page says; ``kind`` is ``warning`` for one that should be heeded."""
    return tag("p", text, class_=f"ai-say {kind}".strip(), role="status")


def _svg(parts: Sequence[Markup], width: int, height: int, said: str) -> Markup:
    return tag("svg", join(parts), viewBox=f"0 0 {width} {height}", role="img", aria_label=said, class_="ai-svg")


def _line(x1: float, y1: float, x2: float, y2: float, **more: str) -> Markup:
    return tag("line", x1=f"{x1:.1f}", y1=f"{y1:.1f}", x2=f"{x2:.1f}", y2=f"{y2:.1f}", **more)


def _label(text: str, x: float, y: float, anchor: str) -> Markup:
    return tag("text", text, x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor)
