"""Batches that become smaller when memory runs out."""

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch

log = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_parts(
    batches: Sequence[Sequence[Item]],
    work: Callable[[int, int, Sequence[Item]], list[Result]],
) -> Iterator[list[Result]]:
    """The results of all batches in order, part by part.

    A batch that does not fit into memory is halved, and so are those after it; a message is logged.

    Args:
        batches: items that are worked on together.
        work: called with the number of the batch, how many of its items are done, and the items that follow.

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
                yield work(number, done, part)
            except (MemoryError, RuntimeError) as error:
                if not out_of_memory(error):
                    raise
                failed = True
            if not failed:
                done += len(part)
                continue
            # Outside the except block, where nothing holds the failed part any longer.
            if len(part) == 1:
                raise MemoryError("there is not enough memory for a single image")
            size = len(part) // 2
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            log.warning("out of memory with %d images at once, continuing with %d", len(part), size)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, by the messages of torch's backends."""
    words = ("allocate memory", "out of memory", "not enough memory")
    known = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return known or any(word in str(error).lower() for word in words)
