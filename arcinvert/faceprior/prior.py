"""The face prior: what aligned faces look like, independent of any recognizer.

A face is the mean face plus a weighted sum of components (eigenfaces of synthetic faces); its
*coefficients* are whitened, so that over the faces behind the basis each has mean 0 and standard
deviation 1. The file also holds the coefficients of those faces, 8 bits each, on which recognizers
are calibrated. ``scripts/make_face_prior.py`` makes the file. :mod:`arcinvert.faceprior.detail` adds
what a face of the basis lacks, from a file of its own.

Turk and Pentland 1991, "Eigenfaces for recognition".
"""

import functools
import importlib.resources
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from arcinvert.checkpoint import load_checkpoint
from arcinvert.device import OnDevice
from arcinvert.errors import CheckpointError, UsageError
from arcinvert.faceprior.detail import FaceDetail, load_face_detail

SIZE = 112


@dataclass(frozen=True, eq=False)
class FacePrior(OnDevice):
    """Mean face, basis, starting faces, and the coefficients of synthetic faces.

    Attributes:
        mean: (3, 112, 112), in [0, 1].
        components: (K, 3, h, w), each scaled by its standard deviation; decoded at h x w and
            enlarged to 112x112.
        codes: (N, K) int8; times :attr:`code_scale` they are whitened coefficients.
        code_scale: (K,) the size of one unit of each column of ``codes``.
        labels: (N,) int64, the identity of each of those faces.
        starts: name -> (K,) coefficients of a starting face (``frontal``, ``left``, ``smile``, ...).
        digest: of the file.
        detail: what the basis lacks; None leaves faces soft.
    """

    mean: Tensor
    components: Tensor
    codes: Tensor
    code_scale: Tensor
    labels: Tensor
    starts: dict[str, Tensor]
    digest: str
    detail: FaceDetail | None = None

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def size(self) -> int:
        """K, the number of coefficients."""
        return len(self.components)

    def coefficients(self, rows: slice | range = slice(None)) -> Tensor:
        """Whitened coefficients (M, K) of the synthetic faces ``rows``."""
        chosen = slice(rows.start, rows.stop, rows.step) if isinstance(rows, range) else rows
        return self.codes[chosen].to(self.code_scale.device, self.code_scale.dtype) * self.code_scale

    def decode(self, coefficients: Tensor) -> Tensor:
        """(B, K) whitened coefficients -> (B, 3, 112, 112), soft, not clamped to [0, 1]."""
        return self.mean + interpolate(self._deviation(coefficients), size=(SIZE, SIZE), mode="bilinear")

    def render(self, coefficients: Tensor) -> Tensor:
        """:meth:`decode`, with the detail that belongs to such a face."""
        soft = self.decode(coefficients)
        if self.detail is None:
            return soft
        half = interpolate(self.mean[None], size=self.components.shape[-2:], mode="area")
        detail: Tensor = self.detail.network(half + self._deviation(coefficients))
        return soft + detail

    def _deviation(self, coefficients: Tensor) -> Tensor:
        return (coefficients @ self.components.flatten(1)).view(-1, *self.components.shape[1:])

    @property
    def attribute_weight(self) -> Tensor:
        """(3, K), from coefficients to yaw, pitch and smile.

        Raises:
            UsageError: this prior has none.
        """
        return self._known_detail.attribute_weight

    @property
    def _known_detail(self) -> FaceDetail:
        if self.detail is None:
            raise UsageError("expected a face prior with pose and expression, got one without")
        return self.detail

    def attributes(self, coefficients: Tensor) -> Tensor:
        """(B, K) whitened coefficients -> (B, 3) expected yaw, pitch and smile; see :class:`FaceDetail`.

        Raises:
            UsageError: this prior has none.
        """
        return coefficients @ self._known_detail.attribute_weight.T + self._known_detail.attribute_bias

    @functools.cached_property
    def _attribute_regression(self) -> tuple[Tensor, Tensor]:
        """Range (2, 3) of the attributes, and (12, K) from their :func:`_polynomial` to coefficients."""
        codes = self.coefficients()
        attributes = self.attributes(codes)
        rare = round(0.005 * len(self))
        ends = attributes.sort(0).values[[rare, -1 - rare]]
        terms = _polynomial(attributes, ends)
        ridge = 1e-3 * len(self) * torch.eye(terms.shape[1], device=terms.device)
        weight: Tensor = torch.linalg.solve(terms.T @ terms + ridge, terms.T @ codes)
        return ends, weight

    def moved(self, coefficients: Tensor, attributes: Tensor) -> Tensor:
        """(B, K) of the faces with other attributes (B, 3): changed as the mean face changes from theirs to those.

        A face that turns leaves any straight line in the basis, so the mean is a polynomial, fitted to the faces
        behind the prior. Attributes are clamped to the range of all but one in a hundred of them.

        Raises:
            UsageError: this prior has no attributes.
        """
        ends, weight = self._attribute_regression
        change = _polynomial(attributes, ends) - _polynomial(self.attributes(coefficients), ends)
        return coefficients + change @ weight

    def encode(self, images: Tensor) -> Tensor:
        """(B, 3, 112, 112) in [0, 1] -> (B, K) whitened coefficients: the projection on the basis."""
        height, width = self.components.shape[-2:]
        detail = interpolate(images - self.mean, size=(height, width), mode="area").flatten(1)
        flat = self.components.flatten(1)
        return detail @ flat.T / flat.square().sum(1)


def _polynomial(attributes: Tensor, ends: Tensor) -> Tensor:
    """Yaw, pitch and smile (B, 3) -> (B, 12): their powers and products, each -1 to 1 between ``ends`` (2, 3)."""
    middle, half = ends.mean(0), (ends[1] - ends[0]) / 2
    yaw, pitch, smile = ((attributes - middle) / half).clamp(-1, 1).unbind(1)
    parts = [torch.ones_like(yaw), yaw, yaw**2, yaw**3, yaw**4, pitch, pitch**2, pitch**3, smile, smile**2]
    return torch.stack([*parts, yaw * pitch, yaw * smile], 1)


def load_face_prior(path: Path) -> FacePrior:
    """Read a face prior.

    Raises:
        CheckpointError: not a face prior, or damaged.
    """
    stored = load_checkpoint(path)
    if stored.header.get("kind") != "face prior":
        raise CheckpointError(f"{str(path)!r} is not a face prior")
    try:
        tensors = stored.tensors
        components, scale = tensors["components"].float(), tensors["component_scale"].float()
        if components.ndim != 4 or components.shape[1] != 3 or scale.shape != components.shape[:1]:
            raise CheckpointError(f"the basis of the face prior {str(path)!r} is not one of images")
        components = components * scale.view(-1, 1, 1, 1)
        prior = FacePrior(
            tensors["mean"].float() / 255.0,
            components,
            tensors["codes"],
            tensors["code_scale"].float(),
            tensors["labels"].long(),
            {key: value.float() for key, value in stored.section("start").items()},
            stored.digest,
        )
    except KeyError as error:
        raise CheckpointError(f"the face prior {str(path)!r} lacks {error}") from None
    vectors = [prior.codes[0] if prior.codes.ndim == 2 and len(prior.codes) else prior.codes]
    vectors += [prior.code_scale, *prior.starts.values()]
    fit = all(vector.shape == (prior.size,) for vector in vectors) and "frontal" in prior.starts
    fit = fit and prior.labels.shape == prior.codes.shape[:1]
    if not fit or prior.mean.shape != (3, SIZE, SIZE):
        raise CheckpointError(f"the parts of the face prior {str(path)!r} do not fit each other")
    return prior


@functools.cache
def default_face_prior() -> FacePrior:
    """The face prior that ships with the package, with its detail."""
    with importlib.resources.as_file(importlib.resources.files("arcinvert") / "data") as folder:
        prior = load_face_prior(folder / "face_prior.safetensors")
        return replace(prior, detail=load_face_detail(folder / "face_detail.safetensors", prior_digest=prior.digest))
