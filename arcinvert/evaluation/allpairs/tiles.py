"""Scores of all pairs of labeled embeddings, one tile of the matrix at a time, shared among processes.

The rows are sorted by identity, so genuine pairs lie along the diagonal. If the first and the last identity of a tile
differ, every score in it is an impostor score. A tile gives the same bits each time and on every process, with the same
number of threads.

If ``torch.distributed`` is initialized (``torchrun``), tile k belongs to rank k modulo the world size. Every rank holds
all rows; :func:`summed` and :func:`gathered` combine the results.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, distributed

from arcinvert.errors import InputError
from arcinvert.progress import Progress, silent


@dataclass(frozen=True, eq=False)
class SortedRows:
    """Embeddings sorted by identity.

    Attributes:
        rows: (N, D) float32, unit norm.
        owners: (N,) int64, ascending from 0.
        sizes: (I,) int64, rows of each identity.
    """

    rows: Tensor
    owners: Tensor
    sizes: Tensor

    @property
    def pairs_of(self) -> Tensor:
        """(I,) genuine pairs of each identity."""
        return self.sizes * (self.sizes - 1) // 2

    @property
    def genuine_pairs(self) -> int:
        """Number of pairs of one identity."""
        return int(self.pairs_of.sum())

    @property
    def impostor_pairs(self) -> int:
        """Number of pairs of two identities."""
        return len(self.rows) * (len(self.rows) - 1) // 2 - self.genuine_pairs


@dataclass(frozen=True, eq=False)
class Tile:
    """The pairs of a block of rows and a block of columns; each unordered pair is in one tile.

    Attributes:
        impostor: (a, b) scores, minus infinity where there is no impostor pair; valid until the next tile.
        none: number of entries that are minus infinity.
        genuine: (g,) scores.
        owners: (g,) identity of each genuine score.
    """

    impostor: Tensor
    none: int
    genuine: Tensor
    owners: Tensor


def sort_rows(embeddings: Tensor, labels: Tensor) -> SortedRows:
    """Check embeddings and sort them by identity.

    Args:
        embeddings: (N, D), unit norm.
        labels: (N,) integers.

    Raises:
        InputError: other shapes, NaN or infinity, no pair of one identity, or only one identity.
    """
    if embeddings.ndim != 2 or labels.shape != embeddings.shape[:1]:
        raise InputError(
            f"expected embeddings (N, D) and a label a row, got {tuple(embeddings.shape)} and {tuple(labels.shape)}"
        )
    bad = (~torch.isfinite(embeddings.float().sum(1))).nonzero().flatten()
    if len(bad):
        named = ", ".join(map(str, bad[:5].tolist()))
        raise InputError(f"expected finite numbers, got NaN or infinity in {len(bad)} rows ({named}, ...)")
    _, owners, sizes = torch.unique(labels.to(embeddings.device), return_inverse=True, return_counts=True)
    if len(sizes) < 2 or int(sizes.max()) < 2:
        raise InputError(
            "expected genuine and impostor pairs; the labels give only one kind "
            f"({len(sizes)} identities, {len(labels)} rows)"
        )
    rows = embeddings.float()
    if bool((owners[1:] < owners[:-1]).any()):
        order = torch.argsort(owners, stable=True)
        rows, owners = rows[order], owners[order]
    return SortedRows(rows, owners, sizes)


def tiles(
    ordered: SortedRows, side: int, *, genuine_only: bool = False, text: str = "scoring", progress: Progress = silent
) -> Iterator[Tile]:
    """This process's tiles.

    Args:
        ordered: the embeddings.
        side: rows and columns of a tile.
        genuine_only: skip tiles without genuine pairs.
        text: for ``progress``, which is called with (done, all, text).
        progress: called after each tile.
    """
    rows, owners = ordered.rows, ordered.owners
    rank, world = (distributed.get_rank(), distributed.get_world_size()) if shared() else (0, 1)
    starts, short = range(0, len(rows), side), owners.int()
    first, last = owners[::side].tolist(), owners[[min(s + side, len(rows)) - 1 for s in starts]].tolist()
    every = ((i, j) for i in range(len(starts)) for j in range(i, len(starts)))
    mine = [(i, j) for i, j in every if not genuine_only or i == j or last[i] == first[j]][rank::world]
    room = torch.empty(side * side, device=rows.device)
    lower = torch.ones(min(side, len(rows)), min(side, len(rows)), dtype=torch.bool, device=rows.device).tril_()
    for number, (i, j) in enumerate(mine, start=1):
        mine_i, mine_j = slice(i * side, (i + 1) * side), slice(j * side, (j + 1) * side)
        across, down = rows[mine_i], rows[mine_j]
        scores = torch.mm(across, down.T, out=room[: len(across) * len(down)].view(len(across), len(down)))
        if i != j and last[i] != first[j]:
            yield Tile(scores, 0, rows.new_empty(0), owners[:0])
        elif i != j:  # they share one identity: the last rows and the first columns
            begin, end = int((owners[mine_i] < last[i]).sum()), int((owners[mine_j] == first[j]).sum())
            corner = scores[begin:, :end]
            genuine = corner.reshape(-1).clone()
            corner.fill_(-torch.inf)
            yield Tile(scores, len(genuine), genuine, owners.new_full((len(genuine),), last[i]))
        else:
            same, below = short[mine_i, None] == short[mine_j], lower[: len(scores), : len(scores)]
            row, column = (same & ~below).nonzero(as_tuple=True)
            genuine = scores[row, column]
            scores.masked_fill_(same | below, -torch.inf)
            yield Tile(scores, len(row) + len(below) * (len(below) + 1) // 2, genuine, owners[mine_i][row])
        progress(number, len(mine), text)


def shared() -> bool:
    """Whether the work is shared among processes."""
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def summed(counts: Tensor) -> Tensor:
    """The sum over all processes; changes ``counts`` in place."""
    if shared():
        distributed.all_reduce(counts)
    return counts


def gathered(values: Tensor) -> Tensor:
    """The (n,) values of all processes, concatenated; lengths may differ."""
    if not shared():
        return values
    lengths = [torch.zeros(1, dtype=torch.int64, device=values.device) for _ in range(distributed.get_world_size())]
    distributed.all_gather(lengths, torch.tensor([len(values)], device=values.device))
    longest = max(map(int, lengths))
    parts = [values.new_empty(longest) for _ in lengths]
    distributed.all_gather(parts, torch.cat([values, values.new_zeros(longest - len(values))]))
    return torch.cat([part[: int(length)] for part, length in zip(parts, lengths, strict=True)])
