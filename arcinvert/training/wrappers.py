"""How the network is run in training: compiled, by several ranks, with BatchNorm over all of them."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from arcinvert.distributed import Ranks
from arcinvert.training.collectives import all_sum


class RanksBatchNorm(_BatchNorm):
    """A BatchNorm layer that normalizes by the statistics of the batches of all ranks, of whatever sizes.

    It takes the place of ``layer`` and shares its weights, so the state has the same names.
    """

    def __init__(self, layer: _BatchNorm, ranks: Ranks) -> None:
        super().__init__(layer.num_features, layer.eps, layer.momentum, layer.affine)
        self.ranks = ranks
        self.weight, self.bias = layer.weight, layer.bias
        self.running_mean, self.running_var = layer.running_mean, layer.running_var
        self.num_batches_tracked = layer.num_batches_tracked

    def _check_input_dim(self, input: Tensor) -> None:
        pass

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, ...) -> the same."""
        if not self.training:
            return super().forward(input)
        dims = [0, *range(2, input.ndim)]
        wide = input.to(torch.promote_types(input.dtype, torch.float32))
        variance, mean = torch.var_mean(wide, dims, correction=0)
        count = mean.new_full((1,), input.numel() // len(mean))
        total = all_sum(count, self.ranks)
        mean_of_all = all_sum(mean * (count / total), self.ranks)
        spread = all_sum((variance + (mean - mean_of_all).square()) * (count / total), self.ranks)
        if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            rate = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
            self.running_mean.lerp_(mean_of_all.detach(), rate)
            self.running_var.lerp_(spread.detach() * (total / (total - 1)), rate)
        scale = (spread + self.eps).rsqrt() * (1.0 if self.weight is None else self.weight)
        shift = (0.0 if self.bias is None else self.bias) - mean_of_all * scale
        shape = [1, -1, *[1] * (input.ndim - 2)]
        return (wide * scale.view(shape) + shift.view(shape)).to(input.dtype)


def share_batchnorm(network: nn.Module, ranks: Ranks) -> None:
    """Put a :class:`RanksBatchNorm` in the place of every BatchNorm layer."""
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, _BatchNorm):
                setattr(parent, name, RanksBatchNorm(child, ranks))


def compiled(network: nn.Module, images: Tensor) -> tuple[nn.Module, str | None]:
    """The network under torch.compile, tried on images such as training will give it; or as it is, and why.

    The trial changes neither weights nor statistics nor random numbers.
    """
    from torch._dynamo.exc import TorchDynamoException  # slow to import, so only where it is asked for

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


def shared(network: nn.Module, ranks: Ranks, device: torch.device) -> nn.Module:
    """The network as one of several ranks runs it; its gradients are the *sum* over the ranks."""
    if ranks.world == 1:
        return network
    on = [device] if device.type == "cuda" else None
    wrapped = DistributedDataParallel(network, device_ids=on, gradient_as_bucket_view=True)
    wrapped.register_comm_hook(None, _sum)
    return wrapped


def _sum(state: None, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:  # type: ignore[name-defined]
    """The shares are not of one size, so the ranks' gradients are added; DDP itself would average them."""
    work: Any = dist.all_reduce(bucket.buffer(), async_op=True)
    done: torch.futures.Future[Tensor] = work.get_future().then(lambda future: future.value()[0])
    return done
