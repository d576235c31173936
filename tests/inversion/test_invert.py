"""The loop on a tiny network: it descends, it recovers, and images do not influence each other."""

import dataclasses

import pytest
import torch
from torch import nn

from arcinvert.errors import UsageError
from arcinvert.inversion.invert import Auxiliary, Recipe, invert, to_bytes
from arcinvert.inversion.objectives import CosineMatch
from arcinvert.inversion.parameterization import Pixels
from arcinvert.inversion.priors import BatchNormMatch, stored_statistics
from arcinvert.inversion.transforms import Jitter
from arcinvert.preprocessing import Preprocessing
from arcinvert.recognizer import Recognizer


@pytest.fixture
def recognizer():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 5, stride=4),
        nn.BatchNorm2d(8),
        nn.PReLU(8),
        nn.AdaptiveAvgPool2d(3),
        nn.Flatten(),
        nn.Linear(72, 16),
    )
    return Recognizer(network, Preprocessing(), embedding_size=16)


def make(recognizer, rows, *, poison=None, steps=12):
    start = torch.rand(4, 3, 112, 112, generator=torch.Generator().manual_seed(1))
    target = nn.functional.normalize(torch.randn(4, 16, generator=torch.Generator().manual_seed(2)))[rows]
    terms = {
        "match": (1.0, CosineMatch(target)),
        "batchnorm": (0.01, BatchNormMatch(stored_statistics(recognizer))),
    }
    if poison is not None:
        terms["poison"] = (1.0, poison)
    recipe = Recipe(Pixels(start[rows]), terms, steps=steps, lr=0.05, transform=Jitter())
    generators = [torch.Generator().manual_seed(10 + row) for row in rows]
    return invert(recognizer, recipe, target=target, generators=generators)


def test_it_descends_and_says_so(recognizer):
    found = make(recognizer, [0, 1])
    assert set(found.history) == {"match", "batchnorm", "cosine"}
    assert found.history["match"].shape == (12, 2)
    assert (found.history["match"][-1] < found.history["match"][0]).all()
    assert found.images.shape == (2, 112, 112, 3)
    assert found.images.dtype == torch.uint8


def test_cosine_is_that_of_the_eight_bit_image(recognizer):
    target = nn.functional.normalize(torch.randn(4, 16, generator=torch.Generator().manual_seed(2)))[:2]
    found = make(recognizer, [0, 1])
    again = (recognizer.embed(found.images.permute(0, 3, 1, 2)) * target).sum(1)
    torch.testing.assert_close(found.cosine, again)


def test_an_image_does_not_depend_on_its_batch_mates(recognizer):
    together = make(recognizer, [0, 1, 2, 3])
    alone = make(recognizer, [2])
    assert float((together.images[2].int() - alone.images[0].int()).abs().max()) <= 1
    torch.testing.assert_close(together.history["match"][:, 2], alone.history["match"][:, 0], rtol=1e-4, atol=1e-5)


def test_same_seed_gives_the_same_bytes(recognizer):
    assert torch.equal(make(recognizer, [0, 1]).images, make(recognizer, [0, 1]).images)


@dataclasses.dataclass
class Poison:
    """NaN for row 0: at one step, or from it on."""

    at: int
    forever: bool = False
    step: int = -1
    taps: tuple[str, ...] = ()

    def __call__(self, trace):
        self.step += 1
        hit = self.step == self.at or (self.forever and self.step >= self.at)
        cost = trace.image.sum((1, 2, 3)) * 0
        return cost + torch.tensor([float("nan"), 0.0]) if hit else cost


def test_a_step_that_is_not_finite_is_taken_back_for_that_image_only(recognizer):
    clean, found = make(recognizer, [0, 1]), make(recognizer, [0, 1], poison=Poison(at=4))
    assert found.diverged.tolist() == [False, False]
    assert torch.equal(found.images[1], clean.images[1])
    assert torch.isfinite(found.history["match"]).all()
    assert found.history["match"][-1, 0] < found.history["match"][0, 0]


def test_an_image_that_never_recovers_is_diverged_and_its_neighbor_is_not(recognizer):
    clean, found = make(recognizer, [0, 1]), make(recognizer, [0, 1], poison=Poison(at=3, forever=True))
    assert found.diverged.tolist() == [True, False]
    assert torch.equal(found.images[1], clean.images[1])


def test_no_step_at_all_gives_the_start(recognizer):
    found = make(recognizer, [0, 1], steps=0)
    start = torch.rand(4, 3, 112, 112, generator=torch.Generator().manual_seed(1))
    assert torch.equal(found.images, to_bytes(start[:2]))
    assert found.history == {}


# --- the auxiliary network's turns


def taking_turns(recognizer, second, *, every=4, steps=10, weight=1.0):
    """Two gray images, the inverted network asking for one thing and the second for another; and where they were."""
    target = nn.functional.normalize(torch.randn(2, 16, generator=torch.Generator().manual_seed(2)))
    asks = nn.functional.normalize(torch.randn(2, 16, generator=torch.Generator().manual_seed(3)))
    terms = {"match": (weight, CosineMatch(asks)), "again": (0.5, CosineMatch(asks)), "off": (0.0, CosineMatch(-asks))}
    recipe = Recipe(
        Pixels(torch.full((2, 3, 112, 112), 0.4)),
        {"match": (1.0, CosineMatch(target))},
        steps=steps,
        lr=0.02,
        auxiliary=Auxiliary(second, terms, every),
    )
    places = []
    found = invert(
        recognizer,
        recipe,
        target=target,
        generators=[torch.Generator(), torch.Generator()],
        watch=lambda step, image: places.append(image.clone()),
    )
    return found, places, asks


def counted(recognizer, monkeypatch):
    shown = []
    real = recognizer.trace
    monkeypatch.setattr(recognizer, "trace", lambda images, **k: (shown.append(images.detach()), real(images, **k))[1])
    return shown


def test_every_so_many_steps_one_goes_through_the_second_network_alone(recognizer, monkeypatch):
    torch.manual_seed(1)
    layers = (nn.AvgPool2d(28), nn.Flatten(), nn.Linear(48, 16))
    second = Recognizer(nn.Sequential(*layers), Preprocessing(), embedding_size=16)
    own, its = counted(recognizer, monkeypatch), counted(second, monkeypatch)
    found, places, asks = taking_turns(recognizer, second)
    assert (len(own) - 1, len(its)) == (8, 2)  # the last look is at the result
    for image, step in zip(its, (2, 6), strict=True):
        assert torch.equal(image, places[step])
    history = found.history
    assert set(history) == {"match", "auxiliary", "cosine"}
    assert all(len(values) == 10 for values in history.values())
    for name in ("match", "cosine"):  # what was not looked at is as it was
        assert torch.equal(history[name][2], history[name][1])
        assert torch.equal(history[name][6], history[name][5])
        assert not torch.equal(history[name][3], history[name][1])
    seen = [1 - (second.embed(places[step]) * asks).sum(1) for step in (2, 6)]
    torch.testing.assert_close(history["auxiliary"][2], 1.5 * seen[0])
    assert torch.equal(history["auxiliary"][5], history["auxiliary"][2])
    assert not bool(history["auxiliary"][1].any())


def test_the_second_network_moves_the_image_and_a_weight_of_0_silences_it(recognizer):
    torch.manual_seed(1)
    second = Recognizer(
        nn.Sequential(nn.AvgPool2d(28), nn.Flatten(), nn.Linear(48, 16)), Preprocessing(), embedding_size=16
    )
    found, places, asks = taking_turns(recognizer, second, every=2, steps=24)
    ends = (second.embed(found.images.permute(0, 3, 1, 2)) * asks).sum(1)
    assert (ends > (second.embed(places[0]) * asks).sum(1) + 0.1).all()
    terms = {"off": (0.0, CosineMatch(asks))}
    target = nn.functional.normalize(torch.ones(1, 16))
    start, steps = torch.full((1, 3, 112, 112), 0.4), 6

    def descended(auxiliary):
        recipe = Recipe(Pixels(start), {"match": (1.0, CosineMatch(target))}, steps=steps, lr=0.02, auxiliary=auxiliary)
        return invert(recognizer, recipe, target=target, generators=[torch.Generator()])

    alone, silent = descended(None), descended(Auxiliary(second, terms, 2))
    assert torch.equal(alone.images, silent.images)
    assert "auxiliary" not in silent.history


@pytest.mark.parametrize("every", [-1, 0, 1])
def test_the_inverted_network_keeps_some_steps(recognizer, every):
    with pytest.raises(UsageError, match="every of at least 2"):
        Auxiliary(recognizer, {}, every)
