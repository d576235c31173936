"""Recipes by name: each a short function from what is known to the pieces of an inversion.

``fast`` is the default, ``best`` takes longer. ``paper`` is Algorithm 1 of the ArcFace paper (Deng et al. 2021, section
3.3), with the statistics of the batch. ``fourier`` needs no face prior beyond the mean face.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import interpolate, normalize

from arcinvert.calibration.auxiliary import default_auxiliary
from arcinvert.calibration.calibration import Calibration
from arcinvert.errors import UsageError
from arcinvert.faceprior.prior import FacePrior
from arcinvert.inversion.controls import Controls, varied
from arcinvert.inversion.invert import Auxiliary, Recipe
from arcinvert.inversion.objectives import CosineMatch, ExpectedMatch, L2Match
from arcinvert.inversion.parameterization import FaceBasis, Fourier, Pixels, noise_start
from arcinvert.inversion.priors import (
    BatchNormMatch,
    ImageL2,
    LatentGaussian,
    LocationMatch,
    PaperBatchNormMatch,
    TotalVariation,
    stored_statistics,
)
from arcinvert.inversion.terms import Term, Terms
from arcinvert.inversion.transforms import Jitter
from arcinvert.recognizer import Recognizer


@dataclass(frozen=True, eq=False)
class Attack:
    """What a preset is given: who attacks what, and which image each row is.

    Attributes:
        recognizer: the network that is inverted.
        prior: the face prior.
        calibration: of the recognizer.
        target: (B, D) unit norm.
        variation: (B,) 0 for the first image of a target, 1.. for its variations.
        generators: one per image.
        controls: pose and expression that are asked for.
        objective: what the images are to match in place of ``target``, where that is only a guess;
            the template of a protected embedding, say. ``fast`` and ``best`` heed it.
    """

    recognizer: Recognizer
    prior: FacePrior
    calibration: Calibration
    target: Tensor
    variation: Tensor
    generators: Sequence[torch.Generator]
    controls: Controls = field(default_factory=Controls)
    objective: Term | None = None


def fast(attack: Attack, steps: int | None = None) -> Recipe:
    """Face basis around p(face | embedding), cosine match, expected maps, scale-free BatchNorm statistics, jitter.

    Variation 0 starts at the expected face; the others at a draw from the conditional prior, which
    then also holds them, in a pose and with an expression of their own. Every ten steps the detail of the
    face is drawn anew; of every five, one goes through the auxiliary recognizer.
    """
    return _face(attack, redraw=10, share=0.3, steps=60 if steps is None else steps)


def best(attack: Attack, steps: int | None = None) -> Recipe:
    """As ``fast``, with the gradient going through the detail too: nearer to the target, at twice the time a step."""
    return _face(attack, redraw=0, share=0.3, steps=80 if steps is None else steps)


def _face(attack: Attack, *, redraw: int, share: float, steps: int) -> Recipe:
    center, spread = conditional(attack)
    attributes = varied(attack.controls, attack.variation.tolist(), attack.generators).to(center.device)
    predicted = attack.calibration.maps
    # What is expected looks ahead: a face that is to turn heeds a fifth of it.
    heeded = torch.where(attributes.isnan().all(1), 1.0, 0.2)
    expected = ExpectedMatch(predicted.predict(attack.target), predicted.deviation, heeded)
    inside = attack.calibration.auxiliary_maps
    face = (0.0006, LatentGaussian())
    besides: Terms = {
        "match": (1.0, CosineMatch(attack.calibration.auxiliary.predict(attack.target))),
        "expected": (0.5, ExpectedMatch(inside.predict(attack.target), inside.deviation, heeded)),
        "face": face,
    }
    return Recipe(
        FaceBasis(attack.prior, center, spread, redraw=redraw, attributes=attributes),
        {
            "match": (1.0, attack.objective or CosineMatch(halfway(attack, share))),
            "expected": (0.25, expected),
            "batchnorm": (0.03, BatchNormMatch(stored_statistics(attack.recognizer, attack.calibration, largest=28))),
            "face": face,
        },
        steps=steps,
        lr=0.13,
        # Small: the expected maps are those of a face in its place.
        transform=Jitter(shift=0.5, scale=0.01, rotate=0.01),
        auxiliary=Auxiliary(default_auxiliary(center.device), besides, every=5),
    )


def fourier(attack: Attack, steps: int | None = None) -> Recipe:
    """Free pixels in the Fourier domain from the mean face, held by statistics alone."""
    start = attack.prior.decode(attack.prior.starts["frontal"].expand(len(attack.target), -1))
    return Recipe(
        Fourier(start.clamp(0, 1)),
        {
            "match": (1.0, CosineMatch(attack.target)),
            "batchnorm": (0.3, BatchNormMatch(stored_statistics(attack.recognizer, attack.calibration))),
            "location": (0.3, location_match(attack.recognizer, attack.calibration)),
        },
        steps=100 if steps is None else steps,
        lr=0.003,
        transform=Jitter(),
    )


def paper(attack: Attack, steps: int | None = None) -> Recipe:
    """Deng et al. 2021, Algorithm 1, open set: noise, l2 match, Eq. 8, TV and l2, Adam at 0.25."""
    return Recipe(
        Pixels(noise_start(attack.generators, attack.target.device)),
        {
            "match": (1.0, L2Match(attack.target)),
            "batchnorm": (0.05, PaperBatchNormMatch(stored_statistics(attack.recognizer, attack.calibration))),
            "tv": (1e-3, TotalVariation()),
            "l2": (1e-4, ImageL2()),
        },
        steps=20_000 if steps is None else steps,
        lr=0.25,
        decay=False,
    )


Preset = Callable[[Attack, int | None], Recipe]
PRESETS: dict[str, Preset] = {"fast": fast, "best": best, "fourier": fourier, "paper": paper}
CONTROLLED = ("fast", "best")
"""Those that heed :attr:`Attack.controls` and :attr:`Attack.objective`."""


def preset(name: str) -> Preset:
    """A preset by name.

    Raises:
        UsageError: no such preset.
    """
    if name not in PRESETS:
        raise UsageError(f"expected a preset out of {', '.join(PRESETS)}, got {name!r}")
    return PRESETS[name]


def conditional(attack: Attack, temperature: float = 0.6) -> tuple[Tensor, Tensor]:
    """Center (B, K) and spread (K,) of p(face | embedding) for every image.

    Variations above 0 get a center drawn from it, at ``temperature`` of its standard deviation.
    """
    spread = attack.calibration.coefficients.residual
    center = attack.calibration.coefficients.predict(attack.target)
    drawn = torch.stack([torch.randn(len(spread), generator=g) for g in attack.generators]).to(center.device)
    moved = (attack.variation > 0)[:, None].to(center.dtype)
    return center + moved * temperature * spread * drawn, spread


def halfway(attack: Attack, share: float) -> Tensor:
    """(B, D), unit norm: from the target to what calibration expects of it drawn in the face basis, by ``share``.

    An image that matched the target fully would do so by false detail, which no other network is
    deceived by; one that matched only what is expected would look less like the target to the
    attacked network than it could.
    """
    return normalize((1 - share) * attack.target + share * attack.calibration.projected.predict(attack.target))


def location_match(recognizer: Recognizer, calibration: Calibration) -> LocationMatch:
    """The per-location term of a calibration, its maps enlarged to each layer's size."""

    def enlarged(maps: dict[str, Tensor]) -> dict[str, Tensor]:
        return {
            layer: interpolate(value[None], size=recognizer.layer_sizes[layer][1:], mode="bilinear")[0]
            for layer, value in maps.items()
        }

    return LocationMatch(enlarged(calibration.statistics.location_mean), enlarged(calibration.statistics.location_var))
