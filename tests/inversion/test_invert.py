"""The loop on tiny networks: it descends, it recovers, views take turns, and images do not influence each other."""

import dataclasses
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from arcinvert.errors import UsageError
from arcinvert.inversion.invert import Inversion, Recipe, View, invert, to_bytes
from arcinvert.inversion.objectives import CosineMatch
from arcinvert.inversion.parameterization import Pixels
from arcinvert.inversion.priors import BatchNormMatch, stored_statistics
from arcinvert.inversion.terms import Term, Terms
from arcinvert.inversion.transforms import Jitter
from arcinvert.preprocessing import Preprocessing
from arcinvert.recognizer import Recognizer, Trace

START = torch.rand(4, 3, 112, 112, generator=torch.Generator().manual_seed(1))
TARGET = normalize(torch.randn(4, 16, generator=torch.Generator().manual_seed(2)))
OTHER = normalize(torch.randn(4, 16, generator=torch.Generator().manual_seed(3)))


@pytest.fixture
def recognizer() -> Recognizer:
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 8, 5, stride=4), nn.BatchNorm2d(8), nn.PReLU(8), nn.AdaptiveAvgPool2d(3), nn.Flatten())
    return Recognizer(nn.Sequential(*layers, nn.Linear(72, 16)), Preprocessing(), embedding_size=16)


@pytest.fixture
def second() -> Recognizer:
    """Another network."""
    torch.manual_seed(1)
    layers = (nn.AvgPool2d(28), nn.Flatten(), nn.Linear(48, 16))
    return Recognizer(nn.Sequential(*layers), Preprocessing(), embedding_size=16)


def inverted(recognizer: Recognizer, rows: Sequence[int], *, extra: Term | None = None, steps: int = 12) -> Inversion:
    """The images ``rows`` of START, inverted to those of TARGET."""
    terms: Terms = {
        "match": (1.0, CosineMatch(TARGET[rows])),
        "batchnorm": (0.01, BatchNormMatch(stored_statistics(recognizer))),
        **({} if extra is None else {"extra": (1.0, extra)}),
    }
    recipe = Recipe(Pixels(START[rows]), (View(recognizer, terms, Jitter()),), steps=steps, lr=0.05)
    return invert(recipe, target=TARGET[rows], generators=[torch.Generator().manual_seed(10 + row) for row in rows])


def test_the_cost_falls_and_the_history_has_every_term(recognizer: Recognizer) -> None:
    found = inverted(recognizer, [0, 1])
    assert set(found.history) == {"match", "batchnorm", "cosine"}
    assert found.history["match"].shape == (12, 2)
    assert bool((found.history["match"][-1] < found.history["match"][0]).all())
    assert (found.images.shape, found.images.dtype) == ((2, 112, 112, 3), torch.uint8)
    assert torch.equal(inverted(recognizer, [0, 1]).images, found.images)  # the same generators, the same bytes


def test_cosine_is_that_of_the_eight_bit_image(recognizer: Recognizer) -> None:
    found = inverted(recognizer, [0, 1])
    torch.testing.assert_close(found.cosine, (recognizer.embed(found.images) * TARGET[:2]).sum(1))


def test_an_image_does_not_depend_on_its_neighbors(recognizer: Recognizer) -> None:
    together, alone = inverted(recognizer, [0, 1, 2, 3]), inverted(recognizer, [2])
    assert int((together.images[2].int() - alone.images[0].int()).abs().max()) <= 1
    torch.testing.assert_close(together.history["match"][:, 2], alone.history["match"][:, 0], rtol=1e-4, atol=1e-5)


@dataclasses.dataclass
class Poison:
    """NaN for row 0: in one step, or from it on."""

    at: int
    forever: bool = False
    step: int = -1
    taps: tuple[str, ...] = ()

    def __call__(self, trace: Trace) -> Tensor:
        self.step += 1
        hit = self.step >= self.at if self.forever else self.step == self.at
        return trace.image.sum((1, 2, 3)) * 0 + torch.tensor([float("nan") if hit else 0.0, 0.0])


@pytest.mark.parametrize("forever", [False, True])
def test_a_step_that_is_not_finite_is_taken_back_for_that_image_only(recognizer: Recognizer, forever: bool) -> None:
    clean, found = inverted(recognizer, [0, 1]), inverted(recognizer, [0, 1], extra=Poison(at=3, forever=forever))
    assert found.diverged.tolist() == [forever, False]
    assert torch.equal(found.images[1], clean.images[1])
    assert bool(torch.isfinite(found.history["match"]).all())
    assert bool(found.history["match"][-1, 0] < found.history["match"][0, 0])


def test_no_step_gives_the_start(recognizer: Recognizer) -> None:
    found = inverted(recognizer, [0, 1], steps=0)
    assert torch.equal(found.images, to_bytes(START[:2]))
    assert found.history == {}


def test_noise_is_the_same_for_every_image_and_another_in_every_step(recognizer: Recognizer) -> None:
    def costs(rows: list[int], step: int, noise: float = 0.2) -> tuple[Tensor, Tensor]:
        view = View(recognizer, {"match": (1.0, CosineMatch(TARGET[rows]))}, noise=noise)
        images = START[rows].clone().requires_grad_(True)
        total, _, _ = view.costs(images, None, [torch.Generator() for _ in rows], step)
        return total.detach(), torch.autograd.grad(total.sum(), images)[0]

    before = [p.clone() for p in recognizer.network.parameters()]
    together, gradient = costs([0, 1, 2], 5)
    alone, own_gradient = costs([2], 5)
    torch.testing.assert_close(together[2:], alone)
    torch.testing.assert_close(gradient[2:], own_gradient)
    assert not torch.allclose(together, costs([0, 1, 2], 6)[0], rtol=1e-3)
    assert not torch.allclose(together, costs([0, 1, 2], 5, noise=0.0)[0], rtol=1e-3)
    assert all(torch.equal(a, b) for a, b in zip(before, recognizer.network.parameters(), strict=True))


# --- views


def two_views(recognizer: Recognizer, other: View, steps: int) -> tuple[Inversion, list[Tensor]]:
    """Two gray images inverted through the first network and another view; also the image before each step."""
    own = View(recognizer, {"match": (1.0, CosineMatch(TARGET[:2]))})
    recipe = Recipe(Pixels(torch.full((2, 3, 112, 112), 0.4)), (own, other), steps=steps, lr=0.02)
    path: list[Tensor] = []
    found = invert(
        recipe,
        target=TARGET[:2],
        generators=[torch.Generator(), torch.Generator()],
        on_step=lambda step, image: path.append(image.clone()),
    )
    return found, path


def other_view(recognizer: Recognizer, every: int) -> View:
    """A view whose target is another one, and of whose terms one has no weight."""
    match = CosineMatch(OTHER[:2])
    terms: Terms = {"match": (1.0, match), "again": (0.5, match), "off": (0.0, CosineMatch(-OTHER[:2]))}
    return View(recognizer, terms, every=every, name="other")


def record_images(recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Every batch of images that the network gets from now on."""
    images: list[Tensor] = []
    real = recognizer.trace
    monkeypatch.setattr(recognizer, "trace", lambda x, **options: (images.append(x.detach()), real(x, **options))[1])
    return images


def test_one_step_of_four_goes_through_the_second_view_alone(
    recognizer: Recognizer, second: Recognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, others = record_images(recognizer, monkeypatch), record_images(second, monkeypatch)
    found, path = two_views(recognizer, other_view(second, 4), 10)
    assert (len(own) - 1, len(others)) == (8, 2)  # the last pass is that of the result
    for image, step in zip(others, (2, 6), strict=True):
        assert torch.equal(image, path[step])
    history = found.history
    assert set(history) == {"match", "cosine", "other.match", "other.again"}
    assert all(len(values) == 10 for values in history.values())
    for name in ("match", "cosine"):  # not measured in these steps: the last value stays
        assert torch.equal(history[name][2], history[name][1])
        assert torch.equal(history[name][6], history[name][5])
        assert not torch.equal(history[name][3], history[name][1])
    for step in (2, 6):  # unweighted
        expected = 1 - (second.embed(path[step]) * OTHER[:2]).sum(1)
        torch.testing.assert_close(history["other.match"][step], expected)
        torch.testing.assert_close(history["other.again"][step], expected)
    assert torch.equal(history["other.match"][5], history["other.match"][2])
    assert not bool(history["other.match"][1].any())


def test_the_second_view_moves_the_image(recognizer: Recognizer, second: Recognizer) -> None:
    found, path = two_views(recognizer, other_view(second, 2), 24)
    before, after = ((second.embed(images) * OTHER[:2]).sum(1) for images in (path[0], found.images))
    assert bool((after > before + 0.1).all())


def test_a_view_without_terms_takes_no_step(recognizer: Recognizer, second: Recognizer) -> None:
    empty = View(second, {"off": (0.0, CosineMatch(OTHER[:2]))}, every=2, name="other")
    assert empty.terms == {}
    found, _ = two_views(recognizer, empty, 6)
    alone = Recipe(
        Pixels(torch.full((2, 3, 112, 112), 0.4)),
        (View(recognizer, {"match": (1.0, CosineMatch(TARGET[:2]))}),),
        steps=6,
        lr=0.02,
    )
    expected = invert(alone, target=TARGET[:2], generators=[torch.Generator(), torch.Generator()])
    assert torch.equal(found.images, expected.images)
    assert set(found.history) == {"match", "cosine"}


def test_of_three_views_the_last_whose_turn_it_is_takes_the_step(recognizer: Recognizer, second: Recognizer) -> None:
    terms: Terms = {"match": (1.0, CosineMatch(OTHER[:1]))}
    views = (View(recognizer, terms, name="a"), View(second, terms, every=2, name="b"))
    recipe = Recipe(Pixels(START[:1]), (*views, View(second, terms, every=3, name="c")), steps=12, lr=0.02)
    assert "".join(recipe.view(step).name for step in range(12)) == "acabcbacabcb"
    silent = dataclasses.replace(recipe, views=(*views, View(second, {}, every=3, name="c")))
    assert "".join(silent.view(step).name for step in range(12)) == "ab" * 6
    found = invert(recipe, target=TARGET[:1], generators=[torch.Generator()])
    changes = {name: (values[1:] != values[:-1]).flatten().tolist() for name, values in found.history.items()}
    for name in "abc":
        steps = [step for step in range(1, 12) if recipe.view(step).name == name]
        assert [step for step, changed in enumerate(changes[f"{name}.match"], 1) if changed] == steps


def test_views_and_recipes_that_do_not_fit_are_refused(recognizer: Recognizer) -> None:
    for every in (0, -1):
        with pytest.raises(UsageError, match=f"got {every}"):
            View(recognizer, {}, every=every)
    pixels, always, sometimes = Pixels(START[:1]), View(recognizer, {}), View(recognizer, {}, every=2)
    for views, says in (((), "first view"), ((sometimes,), "first view"), ((always, sometimes, always), "got 1")):
        with pytest.raises(UsageError, match=says):
            Recipe(pixels, views, steps=1, lr=0.1)


# --- refining


class Darkened(Pixels):
    """After ``refine`` the image is drawn at half its brightness."""

    factor = 1.0

    def refine(self) -> None:
        self.factor = 0.5

    def forward(self) -> Tensor:
        image: Tensor = super().forward()
        return self.factor * image


@pytest.mark.parametrize("refine_steps", [0, 3, 7])
def test_the_last_steps_and_the_result_are_drawn_as_refined(recognizer: Recognizer, refine_steps: int) -> None:
    view = View(recognizer, {"match": (1.0, CosineMatch(TARGET[:2]))})
    recipe = Recipe(Darkened(START[:2]), (view,), steps=7, lr=0.01, refine_steps=refine_steps, refine_lr=0.02)
    bright: list[bool] = []
    found = invert(
        recipe,
        target=TARGET[:2],
        generators=[torch.Generator()] * 2,
        on_step=lambda step, image: bright.append(float(image.max()) > 0.6),
    )
    assert bright == [True] * (7 - refine_steps) + [False] * refine_steps
    assert (float(found.images.max()) > 0.6 * 255) == (refine_steps == 0)
    assert found.history["cosine"].shape == (7, 2)


class Lightened(Pixels):
    """Refining adds a parameter: a gray level."""

    def refine(self) -> None:
        self.gray = torch.nn.Parameter(torch.zeros(len(self.normalized), 1, 1, 1))

    def forward(self) -> Tensor:
        image: Tensor = super().forward()
        return image + getattr(self, "gray", 0)


def test_parameters_that_refining_adds_are_optimized(recognizer: Recognizer) -> None:
    view = View(recognizer, {"match": (1.0, CosineMatch(TARGET[:2]))})
    recipe = Recipe(Lightened(START[:2]), (view,), steps=5, lr=0.01, refine_steps=3, refine_lr=0.02)
    invert(recipe, target=TARGET[:2], generators=[torch.Generator()] * 2)
    assert isinstance(recipe.parameterization, Lightened)
    assert float(recipe.parameterization.gray.detach().abs().min()) > 0


def test_each_part_of_a_descent_has_a_rate_of_its_own_that_falls(recognizer: Recognizer) -> None:
    view = View(recognizer, {"match": (1.0, CosineMatch(TARGET))})
    recipe = Recipe(Pixels(START), (view,), steps=6, lr=0.2, refine_steps=2, refine_lr=0.1)
    rates = [recipe.rate(step) for step in range(6)]
    assert (rates[0], rates[4]) == (0.2, 0.1)
    assert rates[:4] == sorted(rates[:4], reverse=True)
    assert rates[3] < 0.05
    assert rates[5] == pytest.approx(0.05)


def test_no_more_steps_refine_than_there_are(recognizer: Recognizer) -> None:
    view = View(recognizer, {"match": (1.0, CosineMatch(TARGET))})
    for wrong in (-1, 5):
        with pytest.raises(UsageError, match="expected 0 to 4 steps that refine"):
            Recipe(Pixels(START), (view,), steps=4, lr=0.2, refine_steps=wrong)
