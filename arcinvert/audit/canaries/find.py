"""Finding canaries in a dump, with the exact chance of finding as many where none was planted."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arcinvert.audit.canaries.key import CanaryKey, Rows, unit_rows
from arcinvert.audit.checks.hygiene import unit
from arcinvert.audit.stores import Store
from arcinvert.errors import InputError, UsageError
from arcinvert.progress import Progress, silent

DECOYS = 10_000
ROWS = 4096
"""Rows of the dump that are compared at a time."""


@dataclass(frozen=True)
class Match:
    """One canary: its nearest row of the dump.

    Attributes:
        canary: its number, from 0.
        position: of the row.
        cosine: to it.
        found: whether it is higher than that of every decoy.
    """

    canary: int
    position: int
    cosine: float
    found: bool


@dataclass(frozen=True)
class Found:
    """The canaries of a key in a dump.

    Attributes:
        matches: one for each canary.
        found: how many were found.
        decoys: how many templates of the same distribution that were never planted were searched for, too.
        decoy_cosine: the highest cosine of a decoy to any row.
        chance: of finding so many or more in a dump that has nothing to do with the canaries.
        rows: usable rows of the dump.
    """

    matches: tuple[Match, ...]
    found: int
    decoys: int
    decoy_cosine: float
    chance: float
    rows: int

    def to_json(self) -> dict[str, Any]:
        """As plain dicts and lists."""
        return asdict(self)


def find(store: Store, key: CanaryKey, *, decoys: int = DECOYS, progress: Progress = silent) -> Found:
    """Search a dump for canaries, and for decoys.

    A canary is found if a row is nearer to it than any row is to any decoy. For a dump that is independent of the
    canaries, canaries and decoys are exchangeable, so the chance is that of a random order. Nothing else is assumed:
    neither of the dump nor of how its numbers were changed (rounded, quantized, noisy).

    Args:
        store: the dump; it is only read.
        key: of the canaries.
        decoys: how many; the chance of a single false find among K canaries is K / (K + decoys).
        progress: called with (done, all, text), in rows.

    Raises:
        UsageError: fewer than one decoy.
        InputError: a dump of another size, damaged, or without a usable row.
    """
    if decoys < 1:
        raise UsageError(f"expected at least one decoy, got {decoys}")
    size = key.templates.shape[1]
    if store.size != size:
        raise InputError(
            f"expected a dump of {size} numbers a row, as the canaries have, {store.name} has {store.size}"
        )
    wanted = np.concatenate([unit_rows(key.templates), key.draw(decoys, np.random.default_rng([key.seed, 1]))])
    best, place, rows = _nearest(store, wanted, progress)
    if not rows:
        raise InputError(f"expected templates, no row of {store.name} can be used")
    planted = len(key.templates)
    highest = float(best[planted:].max())
    above = best[:planted] > highest
    matches = tuple(
        Match(number, int(place[number]), round(float(best[number]), 6), bool(above[number]))
        for number in range(planted)
    )
    count = int(above.sum())
    return Found(matches, count, decoys, round(highest, 6), chance_of(count, planted, decoys), rows)


def chance_of(found: int, planted: int, decoys: int) -> float:
    """The probability that the first ``found`` or more of a random order are canaries and none of them is a decoy."""
    steps = [(planted - step) / (planted + decoys - step) for step in range(found)]
    return float(np.prod(steps)) if steps else 1.0


def _nearest(store: Store, wanted: Rows, progress: Progress) -> tuple[Rows, NDArray[np.int64], int]:
    """For each of (M, D), unit norm: the highest cosine to a row of the store, and the row; and the usable rows."""
    best, place, count = np.full(len(wanted), -2, np.float32), np.zeros(len(wanted), np.int64), 0
    for block in store.blocks(ROWS):
        rows, good = unit(block.templates)
        if not len(rows):
            continue
        count += len(rows)
        cosines = rows @ wanted.T
        nearest = cosines.argmax(0)
        highest = cosines[nearest, np.arange(len(wanted))]
        better = highest > best
        best[better] = highest[better]
        place[better] = block.positions[good][nearest[better]]
        progress(int(block.positions[-1]) + 1, store.count, "searching the dump")
    return best, place, count
