"""Does a store belong to a recognizer? By the geometry of the recognizer's own embeddings of other faces.

A recognizer's embeddings are no cloud without structure: they have a mean, they vary more in some directions
than in others, and one half of their numbers says something of the other half. Another model's embeddings, or
ones that were rotated with a key, have nothing of it, whoever they show. Evidence is what differs; that nothing
differs is no proof that the store belongs to the recognizer, and says nothing of what it leaks.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from arcinvert.audit.checks.hygiene import unit
from arcinvert.audit.stores.store import Rows
from arcinvert.embeddings import check_embeddings
from arcinvert.errors import InputError

FEWEST = 30
"""Embeddings of the recognizer's own, without which nothing can be said."""
ENERGY = 0.13
"""Agreement of the main directions below this is evidence: other models have 0 +- 0.05, the same one 0.7 or more, 0.2
under strong noise (twenty templates, three recognizers)."""
FIT, LEAST_FIT = 0.1, 0.05
"""A fit below this share of the recognizer's own is evidence, where its own is one at all."""
CERTAIN = 3.0
"""Standard deviations of the cosine of two directions that have nothing to do with each other."""


@dataclass(frozen=True)
class Mismatch:
    """The answer of :func:`mismatch`.

    Attributes:
        suspected: whether the store is likely another model's, or protected.
        evidence: a sentence for each sign.
        figures: what was measured: ``sizes``, ``mean_cosine``, ``energy`` (1 as the recognizer's own, 0 by chance) and
            ``fit`` (as ``fit_own``, a share of the variance; at most 0 for another model).
    """

    suspected: bool
    evidence: list[str] = field(default_factory=list)
    figures: dict[str, float | list[int] | None] = field(default_factory=dict)


def mismatch(recognizer_embeddings: NDArray[np.float32], templates: NDArray[np.float32]) -> Mismatch:
    """Hold a sample of a store against a recognizer's embeddings of other faces.

    Args:
        recognizer_embeddings: (M, D) of faces of many people, no matter whom; some hundred are wanted.
        templates: (N, D') of the store; rows that are NaN, infinite or zero are left out.

    Raises:
        InputError: not such arrays, or not a single template with a direction.
    """
    if templates.ndim != 2 or recognizer_embeddings.ndim != 2:
        raise InputError(f"expected embeddings (M, D), got {recognizer_embeddings.shape} and {templates.shape}")
    own, sizes = recognizer_embeddings.shape[1], [recognizer_embeddings.shape[1], templates.shape[1]]
    if templates.shape[1] != own:
        return Mismatch(True, [f"the store is {sizes[1]}-d, the recognizer is {own}-d"], {"sizes": sizes})
    reference = check_embeddings(recognizer_embeddings, own).rows
    rows, _ = unit(templates)
    if not len(rows):
        raise InputError("expected templates with a direction, got none")
    if len(reference) < FEWEST:
        text = f"not judged: {len(reference)} faces of the recognizer's own are too few, {FEWEST} are needed"
        return Mismatch(False, [text], {"sizes": sizes, "mean_cosine": None, "energy": None, "fit": None})
    fitted, held = reference[::2], reference[1::2]
    center = fitted.mean(0)
    cosine = _cosine(center, rows.mean(0))
    energy = _energy(*(_across(part - center, center) for part in (fitted, held, rows)))
    fit_own, fit = _fit(fitted - center, held - center), _fit(fitted - center, rows - center)
    unrelated = CERTAIN / np.sqrt(own)
    signs = {
        f"the mean of its templates points elsewhere (cosine {cosine:.2f})": cosine < unrelated,
        f"its templates do not vary along the recognizer's main directions ({energy:.2f}; 1 is as its own faces do, "
        "0 is chance)": energy < ENERGY,
        f"one half of a template's numbers does not foretell the other (R2 {fit:.2f}, of the recognizer's own faces "
        f"{fit_own:.2f})": fit < FIT * fit_own and fit_own > LEAST_FIT,
    }
    evidence = [text for text, present in signs.items() if present]
    figures: dict[str, float | list[int] | None] = {
        "sizes": sizes,
        "mean_cosine": round(cosine, 4),
        "energy": round(energy, 4),
        "fit": round(fit, 4),
        "fit_own": round(fit_own, 4),
    }
    return Mismatch(len(evidence) >= 2, evidence, figures)


def _cosine(first: Rows, second: Rows) -> float:
    return float(first @ second / max(float(np.linalg.norm(first) * np.linalg.norm(second)), 1e-12))


def _across(rows: Rows, direction: Rows) -> Rows:
    """Rows without their part along ``direction``: a mean that lies elsewhere is evidence of its own."""
    along = direction / max(float(np.linalg.norm(direction)), 1e-12)
    return np.asarray(rows - np.outer(rows @ along, along))


def _energy(fitted: Rows, held: Rows, rows: Rows) -> float:
    """Share of the rows' spread in the main directions, on a scale from chance, 0, to the recognizer's own, 1."""
    size = fitted.shape[1]
    count = max(1, min(size // 8, len(fitted) // 4))
    main = np.linalg.svd(fitted, full_matrices=False)[2][:count].T
    own, other = (float(np.square(x @ main).sum() / np.square(x).sum()) for x in (held, rows))
    chance = count / size
    return float((other - chance) / max(own - chance, 1e-3))


def _fit(fitted: Rows, rows: Rows) -> float:
    """R2 of a ridge regression from the even numbers of an embedding to the odd ones; 0 foretells nothing."""
    known, wanted = fitted[:, ::2].astype(np.float64), fitted[:, 1::2].astype(np.float64)
    gram = known.T @ known
    ridge = np.trace(gram) / len(gram)
    weight = np.linalg.solve(gram + ridge * np.eye(len(gram)), known.T @ wanted)
    left = rows[:, 1::2] - rows[:, ::2] @ weight
    return float(1 - np.square(left).sum() / max(float(np.square(rows[:, 1::2]).sum()), 1e-12))
