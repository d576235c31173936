"""The data set of a training: aligned faces of identities, held in memory as bytes.

Identities are labeled 0.. in sorted order. ``.rec`` files and tar shards are read as if they were unpacked into a
folder of identities (:mod:`arcinvert.training.data.containers`).
"""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from arcinvert.errors import InputError, UnreadableImage
from arcinvert.faces.alignment import SIZE
from arcinvert.faces.listing import Skipped
from arcinvert.training.data.containers import list_images
from arcinvert.training.data.folders import folder_images
from arcinvert.training.data.folders import identity_folders as identity_folders
from arcinvert.training.data.image_files import ImageFiles, decode, digest_entry


@dataclass(frozen=True)
class FaceDataset:
    """Aligned faces and their identities.

    Attributes:
        files: (N,) paths ``identity/image``, relative to the source.
        images: (N, 112, 112, 3) uint8 RGB.
        labels: (N,) int64, positions in ``identities``.
        identities: the names, sorted.
        digest: SHA-256 over the names and bytes of the files, in order.
        skipped: files of the source that are left out, because they are no images or cannot be read.
    """

    files: tuple[str, ...]
    images: Tensor
    labels: Tensor
    identities: tuple[str, ...]
    digest: str
    skipped: tuple[Skipped, ...] = ()

    def __len__(self) -> int:
        return len(self.files)

    @classmethod
    def of(cls, listed: ImageFiles, images: Tensor, digest: str) -> "FaceDataset":
        """The data set of listed files, given their images and their digest."""
        files = tuple(entry.file for entry in listed.entries)
        return cls(files, images, torch.tensor(listed.labels()), tuple(listed.identities), digest, listed.skipped)


def split_identities(names: list[str], held_out: int) -> tuple[list[str], list[str]]:
    """Training identities, and the last ``held_out`` ones, which training never sees.

    Raises:
        InputError: fewer than two identities would be left on either side.
    """
    if held_out < 0 or len(names) - held_out < 2 or held_out == 1:
        raise InputError(
            f"expected to hold out 0, or at least 2 and leave 2, got {held_out} of {len(names)} identities"
        )
    cut = len(names) - held_out
    return names[:cut], names[cut:]


def open_faces(
    source: Path | Sequence[Path] | ImageFiles,
    identities: Sequence[str] | None = None,
    *,
    keep: Collection[str] | None = None,
) -> FaceDataset:
    """Read the faces of a source of any kind; files that cannot be read are left out, see :attr:`FaceDataset.skipped`.

    Args:
        source: as of :func:`~arcinvert.training.data.containers.list_images`, or its result.
        identities: only these; default: all.
        keep: only these of their images, ``identity/image`` (a clean list). An identity without any is left out.

    Raises:
        InputError: see there; or no image that can be read, or one that is not 112x112
            with 8 bits a channel, or that is in ``keep`` and not in the source.
    """
    listed = source if isinstance(source, ImageFiles) else list_images(source)
    return _read(listed.of(listed.identities if identities is None else identities, keep))


def load_faces(folder: Path, identities: list[str], keep: Collection[str] | None = None) -> FaceDataset:
    """Read the images of these identity folders; see :func:`open_faces`."""
    return _read(folder_images(folder, identities).of(identities, keep))


def _read(listed: ImageFiles) -> FaceDataset:
    digest = hashlib.sha256()
    images = np.empty((len(listed), SIZE, SIZE, 3), np.uint8)
    damaged: dict[str, str] = {}
    row = 0
    for entry in listed.entries:
        try:
            content = listed.content(entry)
            images[row] = decode(content, listed.path(entry))
        except UnreadableImage as error:
            damaged[entry.file] = str(error)
            continue
        digest.update(digest_entry(entry.file, content))
        row += 1
    return FaceDataset.of(listed.without(damaged), torch.from_numpy(images[:row]), digest.hexdigest())


def to_float(images: Tensor) -> Tensor:
    """(B, H, W, 3) uint8 -> (B, 3, H, W) float32 in [0, 1]."""
    return images.permute(0, 3, 1, 2).float().div_(255.0)
