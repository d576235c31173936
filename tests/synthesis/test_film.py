"""The path of an optimization as an animation and as a plot."""

import itertools
import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from arcinvert.synthesis.film import LAST_TIME, write_animation, write_plot


def test_an_animation_has_every_frame_and_the_last_stays_longer(tmp_path: Path) -> None:
    frames = [torch.full((112, 112, 3), 40 * i, dtype=torch.uint8) for i in range(5)]
    write_animation(tmp_path / "a.webp", frames)
    with Image.open(tmp_path / "a.webp") as image:
        assert (image.format, image.n_frames, image.size) == ("WEBP", 5, (112, 112))
        assert image.info["loop"] == 0
        assert "synthetic" in image.getexif()[0x010E]
        durations = []
        for i in range(5):
            image.seek(i)
            assert abs(float(np.asarray(image.convert("RGB")).mean()) - 40 * i) < 3
            durations.append(image.info["duration"])
    assert durations[-1] == LAST_TIME
    assert len(set(durations[:-1])) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.webp"]


def heights(path: Path, panel: int, color: tuple[int, int, int]) -> list[float]:
    """The height of the line of a panel at the columns it is drawn in, from the left."""
    with Image.open(path) as image:
        pixels = np.asarray(image).astype(int)
    rows, columns = np.nonzero((pixels == color).all(-1))
    inside = (rows >= 130 * panel) & (rows < 130 * (panel + 1))
    rows, columns = rows[inside], columns[inside]
    return [float(rows[columns == column].mean()) for column in np.unique(columns)]


def test_a_plot_draws_each_term_in_its_panel(tmp_path: Path) -> None:
    steps = list(range(50))
    history = {
        "step": steps,
        "falls": [math.exp(-step / 10) for step in steps],
        "flat": [2.0 for _ in steps],
        "never": [None for _ in steps],
        "cosine": [step / 49 for step in steps],
    }
    write_plot(tmp_path / "a.plot.png", history)
    with Image.open(tmp_path / "a.plot.png") as image:
        assert image.size == (640, 4 * 130)
        assert "synthetic" in image.text["Description"]
    blue, red = (30, 80, 160), (200, 40, 40)
    falls, flat = (heights(tmp_path / "a.plot.png", panel, blue) for panel in (0, 1))
    assert all(after >= before - 1 for before, after in itertools.pairwise(falls))
    assert falls[-1] - falls[0] > 70
    assert falls[len(falls) // 2] - falls[0] > 0.8 * (falls[-1] - falls[0])  # an exponential, not a straight line
    assert max(flat) - min(flat) <= 1
    assert heights(tmp_path / "a.plot.png", 2, blue) == []
    rises = heights(tmp_path / "a.plot.png", 3, red)
    assert all(after <= before + 1 for before, after in itertools.pairwise(rises))
    assert abs(rises[len(rises) // 2] - (rises[0] + rises[-1]) / 2) < 2


def test_plots_of_very_little(tmp_path: Path) -> None:
    write_plot(tmp_path / "one.png", {"step": [0], "cosine": [0.5]})
    write_plot(tmp_path / "none.png", {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["none.png", "one.png"]
