"""Wrappers of the network in training: torch.compile, DistributedDataParallel."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from arcinvert.distributed import Processes


def compile_network(network: nn.Module, images: Tensor) -> tuple[nn.Module, str | None]:
    """The network under torch.compile, after a trial on images of the size of training; or the network and a reason.

    The trial changes neither weights nor statistics nor random numbers.
    """
    from torch._dynamo.exc import TorchDynamoException  # slow to import

    before = {key: value.clone() for key, value in network.state_dict().items()}
    devices = [images.device] if images.device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices):
            fast: Any = torch.compile(network)
            fast(images).sum().backward()
    except TorchDynamoException as error:
        lines = str(error).split("\n")
        return network, next((line.strip() for line in lines if line.strip()), type(error).__name__)
    finally:
        network.zero_grad(set_to_none=True)
        network.load_state_dict(before)
    return fast, None


def data_parallel(network: nn.Module, processes: Processes, device: torch.device) -> nn.Module:
    """The network under DistributedDataParallel; its gradients are the *sum* over the processes."""
    if processes.world_size == 1:
        return network
    devices = [device] if device.type == "cuda" else None
    wrapped = DistributedDataParallel(network, device_ids=devices, gradient_as_bucket_view=True)
    wrapped.register_comm_hook(None, _sum)
    return wrapped


def _sum(state: None, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:  # type: ignore[name-defined]
    """Add the gradients of the processes, whose shares may differ in size; DDP itself would average them."""
    work: Any = dist.all_reduce(bucket.buffer(), async_op=True)
    done: torch.futures.Future[Tensor] = work.get_future().then(lambda future: future.value()[0])
    return done
