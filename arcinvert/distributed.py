"""The processes of one run, as ``torchrun`` starts them."""

import contextlib
import datetime
import gc
import os
from collections.abc import Iterator
from dataclasses import dataclass

import torch.distributed as dist

from arcinvert.errors import EnvironmentProblem

TIMEOUT = datetime.timedelta(days=30)
"""How long a process waits for the others. One that dies is noticed at once; this is for one that is slow."""


@dataclass(frozen=True)
class Processes:
    """This process among those of its run.

    Attributes:
        rank: its number, from 0.
        world_size: how many processes there are.
        local_rank: its number on this machine.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0

    def share(self, count: int) -> range:
        """This process's part of ``count`` items: all parts are contiguous, and differ in length by 1 at most."""
        return range(count * self.rank // self.world_size, count * (self.rank + 1) // self.world_size)

    def wait(self) -> None:
        """Return when every process has called this.

        Raises:
            EnvironmentProblem: one of them has ended instead.
        """
        if self.world_size > 1:
            with lost_process_errors():
                dist.barrier()


SINGLE_PROCESS = Processes()


@contextlib.contextmanager
def lost_process_errors() -> Iterator[None]:
    """Turn the error that torch raises when another process has ended into one line.

    Raises:
        EnvironmentProblem: another process has ended.
    """
    try:
        yield
    except RuntimeError as error:
        if any(sign in str(error).lower() for sign in ("connection", "peer", "gloo", "nccl", "barrier")):
            raise EnvironmentProblem("another process of this run has ended; see its messages") from None
        raise


@contextlib.contextmanager
def process_group(backend: str = "gloo") -> Iterator[Processes]:
    """Join the processes of ``torchrun``; a process that was started alone is :data:`SINGLE_PROCESS`.

    Args:
        backend: gloo between CPUs; ``cpu:gloo,cuda:nccl`` also between GPUs.

    Raises:
        EnvironmentProblem: the others cannot be reached.
    """
    if not dist.is_torchelastic_launched() or os.environ["WORLD_SIZE"] == "1":
        yield SINGLE_PROCESS
        return
    try:
        dist.init_process_group(backend, timeout=TIMEOUT)
    except (RuntimeError, ValueError) as error:
        reason = (str(error).splitlines() or ["no reason given"])[0]
        raise EnvironmentProblem(f"cannot connect to the other processes of torchrun: {reason}") from None
    try:
        yield Processes(dist.get_rank(), dist.get_world_size(), int(os.environ["LOCAL_RANK"]))
    finally:
        gc.collect()  # what holds the group, a data-parallel network in a reference cycle, must go before it
        dist.destroy_process_group()
