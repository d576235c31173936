"""What a recognizer says of synthetic faces: the knowledge an inversion starts from.

Calibration shows a recognizer the faces of the face prior and keeps

- the conditional prior p(face | embedding): ridge regression from the unit embedding to the
  whitened coefficients of the face basis, and the variance each coefficient keeps around its
  prediction, measured on faces the regression was not fitted to;
- how it sees them through the face basis: ridge regression from the embedding of a face to the
  embedding of what the basis keeps of it. The basis is soft; an image of it that matched the
  face's own embedding fully would do so by false detail;
- what the maps of a few layers are for a given embedding (:mod:`arcinvert.calibration.maps`);
- what a second network sees of a face with a given embedding (:mod:`arcinvert.calibration.auxiliary`): ridge
  regression to its embedding, and to maps inside it;
- statistics of the input of each BatchNorm layer, and of the output of each convolution whose
  BatchNorm has been folded away: mean and variance per channel, and, for the first layers, per
  channel and position (kept on a grid of at most 28x28).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from arcinvert.calibration.auxiliary import BLOCKS, SIZE, default_auxiliary
from arcinvert.calibration.maps import ExpectedFeatures, FeatureRegression, medium_layers
from arcinvert.calibration.statistics import Moments, from_bytes, to_bytes
from arcinvert.calibration.regression import RIDGES, fit_regression
from arcinvert.checkpoint import load_checkpoint, save_checkpoint
from arcinvert.errors import CheckpointError, EnvironmentProblem, InputError
from arcinvert.faceprior.prior import FacePrior
from arcinvert.formats import open_checkpoint
from arcinvert.formats.hub import cache_folder
from arcinvert.progress import Progress, silent
from arcinvert.recognizer import BESIDE, Recognizer

SPAN = "span."
"""Before the names of location maps: the least value of each channel, and what one of its 255 levels is worth."""
INSIDE = "auxiliary."
"""Before the names of what is expected inside the auxiliary recognizer."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """The result, on one device.

    Attributes:
        weight: (D, K) of the regression.
        bias: (K,).
        residual: (K,) standard deviation of the coefficients around their prediction.
        drawn_weight, drawn_bias: (D, D) and (D,) of the regression behind :meth:`drawn`.
        auxiliary_weight, auxiliary_bias: (D, 128) and (128,) of the regression behind :meth:`auxiliary`.
        auxiliary_features: what maps inside the auxiliary recognizer are expected to be.
        features: what the maps of a few layers are expected to be.
        channel_mean, channel_var: layer -> (C,).
        location_mean, location_var: layer -> (C, h, w), at most 28x28.
        prior_digest: of the face prior whose coefficients these are.
        faces: how many were shown.
    """

    weight: Tensor
    bias: Tensor
    residual: Tensor
    drawn_weight: Tensor
    drawn_bias: Tensor
    auxiliary_weight: Tensor
    auxiliary_bias: Tensor
    auxiliary_features: ExpectedFeatures
    features: ExpectedFeatures
    channel_mean: dict[str, Tensor] = field(repr=False)
    channel_var: dict[str, Tensor] = field(repr=False)
    location_mean: dict[str, Tensor] = field(repr=False)
    location_var: dict[str, Tensor] = field(repr=False)
    prior_digest: str
    faces: int

    def predict(self, embeddings: Tensor) -> Tensor:
        """(B, D) unit norm -> (B, K) whitened coefficients of the expected face."""
        return embeddings @ self.weight + self.bias

    def drawn(self, embeddings: Tensor) -> Tensor:
        """(B, D) of faces -> (B, D) expected of them as the basis can draw them; both unit norm."""
        return normalize(embeddings @ self.drawn_weight + self.drawn_bias)

    def auxiliary(self, embeddings: Tensor) -> Tensor:
        """(B, D) of faces -> (B, 128) that the auxiliary recognizer is expected to see in them; both unit norm."""
        return normalize(embeddings @ self.auxiliary_weight + self.auxiliary_bias)

    def to_tensors(self) -> dict[str, Tensor]:
        """As stored, named ``SECTION.PART``: regression, drawn, auxiliary, expected, channel and location."""
        tensors = {
            "regression.weight": self.weight.half(),
            "regression.bias": self.bias.float(),
            "regression.residual": self.residual.float(),
            "drawn.weight": self.drawn_weight.half(),
            "drawn.bias": self.drawn_bias.float(),
            "auxiliary.weight": self.auxiliary_weight.half(),
            "auxiliary.bias": self.auxiliary_bias.float(),
            **{INSIDE + key: value for key, value in self.auxiliary_features.to_tensors().items()},
            **self.features.to_tensors(),
        }
        for kind, maps in (
            ("channel.mean", self.channel_mean),
            ("channel.var", self.channel_var),
            ("location.mean", self.location_mean),
            ("location.var", self.location_var),
        ):
            for layer, value in maps.items():
                stored = (value.sqrt() if kind.endswith("var") else value).float()
                if kind.startswith("location"):
                    # Deviations of a channel differ by factors: levels of the logarithm.
                    stored = stored.clamp_min(1e-12).log() if kind.endswith("var") else stored
                    tensors[f"{kind}.{layer}"], tensors[f"{SPAN}{kind}.{layer}"] = to_bytes(stored)
                else:
                    tensors[f"{kind}.{layer}"] = stored
        return tensors


def calibration_of(recognizer: Recognizer) -> Calibration | None:
    """The calibration that a recognizer's checkpoint carries, or None; one for another auxiliary recognizer is none.

    Raises:
        CheckpointError: it is incomplete.
    """
    tensors, header = recognizer.calibration_tensors, recognizer.header.get("calibration")
    header = header if isinstance(header, Mapping) else {}
    if "auxiliary.expected.factor" not in tensors or header.get("auxiliary") not in (None, default_auxiliary().digest):
        return None
    return _from_tensors(recognizer, tensors, header)


def calibration_for(
    recognizer: Recognizer,
    prior: FacePrior,
    *,
    say: Callable[[str], None] = lambda line: None,
    progress: Progress = silent,
) -> Calibration:
    """The calibration that the checkpoint carries; else the one kept in the user's cache; else a new one, kept there.

    Args:
        recognizer: loaded from a file; its digest is what the kept one goes by.
        prior: of all faces.
        say: told, once, that and why a network is calibrated now, and if the result cannot be kept.
        progress: see :func:`calibrate`.

    Raises:
        CheckpointError: the checkpoint carries one that is incomplete.
    """
    carried = calibration_of(recognizer)
    if carried is not None:
        return carried
    kept = kept_calibration(recognizer, prior)
    if kept is not None:
        return kept
    say(
        f"this network is not calibrated yet: showing it {len(prior)} synthetic faces, once (the result is kept; "
        "`arcinvert calibrate` puts it into the checkpoint)"
    )
    found = calibrate(recognizer, prior, progress=progress)
    try:
        save_checkpoint(_kept_file(recognizer, prior), _header(found), _tensors(found))
    except EnvironmentProblem as problem:
        say(f"the calibration is not kept: {problem}")
    # As a second run will read it, so that both give the same pictures.
    return _from_tensors(recognizer, found.to_tensors(), _header(found)["calibration"])


def kept_calibration(recognizer: Recognizer, prior: FacePrior) -> Calibration | None:
    """The calibration that the user's cache keeps of this network, or None; a damaged one is none."""
    try:
        stored = load_checkpoint(_kept_file(recognizer, prior))
        return _from_tensors(recognizer, stored.section("calibration"), stored.header["calibration"])
    except (CheckpointError, KeyError, OSError):
        return None


def _kept_file(recognizer: Recognizer, prior: FacePrior) -> Path:
    parts = [prior.digest[:16], "" if prior.detail is None else prior.detail.digest[:8], default_auxiliary().digest[:8]]
    return cache_folder() / "calibrations" / f"{recognizer.digest[:32]}-{''.join(parts)}.safetensors"


def _from_tensors(recognizer: Recognizer, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> Calibration:
    """See :meth:`Calibration.to_tensors`."""
    device = recognizer.device

    def maps(kind: str) -> dict[str, Tensor]:
        prefix = kind + "."
        found = {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}
        for layer, value in found.items():
            if value.dtype == torch.int8:
                value = from_bytes(value, tensors[f"{SPAN}{prefix}{layer}"])
                value = value.exp() if kind.endswith("var") else value
            found[layer] = value.float().to(device)
        return {layer: value.square() for layer, value in found.items()} if kind.endswith("var") else found

    inside = {key.removeprefix(INSIDE): value for key, value in tensors.items() if key.startswith(INSIDE)}
    try:
        found = Calibration(
            tensors["regression.weight"].float().to(device),
            tensors["regression.bias"].float().to(device),
            tensors["regression.residual"].float().to(device),
            tensors["drawn.weight"].float().to(device),
            tensors["drawn.bias"].float().to(device),
            tensors["auxiliary.weight"].float().to(device),
            tensors["auxiliary.bias"].float().to(device),
            ExpectedFeatures.from_tensors(inside, device),
            ExpectedFeatures.from_tensors(tensors, device),
            maps("channel.mean"),
            maps("channel.var"),
            maps("location.mean"),
            maps("location.var"),
            header["prior"],
            int(header["faces"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"the calibration of the checkpoint lacks {error}; calibrate it again") from None
    size, width = found.residual.shape, recognizer.embedding_size
    fits = len(size) == 1 and found.bias.shape == size and found.weight.shape == (width, *size)
    fits = fits and found.drawn_weight.shape == (width, width) and found.drawn_bias.shape == (width,)
    fits = fits and found.auxiliary_weight.shape == (width, SIZE) and found.auxiliary_bias.shape == (SIZE,)
    fits = fits and len(found.features.factor) == len(found.auxiliary_features.factor) == width
    fits = fits and set(found.auxiliary_features.maps) <= set(BLOCKS)
    if not fits:
        raise CheckpointError("the parts of the checkpoint's calibration do not fit each other")
    foreign = {*found.channel_mean, *found.location_mean, *found.features.maps} - set(recognizer.layers)
    if foreign or found.location_mean.keys() != found.location_var.keys():
        named = ", ".join(sorted(foreign)[:5]) or "other layers for means than for variances"
        raise CheckpointError(f"the checkpoint's calibration is of another network: it names {named}")
    return found


def calibrate(
    recognizer: Recognizer,
    prior: FacePrior,
    *,
    images: Tensor | None = None,
    ridges: Sequence[float] = RIDGES,
    location_layers: int = 12,
    statistics_faces: int = 400,
    batch_size: int = 32,
    progress: Progress = silent,
) -> Calibration:
    """Show a recognizer aligned faces and keep what it says.

    Args:
        recognizer: on the device to work on.
        prior: whose basis the regression predicts.
        images: (N, 112, 112, 3) uint8 faces to show; by default the faces of the prior itself, as it renders them.
        ridges: weights of the regression's squared norm to choose from, in units of one face.
        location_layers: for how many of the first BatchNorm layers to keep statistics per position.
        statistics_faces: how many faces, spread over all, go into the statistics.
        batch_size: faces at a time.
        progress: told (done, all, text).

    Raises:
        InputError: fewer than 10 faces.
    """
    count = len(prior) if images is None else len(images)
    if count < 10:
        raise InputError(f"expected at least 10 faces to calibrate on, got {count}")
    prior = prior.to(recognizer.device)
    embeddings = torch.empty(count, recognizer.embedding_size)
    drawn = torch.empty_like(embeddings)
    coefficients = torch.empty(count, prior.size)
    auxiliary, seen_besides = default_auxiliary(recognizer.device), torch.empty(count, SIZE)
    moments = Moments(recognizer.layers, recognizer.layers[:location_layers])
    features, inside = FeatureRegression(medium_layers(recognizer)), FeatureRegression(BLOCKS)
    cut = count - count // 5  # neighboring rows may show one person, as in fit_regression
    every = max(1, count // statistics_faces)
    with torch.no_grad():
        for rows, faces, codes in _batches(prior, images, range(count), batch_size):
            trace, besides = recognizer.trace(faces, taps=features.layers), auxiliary.trace(faces, taps=BLOCKS)
            embeddings[rows.start : rows.stop] = trace.embedding.cpu()
            seen = min(max(cut - rows.start, 0), len(faces))
            for part, unseen in ((slice(seen), False), (slice(seen, None), True)):
                for regression, shown in ((features, trace), (inside, besides)):
                    maps = {layer: value[part] for layer, value in shown.activations.items()}
                    regression.add(trace.embedding[part], maps, unseen=unseen)
            coefficients[rows.start : rows.stop] = codes.cpu()
            seen_besides[rows.start : rows.stop] = besides.embedding.cpu()
            drawn[rows.start : rows.stop] = recognizer.trace(prior.decode(codes).clamp(0, 1)).embedding.cpu()
            progress(rows.stop, count, "calibrating")
        for _, faces, _ in _batches(prior, images, range(0, count, every), batch_size // 2 + 1):
            # A face and its mirror image are equally likely.
            moments.add(recognizer.trace(torch.cat([faces, faces.flip(-1)]), taps=recognizer.layers).activations)
    device = recognizer.device
    weight, bias, residual = (part.to(device) for part in fit_regression(embeddings, coefficients, ridges=ridges))
    drawn_weight, drawn_bias, _ = (part.to(device) for part in fit_regression(embeddings, drawn, ridges=ridges))
    weight_besides, bias_besides, _ = fit_regression(embeddings, seen_besides, ridges=ridges)
    expected, expected_inside = (
        part.result(ridges, recognizer.embedding_size).to(device) for part in (features, inside)
    )
    return Calibration(
        weight,
        bias,
        residual,
        drawn_weight,
        drawn_bias,
        weight_besides.to(device),
        bias_besides.to(device),
        expected_inside,
        expected,
        *moments.result(),
        prior_digest=prior.digest,
        faces=count,
    )


def save_calibrated(source: Path, out: Path, calibration: Calibration) -> str:
    """Write a copy of the checkpoint ``source``, of any format, that carries ``calibration``; returns its digest.

    An ``out`` named ``NAME.calibration.safetensors`` gets the calibration alone: it is found beside NAME.
    """
    stored = open_checkpoint(source)
    if out.name.endswith(BESIDE):
        header = {"kind": "calibration", "recognizer": stored.digest} | _header(calibration)
        return save_checkpoint(out, header, _tensors(calibration))
    tensors = {key: value for key, value in stored.tensors.items() if not key.startswith("calibration.")}
    return save_checkpoint(out, stored.header | _header(calibration), tensors | _tensors(calibration))


def _header(calibration: Calibration) -> dict[str, Any]:
    known = {"faces": calibration.faces, "prior": calibration.prior_digest, "auxiliary": default_auxiliary().digest}
    return {"calibration": known}


def _tensors(calibration: Calibration) -> dict[str, Tensor]:
    return {f"calibration.{key}": value for key, value in calibration.to_tensors().items()}


def _batches(prior: FacePrior, images: Tensor | None, rows: range, size: int) -> Iterator[tuple[range, Tensor, Tensor]]:
    """The faces of ``rows``, ``size`` at a time: their rows, (B, 3, 112, 112) in [0, 1], (B, K)."""
    for start in range(0, len(rows), size):
        chosen = rows[start : start + size]
        if images is None:
            codes = prior.coefficients(chosen)
            faces = prior.render(codes).clamp(0, 1)
        else:
            faces = (
                images[chosen.start : chosen.stop : chosen.step].to(prior.mean.device).permute(0, 3, 1, 2).float() / 255
            )
            codes = prior.encode(faces)
        yield chosen, faces, codes
