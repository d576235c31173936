"""Presets: each a frozen dataclass of named constants, with a reason for each, that makes the recipe of an inversion.

``fast`` is the default, ``best`` takes longer. ``fourier`` needs no face prior beyond the mean face. ``paper`` is
Algorithm 1 of the ArcFace paper (Deng et al. 2021, section 3.3), with the statistics of the batch. To try another
value, ``dataclasses.replace(PRESETS["fast"], maps_weight=0.1)``; a weight of 0 leaves a term out.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import interpolate, normalize

from arcinvert.calibration.auxiliary import default_auxiliary
from arcinvert.calibration.calibration import Calibration
from arcinvert.errors import UsageError
from arcinvert.faceprior.prior import FacePrior
from arcinvert.inversion.controls import Controls, varied
from arcinvert.inversion.invert import Recipe, View
from arcinvert.inversion.objectives import CosineMatch, L2Match, MapMatch
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
from arcinvert.inversion.tracer import Tracer
from arcinvert.inversion.transforms import Jitter
from arcinvert.recognizer import Recognizer


@dataclass(frozen=True, eq=False)
class Attack:
    """One batch of an inversion: the attacked network, the targets, and which image of a target each row is.

    Attributes:
        recognizer: the network that is attacked.
        prior: the face prior.
        calibration: of the recognizer.
        target: (B, D) unit norm.
        variation: (B,) 0 for the first image of a target, 1.. for its variations.
        generators: one per image.
        controls: the pose and expression to hold.
        objective: a term to match in place of ``target``, which is then only a guess; for example the template of
            a protected embedding. Only the presets with controls use it.
        tracer: precision and compilation of the attacked network.
    """

    recognizer: Recognizer
    prior: FacePrior
    calibration: Calibration
    target: Tensor
    variation: Tensor
    generators: Sequence[torch.Generator]
    controls: Controls = field(default_factory=Controls)
    objective: Term | None = None
    tracer: Tracer = field(default_factory=Tracer)


class Preset(Protocol):
    """A recipe by its constants."""

    @property
    def steps(self) -> int:
        """Steps of the optimization."""
        ...

    @property
    def summary(self) -> str:
        """The preset in a sentence."""
        ...

    @property
    def controlled(self) -> bool:
        """Whether :attr:`Attack.controls` and :attr:`Attack.objective` are used."""
        ...

    def recipe(self, attack: Attack) -> Recipe:
        """The recipe for a batch."""
        ...


def constant(default: Any, reason: str) -> Any:
    """A field of a preset, with the reason for its default."""
    return field(default=default, metadata={"reason": reason})


def constants_of(preset: Preset) -> dict[str, dict[str, Any]]:
    """Name -> value and reason of every constant of a preset."""
    return {
        part.name: {"value": getattr(preset, part.name), "reason": part.metadata["reason"]}
        for part in fields(preset)  # type: ignore[arg-type]
        if "reason" in part.metadata
    }


@dataclass(frozen=True)
class FacePreset:
    """Face basis around p(face | embedding): cosine match, predicted maps, BatchNorm statistics, an auxiliary network.

    Variation 0 starts at the predicted face; the others start at a draw from the conditional prior, which
    then also holds them, with a pose and an expression of their own.
    """

    steps: int = constant(60, "120 are no better by judged cosine")
    lr: float = constant(0.13, "judged cosine of development identities")
    detail_every: int = constant(
        10,
        "steps between two refreshes of the detail; 0 sends the gradient through it in every step, at twice the time",
    )
    match_weight: float = constant(1.0, "the unit of all weights")
    mix_weight: float = constant(
        0.3,
        "share of the embedding predicted for the target's projection on the face basis: a full match "
        "of the target itself would rest on false detail",
    )
    maps_weight: float = constant(0.25, "less is better with the default checkpoint attacked, and worse with y1")
    turned_maps_share: float = constant(
        0.2, "the predicted maps are those of a face that looks into the camera: a turned face follows them less"
    )
    batchnorm_weight: float = constant(
        0.03, "small: the predicted maps describe this face, the statistics only faces in general"
    )
    batchnorm_largest: int = constant(
        28, "pixels: larger maps hold half of all activations, and the judged cosine is the same without them"
    )
    prior_weight: float = constant(
        0.0006, "strength of p(face | embedding), by judged cosine of development identities"
    )
    temperature: float = constant(0.6, "share of the standard deviation of a draw: variations differ, and still match")
    jitter_shift: float = constant(0.5, "pixels, small: the predicted maps are those of a face in its place")
    jitter_scale: float = constant(0.01, "relative: see jitter_shift")
    jitter_rotate: float = constant(0.01, "radians: see jitter_shift")
    auxiliary_every: int = constant(
        5,
        "one step of so many goes through the auxiliary network, 0 none: more costs own cosine",
    )
    auxiliary_match_weight: float = constant(1.0, "as match_weight")
    auxiliary_maps_weight: float = constant(0.5, "acceptance by judges, of development identities")
    summary: str = "Face basis around p(face | embedding), predicted maps, statistics, an auxiliary network."

    controlled = True

    def recipe(self, attack: Attack) -> Recipe:
        """The recipe for a batch."""
        recognizer, calibration = attack.recognizer, attack.calibration
        center, spread = conditional(attack, self.temperature)
        attributes = varied(attack.controls, attack.variation.tolist(), attack.generators).to(center.device)
        share = torch.where(attributes.isnan().all(1), 1.0, self.turned_maps_share)
        maps, auxiliary_maps = calibration.maps, calibration.auxiliary_maps
        prior = (self.prior_weight, LatentGaussian())
        attacked = View(
            recognizer,
            {
                "match": (self.match_weight, attack.objective or CosineMatch(mixed_target(attack, self.mix_weight))),
                "maps": (self.maps_weight, MapMatch(maps.predict(attack.target), maps.deviation, share)),
                "batchnorm": (
                    self.batchnorm_weight,
                    BatchNormMatch(stored_statistics(recognizer, calibration, largest=self.batchnorm_largest)),
                ),
                "prior": prior,
            },
            Jitter(shift=self.jitter_shift, scale=self.jitter_scale, rotate=self.jitter_rotate),
            tracer=attack.tracer,
        )
        views = [attacked]
        if self.auxiliary_every:
            predicted = MapMatch(auxiliary_maps.predict(attack.target), auxiliary_maps.deviation, share)
            terms: Terms = {
                "match": (self.auxiliary_match_weight, CosineMatch(calibration.auxiliary.predict(attack.target))),
                "maps": (self.auxiliary_maps_weight, predicted),
                "prior": prior,
            }
            network = default_auxiliary(center.device)
            views.append(View(network, terms, every=self.auxiliary_every, name="auxiliary"))
        face = FaceBasis(attack.prior, center, spread, refresh=self.detail_every, attributes=attributes)
        return Recipe(face, tuple(views), steps=self.steps, lr=self.lr)


@dataclass(frozen=True)
class FourierPreset:
    """Free pixels in the Fourier domain from the mean face, held by statistics alone."""

    steps: int = constant(100, "own cosine of development identities")
    lr: float = constant(0.003, "own cosine of development identities")
    match_weight: float = constant(1.0, "the unit of all weights")
    batchnorm_weight: float = constant(0.3, "ten times that of fast: nothing but statistics holds the pixels")
    location_weight: float = constant(0.3, "as batchnorm_weight")
    summary: str = "Free pixels in the Fourier domain from the mean face, held by statistics alone."

    controlled = False

    def recipe(self, attack: Attack) -> Recipe:
        """The recipe for a batch."""
        recognizer, calibration, prior = attack.recognizer, attack.calibration, attack.prior
        start = prior.decode(prior.starts["frontal"].expand(len(attack.target), -1))
        terms: Terms = {
            "match": (self.match_weight, CosineMatch(attack.target)),
            "batchnorm": (self.batchnorm_weight, BatchNormMatch(stored_statistics(recognizer, calibration))),
            "location": (self.location_weight, location_match(recognizer, calibration)),
        }
        view = View(recognizer, terms, Jitter(), tracer=attack.tracer)
        return Recipe(Fourier(start.clamp(0, 1)), (view,), steps=self.steps, lr=self.lr)


@dataclass(frozen=True)
class PaperPreset:
    """Deng et al. 2021, Algorithm 1, open set: noise, l2 match, Eq. 8, TV and l2, Adam at 0.25."""

    steps: int = constant(20_000, "the paper's")
    lr: float = constant(0.25, "the paper's")
    match_weight: float = constant(1.0, "the paper's")
    batchnorm_weight: float = constant(0.05, "the paper's, for statistics of the batch")
    tv_weight: float = constant(1e-3, "the paper's")
    l2_weight: float = constant(1e-4, "the paper's")
    summary: str = "Algorithm 1 of the ArcFace paper: noise, l2 match, batch statistics, TV and l2."

    controlled = False

    def recipe(self, attack: Attack) -> Recipe:
        """The recipe for a batch."""
        recognizer = attack.recognizer
        statistics = stored_statistics(recognizer, attack.calibration)
        terms: Terms = {
            "match": (self.match_weight, L2Match(attack.target)),
            "batchnorm": (self.batchnorm_weight, PaperBatchNormMatch(statistics)),
            "tv": (self.tv_weight, TotalVariation()),
            "l2": (self.l2_weight, ImageL2()),
        }
        start = noise_start(attack.generators, attack.target.device)
        view = View(recognizer, terms, tracer=attack.tracer)
        return Recipe(Pixels(start), (view,), steps=self.steps, lr=self.lr, decay=False)


PRESETS: dict[str, Preset] = {
    "fast": FacePreset(),
    "best": FacePreset(
        steps=80,
        detail_every=0,
        summary="As fast, with the gradient through the detail: twice the time a step.",
    ),
    "fourier": FourierPreset(),
    "paper": PaperPreset(),
}


def preset_of(name: str, steps: int | None = None) -> Preset:
    """A preset by name, with its own number of steps or another.

    Raises:
        UsageError: no such preset.
    """
    if name not in PRESETS:
        raise UsageError(f"expected a preset out of {', '.join(PRESETS)}, got {name!r}")
    preset = PRESETS[name]
    return preset if steps is None else replace(preset, steps=steps)  # type: ignore[type-var]


def conditional(attack: Attack, temperature: float) -> tuple[Tensor, Tensor]:
    """Center (B, K) and spread (K,) of p(face | embedding) for every image.

    Variations above 0 get a center drawn from it, at ``temperature`` of its standard deviation.
    """
    calibration = attack.calibration
    spread = calibration.coefficients.residual
    center = calibration.coefficients.predict(attack.target)
    drawn = torch.stack([torch.randn(len(spread), generator=g) for g in attack.generators]).to(center.device)
    moved = (attack.variation > 0)[:, None].to(center.dtype)
    return center + moved * temperature * spread * drawn, spread


def mixed_target(attack: Attack, mix_weight: float) -> Tensor:
    """(B, D), unit norm: between the target and the embedding predicted for its projection on the face basis.

    An image that matched the target fully would rest on detail that deceives only this network; one that matched
    only the prediction would be less like the target to the attacked network than it could be.
    """
    projected = attack.calibration.projected.predict(attack.target)
    return normalize((1 - mix_weight) * attack.target + mix_weight * projected)


def location_match(recognizer: Recognizer, calibration: Calibration) -> LocationMatch:
    """The per-location term of a calibration, its maps enlarged to each layer's size."""

    def enlarged(maps: dict[str, Tensor]) -> dict[str, Tensor]:
        return {
            layer: interpolate(value[None], size=recognizer.layer_sizes[layer][1:], mode="bilinear")[0]
            for layer, value in maps.items()
        }

    statistics = calibration.statistics
    return LocationMatch(enlarged(statistics.location_mean), enlarged(statistics.location_var))
