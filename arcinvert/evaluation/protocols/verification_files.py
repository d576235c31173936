"""Verification on files: stored embeddings, a folder of identities, a pair list, or a ``.bin``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from arcinvert.checkpoint import file_digest
from arcinvert.evaluation.embedding import embed_files, embed_folder, embed_images
from arcinvert.evaluation.metrics import FMRS, folds_in_order
from arcinvert.evaluation.protocols.verification import Verified, verify_embeddings, verify_pairs
from arcinvert.evaluation.readers.bin_files import read_bin
from arcinvert.evaluation.readers.crops import files_digest
from arcinvert.evaluation.readers.lists import read_pairs
from arcinvert.evaluation.readers.stored_embeddings import read_stored
from arcinvert.progress import Progress, silent
from arcinvert.recognizer import Recognizer

FOLDS = 10


def verify_stored(
    embeddings: Path,
    labels: Path,
    fmrs: Sequence[float] = FMRS,
    *,
    seed: int = 0,
    device: torch.device | str = "cpu",
    progress: Progress = silent,
) -> Verified:
    """All pairs of the embeddings in a ``.npy`` (N, D), with a text file of one label per line.

    Raises:
        InputError: see :func:`arcinvert.evaluation.readers.stored_embeddings.read_stored` and
            :func:`arcinvert.evaluation.protocols.verification.verify_embeddings`.
    """
    stored = read_stored(embeddings, labels)
    sources = stored.files if stored.note is None else (*stored.files, {"note": stored.note})
    return verify_embeddings(
        stored.rows, stored.labels, fmrs, seed=seed, device=device, sources=sources, progress=progress
    )


def verify_folder(
    recognizer: Recognizer,
    folder: Path,
    fmrs: Sequence[float] = FMRS,
    *,
    flip: str = "none",
    batch_size: int = 32,
    seed: int = 0,
    strict: bool = False,
    progress: Progress = silent,
) -> Verified:
    """All pairs of the aligned crops ``folder/<identity>/<image>``.

    Raises:
        UsageError, InputError: see :func:`arcinvert.evaluation.embedding.embed_folder` and
            :func:`arcinvert.evaluation.protocols.verification.verify_embeddings`.
    """
    found = embed_folder(recognizer, folder, flip=flip, batch_size=batch_size, strict=strict, progress=progress)
    counts = {"pictures": len(found.rows)} | ({"skipped": len(found.skipped)} if found.skipped else {})
    sources = (_network(recognizer, flip), {"file": str(folder), "sha256": found.digest, **counts})
    return verify_embeddings(
        found.rows, found.labels, fmrs, seed=seed, device=recognizer.device, sources=sources, progress=progress
    )


def verify_list(
    recognizer: Recognizer,
    pairs: Path,
    folder: Path,
    fmrs: Sequence[float] = FMRS,
    *,
    flip: str = "none",
    batch_size: int = 32,
    progress: Progress = silent,
) -> Verified:
    """The pairs of a list of aligned crops in ``folder``; accuracy under the LFW protocol if the list has folds.

    Raises:
        UsageError, InputError: see :func:`arcinvert.evaluation.readers.lists.read_pairs`,
            :func:`arcinvert.evaluation.embedding.embed_files` and
            :func:`arcinvert.evaluation.protocols.verification.verify_pairs`.
    """
    found = read_pairs(pairs, folder)
    rows = embed_files(recognizer, found.files, flip=flip, batch_size=batch_size, progress=progress)
    sources = (
        _network(recognizer, flip),
        {"file": str(pairs), "sha256": file_digest(pairs), "pairs": len(found.same)},
        {"file": str(folder), "sha256": files_digest(folder, found.files), "pictures": len(found.files)},
    )
    return verify_pairs(rows, found.first, found.second, found.same, fmrs=fmrs, folds=found.folds, sources=sources)


def verify_bin(
    recognizer: Recognizer,
    path: Path,
    fmrs: Sequence[float] = FMRS,
    *,
    flip: str = "none",
    batch_size: int = 32,
    progress: Progress = silent,
) -> Verified:
    """A ``.bin`` such as ``lfw.bin``, in ten folds of consecutive pairs; without folds if it has fewer than ten pairs.

    Raises:
        UsageError, InputError: see :func:`arcinvert.evaluation.readers.bin_files.read_bin`,
            :func:`arcinvert.evaluation.embedding.embed_images` and
            :func:`arcinvert.evaluation.protocols.verification.verify_pairs`.
    """
    found = read_bin(path)
    rows = embed_images(recognizer, found.images, flip=flip, batch_size=batch_size, progress=progress)
    count = len(found.same)
    sources = (_network(recognizer, flip), {"file": str(path), "sha256": file_digest(path), "pairs": count})
    folds = folds_in_order(count, FOLDS) if count >= FOLDS else None
    first = np.arange(count) * 2
    return verify_pairs(rows, first, first + 1, found.same, fmrs=fmrs, folds=folds, sources=sources)


def _network(recognizer: Recognizer, flip: str) -> dict[str, Any]:
    return {
        "checkpoint": str(recognizer.header.get("backbone")),
        "sha256": recognizer.digest,
        "embedding_size": recognizer.embedding_size,
        "flip": flip,
    }
