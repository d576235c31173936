"""What embeddings tell, on people made of numbers."""

from types import ModuleType

import numpy as np
import pytest

NAMES = [f"{('Anna', 'John', 'Xanana')[i % 3]}_{i}" for i in range(450)]
SEX = np.array([(-1, 1, 0)[i % 3] for i in range(450)])


def people(*, lightness: float = 0.0, sex: float = 0.0, crossed: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings of unit norm and lightnesses; ``crossed`` hides the sex in the product of two signs."""
    generator = np.random.default_rng(0)
    shades = generator.normal(60, 10, len(SEX))
    rows = generator.normal(size=(len(SEX), 8))
    rows[:, 3] += lightness * (shades - 60) / 10
    coin = generator.choice([-1, 1], len(SEX)) if crossed else 1
    rows[:, 5] += sex * coin
    rows[:, 6] += sex * coin * SEX
    return rows / np.linalg.norm(rows, axis=1, keepdims=True), shades


@pytest.mark.parametrize("kind", ["linear", "rbf"])
def test_what_is_in_the_numbers_is_told_and_nothing_else(script: ModuleType, kind: str) -> None:
    rows, shades = people()
    nothing = script.told(rows, NAMES, {"lightness": shades}, kind)
    assert (nothing["people"], nothing["men"], nothing["women"]) == (450, 150, 150)
    assert abs(nothing["lightness"]["correlation"]) < 0.2
    assert abs(nothing["lightness"]["slope"]) < 0.1
    assert nothing["balanced_accuracy"] == pytest.approx(0.5, abs=0.1)
    rows, shades = people(lightness=3, sex=3)
    found = script.told(rows, NAMES, {"lightness": shades}, kind)
    assert found["lightness"]["correlation"] > 0.75
    assert 0.5 < found["lightness"]["slope"] < 1
    assert found["balanced_accuracy"] > 0.9
    assert "men" not in script.told(rows, [f"Nobody_{i}" for i in range(450)], {}, kind)


def test_radial_basis_functions_tell_more_than_a_line(script: ModuleType) -> None:
    rows, shades = people(sex=5, crossed=True)
    linear, radial = (
        script.told(rows, NAMES, {"lightness": shades}, kind)["balanced_accuracy"] for kind in ("linear", "rbf")
    )
    assert linear < 0.8  # three of four corners
    assert radial > 0.95
