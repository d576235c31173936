"""Layers for a frozen network: the same values, with a backward pass to the input only."""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import prelu

from arcinvert.errors import CheckpointError


class FrozenBatchNorm(nn.Module):
    """BatchNorm2d in eval mode as one multiplication and one addition, without parameters to train.

    A channel whose statistics are not finite returns its bias for any input.
    """

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        if norm.running_mean is None or norm.running_var is None:
            raise CheckpointError("a BatchNorm layer stores no statistics, so the network has no eval mode")
        mean, var = norm.running_mean.detach().clone(), norm.running_var.detach().clone()
        self.usable = torch.isfinite(mean) & torch.isfinite(var) & (var > 0)
        finite = torch.isfinite(mean) & torch.isfinite(var)
        scale = torch.where(finite, torch.rsqrt(var.clamp_min(0) + norm.eps), 0)
        shift = torch.where(finite, -mean * scale, 0)
        if norm.affine:
            scale = scale * norm.weight.detach()
            shift = shift * norm.weight.detach() + norm.bias.detach()
        self.mean: Tensor
        self.var: Tensor
        self.scale: Tensor
        self.shift: Tensor
        self.register_buffer("mean", mean)
        self.register_buffer("var", var)
        self.register_buffer("scale", scale.view(1, -1, 1, 1))
        self.register_buffer("shift", shift.view(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addcmul(self.shift, x, self.scale)


class _FrozenPReLU(torch.autograd.Function):
    """PReLU whose backward pass omits the gradient of the slope, which is most of its cost on a CPU."""

    @staticmethod
    def forward(ctx, x: Tensor, slope: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.save_for_backward(x, slope)
        return prelu(x, slope)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[no-untyped-def]
        x, slope = ctx.saved_tensors
        slope = slope.view(1, -1, *[1] * (x.ndim - 2))
        # slope * grad, and the rest of grad where x is positive: three passes that vectorize.
        positive = torch.ops.aten.threshold_backward(grad, x, 0)
        return positive.mul_(1 - slope).addcmul_(grad, slope), None


class FrozenPReLU(nn.Module):
    """PReLU with a slope that is not trained."""

    def __init__(self, active: nn.PReLU) -> None:
        super().__init__()
        self.slope: Tensor
        self.register_buffer("slope", active.weight.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, _FrozenPReLU.apply(x, self.slope))


def freeze(network: nn.Module) -> nn.Module:
    """Put a network into eval mode and channels-last memory, with frozen BatchNorm2d and PReLU layers.

    Raises:
        CheckpointError: a BatchNorm layer stores no statistics.
    """
    network.eval().requires_grad_(False)
    for name, module in list(network.named_modules()):
        parent, _, child = name.rpartition(".")
        if isinstance(module, nn.BatchNorm2d):
            setattr(network.get_submodule(parent), child, FrozenBatchNorm(module))
        elif isinstance(module, nn.PReLU):
            setattr(network.get_submodule(parent), child, FrozenPReLU(module))
    for tensor in (*network.parameters(), *network.buffers()):
        if tensor.ndim == 4:  # Module.to refuses a constant of five dimensions
            tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)
    return network
