"""A head that compares a batch with a share of the classes, against the full head of these classes alone."""

import pytest
import torch

from arcinvert.distributed import Processes
from arcinvert.errors import UsageError
from arcinvert.training.heads import MarginHead
from arcinvert.training.losses import LOSSES
from arcinvert.training.margins import ALL_MARGINS

CLASSES, SIZE = 200, 6


def make(name: str = "arcface", classes: int = CLASSES, **settings: object) -> MarginHead:
    torch.manual_seed(1)
    return MarginHead(SIZE, classes, margin=ALL_MARGINS[name], scale=8.0, **settings)  # type: ignore[arg-type]


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(12, SIZE), torch.tensor([3, 3, 3, 50, 51, 52, 120, 121, 122, 197, 198, 199])


def drawn_by(head: MarginHead, seed: int) -> torch.Tensor:
    """The classes whose centers learn from a batch."""
    head.zero_grad(set_to_none=True)
    features, labels = batch()
    head(features, labels, torch.Generator().manual_seed(seed)).loss.sum().backward()
    assert head.centers.grad is not None
    assert head.centers.grad.is_sparse
    return head.centers.grad.coalesce().indices()[0]


@pytest.mark.parametrize(("sampling", "count"), [(0.1, 20), (0.5, 100), (0.01, 10), (0.999, 200)])
def test_the_own_classes_and_as_many_others_as_asked(sampling: float, count: int) -> None:
    head = make(sampling=sampling)
    drawn = drawn_by(head, 0)
    assert len(drawn) == count
    assert set(batch()[1].tolist()) <= set(drawn.tolist())
    assert torch.equal(drawn, drawn_by(head, 0))
    if 10 < count < 200:
        assert not torch.equal(drawn, drawn_by(head, 1))


def test_over_many_draws_all_others_are_as_likely() -> None:
    head, seen = make(sampling=0.2), torch.zeros(CLASSES)
    for seed in range(300):
        seen[drawn_by(head, seed)] += 1
    own = sorted(set(batch()[1].tolist()))
    assert (seen[own] == 300).all()
    others = seen[[number for number in range(CLASSES) if number not in own]]
    share = (40 - len(own)) / (CLASSES - len(own))
    assert (others - 300 * share).abs().max() < 5 * (300 * share * (1 - share)) ** 0.5


@pytest.mark.parametrize(("name", "subcenters"), [*zip(sorted(ALL_MARGINS), (1, 2) * 4, strict=True)])
def test_it_is_the_full_head_of_the_classes_drawn(name: str, subcenters: int) -> None:
    head = make(name, sampling=0.2, subcenters=subcenters, extra_losses=dict.fromkeys(LOSSES, 0.5))
    features, labels = batch()
    own = features.clone().requires_grad_()
    loss = head(own, labels, torch.Generator().manual_seed(0)).loss
    loss.sum().backward()
    assert head.centers.grad is not None
    gradient = head.centers.grad.coalesce()
    rows = gradient.indices()[0]
    small = make(name, len(rows), subcenters=subcenters, extra_losses=dict.fromkeys(LOSSES, 0.5))
    with torch.no_grad():
        small.centers.copy_(head.centers[rows])
    other = features.clone().requires_grad_()
    expected = small(other, torch.searchsorted(rows, labels)).loss
    expected.sum().backward()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(own.grad, other.grad, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(gradient.values(), small.centers.grad, atol=1e-5, rtol=1e-4)


def test_evaluation_compares_with_all_classes() -> None:
    features, labels = batch()
    assert torch.equal(make(sampling=0.1).eval()(features, labels).loss, make().eval()(features, labels).loss)
    assert (make(sampling=0.1)(features, labels).loss < make()(features, labels).loss).all()


@pytest.mark.parametrize("sampling", [0.0, -0.1, 1.1, float("nan")])
def test_a_rate_out_of_range_is_refused(sampling: float) -> None:
    with pytest.raises(UsageError, match="expected a sampling rate above 0 and up to 1"):
        make(sampling=sampling)


def test_processes_start_with_the_centers_of_one_process() -> None:
    whole = make(classes=9000)
    parts = []
    for rank in range(3):
        torch.manual_seed(1)
        part = MarginHead(SIZE, 9000, margin=ALL_MARGINS["arcface"], processes=Processes(rank, 3))
        parts.append(part.centers)
    assert torch.equal(torch.cat(parts), whole.centers)
    assert float(whole.centers.detach().std()) == pytest.approx(0.01, rel=0.02)
