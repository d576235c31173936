"""Losses that are added to the margin loss: pure functions ``(embeddings, labels, centers) -> (B,)``.

Embeddings are (B, D) and labels (B,) integers below N. Centers are (N, D), or (N, K, D) with K
sub-centers per class (Deng et al. 2020, *Sub-center ArcFace*), of which the one nearest to the
embedding counts. All have unit norm but those of :func:`center_loss`. The dtype is that of the
input. The papers add the mean over the batch, times a weight.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from arcinvert.training.margins import angle

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


def class_products(embeddings: Tensor, centers: Tensor) -> Tensor:
    """Inner product with every class, (B, N): the cosine if both are of unit norm; the largest over sub-centers."""
    if centers.ndim == 2:
        return embeddings @ centers.T
    classes, subcenters, size = centers.shape
    return (embeddings @ centers.reshape(-1, size).T).view(-1, classes, subcenters).amax(2)


def own_center(embeddings: Tensor, labels: Tensor, centers: Tensor) -> Tensor:
    """(B, D): the center of each one's class; of several, the one with the largest inner product."""
    own = centers[labels]
    if own.ndim == 2:
        return own
    nearest = torch.einsum("bd,bkd->bk", embeddings, own).argmax(1)
    return own[torch.arange(len(own), device=own.device), nearest]


def intra_loss(embeddings: Tensor, labels: Tensor, centers: Tensor) -> Tensor:
    """``theta_y / pi``: the angle to the own center in half turns, in [0, 1] (Deng et al. 2019, Eq. 5)."""
    return angle((embeddings * own_center(embeddings, labels, centers)).sum(1)) / math.pi


def inter_loss(embeddings: Tensor, labels: Tensor, centers: Tensor) -> Tensor:
    """``-1 / (pi (N - 1)) * sum over j != y of arccos(W_y . W_j)`` (Deng et al. 2019, Eq. 6).

    The negative mean angle, in half turns, between the own center and all others: in [-1, 0]. The embeddings get no
    gradient. A single class gives 0.
    """
    between = angle(class_products(own_center(embeddings, labels, centers), centers))
    others = between.scatter(1, labels[:, None], 0.0)  # leave out the angle of the center to itself
    return -others.sum(1) / (math.pi * max(between.shape[1] - 1, 1))


def triplet_loss(embeddings: Tensor, labels: Tensor, centers: Tensor | None = None, *, margin: float = 0.35) -> Tensor:
    """``max(0, arccos(x . x_pos) + margin - arccos(x . x_neg))``, radians, with semi-hard mining.

    The angular triplet of Deng et al. 2019, section 4.2; the mining is that of Schroff et al. 2015,
    section 3.2: for every pair of one identity in the batch, the negative with the least angle among
    those farther from the anchor than the positive is; if there is none, the farthest. The choice
    itself has no gradient.

    Args:
        embeddings: (B, D), unit norm.
        labels: (B,).
        centers: not used.
        margin: radians.

    Returns:
        (B,): per anchor the mean over its positives; 0 without a positive or without a negative.
    """
    rows = torch.arange(len(labels), device=labels.device)
    angles = angle(embeddings @ embeddings.T)
    same = labels[:, None] == labels[None]
    positive = same & (rows[:, None] != rows[None])
    ordered, order = angles.detach().masked_fill(same, math.inf).sort(1)
    farthest = (~same).sum(1, keepdim=True) - 1
    place = torch.searchsorted(ordered, angles.detach(), right=True)
    negative = angles.gather(1, order.gather(1, torch.minimum(place, farthest).clamp_min(0)))
    hinge = (angles + margin - negative).clamp_min(0) * (positive & (farthest >= 0))
    return hinge.sum(1) / positive.sum(1).clamp_min(1)


def center_loss(embeddings: Tensor, labels: Tensor, centers: Tensor) -> Tensor:
    """``|x - c_y|^2 / 2`` of features that are not normalized (Wen et al. 2016, Eq. 2).

    :func:`moved_centers` updates the centers. The paper adds it to plain softmax with a weight of 0.003.
    """
    return (embeddings - own_center(embeddings, labels, centers)).square().sum(1) / 2


def moved_centers(features: Tensor, labels: Tensor, centers: Tensor, *, rate: float = 0.5) -> tuple[Tensor, Tensor]:
    """The update of the moving centers (N, D) by a batch (Wen et al. 2016, Eq. 4 and Algorithm 1).

    ``c_j - rate * sum of (c_j - x_i) / (1 + n_j)`` over the n_j features of class j in the batch.

    Returns:
        rows (R,), without duplicates, and their new centers (R, D), without gradient.
    """
    rows, place, count = torch.unique(labels, return_inverse=True, return_counts=True)
    old = centers[rows].detach()
    away = torch.zeros_like(old).index_add_(0, place, old[place] - features.detach())
    return rows, old - rate * away / (1 + count[:, None])


LOSSES: dict[str, Loss] = {"intra": intra_loss, "inter": inter_loss, "triplet": triplet_loss, "center": center_loss}
"""The losses a :class:`~arcinvert.training.heads.MarginHead` can add, by name."""
