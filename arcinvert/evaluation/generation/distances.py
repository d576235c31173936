"""How far two sets of pictures are apart in a feature space: Fréchet distance and kernel distance (KID).

"FID" is the Fréchet distance in the space of the published Inception network, and in no other; in the
space of a recognizer the same arithmetic has another name. Everything is computed in float64.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from arcinvert.errors import InputError, UsageError

FRECHET_LEAST = 2048
"""Pictures a set needs for a Fréchet distance; below, its bias drowns it and only KID is given."""
KID_SUBSET = 1000

Features = NDArray[np.floating]
Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class Kid:
    """Kernel distance over random subsets.

    Attributes:
        mean, std: of the unbiased estimates; std is that of one estimate (denominator ``subsets``).
        subsets: how many.
        size: rows drawn from each set, without replacement, for one estimate.
    """

    mean: float
    std: float
    subsets: int
    size: int


@dataclass(frozen=True)
class SetDistance:
    """Two sets in one feature space.

    Attributes:
        space: name of the feature space.
        first, second: pictures in the sets.
        dimension: of the space.
        kid: the kernel distance; no bias, whatever the number of pictures.
        frechet: the Fréchet distance, or None below :data:`FRECHET_LEAST` pictures.
        frechet_name: what the Fréchet distance is called in this space.
        reason: why there is none.
    """

    space: str
    first: int
    second: int
    dimension: int
    kid: Kid
    frechet: float | None
    frechet_name: str
    reason: str | None


def frechet_distance(first: Features, second: Features) -> float:
    """``|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2))`` of the means and unbiased covariances (Dowson and Landau 1982).

    With the centered rows A / sqrt(n - 1) and B / sqrt(m - 1), the trace of the root is the sum of the
    singular values of A B^T. So no covariance is formed or rooted, and nothing is lost where there are fewer rows than
    dimensions.

    Args:
        first: (n, D), n at least 2.
        second: (m, D), m at least 2.

    Raises:
        InputError: other shapes, fewer rows, or numbers that are not finite.
    """
    first, second = _checked(first, second, least=2)
    shift = first.mean(0) - second.mean(0)
    roots = [_root(rows) for rows in (first, second)]
    spread = sum(float((root * root).sum()) for root in roots)
    common = float(np.linalg.svd(roots[0] @ roots[1].T, compute_uv=False).sum())
    return max(0.0, float(shift @ shift) + spread - 2 * common)


def squared_mmd(first: Features, second: Features) -> float:
    """Unbiased squared maximum mean discrepancy with the kernel ``(x.y / D + 1)^3`` (Binkowski et al. 2018).

    It may be negative: its mean is 0 for two sets of one distribution.

    Args:
        first: (n, D), n at least 2.
        second: (m, D), m at least 2.

    Raises:
        InputError: other shapes, fewer rows, or numbers that are not finite.
    """
    first, second = _checked(first, second, least=2)
    within = [_kernel(rows, rows) for rows in (first, second)]
    own = [(kernel.sum() - np.trace(kernel)) / (len(kernel) * (len(kernel) - 1)) for kernel in within]
    return float(own[0] + own[1] - 2 * _kernel(first, second).mean())


def kernel_distance(
    first: Features, second: Features, *, subsets: int = 100, size: int | None = None, seed: int = 0
) -> Kid:
    """Mean and deviation of :func:`squared_mmd` over random subsets.

    Args:
        first: (n, D).
        second: (m, D).
        subsets: how many, at least 2.
        size: rows of a subset; by default 1000, or half of the smaller set if that is less.
        seed: of the draws.

    Raises:
        InputError: other shapes, numbers that are not finite, fewer than four rows or than ``size``.
        UsageError: subsets or a size below 2.
    """
    first, second = _checked(first, second, least=4)
    smaller = min(len(first), len(second))
    size = min(KID_SUBSET, smaller // 2) if size is None else size
    if subsets < 2 or size < 2:
        raise UsageError(f"expected at least 2 subsets of at least 2 rows, got {subsets} of {size}")
    if size > smaller:
        raise InputError(f"expected at least {size} pictures in each set, got {len(first)} and {len(second)}")
    random = np.random.default_rng(seed)
    found = [
        squared_mmd(*(rows[random.choice(len(rows), size, replace=False)] for rows in (first, second)))
        for _ in range(subsets)
    ]
    return Kid(float(np.mean(found)), float(np.std(found)), subsets, size)


def compare_sets(
    first: Features, second: Features, *, space: str, fid: bool = False, subsets: int = 100, seed: int = 0
) -> SetDistance:
    """Both distances of two sets of features; the Fréchet distance only where there are pictures enough.

    Args:
        first: (n, D), n at least 4.
        second: (m, D), m at least 4.
        space: name of the feature space.
        fid: it is that of the published Inception network.
        subsets: of KID.
        seed: of the subsets.

    Raises:
        InputError: see :func:`kernel_distance`.
    """
    kid = kernel_distance(first, second, subsets=subsets, seed=seed)
    enough = min(len(first), len(second)) >= FRECHET_LEAST
    reason = None if enough else f"fewer than {FRECHET_LEAST} pictures in a set bias the Frechet distance; see KID"
    return SetDistance(
        space=space,
        first=len(first),
        second=len(second),
        dimension=first.shape[1],
        kid=kid,
        frechet=frechet_distance(first, second) if enough else None,
        frechet_name="FID" if fid else f"Frechet distance in the feature space of {space}",
        reason=reason,
    )


def cosine_features(rows: Features) -> Doubles:
    """Unit embeddings (N, D) as features: times sqrt(D), so that ``x.y / D`` in the kernel is their cosine."""
    return np.asarray(rows, np.float64) * math.sqrt(rows.shape[1])


def _checked(first: Features, second: Features, *, least: int) -> tuple[Doubles, Doubles]:
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1] or first.shape[1] == 0:
        raise InputError(f"expected features (n, D) and (m, D), got {first.shape} and {second.shape}")
    if min(len(first), len(second)) < least:
        raise InputError(f"expected at least {least} pictures in each set, got {len(first)} and {len(second)}")
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise InputError("expected finite features, got NaN or infinity")
    return first.astype(np.float64, copy=False), second.astype(np.float64, copy=False)


def _root(rows: Doubles) -> Doubles:
    """R with ``R^T R`` the covariance of the rows, of at most D rows."""
    centered = (rows - rows.mean(0)) / np.sqrt(len(rows) - 1)
    return centered if len(rows) <= rows.shape[1] else np.asarray(np.linalg.qr(centered, mode="r"), np.float64)


def _kernel(first: Doubles, second: Doubles) -> Doubles:
    base: Doubles = first @ second.T / first.shape[1] + 1
    return base * base * base
