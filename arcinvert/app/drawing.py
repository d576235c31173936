"""Images, the curve of the similarity and the scale of a judge, as HTML and SVG that ``templates/parts.html`` draws."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from markupsafe import Markup
from PIL import Image
from torch import Tensor

from arcinvert.audit.page.environment import environment
from arcinvert.audit.thresholds import Threshold

PARTS: Any = environment("arcinvert.app").get_template("parts.html").module
"""The macros; each gives escaped HTML."""
DASHES = ("2 5", "9 4")
"""Of the lines of the first and the second threshold, which differ without color."""


@dataclass(frozen=True)
class _Plot:
    """A drawing of cosines from ``lowest`` (cosines of faces are higher) to 1."""

    width: ClassVar[int] = 640
    lowest: ClassVar[float] = -0.2

    def share(self, cosine: float) -> float:
        """Where a cosine is on the scale, in [0, 1]."""
        return (min(max(cosine, self.lowest), 1.0) - self.lowest) / (1 - self.lowest)


@dataclass(frozen=True)
class Curve(_Plot):
    """The similarity along the steps.

    Attributes:
        points: (step, cosine), in order.
        steps: of the whole run.
        known: thresholds of the recognizer; those without a value are left out.
        selected: the index of the marked point.
    """

    points: Sequence[tuple[int, float]]
    steps: int
    known: Sequence[Threshold] = ()
    selected: int = -1
    height: ClassVar[int] = 230
    left: ClassVar[int] = 44
    right: ClassVar[int] = 628

    @property
    def thresholds(self) -> list[tuple[str, Threshold]]:
        """The least strict ones, each with the dash of its line."""
        known = [threshold for threshold in self.known if threshold.threshold is not None]
        return list(zip(DASHES, sorted(known, key=lambda threshold: -threshold.fmr), strict=False))

    @property
    def description(self) -> str:
        """The curve as text."""
        step, cosine = self.points[-1] if self.points else (0, 0.0)
        result = f"similarity {cosine:.2f} after {step} of {self.steps} steps" if self.points else "no step yet"
        return f"Curve of the similarity to the target: {result}"

    def x(self, step: float) -> float:
        """The horizontal coordinate of a step."""
        return self.left + (self.right - self.left) * (step / self.steps if self.steps else 0.0)

    def y(self, cosine: float) -> float:
        """The vertical coordinate of a cosine."""
        return self.height - 30 - (self.height - 44) * self.share(cosine)


@dataclass(frozen=True)
class Scale(_Plot):
    """A cosine and the thresholds of a recognizer."""

    cosine: float
    known: Sequence[Threshold]

    @property
    def thresholds(self) -> list[Threshold]:
        """The thresholds, the least strict first."""
        return sorted(self.known, key=lambda threshold: -threshold.fmr)

    def x(self, cosine: float) -> float:
        """The horizontal coordinate of a cosine."""
        return 10 + (self.width - 20) * self.share(cosine)


def data_uri(image: Tensor) -> str:
    """(H, W, 3) uint8 as a ``data:`` address."""
    buffer = io.BytesIO()
    Image.fromarray(image.numpy()).save(buffer, format="PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def figure(image: Tensor | None, caption: str, alt: str, *, note: str | Sequence[str] = ()) -> Markup:
    """An image with its caption and a line for each note; without an image, an empty frame that shows ``alt``."""
    notes = [note] if isinstance(note, str) else note
    drawn: Markup = PARTS.figure(None if image is None else data_uri(image), caption, alt, notes)
    return drawn
