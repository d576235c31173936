"""Tests of a few rows: were the embeddings quantized, do they come from two models?"""

import numpy as np
from numpy.typing import NDArray

from arcinvert.audit.stores.store import Rows

CODES = 256
RUNS = (64, 32, 16, 8, 4, 2)
ENOUGH = 512
"""With at least so many rows, few different values of a column are a sign of quantization."""
MIXED_ROWS, MIXED_SIZE = 1024, 128
LEAST_ROWS, LEAST_SIZE, LEAST_SHARE = 160, 64, 0.1
UNRELATED = 0.15
"""The principal subspaces of two models agree by 0 to 0.1, those of two groups of embeddings of one model by at least
0.25 (measured on three recognizers)."""
REPEATED = 0.9
"""Numbers of one embedding hardly ever repeat in float32; with 8 bits many do."""


def quantization(rows: Rows) -> str | None:
    """The way in which float32 rows (m, D) were quantized; None without a sign of any known one.

    The known ones: signs, whole numbers, half precision, bfloat16, few levels within a row or a column, and codebooks
    for runs of neighboring numbers.
    """
    if not len(rows):
        return None
    sizes = np.abs(rows)
    if (sizes == sizes[0, 0]).all() or np.isin(rows, (0, 1)).all():
        return "only two different numbers occur"
    if (rows == np.rint(rows)).all():
        return "all numbers are whole"
    if not (np.ascontiguousarray(rows, np.float32).view(np.uint32) & 0xFFFF).any():
        return "all numbers have the precision of bfloat16"
    with np.errstate(over="ignore"):
        if (rows == rows.astype(np.float16)).all():
            return "all numbers have the precision of float16"
    enough = len(rows) >= ENOUGH
    for run in RUNS:
        if enough and rows.shape[1] % run == 0 and _few(rows[:, :run]) and _few(rows[:, -run:]):
            return f"runs of {run} numbers take at most {CODES} different values, as product quantization leaves them"
    if enough and all(len(np.unique(column)) <= CODES for column in rows.T):
        return f"no dimension takes more than {CODES} different values"
    ordered = np.sort(sizes[: ENOUGH // 4], 1)
    different = (np.diff(ordered, axis=1) > 0).sum(1) + 1
    filled = (ordered > 0).sum(1) + (ordered == 0).any(1)
    if np.quantile(different / filled, 0.9) < REPEATED and np.median(filled) >= 64:
        return "numbers repeat within most embeddings, as 8 bits leave them"
    return None


def _few(rows: NDArray[np.float32]) -> bool:
    return len(np.unique(rows, axis=0)) <= CODES


def mixture(rows: Rows) -> float | None:
    """The share of the smaller group, if rows (m, D) of unit norm form two groups without common geometry; else None.

    Two subspaces split the rows, from several starts: each row goes to the subspace that has more of its energy. Two
    groups of embeddings of one model vary in much the same directions, those of two models do not. Shares below a fifth
    are not found.
    """
    rows = rows[:MIXED_ROWS]
    if len(rows) < LEAST_ROWS or rows.shape[1] < LEAST_SIZE:
        return None
    rows = rows @ _directions(rows, min(rows.shape[1], MIXED_SIZE))
    scores = rows @ _directions(rows - rows.mean(0), 2)
    found = None
    for score in scores.T:
        for share in (0.15, 0.5, 0.85):
            first = _two_subspaces(rows, score > np.quantile(score, share))
            least = min(first.mean(), 1 - first.mean())
            if least >= LEAST_SHARE and _agreement(rows[first], rows[~first]) < UNRELATED:
                found = float(least) if found is None else max(found, float(least))
    return found


def _two_subspaces(rows: Rows, first: NDArray[np.bool_]) -> NDArray[np.bool_]:
    size = max(2, rows.shape[1] // 16)
    for _ in range(12):
        if min(first.sum(), (~first).sum()) < 2 * size:
            break
        held = [np.square(rows @ _directions(rows[group], size)).sum(1) for group in (first, ~first)]
        first, before = held[0] > held[1], first
        if (first == before).all():
            break
    return first


def _agreement(first: Rows, second: Rows) -> float:
    """Share of one group's variance in the main directions of the other: 1 as for its own directions, 0 by chance."""
    size = first.shape[1] // 4
    chance, found = size / first.shape[1], []
    for here, there in ((first, second), (second, first)):
        main = _directions(here[::2] - here.mean(0), size)
        own, other = (
            np.square((x - x.mean(0)) @ main).sum() / np.square(x - x.mean(0)).sum() for x in (here[1::2], there)
        )
        if own - chance < 0.05:
            return 1.0  # there are no main directions
        found.append(float((other - chance) / (own - chance)))
    return max(found)


def _directions(rows: Rows, count: int) -> Rows:
    """(D, count) orthonormal: the main directions of the rows."""
    _, vectors = np.linalg.eigh(rows.T.astype(np.float64) @ rows)
    return np.ascontiguousarray(vectors[:, ::-1][:, :count], np.float32)
