"""1:1 verification: over all pairs of labeled embeddings, or over the pairs of a list."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from arcinvert.errors import InputError
from arcinvert.evaluation.allpairs.pairs import WholeRange, all_pairs
from arcinvert.evaluation.allpairs.search import Rows
from arcinvert.evaluation.allpairs.tiles import gathered, sort_rows, tiles
from arcinvert.evaluation.metrics import (
    FMRS,
    FoldAccuracy,
    OperatingPoint,
    auc,
    bootstrap_interval,
    eer,
    fold_accuracy,
    operating_points,
)
from arcinvert.progress import Progress, silent

MAX_LISTED = 1 << 24
"""Up to this many pairs the AUC comes from a list of all scores (64 MiB), beyond it from histograms."""

Interval = tuple[float, float]


@dataclass(frozen=True, eq=False)
class Verified:
    """Result of a verification.

    Attributes:
        auc, auc_error: see :func:`arcinvert.evaluation.metrics.auc`; its largest possible error, 0 if exact.
        eer, eer_threshold: see :func:`arcinvert.evaluation.metrics.crossing`.
        points: an operating point for each requested FMR.
        by_identity: for each point the 95 % bootstrap interval of its TAR over identities. It is wider than Wilson's,
            because pairs of one person are not independent. None without a threshold or for a list.
        accuracy: over the folds of a list; None without folds.
        embeddings, identities, genuine_pairs, impostor_pairs: counts; identities is None for a list.
        sources: files and digests of the data.
    """

    auc: float
    auc_error: float
    eer: float
    eer_threshold: float
    points: tuple[OperatingPoint, ...]
    by_identity: tuple[Interval | None, ...]
    accuracy: FoldAccuracy | None
    embeddings: int
    identities: int | None
    genuine_pairs: int
    impostor_pairs: int
    sources: tuple[dict[str, Any], ...] = ()


def verify_embeddings(
    embeddings: Rows,
    labels: NDArray[np.integer],
    fmrs: Sequence[float] = FMRS,
    *,
    seed: int = 0,
    device: torch.device | str = "cpu",
    sources: tuple[dict[str, Any], ...] = (),
    progress: Progress = silent,
) -> Verified:
    """Verification over every unordered pair; see :func:`arcinvert.evaluation.allpairs.pairs.all_pairs`.

    Args:
        embeddings: (N, D), unit norm.
        labels: (N,), the identity of each row.
        fmrs: false match rates; one that the impostor pairs do not support gives None and a reason.
        seed: of the bootstrap over identities.
        device: computes the scores.
        sources: stored in the result.
        progress: called with (done, all, text).

    Raises:
        InputError: invalid shapes, NaN or infinity, only genuine or only impostor pairs, or a rate outside 0 to 1.
    """
    rows, owners = torch.from_numpy(np.asarray(embeddings)).to(device), torch.from_numpy(np.asarray(labels))
    found = all_pairs(rows, owners, fmrs, whole=True, progress=progress)
    whole = cast(WholeRange, found.whole)
    genuine, impostor = int(whole.genuine.sum()), int(whole.impostor.sum())
    area, error = whole.auc, whole.auc_error
    if genuine + impostor <= MAX_LISTED:
        parts = [(rows.new_empty(0), rows.new_empty(0))]  # a process may have no tile
        for tile in tiles(sort_rows(rows, owners), 1024):
            parts.append((tile.genuine, tile.impostor[tile.impostor > -torch.inf]))
        lists = [gathered(torch.cat(kind)).cpu().numpy() for kind in zip(*parts, strict=True)]
        area, error = auc(genuine=lists[0], impostor=lists[1]), 0.0
    spread = tuple(
        None if point.threshold is None else bootstrap_interval(accepted=accepted, trials=found.pairs_of, seed=seed)
        for point, accepted in zip(found.points, found.accepted, strict=True)
    )
    return Verified(
        area,
        error,
        whole.eer,
        whole.eer_threshold,
        found.points,
        spread,
        None,
        len(rows),
        len(found.pairs_of),
        genuine,
        impostor,
        sources,
    )


def verify_pairs(
    embeddings: Rows,
    first: NDArray[np.integer],
    second: NDArray[np.integer],
    same: NDArray[np.bool_],
    *,
    fmrs: Sequence[float] = FMRS,
    folds: NDArray[np.integer] | None = None,
    sources: tuple[dict[str, Any], ...] = (),
) -> Verified:
    """Verification over the pairs of a list.

    Args:
        embeddings: (N, D), unit norm.
        first, second: (P,) rows of each pair.
        same: (P,), whether both images show one person.
        fmrs: false match rates.
        folds: (P,) fold of each pair, for the accuracy under the LFW protocol; or None.
        sources: stored in the result.

    Raises:
        InputError: only genuine or only impostor pairs; see also :func:`arcinvert.evaluation.metrics.fold_accuracy`.
    """
    if same.all() or not same.any():
        raise InputError(f"expected genuine and impostor pairs, the list has {same.sum()} and {(~same).sum()}")
    scores = np.einsum("pd,pd->p", embeddings[first], embeddings[second], dtype=np.float64)
    genuine, impostor = scores[same], scores[~same]
    rate, threshold = eer(genuine=genuine, impostor=impostor)
    points = operating_points(fmrs, genuine=genuine, impostor=impostor)
    return Verified(
        auc(genuine=genuine, impostor=impostor),
        0.0,
        rate,
        threshold,
        points,
        (None,) * len(points),
        None if folds is None else fold_accuracy(scores=scores, same=same, folds=folds),
        len(embeddings),
        None,
        len(genuine),
        len(impostor),
        sources,
    )
