"""Does a store belong to a recognizer? Judged by the geometry of the recognizer's own embeddings of other faces.

A recognizer's embeddings have structure: a mean, some directions in which they vary more than in others, and one half
of their numbers predicts the other half in part. The embeddings of another model, or embeddings that were rotated with
a key, do not share this structure, whoever they show. A difference is evidence of a mismatch. No difference is no
proof that the store belongs to the recognizer, and does not mean that the store leaks nothing.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from arcinvert.audit.checks.hygiene import unit
from arcinvert.audit.stores.store import Rows
from arcinvert.embeddings import check_embeddings
from arcinvert.errors import InputError

FEWEST = 30
"""Embeddings by the recognizer itself that the test needs."""
ENERGY = 0.13
"""Agreement of the main directions below this is evidence: other models have 0 +- 0.05, the same one 0.7 or more, 0.2
under strong noise (twenty templates, three recognizers)."""
FIT, LEAST_FIT = 0.1, 0.05
"""A fit below this share of the recognizer's own fit is evidence, if its own fit is at least ``LEAST_FIT``."""
CERTAIN = 3.0
"""Standard deviations of the cosine of two directions that have nothing to do with each other."""


@dataclass(frozen=True)
class MismatchFigures:
    """The measurements behind :class:`Mismatch`; None where they were not made.

    Attributes:
        recognizer_size, store_size: numbers of an embedding.
        mean_cosine: between the means of both.
        energy: agreement of the main directions: 1 as for the recognizer's own embeddings, 0 by chance.
        fit, fit_own: R2 of predicting one half of the numbers from the other half, for the store and for the
            recognizer's own embeddings; at most 0 for another model.
    """

    recognizer_size: int
    store_size: int
    mean_cosine: float | None = None
    energy: float | None = None
    fit: float | None = None
    fit_own: float | None = None


@dataclass(frozen=True)
class Mismatch:
    """The answer of :func:`mismatch`.

    Attributes:
        suspected: whether the store is likely another model's, or protected.
        evidence: a sentence for each sign.
        figures: what was measured.
    """

    suspected: bool
    evidence: tuple[str, ...]
    figures: MismatchFigures


def mismatch(recognizer_embeddings: NDArray[np.float32], templates: NDArray[np.float32]) -> Mismatch:
    """Compare a sample of a store with a recognizer's embeddings of other faces.

    Args:
        recognizer_embeddings: (M, D) of the faces of some hundred other people.
        templates: (N, D') of the store; rows that are NaN, infinite or zero are skipped.

    Raises:
        InputError: not such arrays, or not a single template with a direction.
    """
    if templates.ndim != 2 or recognizer_embeddings.ndim != 2:
        raise InputError(f"expected embeddings (M, D), got {recognizer_embeddings.shape} and {templates.shape}")
    own, size = recognizer_embeddings.shape[1], templates.shape[1]
    figures = MismatchFigures(own, size)
    if size != own:
        return Mismatch(True, (f"the store is {size}-d, the recognizer is {own}-d",), figures)
    reference = check_embeddings(recognizer_embeddings, own).rows
    rows, _ = unit(templates)
    if not len(rows):
        raise InputError("expected templates with a direction, got none")
    if len(reference) < FEWEST:
        text = f"not judged: expected at least {FEWEST} embeddings by the recognizer, got {len(reference)}"
        return Mismatch(False, (text,), figures)
    fitted, held = reference[::2], reference[1::2]
    center = fitted.mean(0)
    cosine = _cosine(center, rows.mean(0))
    energy = _energy(*(_across(part - center, center) for part in (fitted, held, rows)))
    fit_own, fit = _fit(fitted - center, held - center), _fit(fitted - center, rows - center)
    unrelated = CERTAIN / np.sqrt(own)
    signs = {
        f"the mean of its templates points elsewhere (cosine {cosine:.2f})": cosine < unrelated,
        f"its templates do not vary along the recognizer's main directions ({energy:.2f}; 1 as for its own faces, "
        "0 by chance)": energy < ENERGY,
        f"one half of a template's numbers does not predict the other (R2 {fit:.2f}; {fit_own:.2f} for the "
        "recognizer's own faces)": fit < FIT * fit_own and fit_own > LEAST_FIT,
    }
    evidence = tuple(text for text, present in signs.items() if present)
    rounded = (round(value, 4) for value in (cosine, energy, fit, fit_own))
    return Mismatch(len(evidence) >= 2, evidence, MismatchFigures(own, size, *rounded))


def _cosine(first: Rows, second: Rows) -> float:
    return float(first @ second / max(float(np.linalg.norm(first) * np.linalg.norm(second)), 1e-12))


def _across(rows: Rows, direction: Rows) -> Rows:
    """Rows without their part along ``direction``: the direction of the mean is a sign of its own."""
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
    """R2 of a ridge regression from the even numbers of an embedding to the odd ones; 0 predicts nothing."""
    known, wanted = fitted[:, ::2].astype(np.float64), fitted[:, 1::2].astype(np.float64)
    gram = known.T @ known
    ridge = np.trace(gram) / len(gram)
    weight = np.linalg.solve(gram + ridge * np.eye(len(gram)), known.T @ wanted)
    left = rows[:, 1::2] - rows[:, ::2] @ weight
    return float(1 - np.square(left).sum() / max(float(np.square(rows[:, 1::2]).sum()), 1e-12))
