"""The path of an optimization to look at: an animation, a plot of every term, and the figures themselves."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from arcinvert.checkpoint import atomic_write
from arcinvert.inversion.invert import to_bytes
from arcinvert.synthesis.sheets import SYNTHETIC, write_png

FRAMES = 40
POINTS = 200
FRAME_TIME, LAST_TIME = 80, 2000  # milliseconds
WIDTH, HEIGHT, MARGIN = 640, 130, (86, 26, 14, 22)  # of a panel; its margin left, top, right, bottom

History = Mapping[str, Sequence[float | None]]


class Film:
    """Keeps a picture every few steps; what ``invert`` calls as ``watch``.

    Args:
        rows: which images of the batch.
        steps: of the recipe; at most :data:`FRAMES` - 1 pictures are kept, the last place is for the result.

    Attributes:
        frames: row -> pictures (112, 112, 3) uint8.
    """

    def __init__(self, rows: Sequence[int], steps: int) -> None:
        self.frames: dict[int, list[Tensor]] = {row: [] for row in rows}
        self.every = max(1, -(-steps // (FRAMES - 1)))

    def __call__(self, step: int, image: Tensor) -> None:
        if self.frames and step % self.every == 0:
            shown = to_bytes(image[list(self.frames)]).cpu()
            for kept, picture in zip(self.frames.values(), shown, strict=True):
                kept.append(picture)


def history_of(history: Mapping[str, Tensor], row: int) -> dict[str, list[float | None]]:
    """What a batch's history (name -> (steps, B)) says of one image, at most :data:`POINTS` points and the last.

    ``step`` names the steps; a value that is not finite is None.
    """
    steps = len(next(iter(history.values()), ()))
    chosen = sorted({*range(0, steps, max(1, -(-steps // POINTS))), *range(steps)[-1:]})
    found: dict[str, list[float | None]] = {"step": list(chosen)}
    for name, values in history.items():
        along = values[chosen, row].tolist()
        found[name] = [float(f"{value:.5g}") if math.isfinite(value) else None for value in along]
    return found


def write_animation(path: Path, frames: Sequence[Tensor]) -> None:
    """(112, 112, 3) uint8 pictures -> an endless WebP; the last one stays longer. Its EXIF says it is synthetic."""
    pictures = [Image.fromarray(frame.numpy()) for frame in frames]
    exif = Image.Exif()
    exif[0x010E] = SYNTHETIC  # ImageDescription
    with atomic_write(path) as temporary:
        pictures[0].save(
            temporary,
            format="WEBP",
            save_all=True,
            append_images=pictures[1:],
            duration=[FRAME_TIME] * (len(pictures) - 1) + [LAST_TIME],
            loop=0,
            quality=85,
            exif=exif,
        )


def write_plot(path: Path, history: History) -> None:
    """A PNG of every term and of the cosine along the steps, a panel each, with their own scales."""
    names = [name for name in history if name != "step"]
    sheet = Image.new("RGB", (WIDTH, HEIGHT * max(1, len(names))), "white")
    for i, name in enumerate(names):
        _panel(ImageDraw.Draw(sheet), HEIGHT * i, name, history["step"], history[name])
    write_png(path, torch.from_numpy(np.array(sheet)))


def _panel(
    draw: ImageDraw.ImageDraw, top: int, name: str, steps: Sequence[float | None], values: Sequence[float | None]
) -> None:
    font = ImageFont.load_default()
    left, above, right, below = MARGIN
    x0, y0, x1, y1 = left, top + above, WIDTH - right, top + HEIGHT - below
    points = [
        (step, value) for step, value in zip(steps, values, strict=True) if step is not None and value is not None
    ]
    draw.text((left, top + 8), name if points else f"{name}: no finite value", fill="black", font=font)
    draw.rectangle((x0, y0, x1, y1), outline=(190, 190, 190))
    if not points:
        return
    low, high = min(value for _, value in points), max(value for _, value in points)
    first, last = points[0][0], points[-1][0]
    for value, y in ((high, y0), (low, y1)) if high > low else ((high, (y0 + y1) / 2),):
        draw.text((left - 6, y), f"{value:.4g}", fill="black", font=font, anchor="rm")
    draw.text((x0, y1 + 4), f"step {first:.0f}", fill="black", font=font)
    draw.text((x1, y1 + 4), f"{last:.0f}", fill="black", font=font, anchor="ra")

    def place(step: float, value: float) -> tuple[float, float]:
        across = (step - first) / (last - first) if last > first else 0.5
        up = (value - low) / (high - low) if high > low else 0.5
        return x0 + across * (x1 - x0), y1 - up * (y1 - y0)

    line = [place(*point) for point in points]
    draw.line(line if len(line) > 1 else line * 2, fill=(200, 40, 40) if name == "cosine" else (30, 80, 160), width=2)
    draw.text((x1, top + 8), f"at the end {points[-1][1]:.4g}", fill="black", font=font, anchor="ra")
