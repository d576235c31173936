"""The path of an optimization to look at."""

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from arcinvert.synthesis.film import FRAMES, LAST_TIME, POINTS, Film, history_of, write_animation, write_plot


@pytest.mark.parametrize("steps", [1, 39, 40, 60, 100, 20_000])
def test_a_film_is_short_and_starts_at_the_start(steps: int) -> None:
    film = Film([0], steps)
    seen = []
    for step in range(0, steps, 1 if steps < 1000 else film.every):
        before = len(film.frames[0])
        film(step, torch.full((1, 3, 2, 2), 0.5))
        seen += [step] if len(film.frames[0]) > before else []
    assert seen[0] == 0
    assert min(steps, FRAMES // 2) <= len(seen) <= FRAMES - 1
    assert len({b - a for a, b in itertools.pairwise(seen)}) <= 1


def test_a_film_shows_its_rows_as_they_are_written() -> None:
    film = Film([2, 0], 3)
    image = torch.tensor([0.2, 0.4, -0.5])[:, None, None, None].expand(3, 3, 4, 4)
    film(0, image)
    film(1, image + 0.1)
    assert [int(frame[0, 0, 0]) for frame in film.frames[2]] == [0, 0]
    assert [int(frame[0, 0, 0]) for frame in film.frames[0]] == [51, round(255 * 0.3)]
    assert film.frames[0][0].shape == (4, 4, 3)
    assert film.frames[0][0].dtype == torch.uint8


def test_history_of_one_image() -> None:
    history = {"match": torch.tensor([[0.1234567, 9.0], [float("nan"), 9.0], [3e-9, 9.0]])}
    assert history_of(history, 0) == {"step": [0, 1, 2], "match": [0.12346, None, 3e-9]}
    assert history_of({}, 0) == {"step": []}


def test_a_long_history_is_thinned_and_keeps_its_ends() -> None:
    steps = 20_000
    found = history_of({"cosine": torch.arange(steps)[:, None] / steps}, 0)
    assert POINTS <= len(found["step"]) <= POINTS + 1
    assert (found["step"][0], found["step"][-1]) == (0, steps - 1)
    assert found["cosine"] == [float(f"{step / steps:.5g}") for step in found["step"] if step is not None]


def test_an_animation_has_every_frame_and_holds_the_last(tmp_path: Path) -> None:
    frames = [torch.full((112, 112, 3), 40 * i, dtype=torch.uint8) for i in range(5)]
    write_animation(tmp_path / "a.webp", frames)
    with Image.open(tmp_path / "a.webp") as picture:
        assert (picture.format, picture.n_frames, picture.size) == ("WEBP", 5, (112, 112))
        assert picture.info["loop"] == 0
        assert "synthetic" in picture.getexif()[0x010E]
        durations = []
        for i in range(5):
            picture.seek(i)
            assert abs(float(np.asarray(picture.convert("RGB")).mean()) - 40 * i) < 3
            durations.append(picture.info["duration"])
    assert durations[-1] == LAST_TIME
    assert len(set(durations[:-1])) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.webp"]


def heights(path: Path, panel: int, color: tuple[int, int, int]) -> list[float]:
    """The height of the line of a panel at the columns it is drawn in, from the left."""
    with Image.open(path) as picture:
        pixels = np.asarray(picture).astype(int)
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
    with Image.open(tmp_path / "a.plot.png") as picture:
        assert picture.size == (640, 4 * 130)
        assert "synthetic" in picture.text["Description"]
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
