"""The only optimization loop: image -> view -> trace -> terms -> step.

Where a recipe names an auxiliary network, every so many steps go through that one in place of the inverted one.

The sum over images is what is differentiated, and Adam works element by element, so the path of
one image does not depend on the others in its batch.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from arcinvert.errors import UsageError
from arcinvert.inversion.compiled import CompiledNetwork
from arcinvert.inversion.parameterization import Parameterization
from arcinvert.inversion.terms import Term, Terms, all_taps
from arcinvert.progress import Progress, silent
from arcinvert.recognizer import Recognizer

Transform = Callable[[Tensor, Sequence[torch.Generator]], Tensor]

PATIENCE = 4
"""How often an image is rolled back, at half its rate each time, before it counts as diverged."""

FLOAT16_SCALE = 1024.0
"""What costs are multiplied by before a backward pass in float16, whose smallest number is 6e-8."""


@dataclass(frozen=True, eq=False)
class Auxiliary:
    """A second network, through which some of the steps go in place of the inverted one.

    Attributes:
        recognizer: the second network; it is shown the image itself, not a view.
        terms: name -> (weight, term), of its trace; a weight of 0 leaves a term out.
        every: of so many steps one is its, the middle one; at least 2.

    Raises:
        UsageError: with a smaller ``every`` the inverted network would never be looked at.
    """

    recognizer: Recognizer
    terms: Terms
    every: int

    def __post_init__(self) -> None:
        if self.every < 2:
            raise UsageError(f"expected every of at least 2, got {self.every}")

    def has(self, step: int) -> bool:
        """Whether a step goes through this network."""
        return step % self.every == self.every // 2


@dataclass(frozen=True, eq=False)
class Recipe:
    """What an inversion is made of.

    Attributes:
        parameterization: B images.
        terms: name -> (weight, term); a weight of 0 leaves a term out.
        steps: how many.
        lr: learning rate of Adam at the start.
        betas: of Adam.
        decay: whether the rate falls to 0 along half a cosine.
        transform: draws the view of each step; None shows the image itself.
        auxiliary: a second network that takes its turns; None leaves all steps to the inverted one.
    """

    parameterization: Parameterization
    terms: Terms
    steps: int
    lr: float
    betas: tuple[float, float] = (0.9, 0.999)
    decay: bool = True
    transform: Transform | None = None
    auxiliary: Auxiliary | None = None


@dataclass(frozen=True, eq=False)
class Inversion:
    """What came out, image by image.

    Attributes:
        images: (B, 112, 112, 3) uint8 RGB.
        cosine: (B,) of the 8-bit image's own embedding to the target.
        diverged: (B,) images for which no finite step was found.
        history: name of a term (unweighted), ``cosine`` to the target under the view, or ``auxiliary``, the weighted
            cost before the auxiliary network -> (steps, B). What a step did not look at is as it was last, at first 0.
    """

    images: Tensor
    cosine: Tensor
    diverged: Tensor
    history: dict[str, Tensor] = field(repr=False)


def invert(
    recognizer: Recognizer,
    recipe: Recipe,
    *,
    target: Tensor,
    generators: Sequence[torch.Generator],
    precision: torch.dtype = torch.float32,
    compiled: CompiledNetwork | None = None,
    progress: Progress = silent,
    watch: Callable[[int, Tensor], None] | None = None,
) -> Inversion:
    """Run a recipe.

    A step that makes an image's cost or gradient NaN or infinite is taken back, and its rate halved;
    after four such steps (or if there is no other) the image stays where it was and counts as
    diverged. Its neighbors go on.

    Args:
        recognizer: the network that is inverted.
        recipe: its parameterization is left at the result.
        target: (B, D) unit norm, what ``cosine`` is measured to.
        generators: one per image, for the views.
        precision: of the network's products during the descent; statistics, costs and the result's own
            cosine are float32. Gradients of float16 are scaled against underflow.
        compiled: of the recognizer, to run in its place.
        progress: told (step, steps, text).
        watch: shown (step, image (B, 3, 112, 112), not clamped) before each step.
    """
    parameters = list(recipe.parameterization.parameters())
    optimizer = torch.optim.Adam(parameters, lr=recipe.lr, betas=recipe.betas, foreach=False)
    terms, taps = _active(recipe.terms), all_taps(recipe.terms)
    second, besides = recipe.auxiliary, {} if recipe.auxiliary is None else _active(recipe.auxiliary.terms)
    tracer = None if compiled is None else compiled.tracer(taps, precision)
    count = len(target)
    scale = FLOAT16_SCALE if precision == torch.float16 else 1.0
    rate = torch.ones(count, device=target.device)
    failures = torch.zeros(count, dtype=torch.int64, device=target.device)
    history: dict[str, list[Tensor]] = {}
    costs = dict.fromkeys((*terms, *(("auxiliary",) if besides else ()), "cosine"), target.new_zeros(count))
    before = [p.detach().clone() for p in parameters]
    for step in range(recipe.steps):
        image = recipe.parameterization()
        if watch is not None:
            watch(step, image.detach())
        latent = recipe.parameterization.latent()
        total = image.new_zeros(count)
        if second is not None and besides and second.has(step):
            trace = second.recognizer.trace(image.float(), taps=all_taps(second.terms), latent=latent)
            for weight, term in besides.values():
                total = total + weight * term(trace)
            costs["auxiliary"] = total.detach()
        else:
            view = image if recipe.transform is None else recipe.transform(image, generators)
            if tracer is None:
                trace = recognizer.trace(view, taps=taps, latent=latent, precision=precision)
            else:
                trace = tracer(view, latent)
            for name, (weight, term) in terms.items():
                cost = term(trace)
                costs[name] = cost.detach()
                total = total + weight * cost
            costs["cosine"] = (trace.embedding.detach() * target).sum(1)
        for name, value in costs.items():
            history.setdefault(name, []).append(value)
        optimizer.zero_grad(set_to_none=True)
        (total.sum() * scale).backward()
        if scale != 1:
            for parameter in parameters:
                parameter.grad = None if parameter.grad is None else parameter.grad / scale
        bad = _not_finite(total.detach(), parameters)
        if bool(bad.any()):
            failures += bad
            rate[bad] /= 2
            _roll_back(bad, parameters, before, optimizer)
        for saved, parameter in zip(before, parameters, strict=True):
            saved.copy_(parameter.detach())
        decay = 0.5 * (1 + math.cos(math.pi * step / recipe.steps)) if recipe.decay else 1.0
        for group in optimizer.param_groups:
            group["lr"] = recipe.lr * decay
        optimizer.step()
        if bool((failures > 0).any()):
            _slow_down(torch.where(failures >= PATIENCE, 0.0, rate), parameters, before)
        progress(step + 1, recipe.steps, f"cosine {float(history['cosine'][-1].mean()):.3f}")
    with torch.no_grad():
        images = to_bytes(recipe.parameterization.result())
    embedding = recognizer.embed(images.permute(0, 3, 1, 2))
    return Inversion(
        images.cpu(),
        (embedding * target).sum(1).cpu(),
        (failures >= max(1, min(PATIENCE, recipe.steps))).cpu(),
        {name: torch.stack(values).cpu() for name, values in history.items()},
    )


def _active(terms: Terms) -> dict[str, tuple[float, Term]]:
    return {name: (weight, term) for name, (weight, term) in terms.items() if weight}


def to_bytes(images: Tensor) -> Tensor:
    """(B, 3, H, W) about [0, 1] -> (B, H, W, 3) uint8, rounded and clamped."""
    return (images.nan_to_num(0.5) * 255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


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
