"""Export of a network as a weight file that arcface_torch loads."""

import io
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from arcinvert.backbones.iresnet import IResNet
from arcinvert.backbones.mobilefacenet import MobileFaceNet
from arcinvert.backbones.operations import FoldedNorm
from arcinvert.checkpoint import atomic_write
from arcinvert.errors import InputError

EPS = 1e-5
"""The eps of every BatchNorm in arcface_torch."""


def write_arcface_torch(path: Path, network: nn.Module) -> None:
    """Write the weights as a plain state dict that arcface_torch loads strictly, if its width is the same.

    A folded network gets BatchNorms that change nothing, and a different eps is absorbed into the stored
    variances, so the file computes the same function.

    Raises:
        InputError: arcface_torch has no such network, or a Recognizer has frozen it.
        EnvironmentProblem: the file cannot be written.
    """
    if not isinstance(network, IResNet | MobileFaceNet):
        raise InputError(
            f"expected an IResNet or a MobileFaceNet to write for arcface_torch, got {type(network).__name__}"
        )
    state: dict[str, Tensor] = {}
    bias: Tensor | None = None
    for name, module in network.named_modules():
        if isinstance(module, nn.MaxPool2d):
            raise InputError("expected shortcut='conv' to write for arcface_torch, which has none by pooling")
        own: dict[str, Tensor] = {}
        if next(module.children(), None) is None:
            own = {key: value.detach().cpu().clone().contiguous() for key, value in module.state_dict().items()}
        if isinstance(module, nn.Conv2d):
            bias = own.pop("bias", None)
        elif isinstance(module, FoldedNorm) and bias is not None:
            own = {"weight": torch.ones_like(bias), "bias": bias, "running_mean": torch.zeros_like(bias)}
            own |= {"running_var": torch.full_like(bias, 1 - EPS), "num_batches_tracked": torch.tensor(0)}
        elif isinstance(module, _BatchNorm) and module.eps != EPS:
            var = own["running_var"]
            own["running_var"] = (var.double() + (module.eps - EPS)).to(var.dtype)
            if bool(((own["running_var"] < 0) & (var >= 0)).any()):
                raise InputError(f"a variance of {name} is too small to be written with eps {EPS}, not {module.eps}")
        elif own and not isinstance(module, nn.PReLU | nn.Linear | _BatchNorm):
            raise InputError(f"expected a network that no Recognizer has frozen, got {type(module).__name__} in it")
        state |= {f"{name}.{key}": value for key, value in own.items()}
    buffer = io.BytesIO()
    torch.save(state, buffer)
    with atomic_write(path) as temporary:
        temporary.write_bytes(buffer.getvalue())
