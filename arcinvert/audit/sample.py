"""The sample of a store that is attacked, and the scan of the whole store."""

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from arcinvert.audit.checks import Scan, draw_sample, scan
from arcinvert.audit.rates import References
from arcinvert.audit.stores import Store
from arcinvert.embeddings import check_embeddings
from arcinvert.progress import Progress, silent

MOST_PEOPLE = 1000
"""Whose templates fix the attacked network's own thresholds: half a million pairs of people or more."""


@dataclass(frozen=True, eq=False)
class Sample:
    """The attacked templates.

    Attributes:
        scan: of the whole store.
        positions: (N,) int64, ascending: where in the store.
        targets: (N, D) templates, unit norm.
        seconds: (N, D) another template of the same person, unit norm; NaN where there is none.
        identities: (N) names, None for a row that names nobody; None where the whole store names nobody.
    """

    scan: Scan
    positions: NDArray[np.int64]
    targets: Tensor
    seconds: Tensor
    identities: list[str | None] | None

    @property
    def digest(self) -> str:
        """SHA-256 of positions and templates."""
        parts = (self.positions, self.targets.numpy(), self.seconds.numpy())
        return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()

    def references(self, photos: References | None) -> References:
        """The attacked network's references: photos where there are any, else templates."""
        if photos is None:
            return References(self.targets, self.seconds)
        first, second = photos.enrolled.isnan().any(1, keepdim=True), photos.second.isnan().any(1, keepdim=True)
        return References(
            torch.where(first, self.targets, photos.enrolled), torch.where(second, self.seconds, photos.second)
        )


def read_sample(store: Store, count: int, seed: int, *, progress: Progress = silent) -> Sample:
    """Scan the whole store once, then take a sample of it.

    Args:
        store: is only read.
        count: at most so many templates.
        seed: of the draw.
        progress: called with (done, all, text), in rows.

    Raises:
        InputError: the store is damaged, or holds no usable row.
    """
    found = scan(store, progress=progress)
    drawn = draw_sample(found, count=count, seed=seed)
    positions, others = drawn.positions, drawn.second
    block = store.take(positions)
    names = None if block.identities is None else [name or None for name in block.identities]
    seconds = torch.full((len(positions), store.size), torch.nan)
    for row, other in zip(np.flatnonzero(others >= 0), _taken(store, others[others >= 0]), strict=True):
        seconds[row] = other
    return Sample(found, positions, _unit(block.templates), seconds, names)


def impostor_templates(store: Store, found: Scan, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]] | None:
    """Templates (M, D), unit norm, of at most :data:`MOST_PEOPLE` named people, and the person (M,) of each.

    One or two of each. None where the store names nobody: two templates may then show one person.
    """
    if found.identity is None:
        return None
    drawn = draw_sample(found, count=MOST_PEOPLE, seed=seed)
    block = store.take(drawn.positions)
    kept = np.array([bool(name) for name in block.identities or [""] * len(drawn.positions)])
    if not kept.any():
        return None
    people, second = np.arange(len(kept)), drawn.second
    two = kept & (second >= 0)
    rows = torch.cat([_unit(block.templates[kept]), _taken(store, second[two])]).numpy()
    return rows, np.concatenate([people[kept], people[two]])


def _taken(store: Store, positions: NDArray[np.int64]) -> Tensor:
    """(n, D) unit norm, in the order of ``positions``."""
    order, place = np.unique(positions, return_inverse=True)
    return _unit(store.take(order).templates)[place] if len(order) else torch.empty(0, store.size)


def _unit(rows: NDArray[np.float32]) -> Tensor:
    return torch.from_numpy(check_embeddings(rows, rows.shape[1]).rows.copy())
