"""Does a store belong to a recognizer? Judged by enrolled photos, else by the directions in which templates vary.

Photos decide where there are any: the recognizer's embedding of an enrolled photo is the template, and even another
photo of the person is nearer to it than a stranger's.

Without photos, the covariance of the templates is compared with that of the recognizer's embeddings of other faces. The
recognizer hardly uses some directions, whoever is shown. For another model, or embeddings that were rotated with a key,
these directions are like any others: their agreement is that of a random rotation, whose mean and variance are known
exactly. So the level of the test does not depend on the faces that it compares with; only its power does. Faces of
another domain than the store's agree less, and a few templates may disagree by chance, so perhaps nothing is shown.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from arcinvert.audit.checks.hygiene import unit
from arcinvert.audit.stores.store import Rows, Store
from arcinvert.embeddings import LIKELY, check_embeddings
from arcinvert.errors import InputError

FEWEST = 30
"""Embeddings by the recognizer itself that the comparison needs."""
CERTAIN = 3.0
"""Agreement, in standard deviations of that of a random rotation, from which a store is taken for the recognizer's."""
OTHER_DOMAIN, MARGIN = 0.3, 3.0
"""Compared with synthetic faces, photographs keep this share of a recognizer's agreement, in the worst of three (y1). A
store is only suspected if this share would be certain with a margin for chance."""
SHRINKAGE = 0.05
"""Weight of the mean variance in the covariance: small variances that are estimated from few faces are too small."""
SURE = 0.9
"""A photo with this cosine to a template, or a higher one, counts as the photo behind it."""
LEAST_COMPARED = 8
"""With fewer templates that have photos, only enrolled photos themselves decide."""
BY_CHANCE = 0.01
"""A sign test with a smaller p-value shows that photos belong to their templates."""


@dataclass(frozen=True)
class MismatchFigures:
    """The measurements behind :class:`Mismatch`; None where they were not made.

    Attributes:
        recognizer_size, store_size: numbers of an embedding.
        photos_compared: templates whose person has photos.
        photos_sure: of them, how many have a photo at a cosine of at least :data:`SURE`.
        photos_nearer: of them, how many are nearer to the photos of their person than to another person's.
        agreement: of the directions in which templates vary with the recognizer's, in standard deviations of that of a
            random rotation.
        agreement_own: the same for as many of the recognizer's own embeddings of other faces.
    """

    recognizer_size: int
    store_size: int
    photos_compared: int | None = None
    photos_sure: int | None = None
    photos_nearer: int | None = None
    agreement: float | None = None
    agreement_own: float | None = None


@dataclass(frozen=True)
class Mismatch:
    """The answer of :func:`mismatch`.

    Attributes:
        suspected: whether the store is likely another model's, or protected.
        shown: whether the store is shown to be the recognizer's. Neither of both: the test cannot tell.
        evidence: a sentence for each measurement.
        figures: what was measured.
    """

    suspected: bool
    shown: bool
    evidence: tuple[str, ...]
    figures: MismatchFigures


@dataclass(frozen=True, eq=False)
class PhotoCosines:
    """The nearest photo of each template, by the recognizer.

    Attributes:
        own: (N,) cosine of the nearest photo of the template's person; NaN where there is none.
        other: (N,) the same for the photos of another person; NaN where there is none.
    """

    own: NDArray[np.floating]
    other: NDArray[np.floating]


def mismatch(
    recognizer_embeddings: NDArray[np.float32], templates: NDArray[np.float32], photos: PhotoCosines | None = None
) -> Mismatch:
    """Judge a sample of a store.

    Args:
        recognizer_embeddings: (M, D) the recognizer's, of the faces of some hundred other people.
        templates: (N, D') of the store; rows that are NaN, infinite or zero are skipped.
        photos: cosines of enrolled photos, if there are any.

    Raises:
        InputError: not such arrays, or not a single template with a direction.
    """
    if templates.ndim != 2 or recognizer_embeddings.ndim != 2:
        raise InputError(f"expected embeddings (M, D), got {recognizer_embeddings.shape} and {templates.shape}")
    own, size = recognizer_embeddings.shape[1], templates.shape[1]
    figures = {"recognizer_size": own, "store_size": size}
    if size != own:
        text = f"the store is {size}-d, the recognizer is {own}-d"
        return Mismatch(True, False, (text,), MismatchFigures(**figures))
    rows, _ = unit(templates)
    if not len(rows):
        raise InputError("expected templates with a direction, got none")
    by_photos, counts, evidence = _by_photos(photos)
    by_geometry, measured, text = _by_geometry(check_embeddings(recognizer_embeddings, own).rows, rows)
    answer = by_photos if by_photos is not None else by_geometry
    found = MismatchFigures(own, size, *counts, *measured)
    return Mismatch(answer is False, answer is True, (*evidence, text), found)


def refuse_other_size(store: Store, size: int, *, by_pairs: bool = False) -> None:
    """Refuse a store whose embeddings have another size than those of the network that is to be attacked.

    Args:
        store: what is to be attacked.
        size: D of the recognizer, or of the pairs of an unknown one.
        by_pairs: whether the network is known by pairs alone.

    Raises:
        InputError: it has; the message says what to do.
    """
    if store.size == size:
        return
    found = f"{store.name} holds {store.size}-d templates{LIKELY.get(store.size, '')}"
    if by_pairs:
        what, way = "the pairs of the unknown system are", "give pairs made by the system that made the store"
    else:
        what, way = "the recognizer is", "name theirs with --checkpoint, or audit without it by --pairs"
    raise InputError(f"mismatch: {found}, {what} {size}-d: another network made them, or they were shortened; {way}")


def _by_photos(photos: PhotoCosines | None) -> tuple[bool | None, Sequence[int | None], list[str]]:
    """Whether photos show that the store is the recognizer's (None: they cannot tell), the counts, and a sentence."""
    if photos is None:
        return None, (None, None, None), []
    there = np.isfinite(photos.own)
    both = there & np.isfinite(photos.other)
    compared, sure = int(there.sum()), int((photos.own[there] >= SURE).sum())
    nearer = int((photos.own[both] > photos.other[both]).sum())
    counts = (compared, sure, nearer)
    if not compared:
        return None, counts, ["no photo belongs to a template by its name"]
    text = f"{sure} of {compared} templates have an enrolled photo at a cosine of at least {SURE:g}, by this network"
    if 2 * sure >= compared:
        return True, counts, [text]
    beside = int(both.sum())
    text += f"; {nearer} of {beside} are nearer to their person's photos than to another person's"
    if beside < LEAST_COMPARED:
        return None, counts, [f"{text}; too few to tell"]
    return _half_or_more(nearer, beside) <= BY_CHANCE, counts, [text]


def _half_or_more(count: int, tried: int) -> float:
    """The probability of ``count`` heads or more in ``tried`` throws of a coin: an exact sign test."""
    terms = np.cumsum(np.log(np.arange(1, tried + 1)))
    log_factorial = np.concatenate([[0.0], terms])
    k = np.arange(count, tried + 1)
    return float(np.exp(log_factorial[tried] - log_factorial[k] - log_factorial[tried - k] - tried * np.log(2)).sum())


def _by_geometry(reference: Rows, rows: Rows) -> tuple[bool | None, Sequence[float | None], str]:
    if len(reference) < FEWEST:
        text = f"directions not judged: expected at least {FEWEST} embeddings by the recognizer, got {len(reference)}"
        return None, (None, None), text
    own_geometry = _geometry(np.ascontiguousarray(reference, np.float32).tobytes(), reference.shape[1])
    found = agreement(rows, own_geometry.precision)
    signs = bool(np.ptp(np.abs(rows)) < 1e-6)  # a store of signs agrees less
    own = own_geometry.agreement_of(len(rows), signs)
    text = (
        f"the templates vary along the recognizer's directions: {found:.1f} standard deviations above a random "
        f"rotation ({own:.1f} for as many of its own embeddings of other faces)"
    )
    measured = (round(found, 2), round(own, 2))
    if found >= CERTAIN:
        return True, measured, text
    text = (
        f"the templates do not vary along the recognizer's directions: {found:.1f} standard deviations above a random "
        f"rotation ({own:.1f} for as many of its own embeddings of other faces; {CERTAIN:g} would be enough)"
    )
    if own * OTHER_DOMAIN >= CERTAIN + MARGIN:
        return False, measured, text
    return None, measured, f"{text}; so few templates of other faces may miss it by chance"


def agreement(rows: Rows, precision: Rows) -> float:
    """How well the directions of little variance of ``rows`` (N, D) agree with those of a recognizer.

    The Frobenius product of the traceless parts of their scatter and of minus the ``precision`` (D, D). Under a random
    rotation it has mean 0 and variance 2 |S|^2 |P|^2 / ((D - 1) (D + 2)), as traceless symmetric matrices are an
    irreducible representation of the rotations; it is given in these standard deviations. The mean of five or more
    rows is subtracted.
    """
    size = rows.shape[1]
    centered = np.asarray(rows - rows.mean(0) if len(rows) >= 5 else rows, np.float64)
    scatter = _traceless(centered.T @ centered)
    wanted = -_traceless(precision)
    scale = np.sqrt(np.square(scatter).sum() * np.square(wanted).sum())
    return float((scatter * wanted).sum() / max(scale, 1e-300) * np.sqrt((size - 1) * (size + 2) / 2))


def _precision(rows: Rows) -> Rows:
    """The inverse of the covariance of ``rows`` (N, D), with :data:`SHRINKAGE` towards its mean variance."""
    centered = np.asarray(rows - rows.mean(0), np.float64)
    covariance = centered.T @ centered / len(rows)
    size = len(covariance)
    floor = SHRINKAGE * np.trace(covariance) / size
    return np.asarray(np.linalg.inv((1 - SHRINKAGE) * covariance + floor * np.eye(size)))


@dataclass(frozen=True, eq=False)
class _Geometry:
    """Of a recognizer: the precision of its embeddings, and one half of them with the precision of the other half."""

    precision: NDArray[np.floating]
    half: NDArray[np.floating]
    held: Rows

    @functools.lru_cache(maxsize=64)  # noqa: B019  # kept as long as the geometry, of which there are two
    def agreement_of(self, count: int, signs: bool) -> float:
        """The mean agreement of ``count`` embeddings, perhaps stored as signs, with those of the other half."""
        count = min(count, len(self.held))
        generator = np.random.default_rng(0)
        drawn = [self.held[generator.choice(len(self.held), count, replace=False)] for _ in range(8)]
        return float(np.mean([agreement(np.sign(part) if signs else part, self.half) for part in drawn]))


@functools.lru_cache(maxsize=2)
def _geometry(content: bytes, size: int) -> _Geometry:
    """From the bytes of (M, D) float32: an audit asks once, a measurement very often."""
    rows = np.frombuffer(content, np.float32).reshape(-1, size)
    return _Geometry(_precision(rows), _precision(rows[::2]), rows[1::2])


def _traceless(matrix: NDArray[np.floating]) -> NDArray[np.floating]:
    return np.asarray(matrix - np.trace(matrix) / len(matrix) * np.eye(len(matrix)))
