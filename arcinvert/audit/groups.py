"""Rates of parts of the sample, by a column of the store: does the attack succeed more often for some people?"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from arcinvert.audit.judges import Judge
from arcinvert.audit.rates import SECOND, TYPE_I, TYPE_II, Kind, Rate, References, cosines, rates_at_thresholds
from arcinvert.audit.sample import Sample
from arcinvert.audit.stores import Store
from arcinvert.audit.types import Count
from arcinvert.errors import InputError

LEAST = 20
"""Templates that a group needs: fewer say little, and might show how one person's template fared."""
OTHERS, UNNAMED = "other groups together", "without a value"


@dataclass(frozen=True)
class Group:
    """One group's rates: type I, type II and that of real second photos, by every judge."""

    name: str
    count: Count
    rates: tuple[Rate, ...]


@dataclass(frozen=True)
class Groups:
    """The groups of a column, the largest first.

    Attributes:
        column: of the store.
        groups: those of at least ``least`` sampled templates; smaller ones are merged into one.
        least: see above.
        merged: names of the groups that were merged.
        withheld: sampled templates of merged groups that are too few together; they are in no group.
    """

    column: str
    groups: tuple[Group, ...]
    least: Count
    merged: tuple[str, ...]
    withheld: Count


def group_labels(groups: Store, store: Store, sample: Sample) -> list[str]:
    """The group of each sampled template, :data:`UNNAMED` where the store has none.

    Args:
        groups: the same store, opened with the column of the groups as that of the identities.
        store: as it is audited.
        sample: of ``store``.

    Raises:
        InputError: the column has no value, or the store has changed.
    """
    found = groups.take(sample.positions)
    if groups.count != store.count or not np.array_equal(found.positions, sample.positions):
        raise InputError(f"{store.name} changed while it was read: {store.count} rows, now {groups.count}")
    if found.identities is None or not any(found.identities):
        raise InputError(f"expected a column of groups, no sampled row of {store.name} has a value in it")
    return [name or UNNAMED for name in found.identities]


def group_rates(
    column: str,
    labels: Sequence[str],
    judges: Sequence[Judge],
    references: Mapping[str, References],
    embedded: Mapping[str, Tensor],
) -> Groups:
    """The rates of each group.

    Args:
        column: where the labels come from.
        labels: (N) the group of each target.
        judges: all; one without references has no rates.
        references: name of a judge -> what it compares with.
        embedded: name of a judge -> (N, D) of the reconstructions, see :func:`~arcinvert.audit.rates.embed_attempts`.
    """
    counts = Counter(labels)
    small = sorted(name for name, count in counts.items() if count < LEAST)
    parts = {name: np.array([label == name for label in labels]) for name in counts if name not in small}
    rest = np.isin(np.array(labels, object), np.array(small, object))
    withheld = int(rest.sum())
    if withheld >= LEAST:
        parts[OTHERS], withheld = rest, 0
    scores = _scores(judges, references, embedded)
    found = [
        Group(
            name,
            int(mask.sum()),
            tuple(rate for judge, kind, row in scores for rate in rates_at_thresholds(judge, kind, row[_mask(mask)])),
        )
        for name, mask in sorted(parts.items(), key=lambda part: (part[0] == OTHERS, -int(part[1].sum()), part[0]))
    ]
    return Groups(column, tuple(found), LEAST, tuple(small), withheld)


def _scores(
    judges: Sequence[Judge], references: Mapping[str, References], embedded: Mapping[str, Tensor]
) -> list[tuple[Judge, Kind, Tensor]]:
    found: list[tuple[Judge, Kind, Tensor]] = []
    for judge in judges:
        known = references.get(judge.name)
        if known is not None:
            rows = embedded[judge.name]
            found.append((judge, TYPE_I, cosines(rows, known.enrolled)))
            found.append((judge, TYPE_II, cosines(rows, known.second)))
            found.append((judge, SECOND, cosines(known.second, known.enrolled)))
    return found


def _mask(mask: NDArray[np.bool_]) -> Tensor:
    return torch.from_numpy(mask)
