"""Fitting a calibration: a recognizer is shown the synthetic faces of the face prior."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from arcinvert.calibration.auxiliary import BLOCKS, default_auxiliary
from arcinvert.calibration.calibration import NOISE, Calibration
from arcinvert.calibration.maps import MapRegression, medium_layers
from arcinvert.calibration.regression import RIDGES, Regression, fit_regression
from arcinvert.calibration.statistics import Moments
from arcinvert.errors import InputError
from arcinvert.faceprior.prior import FacePrior
from arcinvert.faces.augmentation import Augmentation
from arcinvert.progress import Progress, silent
from arcinvert.recognizer import Recognizer

PORTIONS = 8
"""The faces are shown in so many portions."""

FEW = 2000
"""So many faces or fewer are one portion, and are all used."""

ENOUGH = 0.02
"""The fit ends when a portion lowers the held-out error by a smaller share than this."""

CENTERS = 3000
"""So many of the faces that are fitted are centers of radial basis functions, evenly spread over them."""

RADIAL_RIDGES = (0.03, 0.1, 0.3, 1.0, 3.0)
"""Ridges of a regression with radial basis functions to choose from: each costs a second or two."""

PAYS = 0.1
"""The regressions get radial basis functions if that lowers the held-out error by at least this share. Where an
embedding tells linearly what it knows they gain little, and judges accept fewer of its faces."""

NOISE_FACES = 16
"""About so many faces measure :attr:`~arcinvert.calibration.calibration.Calibration.noise_cosine`."""

LEAST_SHARE = 0.1
"""Fewer crops of the user's are repeated until they make this share of all faces: the mix on which the gain was
measured."""

CAMERA = Augmentation(
    flip=0.0,
    shift=0.01,
    scale=0.015,
    rotate=0.02,
    light=0.3,
    gray=0.15,
    cutout=0.0,
    shade=0.2,
    low_resolution=0.25,
    blurred=0.25,
    jpeg=0.4,
)
"""How every second synthetic face is shown: as a camera in daily use would, for embeddings of photographs."""


@torch.no_grad()
def calibrate(
    recognizer: Recognizer,
    prior: FacePrior,
    images: Tensor | None = None,
    *,
    ridges: Sequence[float] = RIDGES,
    location_layers: int = 12,
    statistics_faces: int = 200,
    enough: float = ENOUGH,
    batch_size: int = 16,
    progress: Progress = silent,
) -> Calibration:
    """Fit a calibration on synthetic faces, until more of them no longer improve the prediction of held-out ones.

    Args:
        recognizer: on the device to work on.
        prior: whose faces are shown, and whose latents the regression predicts.
        images: (N, 112, 112, 3) uint8 crops of the domain that is attacked, person by person. They add to the faces
            of the prior in all but the regression to latents, which nobody knows of them.
        ridges: weights of the regression's squared norm to choose from, in units of one face.
        location_layers: how many of the first layers get statistics per position.
        statistics_faces: how many faces, spread over all, go into the statistics.
        enough: see :data:`ENOUGH`; 0 uses all faces.
        batch_size: faces at a time.
        progress: called with (done, all, text).

    Raises:
        InputError: fewer than 10 faces or 10 crops.
    """
    count = len(prior)
    for given in (count, *([] if images is None else [len(images)])):
        if given < 10:
            raise InputError(f"expected at least 10 faces to calibrate on, got {given}")
    prior = prior.to(recognizer.device)
    fit = CalibrationFit(recognizer)
    few = count <= FEW or not enough
    error = float("inf")
    for portion in [range(count)] if few else [range(first, count, PORTIONS) for first in range(PORTIONS)]:
        cut = len(portion) - len(portion) // 5
        for rows, held_out in ((portion[:cut], False), (portion[cut:], True)):
            for faces, latents in face_batches(prior, rows, batch_size):
                fit.add(faces, latents, held_out=held_out)
                progress(fit.count, count, "calibrating")
        if few or fit.count >= count:
            break
        before, error = error, fit.error(ridges)
        if before - error < enough * before < float("inf"):
            break
    if images is not None:
        own = fit.count
        cut = len(images) - len(images) // 5
        times = max(1, round(LEAST_SHARE / (1 - LEAST_SHARE) * own / len(images)))
        for crops, held_out in ((images[:cut], False), (images[cut:], True)):
            for part in torch.split(crops, batch_size):
                fit.add(_as_float(part, recognizer.device), None, held_out=held_out, times=times)
                progress(fit.count - own, len(images), "calibrating on the crops")
    moments = Moments(recognizer.layers, recognizer.layers[:location_layers])
    pictures = prior.pictures(range(0, count, max(1, count // statistics_faces)))
    if images is not None:
        pictures = torch.cat([pictures, images[:: max(1, len(images) // statistics_faces)]])
    # All layers of a batch are held at once, so it is smaller.
    for part in torch.split(pictures, max(1, batch_size // 4)):
        shown = _as_float(part, recognizer.device)
        # A face and its mirror image are equally likely.
        moments.add(recognizer.trace(torch.cat([shown, shown.flip(-1)]), taps=recognizer.layers).activations)
    if fit.count < count:
        progress(fit.count, fit.count, "more faces do not improve the prediction")
    few_faces = _as_float(pictures[:: max(1, len(pictures) // NOISE_FACES)], recognizer.device)
    found = fit.calibration(ridges, moments, prior.digest)
    return replace(found, noise_cosine=noise_cosine(recognizer, few_faces)).to(recognizer.device)


@torch.no_grad()
def noise_cosine(recognizer: Recognizer, faces: Tensor, noise: float = NOISE, draws: int = 4) -> float:
    """Mean cosine between embeddings of faces (B, 3, 112, 112), and those by weights with noise, drawn a few times."""
    plain = recognizer.trace(faces).embedding
    noisy = [recognizer.trace(faces, weights=recognizer.noisy_weights(noise, seed)).embedding for seed in range(draws)]
    return float((torch.stack(noisy) * plain).sum(-1).mean())


@torch.no_grad()
def seconds_per_face(recognizer: Recognizer, prior: FacePrior, *, faces: int = 4) -> float:
    """What a face costs :func:`calibrate`, measured on a few."""
    fit = CalibrationFit(recognizer)
    for rows in (range(1), range(faces)):  # the first pass warms up
        started = time.perf_counter()
        for shown, latents in face_batches(prior, rows, faces):
            fit.add(shown, latents, held_out=False)
    return (time.perf_counter() - started) / faces


class CalibrationFit:
    """What is collected from the faces; held-out ones choose ridges and measure residuals."""

    def __init__(self, recognizer: Recognizer) -> None:
        self.recognizer = recognizer
        self.auxiliary = default_auxiliary(recognizer.device)
        self.maps, self.auxiliary_maps = MapRegression(medium_layers(recognizer)), MapRegression(BLOCKS)
        self.embeddings: Split = ([], [])
        self.auxiliary_embeddings: Split = ([], [])
        self.known: Split = ([], [])
        self.latents: Split = ([], [])
        self.count = 0

    def add(self, faces: Tensor, latents: Tensor | None, *, held_out: bool, times: int = 1) -> None:
        """One batch: (B, 3, 112, 112) in [0, 1], and latents (B, K) where they are known; it counts ``times``."""
        trace = self.recognizer.trace(faces, taps=self.maps.layers)
        auxiliary = self.auxiliary.trace(faces, taps=BLOCKS)
        for _ in range(times):
            for regression, of in ((self.maps, trace), (self.auxiliary_maps, auxiliary)):
                regression.add(trace.embedding, of.activations, held_out=held_out)
            self.embeddings[held_out].append(trace.embedding.cpu())
            self.auxiliary_embeddings[held_out].append(auxiliary.embedding.cpu())
        if latents is not None:
            self.known[held_out].append(trace.embedding.cpu())
            self.latents[held_out].append(latents.cpu())
        self.count += len(faces)

    def auxiliary_regression(self, ridges: Sequence[float], centers: Tensor | None = None) -> Regression:
        """To the auxiliary embedding."""
        return _regression(self.embeddings, self.auxiliary_embeddings, ridges, centers, unit_norm=True)

    def error(self, ridges: Sequence[float]) -> float:
        """Share of the variance of auxiliary embeddings that is left on held-out faces, by a linear regression."""
        variance = torch.cat(self.auxiliary_embeddings[True]).var(0).sum()
        return float(self.auxiliary_regression(ridges).residual.square().sum() / variance)

    def regressions(self, ridges: Sequence[float]) -> tuple[Regression, Regression]:
        """To the latents and to the auxiliary embedding: linear, or with radial basis functions where that pays."""
        linear = self.auxiliary_regression(ridges)
        fitted = torch.cat(self.embeddings[False])
        spread = fitted[torch.linspace(0, len(fitted) - 1, min(CENTERS, len(fitted))).long()]
        radial = self.auxiliary_regression(RADIAL_RIDGES, spread)
        if radial.residual.square().sum() > (1 - PAYS) * linear.residual.square().sum():
            return _regression(self.known, self.latents, ridges), linear
        return _regression(self.known, self.latents, RADIAL_RIDGES, spread), radial

    def calibration(self, ridges: Sequence[float], moments: Moments, prior_digest: str) -> Calibration:
        """The calibration on what was collected."""
        size = self.recognizer.embedding_size
        latents, auxiliary = self.regressions(ridges)
        return Calibration(
            latents=latents,
            auxiliary=auxiliary,
            maps=self.maps.solve(ridges, size),
            auxiliary_maps=self.auxiliary_maps.solve(ridges, size),
            statistics=moments.statistics(),
            prior_digest=prior_digest,
            faces=self.count,
        )


Split = tuple[list[Tensor], list[Tensor]]
"""Batches that are fitted, and those held out."""


def _regression(
    x: Split, y: Split, ridges: Sequence[float], centers: Tensor | None = None, *, unit_norm: bool = False
) -> Regression:
    rows, targets = (torch.cat(split[False] + split[True]) for split in (x, y))
    held_out = sum(map(len, x[True]))
    return fit_regression(rows, targets, held_out, ridges=ridges, centers=centers, unit_norm=unit_norm)


def face_batches(prior: FacePrior, rows: range, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The faces of ``rows``, ``size`` at a time: (B, 3, 112, 112) in [0, 1], and latents (B, K).

    Every second one is shown as by :data:`CAMERA`.
    """
    for start in range(0, len(rows), size):
        chosen = rows[start : start + size]
        faces = _as_float(prior.pictures(chosen), prior.device)
        if len(faces) > 1:
            faces[1::2] = CAMERA(faces[1::2], torch.Generator().manual_seed(chosen.start))
        yield faces, prior.latents(chosen)


def _as_float(images: Tensor, device: torch.device) -> Tensor:
    """(B, H, W, 3) uint8 -> (B, 3, H, W) in [0, 1]."""
    return images.to(device).permute(0, 3, 1, 2).float() / 255
