"""What a network computes for a picture that may tell whether it was trained on it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from arcinvert.errors import UsageError
from arcinvert.evaluation.readers.crops import files_digest, identity_files, read_crop, readable_files
from arcinvert.faces.listing import report_skipped
from arcinvert.inversion.priors import stored_statistics
from arcinvert.inversion.terms import channel_moments
from arcinvert.progress import Progress, silent
from arcinvert.recognizer import ChannelStatistics, Recognizer

BATCH = 16
DISTANCE, NORM, CENTER, MARGIN = "BatchNorm distance", "embedding norm", "nearest center", "lead of the nearest center"
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Signals:
    """The signals of some pictures. In each of ``named``, a higher value speaks for membership.

    Attributes:
        named: signal -> (N,).
        features: (N, F), all that a combined test may use: log distance at each BatchNorm layer, and ``named``.
        people: (N,) the identity of each picture, from 0.
        digest: SHA-256 of the pictures.
        skipped: how many files could not be read.
    """

    named: dict[str, Floats]
    features: Floats
    people: NDArray[np.int64]
    digest: str
    skipped: int


def signals_of_folder(
    recognizer: Recognizer,
    folder: Path,
    *,
    centers: Tensor | None = None,
    most: int = 2000,
    strict: bool = False,
    progress: Progress = silent,
) -> Signals:
    """Compute the signals of aligned crops ``folder/<identity>/<image>``; see :func:`signals_of_files`.

    Args:
        recognizer, centers: see there.
        folder: of the pictures.
        most: pictures; with more, whole identities are drawn with seed 0 until so many are reached.
        strict: refuse a file that cannot be read.
        progress: called with (done, all, text).

    Raises:
        InputError: no such folder, no image, or one that is no aligned crop; with ``strict``, an unreadable file.
        UsageError: ``most`` below 2.
    """
    if most < 2:
        raise UsageError(f"expected at least 2 pictures, got {most}")
    listed, numbers, skipped = identity_files(folder)
    chosen = _some_people(numbers, most)
    files, people, damaged = readable_files([listed[row] for row in chosen], numbers[chosen])
    report_skipped(skipped + damaged, strict=strict)
    named, features = signals_of_files(recognizer, files, centers=centers, progress=progress)
    return Signals(named, features, people, files_digest(folder, files), len(skipped) + len(damaged))


def signals_of_files(
    recognizer: Recognizer, files: Sequence[Path], *, centers: Tensor | None = None, progress: Progress = silent
) -> tuple[dict[str, Floats], Floats]:
    """The ``named`` signals and the ``features`` of (N) aligned crops, see :class:`Signals`.

    The BatchNorm distance is, after arXiv 2401.13719, how far mean and deviation of a picture's features are from those
    that the BatchNorm layers store: in units of the stored ones, the mean over channels, its logarithm averaged over
    layers; its sign is changed. The stored ones are averages over the training pictures.

    Args:
        recognizer: under test. Without BatchNorm layers there is no BatchNorm distance.
        files: of the pictures.
        centers: (C, D) class centers, unit norm, if the checkpoint keeps them.
        progress: called with (done, all, text).

    Raises:
        InputError: a file that cannot be read, or is no aligned crop.
    """
    statistics = stored_statistics(recognizer)
    distances, norms, cosines = [], [], []
    for start in range(0, len(files), BATCH):
        part = np.stack([read_crop(path) for path in files[start : start + BATCH]])
        images = torch.from_numpy(part).permute(0, 3, 1, 2).to(recognizer.device).float() / 255
        features, found = _one_pass(recognizer, images, statistics)
        distances.append(found)
        norms.append(features.norm(dim=1))
        if centers is not None:
            near = normalize(features) @ centers.to(features.device).T
            cosines.append(near.topk(min(2, near.shape[1]), dim=1).values)
        progress(start + len(part), len(files), "signals of membership")
    named = {NORM: _numpy(torch.cat(norms).log())}
    logs = np.log(_numpy(torch.cat(distances)).clip(1e-12)) if statistics else np.empty((len(files), 0))
    if statistics:
        named = {DISTANCE: -logs.mean(1), **named}
    if centers is not None:
        near = torch.cat(cosines)
        named[CENTER], named[MARGIN] = _numpy(near[:, 0]), _numpy(near[:, 0] - near[:, -1])
    return named, np.concatenate([logs, np.stack(list(named.values()), 1)], 1)


@torch.no_grad()
def _one_pass(
    recognizer: Recognizer, images: Tensor, statistics: dict[str, ChannelStatistics]
) -> tuple[Tensor, Tensor]:
    """(B, D) embeddings as the network gives them, and (B, L) the distance at each layer."""
    tapped = recognizer.tapped(tuple(statistics))
    try:
        features, activations = tapped(recognizer.preprocessing(images))
    finally:
        tapped.release()
    found = [layer_distance(activations[layer], stored) for layer, stored in statistics.items()]
    return features.float(), torch.stack(found, 1) if found else features.new_empty(len(features), 0)


def layer_distance(activation: Tensor, stored: ChannelStatistics) -> Tensor:
    """(B,): the mean over usable channels of ``(mean - mean*)^2 / var* + (std / std* - 1)^2``.

    Args:
        activation: (B, C, H, W).
        stored: statistics of the layer.
    """
    mean, var = channel_moments(activation)
    mean, var = mean[:, stored.usable], var[:, stored.usable]
    kept_mean, kept_var = stored.mean[stored.usable], stored.var[stored.usable]
    return ((mean - kept_mean).square() / kept_var + ((var / kept_var).sqrt() - 1).square()).mean(1)


def _some_people(numbers: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """The rows of whole identities, in order, at most ``most`` unless the first drawn identity has more."""
    if len(numbers) <= most:
        return np.arange(len(numbers))
    sizes = np.bincount(numbers)
    order = np.random.default_rng(0).permutation(len(sizes))
    kept = order[: max(1, int((np.cumsum(sizes[order]) <= most).sum()))]
    return np.flatnonzero(np.isin(numbers, kept))


def _numpy(values: Tensor) -> Floats:
    return values.double().cpu().numpy()
