"""Networks of which no two weights are alike, and their comparison: for the tests of reading and writing weights."""

import torch
from torch import Tensor, nn

from arcinvert.backbones import build_backbone
from arcinvert.checkpoint import Checkpoint, load_strictly

State = dict[str, Tensor]
IMAGES = torch.rand(2, 3, 112, 112, generator=torch.Generator().manual_seed(1)) * 2 - 1


def unlike_new(network: nn.Module, seed: int = 0) -> nn.Module:
    """The network with weights and statistics of which no two are alike, in eval mode."""
    generator = torch.Generator().manual_seed(seed)
    for key, value in network.state_dict().items():
        if key.endswith("num_batches_tracked"):
            value.fill_(7)
        elif key.endswith("running_var"):
            value.copy_(0.5 + torch.rand(value.shape, generator=generator))
        elif value.ndim > 1:
            value.copy_(torch.randn(value.shape, generator=generator) * (2 / value[0].numel()) ** 0.5)
        elif key.endswith(".weight"):
            value.copy_(0.5 + 0.5 * torch.rand(value.shape, generator=generator))
        else:
            value.copy_(torch.randn(value.shape, generator=generator) * 0.3)
    return network.eval()


def loaded(checkpoint: Checkpoint) -> nn.Module:
    """The network as a Recognizer builds it."""
    network = build_backbone(checkpoint.header["backbone"], **checkpoint.header["backbone_settings"])
    load_strictly(network, checkpoint.section("network"), "the file")
    return network.eval()


@torch.no_grad()
def output(network: nn.Module, images: Tensor = IMAGES) -> Tensor:
    return network(images)


def equal(one: State, other: State) -> bool:
    return set(one) == set(other) and all(torch.equal(one[key], other[key]) for key in one)
