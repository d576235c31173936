"""The measures of real people, on people made of numbers."""

from types import ModuleType

import numpy as np
import pytest
import torch


def people(count: int, seed: int = 0) -> tuple[np.ndarray, list[str], np.ndarray]:
    generator = np.random.default_rng(seed)
    sex = np.where(np.arange(count) % 4 == 0, -1, 1)
    rows = generator.normal(size=(count, 16))
    rows[:, 3] += 3 * sex
    names = [f"Anna_{i}" if one < 0 else f"John_{i}" for i, one in enumerate(sex)]
    return rows, names, sex


def test_the_probe_finds_the_sex_of_others(script: ModuleType) -> None:
    rows, names, _ = people(200)
    probe = script.SexProbe(np.concatenate([rows, rows[:1]]), [*names, "Xanana_Gusmao"])
    assert (probe.men, probe.women) == (150, 50)
    assert probe.balanced_accuracy > 0.95
    others, _, sex = people(100, seed=1)
    assert (probe(others) == sex).mean() > 0.95


def test_the_probe_is_no_better_than_chance_on_noise(script: ModuleType) -> None:
    rows, names, _ = people(400)
    rows[:, 3] = 0
    assert abs(script.SexProbe(rows, names).balanced_accuracy - 0.5) < 0.1


def test_lightness_is_that_of_the_cheeks(script: ModuleType) -> None:
    gray = torch.zeros(3, 112, 112, 3, dtype=torch.uint8)
    gray[1], gray[2] = 119, 255
    assert script.lightness(gray) == pytest.approx([0, 50, 100], abs=0.5)
    background = gray.clone()
    background[:, :20] = 200
    assert script.lightness(background) == pytest.approx(script.lightness(gray))


def test_skin_follows_or_does_not(script: ModuleType) -> None:
    shades = script.lightness(torch.linspace(40, 220, 9).to(torch.uint8).view(9, 1, 1, 1).expand(9, 112, 112, 3))
    assert script.followed(shades, shades)["slope"] == pytest.approx(1)
    assert script.followed(shades, shades[::-1])["correlation"] == pytest.approx(-1, abs=0.1)
    assert script.followed(shades, np.full(9, shades[0]))["correlation"] == 0


def test_groups(script: ModuleType) -> None:
    masks = script.thirds(np.arange(9.0), ("dark", "middle", "light"))
    assert [int(mask.sum()) for mask in masks.values()] == [3, 3, 3]
    found = script.by_group(np.array([True, False, True] * 3), {**masks, "none": np.zeros(9, bool)})
    assert found["dark"] == {"rate": pytest.approx(2 / 3), "n": 3}
    assert found["none"] == {"rate": None, "n": 0}
