"""A training with sub-centers, opened again: what its network and centers say of the training pictures."""

import hashlib
import json
import zipfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
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
from arcinvert.training.data.faces import split_identities
from arcinvert.training.data.image_files import Pictures, decode


@dataclass(frozen=True, eq=False)
class Seen:
    """The training pictures, as a network with sub-centers sees them.

    Attributes:
        files: (N,) paths ``identity/picture``.
        identities: (C,) names of the classes.
        labels: (N,) int64, as trained on.
        true: (N,) int64; differs from ``labels`` where the training itself has put in wrong ones.
        cosines: (N, K), to the sub-centers of the own class.
    """

    files: tuple[str, ...]
    identities: tuple[str, ...]
    labels: Tensor
    true: Tensor
    cosines: Tensor


def open_training(path: Path) -> Checkpoint:
    """The network and the sub-centers that a training left: ``head.centers`` is (C, K, D).

    Args:
        path: the resumable state beside the checkpoint, or a checkpoint that holds all sub-centers.

    Raises:
        CheckpointError: neither of them, damaged, or with one center per class only.
    """
    stored = _of_state(path) if zipfile.is_zipfile(path) else open_checkpoint(path)
    centers, size = stored.tensors.get("head.centers"), stored.header.get("embedding_size")
    if not isinstance(centers, Tensor) or centers.ndim != 3 or centers.shape[2] != size:
        found = str(tuple(centers.shape)) if isinstance(centers, Tensor) else "none"
        raise CheckpointError(
            f"expected sub-centers (classes, K, {size}) in {str(path)!r}, found {found}; "
            "give the .state of a training with subcenters = 3"
        )
    if not bool(centers.isfinite().all()):
        raise CheckpointError(f"the sub-centers in {str(path)!r} are not finite")
    return stored


def keep_dominant(stored: Checkpoint, dominant: Tensor) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Header and tensors of a checkpoint without the other sub-centers.

    Args:
        stored: what :func:`open_training` returned.
        dominant: (C,) int64, the sub-center of each class that stays.

    Returns:
        As :func:`arcinvert.checkpoint.save_checkpoint` takes them; ``head.centers`` is (C, D), unit norm.
    """
    centers = normalize(stored.tensors["head.centers"].float(), dim=-1)
    own = centers[torch.arange(len(centers)), dominant]
    network = {
        name: value.half() if value.is_floating_point() else value
        for name, value in stored.tensors.items()
        if name.startswith("network.")
    }
    return dict(stored.header), {**stored.tensors, **network, "head.centers": own.half()}


def training_pictures(stored: Checkpoint, pictures: Pictures, keep: Collection[str] | None = None) -> Pictures:
    """Those that a training saw: without the identities it held out, and by its clean list.

    Args:
        stored: what :func:`open_training` returned.
        pictures: the whole source.
        keep: the clean list of that training, if it had one.

    Raises:
        InputError: not as many identities as were trained on, or a clean list that does not fit.
        CheckpointError: a header that does not say how it was trained.
    """
    settings, data = (stored.header.get(name) for name in ("training", "data"))
    held_out = settings.get("held_out") if isinstance(settings, dict) else None
    if type(held_out) is not int or not isinstance(data, dict):
        raise CheckpointError("the checkpoint does not say how it was trained; give the .state of the training")
    trained = pictures.of(split_identities(pictures.identities, held_out)[0], keep)
    classes, found = len(stored.tensors["head.centers"]), len(trained.identities)
    if found != classes:
        raise InputError(
            f"expected the {classes} identities of the training in {str(pictures.source)!r}, found {found}"
        )
    return trained


def look_at(
    stored: Checkpoint,
    trained: Pictures,
    *,
    device: torch.device | str = "cpu",
    batch_size: int = 64,
    progress: Progress = silent,
) -> Seen:
    """Show the network every picture it was trained on, one batch in memory at a time.

    Args:
        stored: what :func:`open_training` returned.
        trained: what :func:`training_pictures` returned.
        device: where the network runs.
        batch_size: pictures a step.
        progress: told (done, all, text).

    Raises:
        InputError: not the pictures of that training, or one that cannot be read.
        CheckpointError: weights that do not fit the network.
    """
    source, settings = str(trained.source), stored.header["training"]
    names, entries = trained.identities, trained.entries
    centers = normalize(stored.tensors["head.centers"].float(), dim=-1)
    number = {name: label for label, name in enumerate(names)}
    true = torch.tensor([number[entry.identity] for entry in entries])
    noise = float(settings.get("label_noise", 0.0))
    labels = permute_labels(true, noise, seed=int(settings["seed"]))[0] if noise else true
    recognizer = Recognizer.from_checkpoint(stored, "the training").to(device)
    digest, parts = hashlib.sha256(), []
    for start in range(0, len(entries), batch_size):
        images = []
        for entry in entries[start : start + batch_size]:
            where = str(trained.source / entry.file)
            try:
                content = trained.read(entry)
            except OSError as error:
                raise InputError(f"cannot read the picture {where!r}: {error}") from None
            digest.update(entry.file.encode(errors="surrogatepass") + b"\0" + hashlib.sha256(content).digest())
            images.append(torch.from_numpy(decode(content, where).copy()))
        shown = recognizer.embed(torch.stack(images).permute(0, 3, 1, 2), batch_size=batch_size).cpu()
        parts.append(torch.einsum("nd,nkd->nk", shown, centers[labels[start : start + len(shown)]]))
        progress(start + len(shown), len(entries), "embedded")
    if digest.hexdigest() != stored.header["data"].get("digest"):
        raise InputError(f"the pictures in {source!r} are not those of the training (another digest)")
    return Seen(tuple(entry.file for entry in entries), tuple(names), labels, true, torch.cat(parts))


def _of_state(path: Path) -> Checkpoint:
    """A resumable state as if it were a checkpoint; nothing in it is run."""
    try:
        with zipfile.ZipFile(path) as archive:  # torch writes check sums, but does not read them
            if torn := archive.testzip():
                raise CheckpointError(f"{str(path)!r} is damaged: {torn}")
        state = torch.load(path, weights_only=True, map_location="cpu", mmap=True)
    except UnpicklingError:  # torch's own words advise to load it all the same
        raise CheckpointError(f"{str(path)!r} is damaged, or holds more than tensors and is not opened") from None
    except (RuntimeError, zipfile.BadZipFile, EOFError, ValueError, LookupError, TypeError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise CheckpointError(f"cannot read the training state {str(path)!r}: {reason}") from None
    try:
        settings = json.loads(state["config"])
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
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise CheckpointError(f"{str(path)!r} is not a training state: {error!r}") from None
    return Checkpoint(header, tensors, file_digest(path))
