"""Objectives against hand-made traces."""

import math

import pytest
import torch
from torch.nn.functional import normalize

from arcinvert.calibration.age import AgeRegression
from arcinvert.errors import InputError
from arcinvert.inversion.objectives import AgeMatch, MapMatch, MarginMatch
from arcinvert.recognizer import Trace

CENTERS = normalize(torch.randn(7, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64))
BLACK = torch.zeros(3, 3, 8, 8)


def loss(embedding: torch.Tensor, labels: list[int], *, margin: float = 0.5, scale: float = 16.0) -> torch.Tensor:
    return MarginMatch(CENTERS, torch.tensor(labels), margin, scale)(Trace(BLACK, embedding))


def slowly(embedding: torch.Tensor, label: int, margin: float, scale: float) -> float:
    """Deng et al. 2019, Eq. 3, one number at a time."""
    cosines = [float(embedding @ center) for center in CENTERS]
    right = scale * math.cos(math.acos(cosines[label]) + margin)
    wrong = sum(math.exp(scale * c) for j, c in enumerate(cosines) if j != label)
    return -math.log(math.exp(right) / (math.exp(right) + wrong)) / scale


def test_age_match_is_the_squared_distance_in_decades_and_nothing_where_any_age_will_do() -> None:
    age = AgeRegression(torch.tensor([100.0, 0.0]), torch.tensor(20.0), torch.zeros(2))
    embedding = torch.tensor([[0.1, 0.3], [0.4, 0.0], [0.4, 0.0]]).requires_grad_(True)  # 30, 60 and 60 years
    cost = AgeMatch(age, torch.tensor([50.0, math.nan, 60.0]))(Trace(BLACK, embedding))
    torch.testing.assert_close(cost.detach(), torch.tensor([4.0, 0.0, 0.0]))
    cost.sum().backward()
    assert embedding.grad is not None
    assert embedding.grad[0, 0] < 0
    assert not embedding.grad[1:].any()


def test_margin_match_is_the_arcface_loss_over_the_scale() -> None:
    embedding = normalize(torch.randn(3, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64))
    labels = [int((embedding[i] @ CENTERS.T).argmax()) for i in range(3)]
    expected = [slowly(embedding[i], labels[i], 0.3, 16.0) for i in range(3)]
    torch.testing.assert_close(
        loss(embedding, labels, margin=0.3), torch.tensor(expected, dtype=torch.float64), rtol=1e-6, atol=1e-8
    )


def test_margin_match_falls_all_the_way_to_its_class() -> None:
    """From the opposite of the center to the center, across the angle where cos(theta + m) turns."""
    side = normalize(torch.randn(5, generator=torch.Generator().manual_seed(3), dtype=torch.float64), dim=0)
    side = normalize(side - (side @ CENTERS[0]) * CENTERS[0], dim=0)
    angles = torch.linspace(math.pi - 0.01, 0.01, 60, dtype=torch.float64)[:, None]
    path = torch.cos(angles) * CENTERS[:1] + torch.sin(angles) * side
    alone = MarginMatch(CENTERS[:1].repeat(2, 1) * torch.tensor([[1.0], [0.0]]), torch.zeros(60, dtype=torch.int64))
    costs = alone(Trace(torch.zeros(60, 3, 8, 8), path))
    assert bool((costs[1:] <= costs[:-1]).all())
    assert costs[0] > costs[-1] + 1


def test_margin_match_has_a_gradient_at_the_center_and_opposite_to_it() -> None:
    embedding = torch.stack([CENTERS[0], -CENTERS[0]]).requires_grad_(True)
    loss(embedding, [0, 0]).sum().backward()
    assert embedding.grad is not None
    assert bool(torch.isfinite(embedding.grad).all())
    assert float(embedding.grad[1] @ CENTERS[0]) < 0


def test_margin_match_refuses_other_embeddings_than_labels() -> None:
    with pytest.raises(InputError, match="2 embeddings"):
        loss(CENTERS[:3], [0, 1])


def test_map_match_counts_deviations() -> None:
    predicted = {"a": torch.zeros(2, 3, 7, 7), "b": torch.ones(2, 4, 5, 5)}
    deviation = {"a": torch.full((3, 7, 7), 2.0), "b": torch.full((4, 5, 5), 0.5)}
    match = MapMatch(predicted, deviation)
    assert match.taps == ("a", "b")
    maps = torch.zeros(2, 3, 14, 14)
    maps[1, :, ::2, ::2] = 8.0  # in the mean of each 2x2 square this is 2, one deviation
    trace = Trace(BLACK, torch.zeros(2, 5), {"a": maps, "b": torch.stack([torch.ones(4, 5, 5), torch.zeros(4, 5, 5)])})
    torch.testing.assert_close(match(trace), torch.tensor([0.0, (1.0 + 4.0) / 2]))
    shared = MapMatch(predicted, deviation, torch.tensor([1.0, 0.1]))
    torch.testing.assert_close(shared(trace), torch.tensor([0.0, 0.25]))


def test_map_match_of_a_network_without_maps_is_0() -> None:
    assert MapMatch({}, {}).taps == ()
    torch.testing.assert_close(MapMatch({}, {})(Trace(BLACK, torch.ones(3, 5))), torch.zeros(3))
