"""Operations on a matrix of class centers of which a step uses only some rows: products, lookup, SGD.

All of them go block by block, so that no temporary is as large as the matrix but its gradient.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

BLOCK_ROWS = 2048
"""Rows of a block on a CPU: few enough for its cache. On a GPU a block has 32 times as many."""


def inner_products(vectors: Tensor, centers: Tensor, rows: Tensor | None, *, unit: bool) -> Tensor:
    """Inner products of vectors with rows of the centers.

    Args:
        vectors: (B, D).
        centers: (N, D), or (N, K, D). Their gradient is sparse if ``rows`` is given.
        rows: (R,) int64, ascending, without duplicates; None is all of them.
        unit: scale the rows to unit norm.

    Returns:
        (B, R), or (B, R, K), of the vectors' dtype.
    """
    found: Tensor = _InnerProducts.apply(vectors, centers, rows, unit)
    return found.view(len(vectors), -1 if rows is None else len(rows), *centers.shape[1:-1])


def lookup(centers: Tensor, rows: Tensor) -> Tensor:
    """``centers[rows]`` with a sparse gradient.

    Args:
        centers: (N, ...).
        rows: (R,) int64, ascending, without duplicates.
    """
    chosen: Tensor = _Lookup.apply(centers, rows)
    return chosen


@torch.no_grad()
def sgd_step_(
    weights: Tensor, velocity: Tensor, *, lr: float, momentum: float, weight_decay: float, scale: float = 1.0
) -> None:
    """One step of SGD with momentum and weight decay, in place, equal to that of :class:`torch.optim.SGD`.

    A sparse gradient changes its own rows only: the weights and the velocity of the others are neither decayed nor
    read.

    Args:
        weights: (N, ...); without a gradient they stay as they are.
        velocity: the same shape, 0 at first.
        lr, momentum, weight_decay: as of torch's.
        scale: the gradient is divided by it.
    """
    gradient = weights.grad
    if gradient is None:
        return
    if not gradient.is_sparse:
        velocity.mul_(momentum).add_(gradient, alpha=1 / scale).add_(weights, alpha=weight_decay)
        weights.sub_(velocity, alpha=lr)
        return
    gradient = gradient.coalesce()
    rows, values = gradient.indices()[0], gradient.values()
    for block in _blocks(len(rows), rows.device):
        chosen = rows[block]
        moved = velocity.index_select(0, chosen).mul_(momentum).add_(values[block], alpha=1 / scale)
        moved.add_(weights.index_select(0, chosen), alpha=weight_decay)
        velocity.index_copy_(0, chosen, moved)
        weights.index_add_(0, chosen, moved, alpha=-lr)


def _blocks(count: int, device: torch.device) -> Iterator[slice]:
    size = BLOCK_ROWS if device.type == "cpu" else 32 * BLOCK_ROWS
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


class _InnerProducts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, vectors: Tensor, centers: Tensor, rows: Tensor | None, unit: bool) -> Tensor:
        count, each = len(centers) if rows is None else len(rows), centers[:1].numel() // vectors.shape[1]
        found = vectors.new_empty(len(vectors), count * each)
        inverse = vectors.new_ones(count * each)
        for block in _blocks(count, centers.device):
            chosen, wide = _chosen(centers, rows, block, vectors.dtype), slice(block.start * each, block.stop * each)
            if unit:
                inverse[wide] = chosen.norm(dim=1).clamp_min_(1e-12).reciprocal_()
            found[:, wide] = vectors @ chosen.T * inverse[wide]
        ctx.save_for_backward(vectors, centers, rows, inverse)
        ctx.unit, ctx.count, ctx.each = unit, count, each
        return found

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        vectors, centers, rows, inverse = ctx.saved_tensors
        to_vectors, values = torch.zeros_like(vectors), centers.new_empty(ctx.count, *centers.shape[1:])
        flat = values.view(-1, centers.shape[-1])
        for block in _blocks(ctx.count, centers.device):
            chosen = _chosen(centers, rows, block, vectors.dtype)
            wide = slice(block.start * ctx.each, block.stop * ctx.each)
            part = gradients[0][:, wide] * inverse[wide]
            to_vectors.addmm_(part, chosen)
            onto = part.T @ vectors
            if ctx.unit:  # the part along the row itself drops out
                onto.addcmul_(chosen, ((onto * chosen).sum(1) * inverse[wide].square())[:, None], value=-1)
            flat[wide] = onto.to(flat.dtype)
        return to_vectors, values if rows is None else _sparse(rows, values, centers.shape), None, None


class _Lookup(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, centers: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(rows)
        ctx.shape = centers.shape
        return centers.index_select(0, rows)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _sparse(ctx.saved_tensors[0], gradients[0], ctx.shape), None


def _chosen(centers: Tensor, rows: Tensor | None, block: slice, dtype: torch.dtype) -> Tensor:
    chosen = centers[block] if rows is None else centers.index_select(0, rows[block])
    return chosen.to(dtype).flatten(0, -2)


def _sparse(rows: Tensor, values: Tensor, shape: torch.Size) -> Tensor:
    return torch.sparse_coo_tensor(rows[None], values, shape, is_coalesced=True, check_invariants=False)
