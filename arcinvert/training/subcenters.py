"""The network and the sub-centers of a finished training, and the cosines of its training images to them."""

import hashlib
import zipfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from arcinvert.checkpoint import Checkpoint, file_digest
from arcinvert.errors import CheckpointError, InputError
from arcinvert.formats import open_checkpoint
from arcinvert.progress import Progress, silent
from arcinvert.recognizer import Recognizer
from arcinvert.training.config import PREPROCESSING
from arcinvert.training.data.clean_list import permute_labels
from arcinvert.training.data.containers import list_images
from arcinvert.training.data.faces import split_identities
from arcinvert.training.data.image_files import ImageFiles, decode, digest_entry
from arcinvert.training.data.streaming import readable
from arcinvert.training.purify import Purified, purify
from arcinvert.training.state import load_state


@dataclass(frozen=True, eq=False)
class SubcenterCosines:
    """The cosines of the training images to the sub-centers.

    Attributes:
        files: (N,) paths ``identity/image``.
        identities: (C,) names of the classes.
        labels: (N,) int64, as trained on.
        true: (N,) int64; differs from ``labels`` where the training had ``label_noise``.
        cosines: (N, K), to the sub-centers of the own class.
    """

    files: tuple[str, ...]
    identities: tuple[str, ...]
    labels: Tensor
    true: Tensor
    cosines: Tensor


def load_subcenters(path: Path) -> Checkpoint:
    """The network and the sub-centers of a training: ``head.centers`` is (C, K, D).

    Args:
        path: the state beside the checkpoint, or a checkpoint with all sub-centers.

    Raises:
        CheckpointError: neither of them, damaged, or with only one center per class.
    """
    stored = _of_state(path) if zipfile.is_zipfile(path) else open_checkpoint(path)
    centers, size = stored.tensors.get("head.centers"), stored.header.get("embedding_size")
    if not isinstance(centers, Tensor) or centers.ndim != 3 or centers.shape[2] != size:
        found = str(tuple(centers.shape)) if isinstance(centers, Tensor) else "none"
        raise CheckpointError(
            f"expected sub-centers (classes, K, {size}) in {str(path)!r}, got {found}; "
            "pass the .state of a training with subcenters = 3"
        )
    if not bool(centers.isfinite().all()):
        raise CheckpointError(f"the sub-centers in {str(path)!r} are not finite")
    return stored


def dominant_checkpoint(stored: Checkpoint, dominant: Tensor) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Header and tensors of a checkpoint with the dominant sub-centers only.

    Args:
        stored: what :func:`load_subcenters` returned.
        dominant: (C,) int64, the dominant sub-center of each class.

    Returns:
        The arguments of :func:`arcinvert.checkpoint.save_checkpoint`; ``head.centers`` is (C, D), unit norm.
    """
    centers = normalize(stored.tensors["head.centers"].float(), dim=-1)
    own = centers[torch.arange(len(centers)), dominant]
    network = {
        name: value.half() if value.is_floating_point() else value
        for name, value in stored.tensors.items()
        if name.startswith("network.")
    }
    return dict(stored.header), {**stored.tensors, **network, "head.centers": own.half()}


def training_images(stored: Checkpoint, images: ImageFiles, keep: Collection[str] | None = None) -> ImageFiles:
    """The images of a training: without the identities it held out, by its clean list, and those that can be read.

    Raises:
        InputError: a number of identities that differs from the training's, or a clean list that does not fit.
        CheckpointError: a header without the settings of the training.
    """
    settings, data = (stored.header.get(name) for name in ("training", "data"))
    held_out = settings.get("held_out") if isinstance(settings, dict) else None
    if type(held_out) is not int or not isinstance(data, dict):
        raise CheckpointError(
            "the checkpoint does not hold the settings of its training; pass the .state of the training"
        )
    trained, _ = readable(images.of(split_identities(images.identities, held_out)[0], keep))
    classes, found = len(stored.tensors["head.centers"]), len(trained.identities)
    if found != classes:
        raise InputError(f"expected the {classes} identities of the training in {str(images.source)!r}, got {found}")
    return trained


def subcenter_cosines(
    stored: Checkpoint,
    trained: ImageFiles,
    *,
    device: torch.device | str = "cpu",
    batch_size: int = 64,
    progress: Progress = silent,
) -> SubcenterCosines:
    """Embed the training images, one batch in memory at a time, and compare them with the sub-centers.

    Raises:
        InputError: not the images of that training, or one that cannot be read.
        CheckpointError: weights that do not fit the network.
    """
    settings, entries = stored.header["training"], trained.entries
    centers = normalize(stored.tensors["head.centers"].float(), dim=-1)
    true = torch.tensor(trained.labels())
    noise = float(settings.get("label_noise", 0.0))
    labels = permute_labels(true, noise, seed=int(settings["seed"]))[0] if noise else true
    recognizer = Recognizer.from_checkpoint(stored, "the training").to(device)
    digest, parts = hashlib.sha256(), []
    for start in range(0, len(entries), batch_size):
        images = []
        for entry in entries[start : start + batch_size]:
            content = trained.content(entry)
            digest.update(digest_entry(entry.file, content))
            images.append(torch.from_numpy(decode(content, trained.path(entry)).copy()))
        embeddings = recognizer.embed(torch.stack(images).permute(0, 3, 1, 2), batch_size=batch_size).cpu()
        parts.append(torch.einsum("nd,nkd->nk", embeddings, centers[labels[start : start + len(embeddings)]]))
        progress(start + len(embeddings), len(entries), "embedded")
    if digest.hexdigest() != stored.header["data"].get("digest"):
        raise InputError(f"the images in {str(trained.source)!r} are not those of the training (the digest differs)")
    files = tuple(entry.file for entry in entries)
    return SubcenterCosines(files, tuple(trained.identities), labels, true, torch.cat(parts))


def purify_training(
    state: Path,
    data: Path,
    *,
    threshold: float | None = None,
    keep: Collection[str] | None = None,
    device: torch.device | str = "cpu",
    progress: Progress = silent,
) -> tuple[SubcenterCosines, Purified]:
    """Find wrong labels by a training with sub-centers, and say which of its images to keep.

    Args:
        state: ``OUT.state`` of the training.
        data: the images it was trained on.
        threshold: degrees from the dominant sub-center beyond which an image is dropped; None derives it from the
            angles themselves.
        keep: the clean list of the training, if it had one.
        device: for the network.
        progress: called with (images done, images in all, text).

    Returns:
        Cosine, label and file of every image; and angle and decision of each, in the same order.

    Raises:
        CheckpointError: the state is of no training with sub-centers.
        InputError: the images are not those of the training.
    """
    stored = load_subcenters(state)
    images = training_images(stored, list_images(data), keep)
    measured = subcenter_cosines(stored, images, device=device, progress=progress)
    return measured, purify(measured.cosines, measured.labels, len(measured.identities), threshold=threshold)


def _of_state(path: Path) -> Checkpoint:
    """A training state in the form of a checkpoint."""
    state = load_state(path)
    settings = state["config"]
    try:
        size = settings["embedding_size"]
        header = {
            "backbone": settings["backbone"],
            "backbone_settings": {"width": settings["width"], "embedding_size": size},
            "embedding_size": size,
            "preprocessing": PREPROCESSING,
            "training": settings,
            "data": {"digest": state["data"]},
        }
        tensors = {f"network.{name}": value for name, value in state["network"].items()}
        tensors["head.centers"] = state["head"]["centers"]
    except (KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{str(path)!r} is not a training state: {error!r}") from None
    return Checkpoint(header, tensors, file_digest(path))
