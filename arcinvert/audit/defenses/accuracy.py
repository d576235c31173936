"""The accuracy that a recognizer keeps behind a defense."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from arcinvert.audit.defenses.base import Defense
from arcinvert.audit.thresholds import FMRS
from arcinvert.audit.types import Count, Share
from arcinvert.errors import InputError
from arcinvert.evaluation.metrics import OperatingPoint, eer, operating_points

LIMIT = 2000
"""Rows of which all pairs are scored: two million pairs."""


@dataclass(frozen=True)
class Accuracy:
    """Accuracy over all pairs of protected templates.

    Attributes:
        eer: equal error rate.
        points: TAR at each FMR; without a threshold where the impostor pairs are too few.
        templates: how many were compared, each with each.
    """

    eer: Share
    points: tuple[OperatingPoint, ...]
    templates: Count


def accuracy(defense: Defense, embeddings: Tensor, labels: Tensor, fmrs: Sequence[float] = FMRS[:2]) -> Accuracy:
    """Protect the embeddings, compare every pair, and measure how well people are told apart.

    Both templates of a pair are protected, each as a record of its own.

    Args:
        defense: fitted.
        embeddings: (N, D), unit norm.
        labels: (N,) integers, the identity of each row; several rows of an identity are needed. If there are more than
            2,000 rows, the first identities in the order of the rows are used.
        fmrs: at which TAR is measured.

    Raises:
        InputError: no genuine or no impostor pair.
    """
    rows = several_of_each(labels)
    embeddings, labels = embeddings[rows], labels[rows]
    templates = defense.protect(embeddings, rows.tolist())
    upper = torch.ones(len(rows), len(rows), dtype=torch.bool, device=embeddings.device).triu(1)
    scores, same = defense.compare(templates, templates), labels[:, None] == labels
    genuine, impostor = scores[upper & same].cpu().numpy(), scores[upper & ~same].cpu().numpy()
    if not len(genuine) or not len(impostor):
        raise InputError("expected genuine and impostor pairs; the labels give only one kind")
    rate, _ = eer(genuine=genuine, impostor=impostor)
    return Accuracy(rate, operating_points(fmrs, genuine=genuine, impostor=impostor), len(rows))


def several_of_each(labels: Tensor, limit: int = LIMIT) -> Tensor:
    """Rows of identities that have several, at most ``limit``, the identities in the order of their first rows.

    An identity is taken whole, unless it alone is more than the limit.

    Args:
        labels: (N,) integers.

    Returns:
        (M,) row numbers, ascending.

    Raises:
        InputError: no identity has two rows.
    """
    of: dict[int, list[int]] = {}
    for row, label in enumerate(labels.tolist()):
        of.setdefault(label, []).append(row)
    chosen: list[int] = []
    for rows in of.values():
        if len(rows) > 1 and len(chosen) < limit:
            chosen += rows[: limit - len(chosen)] if len(chosen) + len(rows) > limit else rows
    if not chosen:
        raise InputError(f"expected several templates of an identity, got {len(of)} identities with one each")
    return torch.tensor(sorted(chosen), device=labels.device)
