"""A table of class centers of which a step touches only some rows: products, lookup with a sparse gradient, SGD.

What is done to many rows is done block by block, so that nothing as large as the table is made but its gradient.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

BLOCK = 2048
"""Rows that are treated at once on a CPU: few enough for its cache. On a GPU 32 times as many."""


def products(vectors: Tensor, table: Tensor, rows: Tensor | None, *, unit: bool) -> Tensor:
    """Inner products of vectors with rows of a table, or with these rows scaled to unit norm.

    Args:
        vectors: (B, D).
        table: (N, D), or (N, K, D). Its gradient is sparse if there are ``rows``.
        rows: (R,) int64, ascending, each once; None is all of them.
        unit: the rows count as if they were of unit norm.

    Returns:
        (B, R), or (B, R, K), of the vectors' dtype.
    """
    found: Tensor = _Products.apply(vectors, table, rows, unit)
    return found.view(len(vectors), -1 if rows is None else len(rows), *table.shape[1:-1])


def rows_of(table: Tensor, rows: Tensor) -> Tensor:
    """``table[rows]``, whose gradient on the table is sparse.

    Args:
        table: (N, ...).
        rows: (R,) int64, ascending, each once.
    """
    chosen: Tensor = _Rows.apply(table, rows)
    return chosen


@torch.no_grad()
def sgd_(
    weights: Tensor, velocity: Tensor, *, lr: float, momentum: float, weight_decay: float, scale: float = 1.0
) -> None:
    """One step of SGD with momentum and decay, in place, as :class:`torch.optim.SGD` makes it.

    If the gradient is sparse, only its rows take part: the weights and the velocity of the others are neither
    decayed nor read.

    Args:
        weights: (N, ...), with a gradient; without one nothing happens.
        velocity: the same shape, 0 at first.
        lr, momentum, weight_decay: as there.
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
    size = BLOCK if device.type == "cpu" else 32 * BLOCK
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


class _Products(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, vectors: Tensor, table: Tensor, rows: Tensor | None, unit: bool) -> Tensor:
        count, each = len(table) if rows is None else len(rows), table[:1].numel() // vectors.shape[1]
        found = vectors.new_empty(len(vectors), count * each)
        inverse = vectors.new_ones(count * each)
        for block in _blocks(count, table.device):
            chosen, wide = _chosen(table, rows, block, vectors.dtype), slice(block.start * each, block.stop * each)
            if unit:
                inverse[wide] = chosen.norm(dim=1).clamp_min_(1e-12).reciprocal_()
            found[:, wide] = vectors @ chosen.T * inverse[wide]
        ctx.save_for_backward(vectors, table, rows, inverse)
        ctx.unit, ctx.count, ctx.each = unit, count, each
        return found

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        vectors, table, rows, inverse = ctx.saved_tensors
        down, values = torch.zeros_like(vectors), table.new_empty(ctx.count, *table.shape[1:])
        flat = values.view(-1, table.shape[-1])
        for block in _blocks(ctx.count, table.device):
            chosen, wide = (
                _chosen(table, rows, block, vectors.dtype),
                slice(block.start * ctx.each, block.stop * ctx.each),
            )
            part = gradients[0][:, wide] * inverse[wide]
            down.addmm_(part, chosen)
            onto = part.T @ vectors
            if ctx.unit:  # nothing along the row itself
                onto.addcmul_(chosen, ((onto * chosen).sum(1) * inverse[wide].square())[:, None], value=-1)
            flat[wide] = onto.to(flat.dtype)
        return down, values if rows is None else _sparse(rows, values, table.shape), None, None


class _Rows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(rows)
        ctx.shape = table.shape
        return table.index_select(0, rows)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _sparse(ctx.saved_tensors[0], gradients[0], ctx.shape), None


def _chosen(table: Tensor, rows: Tensor | None, block: slice, dtype: torch.dtype) -> Tensor:
    chosen = table[block] if rows is None else table.index_select(0, rows[block])
    return chosen.to(dtype).flatten(0, -2)


def _sparse(rows: Tensor, values: Tensor, shape: torch.Size) -> Tensor:
    return torch.sparse_coo_tensor(rows[None], values, shape, is_coalesced=True, check_invariants=False)
