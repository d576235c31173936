"""Batches that fit into the memory at hand, and become smaller when it runs out all the same."""

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import torch

from arcinvert.recognizer import Recognizer

log = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")

SHARE = 0.7
"""Of the available memory that a batch may take."""
FACTOR = 2.5
"""Memory of a step in units of what the network keeps of an image: tapped layers, gradients, the auxiliary network."""
_AVAILABLE = "MemAvailable:"


def available_memory(device: torch.device) -> int | None:
    """Bytes that can be allocated: of the GPU, else of the machine and its control group (Linux); None if unknown."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    if device.type != "cpu":
        return None
    found = []
    group = Path("/sys/fs/cgroup")
    with contextlib.suppress(OSError, ValueError, IndexError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        found += [int(line.split()[1]) << 10 for line in lines if line.startswith(_AVAILABLE)]
    with contextlib.suppress(OSError, ValueError):  # "max" where there is no limit
        found.append(int((group / "memory.max").read_text()) - int((group / "memory.current").read_text()))
    return max(0, min(found)) if found else None


def images_at_once(recognizer: Recognizer, wanted: int, drawn: int = 0) -> int:
    """How many images of a batch of ``wanted`` are to be inverted at once: all, or as many as memory has room for.

    Args:
        recognizer: the network that is attacked.
        wanted: images.
        drawn: bytes that the network which draws an image keeps of it, beside what the recognizer keeps.
    """
    available = available_memory(recognizer.device)
    if wanted == 1 or available is None:
        return wanted
    room = int(SHARE * available / max(1.0, FACTOR * recognizer.kept_bytes + drawn))
    if room < wanted:
        log.warning(
            "%.1f GB of memory are available: %d images at once instead of %d", available / 1e9, max(1, room), wanted
        )
    return min(wanted, max(1, room))


def in_parts(
    batches: Sequence[Sequence[Item]],
    work: Callable[[int, int, Sequence[Item]], list[Result]],
    *,
    most: int | None = None,
) -> Iterator[list[Result]]:
    """The results of all batches in order, part by part.

    A batch that does not fit into memory is halved, and so are those after it; a message is logged.

    Args:
        batches: items that are worked on together.
        work: called with the number of the batch, how many of its items are done, and the items that follow.
        most: items at once; None is a whole batch.

    Raises:
        MemoryError: there is too little for a single item.
    """
    size = most or max(map(len, batches), default=1)
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
