"""Fitting a calibration: a recognizer is shown the synthetic faces of the face prior."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from arcinvert.calibration.auxiliary import BLOCKS, default_auxiliary
from arcinvert.calibration.calibration import Calibration
from arcinvert.calibration.maps import MapRegression, medium_layers
from arcinvert.calibration.regression import RIDGES, fit_regression
from arcinvert.calibration.statistics import Moments
from arcinvert.errors import InputError
from arcinvert.faceprior.prior import FacePrior
from arcinvert.progress import Progress, silent
from arcinvert.recognizer import Recognizer


@torch.no_grad()
def calibrate(
    recognizer: Recognizer,
    prior: FacePrior,
    images: Tensor | None = None,
    *,
    ridges: Sequence[float] = RIDGES,
    location_layers: int = 12,
    statistics_faces: int = 400,
    batch_size: int = 32,
    progress: Progress = silent,
) -> Calibration:
    """Fit a calibration on aligned faces.

    Args:
        recognizer: on the device to work on.
        prior: whose coefficients the regression predicts.
        images: (N, 112, 112, 3) uint8 faces; by default the faces of the prior itself, as it renders them.
        ridges: weights of the regression's squared norm to choose from, in units of one face.
        location_layers: how many of the first layers get statistics per position.
        statistics_faces: how many faces, spread over all, go into the statistics.
        batch_size: faces at a time.
        progress: called with (done, all, text).

    Raises:
        InputError: fewer than 10 faces.
    """
    count = len(prior) if images is None else len(images)
    if count < 10:
        raise InputError(f"expected at least 10 faces to calibrate on, got {count}")
    prior = prior.to(recognizer.device)
    auxiliary = default_auxiliary(recognizer.device)
    maps, auxiliary_maps = MapRegression(medium_layers(recognizer)), MapRegression(BLOCKS)
    embeddings, coefficients, projected, auxiliary_embeddings = [], [], [], []
    cut = count - count // 5  # neighboring rows may show one person, as in fit_regression
    for rows, faces, codes in _batches(prior, images, range(count), batch_size):
        trace, auxiliary_trace = recognizer.trace(faces, taps=maps.layers), auxiliary.trace(faces, taps=BLOCKS)
        fitted = min(max(cut - rows.start, 0), len(faces))
        for part, held_out in ((slice(fitted), False), (slice(fitted, None), True)):
            for regression, of in ((maps, trace), (auxiliary_maps, auxiliary_trace)):
                activations = {layer: value[part] for layer, value in of.activations.items()}
                regression.add(trace.embedding[part], activations, held_out=held_out)
        embeddings.append(trace.embedding.cpu())
        coefficients.append(codes.cpu())
        auxiliary_embeddings.append(auxiliary_trace.embedding.cpu())
        projected.append(recognizer.trace(prior.decode(codes).clamp(0, 1)).embedding.cpu())
        progress(rows.stop, count, "calibrating")
    moments = Moments(recognizer.layers, recognizer.layers[:location_layers])
    spread = range(0, count, max(1, count // statistics_faces))
    for _, faces, _ in _batches(prior, images, spread, batch_size // 2 + 1):
        # A face and its mirror image are equally likely.
        moments.add(recognizer.trace(torch.cat([faces, faces.flip(-1)]), taps=recognizer.layers).activations)
    x = torch.cat(embeddings)
    return Calibration(
        coefficients=fit_regression(x, torch.cat(coefficients), ridges=ridges),
        projected=fit_regression(x, torch.cat(projected), ridges=ridges, unit_norm=True),
        auxiliary=fit_regression(x, torch.cat(auxiliary_embeddings), ridges=ridges, unit_norm=True),
        maps=maps.solve(ridges, x.shape[1]),
        auxiliary_maps=auxiliary_maps.solve(ridges, x.shape[1]),
        statistics=moments.statistics(),
        prior_digest=prior.digest,
        faces=count,
    ).to(recognizer.device)


def _batches(prior: FacePrior, images: Tensor | None, rows: range, size: int) -> Iterator[tuple[range, Tensor, Tensor]]:
    """The faces of ``rows``, ``size`` at a time: their rows, (B, 3, 112, 112) in [0, 1], and coefficients (B, K)."""
    for start in range(0, len(rows), size):
        chosen = rows[start : start + size]
        if images is None:
            codes = prior.coefficients(chosen)
            faces = prior.render(codes).clamp(0, 1)
        else:
            part = images[chosen.start : chosen.stop : chosen.step].to(prior.mean.device)
            faces = part.permute(0, 3, 1, 2).float() / 255
            codes = prior.encode(faces)
        yield chosen, faces, codes
