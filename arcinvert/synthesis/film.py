"""Files that show the path of an optimization: an animation, and a plot of every term."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from arcinvert.checkpoint import atomic_write
from arcinvert.synthesis.credentials import ContentCredentials
from arcinvert.synthesis.sheets import SYNTHETIC, write_png

FRAME_TIME, LAST_TIME = 80, 2000  # milliseconds
WIDTH, HEIGHT, MARGIN = 640, 130, (86, 26, 14, 22)  # of a panel; its margin left, top, right, bottom
PLOT = "the terms of a reconstruction from an embedding along its steps, plotted by arcinvert"

History = Mapping[str, Sequence[float | None]]


def write_animation(path: Path, frames: Sequence[Tensor], credentials: ContentCredentials | None = None) -> None:
    """(112, 112, 3) uint8 images -> an endless WebP; the last one stays longer. Its EXIF says it is synthetic."""
    images = [Image.fromarray(frame.numpy()) for frame in frames]
    exif = Image.Exif()
    exif[0x010E] = SYNTHETIC  # ImageDescription
    with atomic_write(path) as temporary:
        images[0].save(
            temporary,
            format="WEBP",
            save_all=True,
            append_images=images[1:],
            duration=[FRAME_TIME] * (len(images) - 1) + [LAST_TIME],
            loop=0,
            quality=85,
            exif=exif,
        )
        if credentials is not None:
            credentials.sign(temporary, "image/webp")


def write_plot(path: Path, history: History, credentials: ContentCredentials | None = None) -> None:
    """A PNG of every term and of the cosine along the steps, a panel each, with their own scales."""
    names = [name for name in history if name != "step"]
    sheet = Image.new("RGB", (WIDTH, HEIGHT * max(1, len(names))), "white")
    for i, name in enumerate(names):
        _panel(ImageDraw.Draw(sheet), HEIGHT * i, name, history["step"], history[name])
    plotted = credentials and replace(credentials, source="dataDrivenMedia", description=PLOT)
    write_png(path, torch.from_numpy(np.array(sheet)), plotted)


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
