"""Re-identification: the rank of the true identity of a reconstruction in the whole store, in one streamed pass."""

import numpy as np
from numpy.typing import NDArray

from arcinvert.audit.checks.hygiene import Scan, scan, unit
from arcinvert.audit.stores.store import Index, Store
from arcinvert.errors import InputError
from arcinvert.evaluation.allpairs.search import check_rows, error_bound
from arcinvert.progress import Progress, silent

Floats = NDArray[np.float64]


def rank1(
    store: Store,
    probes: NDArray[np.float32],
    own_positions: Index,
    *,
    scanned: Scan | None = None,
    progress: Progress = silent,
) -> Index:
    """The rank of each probe's own identity among all rows; 1 is the best.

    Args:
        store: the gallery; rows that are NaN, infinite, zero or unreadable are skipped.
        probes: (P, D), unit norm.
        own_positions: (P,) the row that each probe was reconstructed from.
        scanned: the scan of the store; without it, a store that names identities is read once more. All rows of the
            probe's identity count as its own.
        progress: called with (done, all, text), in rows.

    Returns:
        (P,) int64: 1 + the number of rows of others that score at least as high as its own best row; a tie counts
        against the probe.

    Raises:
        InputError: rows that do not fit, or an own row that cannot be used.
    """
    check_rows(probes, what="probes")
    if probes.shape[1] != store.size or own_positions.shape != probes.shape[:1]:
        raise InputError(f"expected {len(own_positions)} probes of {store.size} numbers, got {probes.shape}")
    if scanned is None and next(store.blocks(1)).identities is not None:
        scanned = scan(store)
    identity = None if scanned is None else scanned.identity
    key = np.zeros(len(probes), np.uint64) if identity is None else identity[own_positions]
    mate = _mates(store, probes, own_positions, key, identity)
    bound = 2 * error_bound(store.size)
    ranks = np.ones(len(probes), np.int64)
    for block in store.blocks():
        rows, good = unit(block.templates)
        positions = block.positions[good]
        scores = probes @ rows.T
        level = mate[:, None]
        i, j = np.nonzero(scores >= level - bound)
        at = positions[j]
        other = at != own_positions[i]
        if identity is not None:
            other &= (identity[at] != key[i]) | (key[i] == 0)
        i, j = i[other], j[other]
        near = np.flatnonzero(scores[i, j] <= mate[i] + bound)
        rival = np.ones(len(i), bool)
        templates = block.templates[good]
        rival[near] = _cosine(probes[i[near]], templates[j[near]]) >= mate[i[near]]
        ranks += np.bincount(i[rival], minlength=len(probes))
        if len(block.positions):
            progress(int(block.positions[-1]) + 1, store.count, "rows of the store compared with the reconstructions")
    return ranks


def _mates(
    store: Store, probes: NDArray[np.float32], own: Index, key: NDArray[np.uint64], identity: NDArray[np.uint64] | None
) -> Floats:
    """(P,) the highest cosine to a row of the probe's own."""
    wanted = own
    if identity is not None:
        wanted = np.concatenate([own, np.flatnonzero(np.isin(identity, key[key != 0]))])
    block = store.take(np.unique(wanted))
    rows, good = unit(block.templates)
    positions, rows = block.positions[good], block.templates[good]
    keys = np.zeros(len(positions), np.uint64) if identity is None else identity[positions]
    mate = np.full(len(probes), -np.inf)
    for number in range(len(probes)):
        mine = np.flatnonzero((positions == own[number]) | ((keys == key[number]) & (key[number] != 0)))
        if not (positions[mine] == own[number]).any():
            raise InputError(f"row {own[number]} of {store.name} cannot be used")
        mate[number] = _cosine(probes[np.full(len(mine), number)], rows[mine]).max()
    return mate


def _cosine(first: NDArray[np.float32], second: NDArray[np.float32]) -> Floats:
    """(n,) of rows one by one; the second ones need not be unit norm."""
    a, b = first.astype(np.float64), second.astype(np.float64)
    return np.asarray(np.einsum("nd,nd->n", a, b) / np.sqrt(np.einsum("nd,nd->n", b, b)))
