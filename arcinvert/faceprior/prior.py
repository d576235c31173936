"""What belongs to no recognizer: where the pixels of an aligned face may go.

A face is the mean face plus a weighted sum of components (eigenfaces of synthetic faces); its
*coefficients* are whitened, so that over the faces behind the basis each has mean 0 and standard
deviation 1. The file also carries the coefficients of those faces themselves, 8 bits each, which
is what calibration shows a recognizer. ``scripts/make_face_prior.py`` makes the file. What a face
of the basis lacks is drawn by :mod:`arcinvert.faceprior.detail`, a file of its own.

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
from arcinvert.errors import CheckpointError, UsageError
from arcinvert.faceprior.detail import FaceDetail, load_face_detail

SIZE = 112


@dataclass(frozen=True, eq=False)
class FacePrior:
    """Mean face, basis, starting faces, and the coefficients of synthetic faces.

    Attributes:
        mean: (3, 112, 112), in [0, 1].
        components: (K, 3, h, w), each scaled by its standard deviation; decoded at h x w and
            enlarged to 112x112.
        codes: (N, K) int8; times :attr:`code_scale` they are whitened coefficients.
        code_scale: (K,) the size of one unit of each column of ``codes``.
        labels: (N,) int64, whom each of those faces shows.
        starts: name -> (K,) coefficients of a starting face (``frontal``, ``left``, ``smile``, ...).
        digest: of the file.
        detail: what the basis cannot draw; None leaves faces soft.
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
        """(3, K) by which coefficients decide yaw, pitch and smile.

        Raises:
            UsageError: this prior does not know them.
        """
        if self.detail is None:
            raise UsageError("this face prior does not know pose and expression")
        return self.detail.attribute_weight

    def attributes(self, coefficients: Tensor) -> Tensor:
        """(B, K) whitened coefficients -> (B, 3) expected yaw, pitch and smile; see :class:`FaceDetail`.

        Raises:
            UsageError: this prior does not know them.
        """
        if self.detail is None:
            raise UsageError("this face prior does not know pose and expression")
        return coefficients @ self.detail.attribute_weight.T + self.detail.attribute_bias

    @functools.cached_property
    def _course(self) -> tuple[Tensor, Tensor]:
        """How the mean face goes with its attributes: their range (2, 3), and (12, K) of what :func:`_bent` gives."""
        codes = self.coefficients()
        attributes = self.attributes(codes)
        rare = round(0.005 * len(self))
        ends = attributes.sort(0).values[[rare, -1 - rare]]
        bent = _bent(attributes, ends)
        ridge = 1e-3 * len(self) * torch.eye(bent.shape[1], device=bent.device)
        course: Tensor = torch.linalg.solve(bent.T @ bent + ridge, bent.T @ codes)
        return ends, course

    def moved(self, coefficients: Tensor, attributes: Tensor) -> Tensor:
        """(B, K) of faces that take on other attributes (B, 3): changed as the mean face changes from theirs to those.

        A face that turns leaves any straight line in the basis, so the mean is a polynomial, fitted to the faces
        behind the prior. Beyond the attributes of all but one in a hundred of them it goes no further.

        Raises:
            UsageError: this prior does not know attributes.
        """
        ends, course = self._course
        return coefficients + (_bent(attributes, ends) - _bent(self.attributes(coefficients), ends)) @ course

    def encode(self, images: Tensor) -> Tensor:
        """(B, 3, 112, 112) in [0, 1] -> (B, K) whitened coefficients: the projection on the basis."""
        height, width = self.components.shape[-2:]
        detail = interpolate(images - self.mean, size=(height, width), mode="area").flatten(1)
        flat = self.components.flatten(1)
        return detail @ flat.T / flat.square().sum(1)

    def to(self, device: torch.device | str) -> "FacePrior":
        """The same on another device."""
        return FacePrior(
            self.mean.to(device),
            self.components.to(device),
            self.codes.to(device),
            self.code_scale.to(device),
            self.labels.to(device),
            {name: start.to(device) for name, start in self.starts.items()},
            self.digest,
            None if self.detail is None else self.detail.to(device),
        )


def _bent(attributes: Tensor, ends: Tensor) -> Tensor:
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
