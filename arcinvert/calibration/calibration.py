"""Calibration: what a recognizer's embeddings predict of a face, and the statistics of its layers.

It is the knowledge that an inversion starts from. :mod:`arcinvert.calibration.fit` fits it on synthetic faces,
:mod:`arcinvert.calibration.cache` finds and keeps it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from arcinvert.calibration.auxiliary import BLOCKS, SIZE, default_auxiliary
from arcinvert.calibration.maps import PredictedMaps
from arcinvert.calibration.regression import Regression
from arcinvert.calibration.statistics import LayerStatistics
from arcinvert.checkpoint import section
from arcinvert.device import OnDevice
from arcinvert.errors import CheckpointError
from arcinvert.recognizer import Recognizer

NOISE = 0.1
"""Standard deviation of the factors on the weights; see :attr:`Calibration.noise_cosine`."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Calibration(OnDevice):
    """What is fitted to one recognizer, on one device.

    Attributes:
        latents: embedding -> (K,) latent of the face. With its residual it is the conditional prior
            p(face | embedding).
        auxiliary: embedding -> (128,) embedding of the face by the auxiliary recognizer, unit norm.
        maps: of a few layers of the recognizer.
        auxiliary_maps: of a few blocks of the auxiliary recognizer.
        statistics: of the layers of the recognizer.
        prior_digest: of the face prior whose latents these are.
        faces: how many it was fitted on.
        noise_cosine: between the recognizer's embeddings and those with noise of :data:`NOISE` on its weights, mean of
            some faces; 1 where it was not measured.
    """

    latents: Regression
    auxiliary: Regression
    maps: PredictedMaps
    auxiliary_maps: PredictedMaps
    statistics: LayerStatistics
    prior_digest: str
    faces: int
    noise_cosine: float = 1.0

    @property
    def header(self) -> dict[str, Any]:
        """What a file keeps in its header, beside the tensors."""
        return {
            "faces": self.faces,
            "prior": self.prior_digest,
            "auxiliary": default_auxiliary().digest,
            "noise_cosine": self.noise_cosine,
        }

    def to_tensors(self) -> dict[str, Tensor]:
        """As stored, named ``SECTION.PART``."""
        return {
            **self.latents.to_tensors("latents"),
            **self.auxiliary.to_tensors("auxiliary"),
            **{f"auxiliary.{key}": value for key, value in self.auxiliary_maps.to_tensors().items()},
            **self.maps.to_tensors(),
            **self.statistics.to_tensors(),
        }

    @classmethod
    def from_tensors(
        cls, tensors: Mapping[str, Tensor], header: Mapping[str, Any], recognizer: Recognizer
    ) -> "Calibration":
        """See :meth:`to_tensors` and :attr:`header`; it goes to the device of the recognizer that it belongs to.

        Raises:
            CheckpointError: it is incomplete, damaged, or of another network.
        """
        try:
            found = cls(
                latents=Regression.from_tensors(tensors, "latents"),
                auxiliary=Regression.from_tensors(tensors, "auxiliary", unit_norm=True),
                maps=PredictedMaps.from_tensors(tensors),
                auxiliary_maps=PredictedMaps.from_tensors(section(tensors, "auxiliary")),
                statistics=LayerStatistics.from_tensors(tensors),
                prior_digest=header["prior"],
                faces=int(header["faces"]),
                noise_cosine=float(header.get("noise_cosine", 1.0)),
            )
        except KeyError as error:
            raise CheckpointError(f"the calibration of the checkpoint lacks {error}; calibrate it again") from None
        except (TypeError, ValueError) as error:
            raise CheckpointError(
                f"the calibration of the checkpoint does not fit: {error}; calibrate it again"
            ) from None
        if bool(found.latents.residual.isnan().any()):
            raise CheckpointError("the calibration of the checkpoint lacks 'latents.residual'; calibrate it again")
        width = recognizer.embedding_size
        sizes = (found.latents.embedding_size, found.auxiliary.embedding_size)
        fits = {width} == {*sizes, len(found.maps.factor), len(found.auxiliary_maps.factor)}
        fits = fits and len(found.auxiliary.bias) == SIZE
        if not fits or not set(found.auxiliary_maps.maps) <= set(BLOCKS):
            raise CheckpointError("the parts of the checkpoint's calibration do not fit each other")
        statistics = found.statistics
        foreign = {*statistics.channel_mean, *statistics.location_mean, *found.maps.maps} - set(recognizer.layers)
        if foreign or statistics.location_mean.keys() != statistics.location_var.keys():
            named = ", ".join(sorted(foreign)[:5]) or "other layers for means than for variances"
            raise CheckpointError(f"the checkpoint's calibration is of another network: it names {named}")
        return found.to(recognizer.device)
