"""Inner products with some rows of the class centers, and SGD that leaves the other rows unchanged."""

from typing import Any

import pytest
import torch
from torch.nn.functional import normalize

from arcinvert.training import class_centers as module
from arcinvert.training.class_centers import inner_products, lookup, sgd_step_


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several blocks, the last one smaller."""
    monkeypatch.setattr(module, "BLOCK_ROWS", 4)


def centers_of(*shape: int) -> torch.Tensor:
    centers = torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return centers.requires_grad_()


@pytest.mark.parametrize("unit", [True, False])
@pytest.mark.parametrize("chosen", [None, [0, 2, 3, 5, 8, 9], []], ids=str)
@pytest.mark.parametrize("shape", [(10, 5), (10, 3, 5)], ids=str)
def test_products_and_their_gradients_against_plain_torch(
    shape: tuple[int, ...], chosen: list[int] | None, unit: bool
) -> None:
    centers, vectors = centers_of(*shape), torch.randn(7, 5, dtype=torch.float64, requires_grad=True)
    rows = None if chosen is None else torch.tensor(chosen, dtype=torch.int64)
    found = inner_products(vectors, centers, rows, unit=unit)
    taken = centers if rows is None else centers[rows]
    expected = torch.einsum("bd,...d->b...", vectors, normalize(taken, dim=-1) if unit else taken)
    torch.testing.assert_close(found, expected)
    weights = torch.randn(expected.shape, dtype=torch.float64)
    by_hand = torch.autograd.grad((expected * weights).sum(), (vectors, centers))
    mine = torch.autograd.grad((found * weights).sum(), (vectors, centers))
    torch.testing.assert_close(mine[0], by_hand[0])
    assert mine[1].is_sparse == (rows is not None)
    torch.testing.assert_close(mine[1].to_dense(), by_hand[1])


def test_the_gradient_of_a_lookup_is_sparse() -> None:
    centers, rows = centers_of(6, 2), torch.tensor([1, 4])
    taken = lookup(centers, rows)
    assert torch.equal(taken, centers[rows])
    (gradient,) = torch.autograd.grad((taken * 3).sum(), centers)
    assert gradient.is_sparse
    assert gradient.coalesce().indices().tolist() == [[1, 4]]
    assert torch.equal(gradient.to_dense()[rows], torch.full((2, 2), 3.0, dtype=torch.float64))


SETTINGS: dict[str, Any] = {"lr": 0.3, "momentum": 0.9, "weight_decay": 0.1}


def test_with_all_rows_it_is_torchs_sgd() -> None:
    mine, velocity = centers_of(10, 5), torch.zeros(10, 5, dtype=torch.float64)
    sparse, other = centers_of(10, 5), torch.zeros(10, 5, dtype=torch.float64)
    its = centers_of(10, 5)
    optimizer = torch.optim.SGD([its], **SETTINGS)
    for step in range(4):
        gradient = torch.randn(10, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(step))
        its.grad, mine.grad, sparse.grad = gradient.clone(), 8 * gradient, gradient.to_sparse(1)
        optimizer.step()
        sgd_step_(mine, velocity, scale=8.0, **SETTINGS)
        sgd_step_(sparse, other, **SETTINGS)
        torch.testing.assert_close(mine, its)
        torch.testing.assert_close(sparse, its)
    torch.testing.assert_close(velocity, optimizer.state[its]["momentum_buffer"])
    torch.testing.assert_close(other, velocity)


def test_rows_without_a_gradient_are_neither_decayed_nor_moved() -> None:
    """Each row equals one that made only its own steps."""
    centers, velocity = centers_of(10, 5), torch.zeros(10, 5, dtype=torch.float64)
    before = centers.detach().clone()
    alone = {row: torch.nn.Parameter(before[row].clone()) for row in range(10)}
    each = {row: torch.optim.SGD([weight], **SETTINGS) for row, weight in alone.items()}
    for step, chosen in enumerate([[0, 3, 4, 5, 6, 9], [3], [0, 9], [3, 4, 9]]):
        values = torch.randn(len(chosen), 5, dtype=torch.float64, generator=torch.Generator().manual_seed(step))
        centers.grad = torch.sparse_coo_tensor(torch.tensor([chosen]), values, (10, 5), check_invariants=False)
        sgd_step_(centers, velocity, **SETTINGS)
        for row, gradient in zip(chosen, values, strict=True):
            alone[row].grad = gradient.clone()
            each[row].step()
    for row, weight in alone.items():
        torch.testing.assert_close(centers[row], weight.data)
    still = [1, 2, 7, 8]
    assert torch.equal(centers[still], before[still])
    assert not velocity[still].any()
    assert velocity[[0, 3, 4, 5, 6, 9]].abs().min() > 0


def test_gradients_of_two_passes_add_up() -> None:
    centers, vectors = centers_of(10, 5), torch.randn(7, 5, dtype=torch.float64)
    for chosen in ([1, 2], [2, 8]):
        inner_products(vectors, centers, torch.tensor(chosen), unit=True).sum().backward()
    assert centers.grad is not None
    total = centers.grad.to_dense()
    again = centers_of(10, 5)
    for chosen in ([1, 2], [2, 8]):
        (vectors @ normalize(again[chosen], dim=1).T).sum().backward()
    torch.testing.assert_close(total, again.grad)
    sgd_step_(centers, torch.zeros_like(centers), **SETTINGS)
    torch.testing.assert_close(
        centers.detach()[2], centers_of(10, 5).detach()[2] - 0.3 * (total[2] + 0.1 * again[2].detach())
    )


def test_without_a_gradient_nothing_happens() -> None:
    centers, velocity = centers_of(3, 2), torch.ones(3, 2, dtype=torch.float64)
    sgd_step_(centers, velocity, **SETTINGS)
    assert torch.equal(centers, centers_of(3, 2))
    assert (velocity == 1).all()
