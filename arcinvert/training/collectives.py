"""Collectives with exact gradients: sums and gathers over processes, through which autograd differentiates.

All of them follow one convention: the *sum* of the processes' objectives is minimized. A tensor that every process
holds alike therefore receives from each process the part of the gradient that this process computes, and the backward
passes add these up. With one process nothing is sent, and every function returns its argument.
All processes call the same functions in the same order, forward and (through autograd) backward.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from arcinvert.distributed import Processes


def sizes(own: int, processes: Processes, device: torch.device) -> list[int]:
    """The number that each process passes as ``own``, in their order."""
    if processes.world_size == 1:
        return [own]
    found = torch.zeros(processes.world_size, dtype=torch.int64, device=device)
    found[processes.rank] = own
    dist.all_reduce(found)
    return found.tolist()


def gather_rows(rows: Tensor, counts: list[int], processes: Processes) -> Tensor:
    """The concatenated rows of all processes, differentiable.

    Args:
        rows: (b, ...), where b is this process's count and may be 0.
        counts: of every process, from :func:`sizes`.

    Returns:
        (sum of counts, ...).
    """
    if processes.world_size == 1:
        return rows
    gathered: Tensor = _Gather.apply(rows, counts, processes)
    return gathered


def all_sum(value: Tensor, processes: Processes) -> Tensor:
    """The sum of a tensor over all processes, differentiable."""
    if processes.world_size == 1:
        return value
    total: Tensor = _Sum.apply(value)
    return total


def all_max(value: Tensor, processes: Processes) -> Tensor:
    """The elementwise maximum over all processes, without gradient."""
    value = value.detach()
    if processes.world_size > 1:
        value = value.clone()
        dist.all_reduce(value, dist.ReduceOp.MAX)
    return value


def collect(rows: Tensor, processes: Processes) -> Tensor | None:
    """The concatenated rows (b, ...) of all processes, on the CPU of the first one; None in the others."""
    rows = rows.detach().cpu()
    if processes.world_size == 1:
        return rows
    counts = sizes(len(rows), processes, rows.device)
    padded = rows.new_zeros(max(counts), *rows.shape[1:])
    padded[: len(rows)] = rows
    parts = [torch.empty_like(padded) for _ in counts] if processes.rank == 0 else None
    dist.gather(padded, parts)
    return None if parts is None else torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])


def own_part(counts: list[int], processes: Processes) -> slice:
    """The place of this process's rows among those that :func:`gather_rows` gathered."""
    start = sum(counts[: processes.rank])
    return slice(start, start + counts[processes.rank])


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, counts: list[int], processes: Processes) -> Tensor:
        ctx.part = own_part(counts, processes)
        padded = rows.new_zeros(max(counts), *rows.shape[1:])  # backends expect one size from all
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
