"""The device to compute on."""

import torch

from arcinvert.errors import UsageError


def choose_device(name: torch.device | str = "auto") -> torch.device:
    """A device by its name; ``auto`` takes a GPU where there is one.

    Raises:
        UsageError: not a device, or not one of this machine.
    """
    if isinstance(name, torch.device):
        return name
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(name)
    except RuntimeError:
        raise UsageError(f"expected a device such as auto, cpu, cuda:0 or mps, got {name!r}") from None
    there = {"cpu": True, "mps": torch.backends.mps.is_available()}
    if chosen.type == "cuda":
        there["cuda"] = (chosen.index or 0) < torch.cuda.device_count()
    if not there.get(chosen.type, False):
        raise UsageError(f"this machine has no device {name!r}")
    return chosen
