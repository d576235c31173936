"""The inverter: a recognizer, the face prior and the calibration, which turn embeddings into faces."""

from dataclasses import dataclass
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
from arcinvert.errors import UsageError
from arcinvert.faceprior.prior import FacePrior, default_face_prior
from arcinvert.inversion.reconstruct import Objective, Reconstruction, Settings, reconstruct_batches
from arcinvert.progress import Progress, silent
from arcinvert.recognizer import Recognizer

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


@dataclass(frozen=True, eq=False)
class Face:
    """What became of one target: its reconstructions, the first one and its variations.

    Attributes:
        reconstructions: V of them, with pixels, cosine and history of each.
    """

    reconstructions: tuple[Reconstruction, ...]

    @property
    def images(self) -> list[Image.Image]:
        """V images as PIL has them, 112x112 RGB."""
        return [found.image for found in self.reconstructions]

    @property
    def pixels(self) -> Tensor:
        """(V, 112, 112, 3) uint8 RGB."""
        return torch.stack([found.pixels for found in self.reconstructions])

    @property
    def cosine(self) -> float:
        """Of the first image to the target, by the attacked network."""
        return self.reconstructions[0].cosine

    @property
    def cosines(self) -> tuple[float, ...]:
        """Of every image."""
        return tuple(found.cosine for found in self.reconstructions)


@dataclass(frozen=True, eq=False)
class Inverter:
    """Turns the embeddings of one recognizer into faces.

    Attributes:
        recognizer: the network that is attacked.
        prior: where a face may go; on the recognizer's device.
        calibration: what the recognizer's embeddings say of faces.

    Raises:
        UsageError: the calibration belongs to another face prior.
    """

    recognizer: Recognizer
    prior: FacePrior
    calibration: Calibration

    def __post_init__(self) -> None:
        if self.calibration.prior_digest != self.prior.digest:
            raise UsageError("the checkpoint was calibrated with another face prior; run `arcinvert calibrate` again")

    @classmethod
    def load(
        cls, path: Path | str | None = None, *, device: torch.device | str = "auto", progress: Progress = silent
    ) -> "Inverter":
        """Open a recognizer, and find its calibration or make it, which takes minutes and is kept for the next time.

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
        """The inverter of a recognizer that is loaded already; see :meth:`load`."""
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
            InputError: embeddings of another dimension, not finite, or of length 0.
            UsageError: a setting out of its range.
            MemoryError: there is too little for a single image.
        """
        config = Settings(**settings)
        given = embeddings.cpu().numpy() if isinstance(embeddings, Tensor) else np.asarray(embeddings)
        targets = torch.from_numpy(check_embeddings(given, self.recognizer.embedding_size).rows)
        parts = reconstruct_batches(self, targets, config, objective=objective, progress=progress)
        found = [one for part in parts for one in part]
        step = config.variations
        return [Face(tuple(found[i : i + step])) for i in range(0, len(found), step)]
