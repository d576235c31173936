"""Batches that become smaller when memory runs out."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_parts(
    batches: Sequence[Sequence[Item]],
    work: Callable[[int, int, Sequence[Item]], list[Result]],
    *,
    say: Callable[[str], None],
) -> Iterator[Result]:
    """The results of all batches in order; one that finds no memory is halved, and so are those after it.

    Args:
        batches: items that are worked on together.
        work: called with the number of the batch, how many of its items are done, and the items that follow.
        say: told of each halving.

    Raises:
        MemoryError: there is too little for a single item.
    """
    size = max(map(len, batches), default=1)
    for number, batch in enumerate(batches):
        done = 0
        while done < len(batch):
            part = batch[done : done + size]
            failed = False
            try:
                yield from work(number, done, part)
            except (MemoryError, RuntimeError) as error:
                if not out_of_memory(error):
                    raise
                failed = True
            if not failed:
                done += len(part)
                continue
            # Outside the except block, where nothing holds the failed part any longer.
            if len(part) == 1:
                raise MemoryError("there is not enough memory for a single picture")
            size = len(part) // 2
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            say(f"out of memory with {len(part)} pictures at once; going on with {size}")


def out_of_memory(error: BaseException) -> bool:
    """Whether it says that memory could not be had, in the words of any of torch's backends."""
    words = ("allocate memory", "out of memory", "not enough memory")
    known = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return known or any(word in str(error).lower() for word in words)
