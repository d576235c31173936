"""Embeddings of aligned crops, with or without the flip test.

A picture that is missing or cannot be read raises an error and is never skipped: the figures of a protocol depend on
every picture of it.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from arcinvert.embeddings import check_embeddings
from arcinvert.errors import InputError, UsageError
from arcinvert.evaluation.allpairs.search import Labels, Rows
from arcinvert.evaluation.readers.crops import files_digest, identity_files, read_crop, readable_files
from arcinvert.faces.alignment import SIZE
from arcinvert.faces.listing import Skipped, report_skipped
from arcinvert.progress import Progress, silent
from arcinvert.recognizer import Recognizer

FLIPS = ("none", "average", "concatenate")
"""The flip test: the picture alone; or the mean of its embedding and its mirror image's; or both side by side."""


class EmbeddedFolder(NamedTuple):
    """A folder of identities and its embeddings.

    Attributes:
        rows: (N, D) or (N, 2D) float32, unit norm.
        labels: (N,) int64, the sorted identities from 0.
        files: the N images; the name of an identity is that of the folder of its files.
        digest: SHA-256 over the names and bytes of the files, computed as for a training set.
        skipped: files that cannot be read as an image.
    """

    rows: Rows
    labels: Labels
    files: tuple[Path, ...]
    digest: str
    skipped: tuple[Skipped, ...] = ()


def flip_test(embeddings: Rows, mirrored: Rows, how: str) -> Rows:
    """Combine the embeddings of images and of their mirror images.

    Args:
        embeddings, mirrored: (N, D), unit norm.
        how: ``none``, ``average`` (their mean) or ``concatenate`` (side by side).

    Returns:
        (N, D), or (N, 2D) for ``concatenate``; unit norm.

    Raises:
        UsageError: unknown ``how``.
        InputError: different shapes; a row that is not finite, or opposite to that of its mirror image.
    """
    if embeddings.shape != mirrored.shape or embeddings.ndim != 2:
        raise InputError(f"expected mirrored embeddings {embeddings.shape}, got {mirrored.shape}")
    if how == "none":
        return embeddings
    if how == "average":
        return check_embeddings(embeddings + mirrored, embeddings.shape[1]).rows
    if how == "concatenate":
        return check_embeddings(np.concatenate([embeddings, mirrored], 1), 2 * embeddings.shape[1]).rows
    raise UsageError(f"expected a flip of none, average or concatenate, got {how!r}")


def embed_images(
    recognizer: Recognizer,
    images: NDArray[np.uint8],
    *,
    flip: str = "none",
    batch_size: int = 32,
    progress: Progress = silent,
) -> Rows:
    """Embed aligned crops.

    Args:
        recognizer: computes the embeddings.
        images: (N, 112, 112, 3) uint8 RGB.
        flip: one of :data:`FLIPS`.
        batch_size: images per forward pass; a flip test takes a second pass.
        progress: called with (done, all, text).

    Returns:
        (N, D) float32, unit norm; (N, 2D) for ``concatenate``.

    Raises:
        UsageError: unknown flip, or a batch size below 1.
        InputError: wrong shape or type.
    """
    if images.ndim != 4 or images.shape[1:] != (SIZE, SIZE, 3) or images.dtype != np.uint8:
        raise InputError(f"expected images (N, {SIZE}, {SIZE}, 3) of uint8, got {images.shape} of {images.dtype}")
    return _embed(recognizer, len(images), lambda number: images[number], flip, batch_size, progress)


def embed_files(
    recognizer: Recognizer,
    files: Sequence[Path],
    *,
    flip: str = "none",
    batch_size: int = 32,
    progress: Progress = silent,
) -> Rows:
    """Embed the aligned crops in files, one batch in memory at a time; see :func:`embed_images`.

    Raises:
        UsageError: unknown flip, or a batch size below 1.
        InputError: an image that cannot be read or is not 112x112.
    """
    return _embed(recognizer, len(files), lambda number: read_crop(files[number]), flip, batch_size, progress)


def embed_folder(
    recognizer: Recognizer,
    folder: Path,
    *,
    flip: str = "none",
    batch_size: int = 32,
    strict: bool = False,
    progress: Progress = silent,
) -> EmbeddedFolder:
    """Embed every aligned crop of ``folder/<identity>/``; files that cannot be read are left out, which is logged.

    Raises:
        UsageError, InputError: see :func:`embed_files` and :func:`identity_files`; with ``strict``, a file that cannot
            be read.
    """
    listed, numbers, skipped = identity_files(folder)
    files, labels, damaged = readable_files(listed, numbers)
    skipped += damaged
    report_skipped(skipped, strict=strict)
    rows = embed_files(recognizer, files, flip=flip, batch_size=batch_size, progress=progress)
    return EmbeddedFolder(rows, labels, files, files_digest(folder, files), tuple(skipped))


def _embed(
    recognizer: Recognizer,
    count: int,
    crop: Callable[[int], NDArray[np.uint8]],
    flip: str,
    batch_size: int,
    progress: Progress,
) -> Rows:
    if flip not in FLIPS or batch_size < 1:
        raise UsageError(f"expected a flip of {', '.join(FLIPS)} and a batch size above 0, got {flip} and {batch_size}")
    width = recognizer.embedding_size * (2 if flip == "concatenate" else 1)
    parts = [np.empty((0, width), np.float32)]
    for start in range(0, count, batch_size):
        stop = min(start + batch_size, count)
        images = torch.from_numpy(np.stack([crop(number) for number in range(start, stop)])).permute(0, 3, 1, 2)
        rows = recognizer.embed(images, batch_size=batch_size).cpu().numpy()
        if flip != "none":
            rows = flip_test(rows, recognizer.embed(images.flip(3), batch_size=batch_size).cpu().numpy(), flip)
        parts.append(check_embeddings(rows, width).rows)
        progress(stop, count, "embedding")
    return np.concatenate(parts)
