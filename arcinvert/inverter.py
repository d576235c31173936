"""The inverter: a recognizer, the face prior and the calibration, which turn embeddings into faces."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from arcinvert.calibration.cache import load_calibration
from arcinvert.calibration.calibration import Calibration
from arcinvert.device import choose_device
from arcinvert.embeddings import check_embeddings
from arcinvert.errors import InputError, UsageError
from arcinvert.faceprior.prior import FacePrior, default_face_prior
from arcinvert.inversion.reconstruct import Objective, Reconstruction, Settings, reconstruct_batches
from arcinvert.progress import Progress, silent
from arcinvert.recognizer import Recognizer

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, eq=False)
class Face:
    """The reconstructions of one target: the first image and its variations.

    Attributes:
        reconstructions: V of them, with pixels, cosine and history of each.
    """

    reconstructions: tuple[Reconstruction, ...]

    @property
    def images(self) -> list[Image.Image]:
        """V PIL images, 112x112 RGB."""
        return [found.image for found in self.reconstructions]

    @property
    def pixels(self) -> Tensor:
        """(V, 112, 112, 3) uint8 RGB."""
        return torch.stack([found.pixels for found in self.reconstructions])

    @property
    def cosine(self) -> float:
        """Cosine of the first image to the target, by the attacked network."""
        return self.reconstructions[0].cosine

    @property
    def history(self) -> dict[str, list[float | None]]:
        """Every term and the cosine along the steps of the first image."""
        return self.reconstructions[0].history

    @property
    def cosines(self) -> tuple[float, ...]:
        """Cosine of every image to the target."""
        return tuple(found.cosine for found in self.reconstructions)


@dataclass(frozen=True, eq=False)
class Inverter:
    """Turns the embeddings of one recognizer into faces.

    Attributes:
        recognizer: the network that is attacked.
        prior: the face prior, on the recognizer's device.
        calibration: fitted to the recognizer with this face prior.

    Raises:
        UsageError: the calibration belongs to another face prior.
    """

    recognizer: Recognizer
    prior: FacePrior = field(repr=False)
    calibration: Calibration = field(repr=False)

    def __post_init__(self) -> None:
        if self.calibration.prior_digest != self.prior.digest:
            raise UsageError("the checkpoint was calibrated with another face prior; run `arcinvert calibrate` again")

    @classmethod
    def load(
        cls, path: Path | str | None = None, *, device: torch.device | str = "auto", progress: Progress = silent
    ) -> "Inverter":
        """Open a recognizer and its calibration. A missing calibration is fitted in minutes and kept.

        Args:
            path: of a checkpoint of any known format, or the name of a known recognizer; None is the default one.
            device: ``auto`` takes a GPU where there is one.
            progress: of the calibration; called with (faces done, faces in all, text).

        Raises:
            CheckpointError: see :meth:`~arcinvert.recognizer.Recognizer.load`.
            UsageError: this machine has no such device.
        """
        return cls.of(Recognizer.load(path, device=choose_device(device)), progress=progress)

    @classmethod
    def of(cls, recognizer: Recognizer, *, progress: Progress = silent) -> "Inverter":
        """The inverter of a loaded recognizer; see :meth:`load`."""
        prior = default_face_prior().to(recognizer.device)
        return cls(recognizer, prior, load_calibration(recognizer, prior, progress=progress))

    def reconstruct(
        self,
        embeddings: "Tensor | ArrayLike",
        *,
        objective: Objective | None = None,
        progress: Progress = silent,
        **settings: Any,
    ) -> list[Face]:
        """Turn embeddings back into faces.

        Args:
            embeddings: (D,) or (N, D), of any length; they are normalized.
            objective: see :func:`~arcinvert.inversion.reconstruct.reconstruct_batches`.
            progress: called with (steps done, steps in all, text).
            settings: those of :class:`~arcinvert.inversion.reconstruct.Settings`: ``variations``, ``preset``,
                ``steps``, ``seed``, ``pose``, ``expression``, ``min_cosine``, ...

        Returns:
            A face for each embedding, in order.

        Raises:
            InputError: embeddings of another shape or dimension, not finite, or of length 0.
            UsageError: a setting out of its range.
            MemoryError: there is too little for a single image.
        """
        config = Settings(**settings)
        targets = torch.from_numpy(check_embeddings(_array(embeddings), self.recognizer.embedding_size).rows)
        parts = reconstruct_batches(self, targets, config, objective=objective, progress=progress)
        found = [one for part in parts for one in part]
        step = config.variations
        return [Face(tuple(found[i : i + step])) for i in range(0, len(found), step)]


def _array(embeddings: "Tensor | ArrayLike") -> "NDArray[Any]":
    if isinstance(embeddings, Tensor):
        there = embeddings.detach().cpu()
        return (there.double() if there.is_floating_point() else there).numpy()  # numpy has no bfloat16
    try:
        return np.asarray(embeddings)
    except ValueError:
        raise InputError("expected embeddings (D,) or (N, D), got rows of different lengths") from None
