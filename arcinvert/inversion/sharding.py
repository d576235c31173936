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

    def wait(self) -> None:
        """Until every process has come here.

        Raises:
            EnvironmentProblem: one of them has ended instead.
        """
        if self.world > 1:
            try:
                dist.barrier()
            except RuntimeError:
                raise EnvironmentProblem("another process of this run has ended; see what it says") from None


ALONE = Ranks()


@contextlib.contextmanager
def joined() -> Iterator[Ranks]:
    """The processes of ``torchrun`` (over gloo, on the CPU), or this one alone.

    Raises:
        EnvironmentProblem: the others cannot be reached.
    """
    if not dist.is_torchelastic_launched() or os.environ["WORLD_SIZE"] == "1":
        yield ALONE
        return
    try:
        dist.init_process_group("gloo", timeout=LONGEST)
    except (RuntimeError, ValueError) as error:
        reason = (str(error).splitlines() or ["no reason given"])[0]
        raise EnvironmentProblem(f"the processes of torchrun do not find each other: {reason}") from None
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size(), int(os.environ["LOCAL_RANK"]))
    finally:
        dist.destroy_process_group()
