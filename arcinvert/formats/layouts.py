"""Recognizes an imported graph that is an IResNet, by its structure and not by its names."""

from collections import Counter
from typing import Any

import torch
from torch import Tensor

from arcinvert.backbones import build_backbone
from arcinvert.backbones.graph import IMAGE
from arcinvert.backbones.iresnet import BLOCKS
from arcinvert.checkpoint import Checkpoint

_NORMS = ("batch_norm", "folded_norm")


class _OtherLayoutError(Exception):
    """The graph is not one of our IResNets."""


def as_iresnet(stored: Checkpoint) -> Checkpoint:
    """The same network as one of our IResNets if it is one, else ``stored`` unchanged.

    Args:
        stored: a checkpoint whose backbone is ``graph``.
    """
    try:
        backbone, settings, names = _Walk(stored.header["backbone_settings"]).run()
    except _OtherLayoutError:
        return stored
    mapped = {names[step]: step for step in names}
    tensors: dict[str, Tensor] = {}
    for key, expected in build_backbone(backbone, **settings).state_dict().items():
        part, _, kind = key.rpartition(".")
        tensor = stored.tensors.get(f"network.layers.{mapped[part]}.{kind}") if part in mapped else None
        if tensor is None and part == "features" and part not in mapped:
            tensor = _neutral(kind, expected, settings.get("eps", 1e-5))
        if tensor is None or tensor.shape != expected.shape:
            return stored
        tensors[f"network.{key}"] = tensor
    if len(tensors) != len(stored.tensors) + (0 if "features" in mapped else 5):
        return stored
    header = {**stored.header, "backbone": backbone, "backbone_settings": settings}
    return Checkpoint(header, tensors, stored.digest)


def _neutral(kind: str, expected: Tensor, eps: float) -> Tensor:
    """A tensor of a BatchNorm that changes nothing, for a file without one after its linear layer."""
    return {"weight": torch.ones_like, "bias": torch.zeros_like, "running_mean": torch.zeros_like}.get(
        kind, lambda like: torch.full_like(like, 1 - eps) if kind == "running_var" else torch.zeros_like(like)
    )(expected)


class _Walk:
    """Follows an IResNet's structure from the image to the embedding."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.output = settings["output"]
        self.users: dict[str, list[dict[str, Any]]] = {}
        for step in settings["steps"]:
            for value in step["inputs"]:
                self.users.setdefault(value, []).append(step)
        self.names: dict[str, str] = {}
        self.eps: set[float] = set()
        self.after: Counter[str] = Counter()

    def run(self) -> tuple[str, dict[str, Any], dict[str, str]]:
        """Name and settings of the backbone, and step -> name of the module."""
        stem = self._only(IMAGE, "conv")
        width = stem["settings"]["out_channels"]
        value = self._active(self._norm_after(self._conv(stem, "conv1", (3, 1, 3, width)), "bn1"), "prelu")
        blocks, channels, number, shortcuts = [0, 0, 0, 0], width, 0, set[str]()
        while len(self._of(value)) == 2:
            shortcut = next((s for s in self._of(value) if s["op"] != "batch_norm"), None)
            main = next((s for s in self._of(value) if s["op"] == "batch_norm"), None)
            if main is None or shortcut is None:
                raise _OtherLayoutError
            starts = shortcut["op"] != "add"
            number += starts
            if not 1 <= number <= 4:
                raise _OtherLayoutError
            prefix = f"layer{number}.{blocks[number - 1]}"
            blocks[number - 1] += 1
            outputs, stride = width * 2 ** (number - 1), 2 if starts else 1
            y = self._norm(main, f"{prefix}.bn1")
            y = self._conv(self._only(y, "conv"), f"{prefix}.conv1", (channels, 1, 3, outputs))
            y = self._active(self._norm_after(y, f"{prefix}.bn2"), f"{prefix}.prelu")
            y = self._conv(self._only(y, "conv"), f"{prefix}.conv2", (outputs, stride, 3, outputs))
            y = self._norm_after(y, f"{prefix}.bn3")
            if shortcut["op"] == "conv":
                value = self._conv(shortcut, f"{prefix}.downsample.0", (channels, 2, 1, outputs))
                value = self._norm_after(value, f"{prefix}.downsample.1")
                shortcuts.add("conv" if channels == outputs else "either")
            elif shortcut["op"] == "max_pool" and _pools(shortcut["settings"]) and channels == outputs:
                value = shortcut["output"]
                shortcuts.add("pool")
            elif starts:
                raise _OtherLayoutError
            added = self._only(y, "add")
            if set(added["inputs"]) != {y, value}:
                raise _OtherLayoutError
            value, channels = added["output"], outputs
        value = self._norm(self._only(value, "batch_norm"), "bn2")
        value = self._flat(value)
        last = self._only(value, "linear")
        value = self._take(last, "fc")
        if value != self.output:
            value = self._norm(self._only(value, "batch_norm_1d"), "features")
        folded = self.after["folded_norm"] > 0
        fits = value == self.output and len(self.eps) == 1 and len(self.after) == 1 and {*shortcuts} != {"conv", "pool"}
        depth = next((depth for depth, counts in BLOCKS.items() if list(counts) == blocks), None)
        if not fits or depth is None or not last["settings"]["bias"]:
            raise _OtherLayoutError
        settings: dict[str, Any] = {"width": width / 64, "embedding_size": last["settings"]["out_features"]}
        eps = self.eps.pop()
        settings |= {"folded": True} if folded else {}
        settings |= {"shortcut": "pool"} if "pool" in shortcuts else {}
        settings |= {"eps": eps} if abs(eps - 1e-5) > 1e-9 else {}
        return f"iresnet{depth}", settings, self.names

    def _of(self, value: str) -> list[dict[str, Any]]:
        return self.users.get(value, [])

    def _only(self, value: str, op: str) -> dict[str, Any]:
        users = self._of(value)
        if len(users) != 1 or users[0]["op"] != op:
            raise _OtherLayoutError
        return users[0]

    def _take(self, step: dict[str, Any], part: str) -> str:
        self.names[step["output"]] = part
        return str(step["output"])

    def _conv(self, step: dict[str, Any], part: str, expected: tuple[int, int, int, int]) -> str:
        s = step["settings"]
        inputs, stride, kernel, outputs = expected
        padding = kernel // 2
        shape = (s["in_channels"], s["out_channels"], *s["kernel_size"], *s["stride"], *s["padding"], *s["dilation"])
        if shape != (inputs, outputs, kernel, kernel, stride, stride, padding, padding, 1, 1) or s["groups"] != 1:
            raise _OtherLayoutError
        follows = self._of(step["output"])
        if len(follows) != 1 or follows[0]["op"] not in _NORMS:
            raise _OtherLayoutError
        if s["bias"] != (follows[0]["op"] == "folded_norm"):
            raise _OtherLayoutError
        return self._take(step, part)

    def _norm(self, step: dict[str, Any], part: str) -> str:
        self.eps.add(step["settings"]["eps"])
        return self._take(step, part)

    def _norm_after(self, value: str, part: str) -> str:
        step = self._of(value)[0]
        self.after[step["op"]] += 1
        return str(step["output"]) if step["op"] == "folded_norm" else self._norm(step, part)

    def _active(self, value: str, part: str) -> str:
        step = self._only(value, "prelu")
        return self._take(step, part)

    def _flat(self, value: str) -> str:
        users = self._of(value)
        flattens = len(users) == 1 and (
            (users[0]["op"] == "flatten" and users[0]["settings"]["axis"] == 1)
            or (users[0]["op"] == "reshape" and len(users[0]["settings"]["shape"]) == 2)
        )
        if not flattens:
            raise _OtherLayoutError
        return str(users[0]["output"])


def _pools(settings: dict[str, Any]) -> bool:
    """Whether a pooling layer takes every other pixel."""
    return bool(settings["kernel_size"] == [1, 1] and settings["stride"] == [2, 2] and not any(settings["padding"]))
