"""The loop on a tiny network: it descends, it recovers, and images do not influence each other."""

import dataclasses

import pytest
import torch
from torch import nn

from arcinvert.inversion.invert import Recipe, invert, to_bytes
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


def test_an_image_that_never_recovers_is_diverged_and_its_neighbour_is_not(recognizer):
    clean, found = make(recognizer, [0, 1]), make(recognizer, [0, 1], poison=Poison(at=3, forever=True))
    assert found.diverged.tolist() == [True, False]
    assert torch.equal(found.images[1], clean.images[1])


def test_no_step_at_all_gives_the_start(recognizer):
    found = make(recognizer, [0, 1], steps=0)
    start = torch.rand(4, 3, 112, 112, generator=torch.Generator().manual_seed(1))
    assert torch.equal(found.images, to_bytes(start[:2]))
    assert found.history == {}
