"""The device to compute on, and dataclasses that move there."""

import copy
import functools
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor, nn

from arcinvert.errors import UsageError


class OnDevice:
    """A dataclass of tensors, networks, dictionaries and other such dataclasses, which moves as a whole."""

    def to(self, device: torch.device | str) -> Self:
        """The same on another device; its networks are copied."""
        return _moved(self, device)  # type: ignore[no-any-return]


def _moved(value: Any, device: torch.device | str) -> Any:
    if isinstance(value, dict):
        return {key: _moved(part, device) for key, part in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{part.name: _moved(getattr(value, part.name), device) for part in fields(value)})
    if isinstance(value, torch.nn.Module):
        return copy.deepcopy(value).to(device)
    return value.to(device) if isinstance(value, torch.Tensor) else value


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
    available = {"cpu": True, "mps": torch.backends.mps.is_available()}
    if chosen.type == "cuda":
        available["cuda"] = (chosen.index or 0) < torch.cuda.device_count()
    if not available.get(chosen.type, False):
        raise UsageError(f"this machine has no device {name!r}")
    return chosen


@functools.cache
def has_bfloat16(device: torch.device) -> bool:
    """Whether products in bfloat16 run in hardware; False where this version of torch cannot tell."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)() if device.type == "cpu" else {}
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def bytes_kept(network: nn.Module, call: Callable[[Tensor], Any], given: Tensor) -> int:
    """Bytes that ``call(given)`` keeps for a backward pass, in addition to the network's weights.

    More are kept if ``given`` requires a gradient than for the weights' alone.
    """
    known = {value.data_ptr() for value in [*network.parameters(), *network.buffers()]}
    kept: dict[int, int] = {}

    def keep(value: Tensor) -> Tensor:
        storage = value.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage.nbytes()
        return value

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
        result = call(given)
    del result
    return sum(kept.values())
