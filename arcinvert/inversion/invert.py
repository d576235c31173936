"""The only optimization loop: image -> view -> trace -> terms -> step.

Each step goes through one view. The sum over images is differentiated, and Adam works element by element, so the path
of one image does not depend on the others in its batch.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from arcinvert.errors import UsageError
from arcinvert.faceprior.prior import LARGE, SIZE
from arcinvert.inversion.parameterization import Parameterization
from arcinvert.inversion.terms import Terms, all_taps
from arcinvert.inversion.tracer import Tracer
from arcinvert.progress import Progress, silent
from arcinvert.recognizer import Recognizer

Transform = Callable[[Tensor, Sequence[torch.Generator]], Tensor]

PATIENCE = 4
"""How often an image is rolled back, at half its rate each time, before it counts as diverged."""


@dataclass(frozen=True, eq=False)
class View:
    """How one network sees the image, and in which steps.

    Attributes:
        recognizer: the network.
        terms: name -> (weight, term), of its trace; a weight of 0 leaves a term out.
        transform: makes of the image what the network sees, at random; None passes the image itself.
        every: the view takes the middle one of every so many steps; 1 takes each step that no later view takes.
        tracer: precision and compilation of the network.
        noise: standard deviation of the factors around 1 on the network's weights. They are drawn anew in each step,
            the same for all images, so that an image has to satisfy networks like this one, not this one alone.
        name: prefix of its terms in the history, ``NAME.TERM``; an empty one adds nothing.

    Raises:
        UsageError: ``every`` is below 1.
    """

    recognizer: Recognizer
    terms: Terms
    transform: Transform | None = None
    every: int = 1
    tracer: Tracer = field(default_factory=Tracer)
    noise: float = 0.0
    name: str = ""

    def __post_init__(self) -> None:
        if self.every < 1:
            raise UsageError(f"expected every of at least 1, got {self.every}")
        object.__setattr__(self, "terms", {name: (w, term) for name, (w, term) in self.terms.items() if w})

    def takes(self, step: int) -> bool:
        """Whether it is this view's turn in a step."""
        return step % self.every == self.every // 2

    def costs(
        self, image: Tensor, latent: Tensor | None, generators: Sequence[torch.Generator], step: int
    ) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """The weighted cost (B,), the cost of each term (B,) by its name in the history, and the embeddings (B, D)."""
        shown = image if self.transform is None else self.transform(image, generators)
        weights = self.recognizer.noisy_weights(self.noise, step) if self.noise else None
        trace = self.tracer.trace(self.recognizer, shown, all_taps(self.terms), latent, weights)
        total, found = image.new_zeros(len(image)), {}
        for name, (weight, term) in self.terms.items():
            cost = term(trace)
            found[self.term_name(name)] = cost.detach()
            total = total + weight * cost
        return total, found, trace.embedding.detach()

    def term_name(self, name: str) -> str:
        """The name of a term in the history."""
        return f"{self.name}.{name}" if self.name else name


@dataclass(frozen=True, eq=False)
class Recipe:
    """A parameterization and the views that optimize it.

    Attributes:
        parameterization: B images.
        views: the first one is of the attacked network. A step goes through the last view whose turn it is.
            A view without a term takes no step.
        steps: how many.
        lr: learning rate of Adam at the start.
        betas: of Adam.
        decay: whether the rate falls to 0 along half a cosine.
        refine_steps: the last so many of the steps follow a call of
            :meth:`~arcinvert.inversion.parameterization.Parameterization.refine`. Adam begins anew with them.
        refine_lr: its learning rate then.
        asked: (B,) what each image was asked to have, by its name; NaN where it is free.

    Raises:
        UsageError: there is no view, or the first one does not take every step that the others leave; more steps
            refine than there are.
    """

    parameterization: Parameterization
    views: tuple[View, ...]
    steps: int
    lr: float
    betas: tuple[float, float] = (0.9, 0.999)
    decay: bool = True
    refine_steps: int = 0
    refine_lr: float = 0.0
    asked: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 <= self.refine_steps <= self.steps:
            raise UsageError(f"expected 0 to {self.steps} steps that refine, got {self.refine_steps}")
        if not self.views or self.views[0].every != 1:
            raise UsageError("expected a first view that takes every step which the others leave")
        if any(view.every == 1 for view in self.views[1:]):
            raise UsageError("expected every of at least 2 for each view after the first, got 1")

    def view(self, step: int) -> View:
        """The view that takes a step."""
        return next((v for v in reversed(self.views[1:]) if v.terms and v.takes(step)), self.views[0])

    @property
    def coarse_steps(self) -> int:
        """The steps before those that refine."""
        return self.steps - self.refine_steps

    def rate(self, step: int) -> float:
        """The learning rate of a step."""
        coarse = self.coarse_steps
        first, done = (
            (self.lr, step / coarse) if step < coarse else (self.refine_lr, (step - coarse) / self.refine_steps)
        )
        return first * (0.5 * (1 + math.cos(math.pi * done)) if self.decay else 1.0)


@dataclass(frozen=True, eq=False)
class Inversion:
    """The result of an inversion, image by image.

    Attributes:
        images: (B, 112, 112, 3) uint8 RGB, what the recognizer sees.
        pictures: (B, S, S, 3) uint8 RGB, the same larger; S is a multiple of 112.
        cosine: (B,) of the 8-bit image's own embedding to the target.
        diverged: (B,) images for which no finite step was found.
        history: name of a term (unweighted; see :attr:`View.name`), or ``cosine`` to the target under the first view
            -> (steps, B). In a step that does not measure a term, the term keeps its last value, at first 0.
    """

    images: Tensor
    pictures: Tensor
    cosine: Tensor
    diverged: Tensor
    history: dict[str, Tensor] = field(repr=False)


def invert(
    recipe: Recipe,
    *,
    target: Tensor,
    generators: Sequence[torch.Generator],
    size: int = LARGE,
    progress: Progress = silent,
    on_step: Callable[[int, Tensor], None] | None = None,
) -> Inversion:
    """Run a recipe.

    A step that makes an image's cost or gradient NaN or infinite is taken back, and its rate halved;
    after four such steps (or if there is no other) the image stays where it was and counts as
    diverged. The other images continue.

    Args:
        recipe: its parameterization is left at the result.
        target: (B, D) unit norm; ``cosine`` is the cosine to it.
        generators: one per image, for the transforms.
        size: of the pictures; see :meth:`~arcinvert.inversion.parameterization.Parameterization.result`.
        progress: called with (step, steps, text).
        on_step: called with (step, image (B, 3, 112, 112), not clamped) before each step.
    """
    attacked = recipe.views[0]
    parameters = list(recipe.parameterization.parameters())

    def new_optimizer() -> torch.optim.Adam:
        return torch.optim.Adam(parameters, betas=recipe.betas, foreach=False)

    optimizer = new_optimizer()
    count = len(target)
    rate = torch.ones(count, device=target.device)
    failures = torch.zeros(count, dtype=torch.int64, device=target.device)
    names = [view.term_name(name) for view in recipe.views for name in view.terms]
    last = dict.fromkeys((*names, "cosine"), target.new_zeros(count))
    history: dict[str, list[Tensor]] = {}
    before, failed = [p.detach().clone() for p in parameters], False
    for step in range(recipe.steps):
        if step == recipe.coarse_steps:
            recipe.parameterization.refine()
            parameters = list(recipe.parameterization.parameters())
            before = [p.detach().clone() for p in parameters]
            optimizer = new_optimizer()
        image = recipe.parameterization()
        if on_step is not None:
            on_step(step, image.detach())
        view = recipe.view(step)
        total, costs, embedding = view.costs(image, recipe.parameterization.latent(), generators, step)
        last |= costs
        if view is attacked:
            last["cosine"] = (embedding * target).sum(1)
        for name, value in last.items():
            history.setdefault(name, []).append(value)
        optimizer.zero_grad(set_to_none=True)
        scale = view.tracer.scale
        (total.sum() * scale).backward()  # type: ignore[no-untyped-call]
        if scale != 1:
            for parameter in parameters:
                parameter.grad = None if parameter.grad is None else parameter.grad / scale
        bad = _not_finite(total.detach(), parameters)
        if bool(bad.any()):  # the one place where a step waits for the device, but for what `progress` shows
            failed = True
            failures += bad
            rate[bad] /= 2
            _roll_back(bad, parameters, before, optimizer)
        for saved, parameter in zip(before, parameters, strict=True):
            saved.copy_(parameter.detach())
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate(step)
        optimizer.step()
        if failed:
            _slow_down(torch.where(failures >= PATIENCE, 0.0, rate), parameters, before)
        if progress is not silent:
            progress(step + 1, recipe.steps, f"cosine {float(history['cosine'][-1].mean()):.3f}")
    with torch.no_grad():
        pictures = to_bytes(recipe.parameterization.result(size))
    images = reduced(pictures)
    embedding = attacked.recognizer.embed(images.permute(0, 3, 1, 2))
    return Inversion(
        images.cpu(),
        pictures.cpu(),
        (embedding * target).sum(1).cpu(),
        (failures >= max(1, min(PATIENCE, recipe.steps))).cpu(),
        {name: torch.stack(values).cpu() for name, values in history.items()},
    )


def to_bytes(images: Tensor) -> Tensor:
    """(B, 3, H, W) about [0, 1] -> (B, H, W, 3) uint8, rounded and clamped."""
    return (images.nan_to_num(0.5) * 255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def reduced(pictures: Tensor) -> Tensor:
    """(B, S, S, 3) uint8 -> (B, 112, 112, 3) uint8, each pixel the mean of the pixels in its place."""
    if pictures.shape[1] == SIZE:
        return pictures
    return to_bytes(avg_pool2d(pictures.permute(0, 3, 1, 2).float() / 255, pictures.shape[1] // SIZE))


def _not_finite(total: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    bad = ~torch.isfinite(total)
    for parameter in parameters:
        if parameter.grad is not None:
            bad |= ~torch.isfinite(parameter.grad.flatten(1).sum(1))
    return bad


@torch.no_grad()
def _roll_back(
    bad: Tensor, parameters: Sequence[Tensor], before: list[Tensor], optimizer: torch.optim.Optimizer
) -> None:
    """Put the rows ``bad`` back where they were, with no gradient and no momentum."""
    for parameter, saved in zip(parameters, before, strict=True):
        parameter[bad] = saved[bad]
        if parameter.grad is not None:
            parameter.grad[bad] = 0
        for value in optimizer.state[parameter].values():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                value[bad] = 0


@torch.no_grad()
def _slow_down(rate: Tensor, parameters: Sequence[Tensor], before: list[Tensor]) -> None:
    """Shorten the step just taken to ``rate`` (B,) of its length."""
    for parameter, saved in zip(parameters, before, strict=True):
        parameter.copy_(saved + rate.view(-1, *[1] * (parameter.ndim - 1)) * (parameter - saved))
