"""Presets: each a frozen dataclass of named constants, with a reason for each, that makes the recipe of an inversion.

``fast`` is the default, ``best`` goes on through the generator. ``pixels`` moves the pixels of the predicted face.
``paper`` is Algorithm 1 of the ArcFace paper (Deng et al. 2021, section 3.3), with the statistics of the batch. To try
another value, ``dataclasses.replace(PRESETS["fast"], maps_weight=0.1)``; a weight of 0 leaves a term out.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from arcinvert.calibration.age import AGES, default_age
from arcinvert.calibration.auxiliary import default_auxiliary
from arcinvert.calibration.calibration import Calibration
from arcinvert.errors import UsageError
from arcinvert.faceprior.prior import ATTRIBUTES, SIZE, FacePrior
from arcinvert.inversion.controls import VARIED, Controls, varied, years_older
from arcinvert.inversion.invert import Recipe, View
from arcinvert.inversion.objectives import AgeMatch, CosineMatch, L2Match, MapMatch
from arcinvert.inversion.parameterization import FaceLatent, Fourier, Pixels, noise_start
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
        controls: the pose, expression and light to hold.
        vary: what variations above 0 differ in, some of :data:`~arcinvert.inversion.controls.CAN_VARY`.
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
    vary: tuple[str, ...] = VARIED
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

    @property
    def refine_steps(self) -> int:
        """How many of the last steps draw the image with the generator."""
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
    """A latent of the face prior around p(face | embedding): cosine match, predicted maps, BatchNorm statistics, an
    auxiliary network.

    Variation 0 starts at the predicted face; the others start at a draw from the conditional prior, which
    then also holds them, with a pose, an expression and a light of their own.
    """

    steps: int = constant(45, "judged cosine; 60 are no better")
    lr: float = constant(0.2, "judged cosine of development identities and of tuning people")
    match_weight: float = constant(1.0, "the unit of all weights")
    maps_weight: float = constant(
        0.1, "more costs own cosine, and acceptance on real people; none costs acceptance on synthetic ones"
    )
    turned_maps_share: float = constant(
        0.5,
        "of a face that is asked to turn, smile or be lit: the predicted maps are those of a face that looks into the "
        "camera, and turn it back; without them judges accept fewer",
    )
    varied_maps_share: float = constant(
        0.25, "of variations, which draw pose, expression and light: more makes them alike, less costs acceptance"
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
    temperature: float = constant(0.8, "share of the standard deviation of a draw: variations differ, and still match")
    jitter_shift: float = constant(0.5, "pixels, small: the predicted maps are those of a face in its place")
    jitter_scale: float = constant(0.01, "relative: see jitter_shift")
    jitter_rotate: float = constant(0.01, "radians: see jitter_shift")
    auxiliary_every: int = constant(
        5,
        "one step of so many goes through the auxiliary network, 0 none: more costs own cosine",
    )
    auxiliary_match_weight: float = constant(1.0, "as match_weight")
    auxiliary_maps_weight: float = constant(0.5, "acceptance by judges, of development identities")
    age_weight: float = constant(0.1, "of variations in age: with more, judged cosines fall, of development identities")
    noise: float = constant(
        0.15,
        "of the attacked network's weights, 0 none: a face satisfies networks like it then, and judges accept more "
        "tuning people",
    )
    noisy_every: int = constant(2, "one step of so many has the noise: more costs own cosine")
    noise_most_cosine: float = constant(
        0.97, "of a calibration's noise_cosine: a network that noise moves less, such as the default one, gains nothing"
    )
    refine_steps: int = constant(0, "the last so many steps go through the generator, at six times the cost")
    refine_lr: float = constant(
        0.07,
        "judged cosine: development identities gain a little with less, tuning people with more",
    )
    layer_spread: float = constant(
        1.0,
        "of the offsets of the generator's layers: without them photographs and turned faces stay far from their "
        "targets; judged cosine of development identities and people",
    )
    summary: str = (
        "A latent of the face prior near the predicted one, predicted maps, statistics, an auxiliary network."
    )

    controlled = True

    def recipe(self, attack: Attack) -> Recipe:
        """The recipe for a batch."""
        recognizer, calibration = attack.recognizer, attack.calibration
        center, spread = conditional(attack, self.temperature)
        attributes = varied(attack.controls, attack.variation.tolist(), attack.generators, attack.vary).to(
            center.device
        )
        ages = asked_ages(attack) if "age" in attack.vary and self.auxiliary_every else None
        varies = attack.variation.to(center.device) > 0
        share = torch.where(varies, self.varied_maps_share, self.turned_maps_share)
        free = attributes.isnan().all(1) if ages is None else attributes.isnan().all(1) & ages.isnan()
        share = torch.where(free, 1.0, share)
        maps = calibration.maps
        prior = (self.prior_weight, LatentGaussian())
        attacked = View(
            recognizer,
            {
                "match": (self.match_weight, attack.objective or CosineMatch(attack.target)),
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
        views = (
            attacked,
            *self._noisy_view(attacked, calibration),
            *auxiliary_view(self, attack, {"prior": prior, **self._age_term(ages)}, share, ages),
        )
        face = FaceLatent(attack.prior, center, spread, attributes=attributes, layer_spread=self.layer_spread)
        refine = min(self.steps, self.refine_steps)
        asked = dict(zip(ATTRIBUTES, attributes.T, strict=True)) | ({} if ages is None else {"age": ages})
        return Recipe(face, views, self.steps, self.lr, refine_steps=refine, refine_lr=self.refine_lr, asked=asked)

    def _age_term(self, ages: Tensor | None) -> Terms:
        return {} if ages is None else {"age": (self.age_weight, AgeMatch(default_age(ages.device), ages))}

    def _noisy_view(self, attacked: View, calibration: Calibration) -> tuple[View, ...]:
        """The attacked network with noise on its weights, if such noise moves its embeddings."""
        if not self.noise or calibration.noise_cosine > self.noise_most_cosine:
            return ()
        return (replace(attacked, every=self.noisy_every, noise=self.noise, name="noisy"),)


@dataclass(frozen=True)
class PixelsPreset:
    """Free pixels in the Fourier domain, from the predicted face, held by predicted maps, statistics and the auxiliary
    network: the published form of the method with a better start. Higher own cosine, judged lower than ``fast``.
    """

    steps: int = constant(60, "own cosine of development identities")
    lr: float = constant(0.003, "own cosine of development identities")
    match_weight: float = constant(1.0, "the unit of all weights")
    maps_weight: float = constant(0.1, "as fast")
    batchnorm_weight: float = constant(0.3, "ten times that of fast: no face prior holds the pixels")
    location_weight: float = constant(0.3, "as batchnorm_weight")
    auxiliary_every: int = constant(5, "as fast")
    auxiliary_match_weight: float = constant(1.0, "as fast")
    auxiliary_maps_weight: float = constant(0.5, "as fast")
    summary: str = "Free pixels from the predicted face, held by predicted maps, statistics and the auxiliary network."

    controlled = False
    refine_steps = 0

    def recipe(self, attack: Attack) -> Recipe:
        """The recipe for a batch."""
        recognizer, calibration = attack.recognizer, attack.calibration
        with torch.no_grad():
            start = attack.prior.detailed(calibration.latents.predict(attack.target), SIZE).clamp(0, 1)
        terms: Terms = {
            "match": (self.match_weight, CosineMatch(attack.target)),
            "maps": (
                self.maps_weight,
                MapMatch(calibration.maps.predict(attack.target), calibration.maps.deviation),
            ),
            "batchnorm": (self.batchnorm_weight, BatchNormMatch(stored_statistics(recognizer, calibration))),
            "location": (self.location_weight, location_match(recognizer, calibration)),
        }
        views = (View(recognizer, terms, Jitter(), tracer=attack.tracer), *auxiliary_view(self, attack))
        return Recipe(Fourier(start), views, steps=self.steps, lr=self.lr)


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
    refine_steps = 0

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
        steps=85,
        refine_steps=40,
        summary="As fast, then through the generator.",
    ),
    "pixels": PixelsPreset(),
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


def auxiliary_view(
    preset: "FacePreset | PixelsPreset",
    attack: Attack,
    terms: Terms | None = None,
    share: Tensor | None = None,
    ages: Tensor | None = None,
) -> tuple[View, ...]:
    """The view through the auxiliary network, or none if the preset takes no step through it.

    Args:
        preset: its weights.
        attack: the batch.
        terms: that hold a step through this network, too.
        share: see :class:`~arcinvert.inversion.objectives.MapMatch`.
        ages: (B,) years that the images are to look, see :func:`asked_ages`.
    """
    if not preset.auxiliary_every:
        return ()
    calibration = attack.calibration
    maps, embedding = calibration.auxiliary_maps, calibration.auxiliary.predict(attack.target)
    if ages is not None:
        embedding = default_age(ages.device).at(embedding, ages)
    own: Terms = {
        "match": (preset.auxiliary_match_weight, CosineMatch(embedding)),
        "maps": (preset.auxiliary_maps_weight, MapMatch(maps.predict(attack.target), maps.deviation, share)),
    }
    network = default_auxiliary(attack.target.device)
    return (View(network, {**own, **(terms or {})}, every=preset.auxiliary_every, name="auxiliary"),)


def asked_ages(attack: Attack) -> Tensor:
    """(B,) years that each image is to look, from what the target's embedding tells; NaN where it is free."""
    age = default_age(attack.target.device)
    older = years_older(attack.variation.tolist(), attack.generators, attack.vary).to(attack.target.device)
    return (age.years(attack.calibration.auxiliary.predict(attack.target)) + older).clamp(*AGES)


def conditional(attack: Attack, temperature: float) -> tuple[Tensor, Tensor]:
    """Center (B, K) and spread (K,) of p(face | embedding) for every image.

    Variations above 0 get a center drawn from it, at ``temperature`` of its standard deviation; colors at all of it, if
    they are to vary.
    """
    calibration = attack.calibration
    spread = calibration.latents.residual
    center = calibration.latents.predict(attack.target)
    drawn = torch.stack([torch.randn(len(spread), generator=g) for g in attack.generators]).to(center.device)
    moved = (attack.variation > 0)[:, None].to(center.dtype)
    temperatures = torch.full_like(spread, temperature)
    if "color" in attack.vary:
        temperatures[attack.prior.late] = 1.0
    return center + moved * temperatures * spread * drawn, spread


def location_match(recognizer: Recognizer, calibration: Calibration) -> LocationMatch:
    """The per-location term of a calibration, its maps enlarged to each layer's size."""

    def enlarged(maps: dict[str, Tensor]) -> dict[str, Tensor]:
        return {
            layer: interpolate(value[None], size=recognizer.layer_sizes[layer][1:], mode="bilinear")[0]
            for layer, value in maps.items()
        }

    statistics = calibration.statistics
    return LocationMatch(enlarged(statistics.location_mean), enlarged(statistics.location_var))
