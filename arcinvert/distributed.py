"""Several processes on one run, as ``torchrun`` starts them."""

import contextlib
import datetime
import os
from collections.abc import Iterator
from dataclasses import dataclass

import torch.distributed as dist

from arcinvert.errors import EnvironmentProblem

LONGEST = datetime.timedelta(days=30)
"""How long one waits for the others. A rank that dies is noticed at once; this is for one that is slow."""


@dataclass(frozen=True)
class Ranks:
    """Which process this is.

    Attributes:
        rank: its number, from 0.
        world: how many there are.
        local: its number on this machine.
    """

    rank: int = 0
    world: int = 1
    local: int = 0

    def share(self, count: int) -> range:
        """This process's part of ``count`` things: all parts are contiguous, and differ in length by 1 at most."""
        return range(count * self.rank // self.world, count * (self.rank + 1) // self.world)

    def wait(self) -> None:
        """Until every process has come here.

        Raises:
            EnvironmentProblem: one of them has ended instead.
        """
        if self.world > 1:
            with reached():
                dist.barrier()


ALONE = Ranks()


@contextlib.contextmanager
def reached() -> Iterator[None]:
    """What fails between processes because one has ended is said in one line.

    Raises:
        EnvironmentProblem: another process has ended.
    """
    try:
        yield
    except RuntimeError as error:
        if any(sign in str(error).lower() for sign in ("connection", "peer", "gloo", "nccl", "barrier")):
            raise EnvironmentProblem("another process of this run has ended; see what it says") from None
        raise


@contextlib.contextmanager
def joined(backend: str = "gloo") -> Iterator[Ranks]:
    """The processes of ``torchrun``, or this one alone.

    Args:
        backend: what they talk over: gloo on the CPU; ``cpu:gloo,cuda:nccl`` also between GPUs.

    Raises:
        EnvironmentProblem: the others cannot be reached.
    """
    if not dist.is_torchelastic_launched() or os.environ["WORLD_SIZE"] == "1":
        yield ALONE
        return
    try:
        dist.init_process_group(backend, timeout=LONGEST)
    except (RuntimeError, ValueError) as error:
        reason = (str(error).splitlines() or ["no reason given"])[0]
        raise EnvironmentProblem(f"the processes of torchrun do not find each other: {reason}") from None
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size(), int(os.environ["LOCAL_RANK"]))
    finally:
        dist.destroy_process_group()
