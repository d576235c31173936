"""Collectives with exact gradients: what several processes compute together is differentiated together.

One convention holds for all of them: what is minimized is the *sum* of the ranks' objectives. A tensor that
every rank has alike therefore receives from each rank the part of the gradient that this rank knows of, and
the backward passes add these up. With one rank nothing is sent, and every function returns its argument.
All ranks call the same functions in the same order, forward and (through autograd) backward.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from arcinvert.distributed import Ranks


def sizes(own: int, ranks: Ranks, device: torch.device) -> list[int]:
    """What each rank calls its ``own``, in their order."""
    if ranks.world == 1:
        return [own]
    found = torch.zeros(ranks.world, dtype=torch.int64, device=device)
    found[ranks.rank] = own
    dist.all_reduce(found)
    return found.tolist()


def gather_rows(rows: Tensor, counts: list[int], ranks: Ranks) -> Tensor:
    """The rows of all ranks one below the other, differentiable.

    Args:
        rows: (b, ...), as many as ``counts`` says of this rank; none is allowed.
        counts: of every rank, from :func:`sizes`.

    Returns:
        (sum of counts, ...).
    """
    if ranks.world == 1:
        return rows
    gathered: Tensor = _Gather.apply(rows, counts, ranks)
    return gathered


def all_sum(value: Tensor, ranks: Ranks) -> Tensor:
    """The sum over the ranks of tensors of one shape, differentiable."""
    if ranks.world == 1:
        return value
    total: Tensor = _Sum.apply(value)
    return total


def all_max(value: Tensor, ranks: Ranks) -> Tensor:
    """The largest over the ranks, element by element, without gradient."""
    value = value.detach()
    if ranks.world > 1:
        value = value.clone()
        dist.all_reduce(value, dist.ReduceOp.MAX)
    return value


def collect(rows: Tensor, ranks: Ranks) -> Tensor | None:
    """The rows (b, ...) of all ranks one below the other, on the CPU of the first rank; None on the others."""
    rows = rows.detach().cpu()
    if ranks.world == 1:
        return rows
    counts = sizes(len(rows), ranks, rows.device)
    padded = rows.new_zeros(max(counts), *rows.shape[1:])
    padded[: len(rows)] = rows
    parts = [torch.empty_like(padded) for _ in counts] if ranks.rank == 0 else None
    dist.gather(padded, parts)
    return None if parts is None else torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])


def own_part(counts: list[int], ranks: Ranks) -> slice:
    """Where this rank's rows stand among those that :func:`gather_rows` gathered."""
    start = sum(counts[: ranks.rank])
    return slice(start, start + counts[ranks.rank])


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, counts: list[int], ranks: Ranks) -> Tensor:
        ctx.part = own_part(counts, ranks)
        padded = rows.new_zeros(max(counts), *rows.shape[1:])  # backends want one size from all
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(parts, padded)
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        total = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total[ctx.part], None, None


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        total = value.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _Sum.forward(ctx, gradients[0])
