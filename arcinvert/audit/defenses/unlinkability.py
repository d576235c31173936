"""Linkability: can templates of one person under two keys be matched?

Gomez-Barrero et al. 2018, "General framework to evaluate unlinkability in biometric template protection systems".
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from arcinvert.audit.defenses.accuracy import several_of_each
from arcinvert.audit.defenses.base import Defense
from arcinvert.audit.types import Count, Share
from arcinvert.errors import InputError

BINS, RANGE = 100, (-1.0, 1.0)
"""Fixed, so that figures are comparable; a score is a cosine."""
DRAWS = 20
OTHER_KEYS = 5
"""A mean over several keys: some keys of a scheme can be linked and others not."""


@dataclass(frozen=True)
class Linkability:
    """How well templates of one person under two keys can be linked.

    Attributes:
        d_sys: 0 nothing can be linked, 1 everything.
        chance: what the same estimate gives by chance: the mean of twenty draws in which as many non-mated scores count
            as mated. It is above 0, because few scores fall into many bins.
        mated, nonmated: how many scores, of each pair of keys.
        highest: over several pairs of keys, where ``d_sys`` and ``chance`` are the mean.
        bins, range: of the histograms.
    """

    d_sys: Share
    chance: Share
    mated: Count
    nonmated: Count
    highest: Share
    bins: int = BINS
    range: tuple[float, float] = RANGE


def d_sys(a: Defense, b: Defense, embeddings: Tensor, labels: Tensor) -> Linkability:
    """Link templates stored under ``a`` with templates of other images under ``b``.

    Args:
        a, b: one scheme under two keys, fitted.
        embeddings: (N, D), unit norm.
        labels: (N,) integers; see :func:`~arcinvert.audit.defenses.accuracy.accuracy`.

    Raises:
        InputError: no identity has two images, or there is one identity only.
    """
    rows = several_of_each(labels)
    embeddings, labels = embeddings[rows], labels[rows]
    ids = rows.tolist()
    scores = a.compare(a.protect(embeddings, ids), b.protect(embeddings, ids))
    same = labels[:, None] == labels
    other_image = ~torch.eye(len(rows), dtype=torch.bool, device=labels.device)
    mated, nonmated = scores[same & other_image].cpu().numpy(), scores[~same].cpu().numpy()
    draw = np.random.default_rng(0)
    if not len(nonmated):
        raise InputError("expected templates of several identities, got one")
    size = min(len(mated), len(nonmated))
    by_chance = [global_measure(draw.choice(nonmated, size, replace=False), nonmated) for _ in range(DRAWS)]
    found = global_measure(mated, nonmated)
    return Linkability(found, float(np.mean(by_chance)), len(mated), len(nonmated), found)


def linkability(defense: Defense, embeddings: Tensor, labels: Tensor) -> Linkability:
    """:func:`d_sys` of a defense between its key and five others; without a key, between two stores."""
    if not defense.keyed:
        return d_sys(defense, defense, embeddings, labels)
    found = [d_sys(defense, defense.without_key(number), embeddings, labels) for number in range(OTHER_KEYS)]
    return replace(
        found[0],
        d_sys=float(np.mean([one.d_sys for one in found])),
        chance=float(np.mean([one.chance for one in found])),
        highest=max(one.d_sys for one in found),
    )


def global_measure(mated: NDArray[np.floating], nonmated: NDArray[np.floating], omega: float = 1.0) -> float:
    """``D_sys``, the mean over mated scores of ``D(s) = max(0, 2 w LR / (1 + w LR) - 1)`` (Eq. 8 and 9 there).

    ``LR`` is the ratio of the two densities, by histograms of 100 bins over [-1, 1].

    Args:
        mated: (G,) scores of one person under two keys.
        nonmated: (M,) scores of two persons.
        omega: prior odds of a mated pair.
    """
    p, q = (np.histogram(scores, BINS, RANGE)[0] / len(scores) for scores in (mated, nonmated))
    there = p > 0
    local = (omega * p[there] - q[there]) / (omega * p[there] + q[there])  # the same measure, finite where q is 0
    return float((np.maximum(local, 0) * p[there]).sum())
