"""The choice of the templates that an audit attacks: random identities, and one template of each."""

from dataclasses import dataclass

import numpy as np

from arcinvert.audit.checks.hygiene import Scan
from arcinvert.audit.stores.store import Index
from arcinvert.errors import InputError, UsageError


@dataclass(frozen=True, eq=False)
class Drawn:
    """A sample of a store.

    Attributes:
        positions: (S,) int64, ascending, no two of one identity.
        second: (S,) int64, another template of the same identity, -1 where there is none; a copy of the first does not
            count.
    """

    positions: Index
    second: Index


def draw_sample(scan: Scan, *, count: int, seed: int) -> Drawn:
    """At most ``count`` templates.

    Where the store names identities, they are sampled first, with equal probability however many templates they have,
    and then one template of each. A row that names nobody counts as an identity of its own. The same templates in the
    same order give the same sample, in whatever kind of store.

    Raises:
        UsageError: a count below 1.
        InputError: the store has no row that can be used.
    """
    if count < 1:
        raise UsageError(f"expected a sample of at least one template, got {count}")
    usable = np.flatnonzero(scan.good)
    if not len(usable):
        raise InputError("expected embeddings to sample, none of the store's rows can be used")
    generator = np.random.default_rng(seed)
    if scan.identity is None:
        positions = np.sort(generator.choice(usable, min(count, len(usable)), replace=False))
        return Drawn(positions, np.full(len(positions), -1, np.int64))
    rows, starts, sizes = _groups(scan, usable)
    first = rows[starts]
    chosen = generator.choice(len(starts), min(count, len(starts)), replace=False)
    chosen = np.argsort(first)[np.sort(chosen)]  # in the order of appearance: the hash of a name must not matter
    positions = np.sort(rows[starts[chosen] + generator.integers(0, sizes[chosen])])
    return Drawn(positions, _second(scan, positions, rows, starts, sizes))


def _second(scan: Scan, positions: Index, rows: Index, starts: Index, sizes: Index) -> Index:
    """The next row of the same identity that is not a copy; after the last row comes the first."""
    place = np.empty(scan.count, np.int64)
    place[rows] = np.arange(len(rows))
    group = np.searchsorted(starts, place[positions], side="right") - 1
    found = np.full(len(positions), -1, np.int64)
    for number, (position, g) in enumerate(zip(positions, group, strict=True)):
        own = rows[starts[g] : starts[g] + sizes[g]]
        others = np.roll(own, -int(np.flatnonzero(own == position)[0]))[1:]
        others = others[scan.content[others] != scan.content[position]]
        if len(others):
            found[number] = others[0]
    return found


def _groups(scan: Scan, usable: Index) -> tuple[Index, Index, Index]:
    """Usable rows identity by identity, each in order; where each begins; and its size."""
    keys = np.zeros(0, np.uint64) if scan.identity is None else scan.identity[usable]
    named = np.flatnonzero(keys)
    order = named[np.argsort(keys[named], kind="stable")]
    alone = np.flatnonzero(keys == 0)
    _, starts, sizes = np.unique(keys[order], return_index=True, return_counts=True)
    rows = usable[np.concatenate([order, alone])]
    starts = np.concatenate([starts, len(order) + np.arange(len(alone))])
    return rows, starts.astype(np.int64), np.concatenate([sizes, np.ones(len(alone), np.int64)]).astype(np.int64)
