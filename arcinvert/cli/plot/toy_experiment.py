"""The experiment of ``arcinvert plot toy``: eight identities in two dimensions (Deng et al. 2019, Fig. 3)."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import interpolate, normalize

from arcinvert.errors import InputError
from arcinvert.faces.listing import report_skipped
from arcinvert.training.data.faces import identity_folders, load_faces, to_float
from arcinvert.training.heads import MarginHead
from arcinvert.training.margins import Margin

IDENTITIES = 8
SIDE = 16
"""Side in pixels of the faces that the small network sees."""


def random_features(seed: int) -> tuple[Tensor, Tensor]:
    """(1600, 32) features of eight close Gaussian identities, and (1600,) labels."""
    generator = torch.Generator().manual_seed(seed)
    middles = torch.randn(IDENTITIES, 32, generator=generator)
    labels = torch.arange(IDENTITIES).repeat_interleave(200)
    return middles[labels] + 1.1 * torch.randn(len(labels), 32, generator=generator), labels


def face_features(folder: Path) -> tuple[Tensor, Tensor]:
    """Standardized 16x16 faces (N, 768) of the first eight identities of a folder, and their labels (N,).

    Raises:
        InputError: fewer than eight identities, or see :func:`arcinvert.training.data.faces.load_faces`.
    """
    names = identity_folders(folder)
    if len(names) < IDENTITIES:
        raise InputError(f"expected at least {IDENTITIES} identities in {str(folder)!r}, got {len(names)}")
    faces = load_faces(folder, names[:IDENTITIES])
    report_skipped(faces.skipped)
    small = interpolate(to_float(faces.images), size=(SIDE, SIDE), mode="area").flatten(1)
    return (small - small.mean(0)) / small.std(0).clamp_min(1e-3), faces.labels


def embed_in_two_dimensions(
    features: Tensor, labels: Tensor, margin: Margin, *, seed: int, steps: int = 600, scale: float = 16.0
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Train a small network with a margin head on features (N, K) and labels (N,).

    Features and class centers are normalized for every margin, including softmax.

    Returns:
        Unit embeddings (N, 2), unit class centers (8, 2), and the share of rows nearest to their own center.
    """
    generator = torch.Generator().manual_seed(seed)
    network = nn.Sequential(nn.Linear(features.shape[1], 128), nn.PReLU(), nn.Linear(128, 64), nn.PReLU())
    network.append(nn.Linear(64, 2))
    head = MarginHead(2, IDENTITIES, margin=margin, scale=scale)
    weights = [*network.parameters(), *head.parameters()]
    with torch.no_grad():
        for layer in network:
            if isinstance(layer, nn.Linear):
                layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator) / layer.in_features**0.5)
                layer.bias.zero_()
        # The centers start evenly around the circle: in two dimensions one cannot pass another.
        turn = torch.arange(IDENTITIES) * (2 * torch.pi / IDENTITIES)
        head.centers.copy_(torch.stack([turn.cos(), turn.sin()], 1))
    optimizer = torch.optim.Adam(weights, lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        batch = torch.randint(len(labels), (256,), generator=generator)
        loss = head(network(features[batch]), labels[batch]).loss.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        points, centers = normalize(network(features)), normalize(head.centers)
    right = float(((points @ centers.T).argmax(1) == labels).double().mean())
    return points.double().numpy(), centers.double().numpy(), right


def spread(points: NDArray[np.float64], labels: NDArray[np.int64], centers: NDArray[np.float64]) -> tuple[float, float]:
    """Mean angle of unit embeddings (N, 2) to their own center, and the smallest angle between two identities.

    Both are in degrees. The second is negative if neighbors on the circle overlap; the outermost 2 % on each side of an
    identity are left out.
    """
    order = np.argsort(np.arctan2(centers[:, 1], centers[:, 0]))
    cosine = (points * centers[labels]).sum(1).clip(-1, 1)
    sides = centers[labels][:, 0] * points[:, 1] - centers[labels][:, 1] * points[:, 0]
    off = np.degrees(np.arctan2(sides, cosine))
    edges = np.array([np.quantile(off[labels == label], (0.02, 0.98)) for label in range(len(centers))])
    middle = np.degrees(np.arctan2(centers[order, 1], centers[order, 0]))
    apart = np.diff(middle, append=middle[0] + 360)
    gaps = apart - edges[order, 1] + np.roll(edges[order, 0], -1)
    return float(np.abs(off).mean()), float(gaps.min())
