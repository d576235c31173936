"""Networks, which map a normalized image to features.

Every builder except ``graph`` takes ``width`` (a factor on the channels) and ``embedding_size``; all return a
module that maps (B, 3, 112, 112), already normalized, to (B, embedding_size) features.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from arcinvert.backbones.graph import graph
from arcinvert.backbones.inception_resnet import inception_resnet_v1
from arcinvert.backbones.iresnet import iresnet18, iresnet34, iresnet50, iresnet100, iresnet200
from arcinvert.backbones.mobilefacenet import mobilefacenet
from arcinvert.errors import InputError

BACKBONES: dict[str, Callable[..., nn.Module]] = {
    "iresnet18": iresnet18,
    "iresnet34": iresnet34,
    "iresnet50": iresnet50,
    "iresnet100": iresnet100,
    "iresnet200": iresnet200,
    "mobilefacenet": mobilefacenet,
    "inception_resnet_v1": inception_resnet_v1,
    "graph": graph,
}


def build_backbone(name: str, **settings: Any) -> nn.Module:
    """Build a new network.

    Raises:
        InputError: the name is not in :data:`BACKBONES`, or a setting is invalid.
    """
    if name not in BACKBONES:
        raise InputError(f"expected a backbone of {', '.join(BACKBONES)}, got {name!r}")
    try:
        return BACKBONES[name](**settings)
    except (TypeError, ValueError, OverflowError, KeyError, AttributeError) as error:
        raise InputError(f"backbone {name!r} refuses its settings: {error}") from None


def memory_format(network: nn.Module) -> torch.memory_format:
    """The memory layout to train ``network`` in: channels last, which is faster, where that is safe.

    For a strided 1x1 convolution with fewer than 16 input channels in channels-last layout, oneDNN
    computes the gradient of the weights past the end of its workspace: it crashes, hangs or returns
    wrong values (uxlfoundation/oneDNN#6035, open; seen in torch 2.15). An IResNet below width 0.25 has one.
    """
    convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    strided = [layer for layer in convolutions if layer.kernel_size == (1, 1) and layer.stride != (1, 1)]
    narrow = any(layer.in_channels < 16 for layer in strided)
    return torch.contiguous_format if narrow else torch.channels_last


__all__ = ["BACKBONES", "build_backbone", "memory_format"]
