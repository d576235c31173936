"""Functions in several gloo processes, as torchrun would start them."""

import multiprocessing
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from arcinvert.distributed import Processes

# One process imports torch, the others are forked from it.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["torch", "numpy", "arcinvert.training.trainer", "torch.nn.parallel", "pytest"])


def _rank(rank: int, world: int, folder: str, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world)
    result = function(Processes(rank, world, rank), *arguments)
    torch.save(result, f"{folder}/{rank}")
    if not isinstance(result, str):
        dist.barrier()
    dist.destroy_process_group()


def on_processes(world: int, function: Callable[..., Any], *arguments: Any, dead: int = 0) -> list[Any]:
    """The results of ``function(processes, *arguments)`` of a test module in ``world`` processes.

    The last ``dead`` processes end with code 9; the others then return a text.
    """
    with tempfile.TemporaryDirectory() as folder:
        each = [CONTEXT.Process(target=_rank, args=(r, world, folder, function, arguments)) for r in range(world)]
        for process in each:
            process.start()
        for process in each:
            process.join(120)
        codes = [process.exitcode for process in each]
        for process in each:
            process.kill()
        assert codes == [0] * (world - dead) + [9] * dead
        return [torch.load(Path(folder) / str(rank), weights_only=True) for rank in range(world - dead)]
