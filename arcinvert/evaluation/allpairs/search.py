"""Search of one set of embeddings in another: block by block, exact at ties, with or without FAISS.

A float32 product of unit rows of size D has an error below D * 2^-24, whatever the order of its sums. Scores that are
closer together than that are computed again in float64. So the results do not depend on the block size, the number of
threads or the library that computes the products.
"""

from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arcinvert.errors import EnvironmentProblem, InputError, UsageError

Rows = NDArray[np.float32]
Labels = NDArray[np.int64]
Floats = NDArray[np.float64]
Index = NDArray[np.int64]

BLOCK_SCORES = 1 << 22
"""Scores in memory at a time (16 MiB), but at least one row against all others."""
BLOCK_ROWS = 1024
BLOCK_PAIRS = 1 << 13
"""Pairs at a time in float64."""
SLACK = 16
"""Additional entries that FAISS returns, so that ties can be resolved."""
ENGINES = ("auto", "numpy", "faiss")


def check_rows(rows: NDArray[Any], labels: NDArray[Any] | None = None, *, what: str = "embeddings") -> None:
    """Check that rows are (N, D), N > 0, finite and of unit norm, and labels (N,).

    Raises:
        InputError: they are not; the message names ``what``.
    """
    if rows.ndim != 2 or rows.size == 0:
        raise InputError(f"expected {what} (N, D), got shape {rows.shape}")
    norms = np.einsum("nd,nd->n", rows, rows, dtype=np.float64)
    if not np.isfinite(norms).all():
        raise InputError(f"expected finite {what}, got NaN or infinity in row {int(np.argmin(np.isfinite(norms)))}")
    if np.abs(norms - 1).max() > 1e-3:
        raise InputError(f"expected {what} of unit norm, row {int(np.abs(norms - 1).argmax())} is not")
    if labels is not None and labels.shape != rows.shape[:1]:
        raise InputError(f"expected a label for each of {len(rows)} {what}, got {labels.shape[0]}")


def check_sizes(**sets: Rows) -> None:
    """Check that all sets have the same D.

    Raises:
        InputError: they differ.
    """
    if len({rows.shape[1] for rows in sets.values()}) > 1:
        listed = ", ".join(f"{name} {rows.shape[1]}-d" for name, rows in sets.items())
        raise InputError(f"expected embeddings of one size, got {listed}")


def error_bound(size: int) -> float:
    """Largest error of a float32 product of two unit rows of ``size`` entries."""
    return 1.01 * size * 2.0**-24


def dot(first: Rows, second: Rows, i: Index, j: Index) -> Floats:
    """(n,) float64: cosine of rows ``i`` (n,) of ``first`` and ``j`` (n,) of ``second``."""
    found = np.empty(len(i))
    for start in range(0, len(i), BLOCK_PAIRS):
        part = slice(start, start + BLOCK_PAIRS)
        found[part] = np.einsum("nd,nd->n", first[i[part]].astype(np.float64), second[j[part]].astype(np.float64))
    return found


def blocks(first: Rows, second: Rows, *, starts: Index | None = None) -> Iterator[tuple[int, int, Rows]]:
    """All products, block by block, as (first row, first column, scores (h, w) float32).

    Args:
        first, second: (N, D) and (M, D), unit norm.
        starts: columns at which a block may begin, 0 first; default: any column.
    """
    height = min(BLOCK_ROWS, len(first))
    cuts = np.arange(0, len(second), max(1, BLOCK_SCORES // max(1, height)))
    if starts is not None:
        cuts = np.unique(starts[np.searchsorted(starts, cuts, side="right") - 1])
    for top in range(0, len(first), height):
        for left, right in zip(cuts, [*cuts[1:], len(second)], strict=True):
            yield top, int(left), first[top : top + height] @ second[left:right].T


def best(first: Rows, second: Rows, *, apart: tuple[Labels, Labels] | None = None) -> Floats:
    """(N,) float64: the highest cosine of each row of ``first`` to any of ``second``.

    Args:
        first, second: (N, D) and (M, D), unit norm.
        apart: labels (N,) and (M,); rows with the same label are not compared. -inf if no other row is left.
    """
    bound = error_bound(first.shape[1])
    found = np.full(len(first), -np.inf)
    for top, left, scores in blocks(first, second):
        rows = slice(top, top + len(scores))
        if apart is not None:
            scores[apart[0][rows, None] == apart[1][None, left : left + scores.shape[1]]] = -np.inf
        least = np.maximum(scores.max(1) - 2 * bound, found[rows] - bound)
        i, j = np.nonzero((scores >= least[:, None]) & (scores > -np.inf))
        np.maximum.at(found, top + i, dot(first, second, top + i, left + j))
    return found


def leading(first: Rows, second: Rows, k: int) -> Iterator[tuple[int, Index, Index, Floats]]:
    """For each row of ``first``, all rows of ``second`` that may be among its best ``k``, ties included.

    Yields:
        (first row, i, j, cosine): ``i`` counts from that row; at least ``k`` entries for each row.
    """
    bound = error_bound(first.shape[1])
    height = max(1, BLOCK_SCORES // len(second))
    for top in range(0, len(first), height):
        scores = first[top : top + height] @ second.T
        least = np.partition(scores, len(second) - k, axis=1)[:, len(second) - k]
        i, j = np.nonzero(scores >= least[:, None] - 2 * bound)
        yield top, i, j, dot(first, second, top + i, j)


def nearest(probes: Rows, gallery: Rows, *, k: int, engine: str = "auto") -> tuple[Floats, Index]:
    """1:N search: the ``k`` best rows of ``gallery`` for each probe, best first; at a tie the earlier row comes first.

    Args:
        probes, gallery: (P, D) and (G, D), unit norm.
        k: number of rows, at most G.
        engine: ``numpy``, ``faiss`` (a flat index with the same result), or ``auto``: FAISS if it is installed.

    Returns:
        (P, k) float64 cosines and (P, k) rows of the gallery.

    Raises:
        InputError: invalid rows.
        EnvironmentProblem: ``faiss`` is requested and not installed.
    """
    check_rows(probes, what="probes")
    check_rows(gallery, what="gallery embeddings")
    check_sizes(probes=probes, gallery=gallery)
    if k < 1:
        raise UsageError(f"expected to search for at least one row, got {k}")
    k = min(k, len(gallery))
    if engine_used(engine) == "faiss":
        return _with_faiss(probes, gallery, k)
    scores, found = np.empty((len(probes), k)), np.empty((len(probes), k), np.int64)
    for top, i, j, cosine in leading(probes, gallery, k):
        order = np.lexsort((j, -cosine, i))
        chosen = order[_places(i[order]) < k]
        part = slice(top, top + len(chosen) // k)
        scores[part], found[part] = cosine[chosen].reshape(-1, k), j[chosen].reshape(-1, k)
    return scores, found


def engine_used(engine: str) -> str:
    """``numpy`` or ``faiss``; ``auto`` is resolved for this machine.

    Raises:
        UsageError: another name.
        EnvironmentProblem: ``faiss`` is requested and not installed.
    """
    if engine not in ENGINES:
        raise UsageError(f"expected an engine out of {', '.join(ENGINES)}, got {engine!r}")
    installed = find_spec("faiss") is not None
    if engine == "faiss" and not installed:
        raise EnvironmentProblem("FAISS is not installed; pip install faiss-cpu, or choose the engine numpy")
    return "faiss" if installed and engine != "numpy" else "numpy"


def _with_faiss(probes: Rows, gallery: Rows, k: int) -> tuple[Floats, Index]:
    index = import_module("faiss").IndexFlatIP(gallery.shape[1])
    index.add(np.ascontiguousarray(gallery, dtype=np.float32))
    wider = min(k + SLACK, len(gallery))
    rough, found = index.search(np.ascontiguousarray(probes, dtype=np.float32), wider)
    i = np.repeat(np.arange(len(probes)), wider)
    cosine = dot(probes, gallery, i, found.ravel()).reshape(found.shape)
    order = np.lexsort((found, -cosine), axis=1)[:, :k]
    scores, found = np.take_along_axis(cosine, order, 1), np.take_along_axis(found, order, 1)
    if wider < len(gallery):  # there may be more ties than the list holds
        unsure = np.flatnonzero(rough[:, -1] >= scores[:, -1] - 2 * error_bound(gallery.shape[1]))
        if len(unsure):
            scores[unsure], found[unsure] = nearest(probes[unsure], gallery, k=k, engine="numpy")
    return scores, found


def _places(i: Index) -> Index:
    """0, 1, 2, ... within each run of equal numbers of the sorted ``i``."""
    starts = np.flatnonzero(np.r_[True, i[1:] != i[:-1]])
    return np.arange(len(i)) - np.repeat(starts, np.diff(np.r_[starts, len(i)]))
