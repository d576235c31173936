"""An ONNX file in the making: its nodes and tensors by name, and the image contract as nodes in front."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from arcinvert.preprocessing import Preprocessing

INPUT, OUTPUT = "input", "embedding"
ARITHMETIC = {"add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div"}


class Model:
    """Nodes and stored tensors in the making, each value under a name of its own."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.tensors: list[Any] = []
        self.taken = {INPUT, OUTPUT}

    def _fresh(self, name: str) -> str:
        found, number = name, 1
        while found in self.taken:
            number += 1
            found = f"{name}_{number}"
        self.taken.add(found)
        return found

    def node(self, kind: str, inputs: Sequence[str], name: str, label: str = "", **attributes: Any) -> str:
        from onnx import helper

        value = self._fresh(name)
        # By a slash no other node is taken for the image contract, whose names start with Sub and Mul.
        self.nodes.append(helper.make_node(kind, inputs, [value], label or f"/{value}", **attributes))
        return value

    def tensor(self, values: Tensor | Sequence[float], name: str) -> str:
        from onnx import numpy_helper

        name = self._fresh(name)
        array = torch.as_tensor(values).detach().cpu().contiguous().numpy()
        self.tensors.append(numpy_helper.from_array(array, name))
        return name

    def contract(self, wanted: Preprocessing, first: set[str]) -> str:
        """From the input to what the network expects; ``first`` are the operations it begins with."""
        arithmetic = first & {*ARITHMETIC}
        if wanted == Preprocessing(size=wanted.size) and not arithmetic and "batch_norm" not in first:
            return INPUT
        # A reader adds up what scalars stand in front, and takes what is small then for a contract of [0, 1].
        short = len(set(wanted.mean)) == len(set(wanted.std)) == 1 and wanted.std[0] * 255 > 1 and not arithmetic
        mean, std = (wanted.mean[0], wanted.std[0]) if short else (0.5, 0.5)
        value = self.node("Sub", [INPUT, self.tensor(torch.tensor(mean * 255), "mean")], "centered", "Sub_mean")
        value = self.node("Mul", [value, self.tensor(torch.tensor(1 / (std * 255)), "scale")], "scaled", "Mul_scale")
        if wanted.color == "BGR":
            cuts = [self.tensor([number], f"channel_{number}") for number in range(4)]
            parts = [self.node("Slice", [value, cuts[i], cuts[i + 1], cuts[1]], f"image_{i}") for i in (2, 1, 0)]
            value = self.node("Concat", parts, "bgr", axis=1)
        if not short:
            means, stds = (
                torch.tensor(part, dtype=torch.float64).view(1, 3, 1, 1) for part in (wanted.mean, wanted.std)
            )
            value = self.node("Mul", [value, self.tensor((0.5 / stds).float(), "colors_scale")], "colors_scaled")
            shift = self.tensor(((0.5 - means) / stds).float(), "colors_shift")
            value = self.node("Add", [value, shift], "colors_shifted")
        return value

    def finish(self, value: str) -> None:
        """Calls ``value`` the output."""
        if not any(value in node.output for node in self.nodes):
            value = self.node("Identity", [value], "result")
        for node in self.nodes:
            for names in (node.input, node.output):
                names[:] = [OUTPUT if name == value else name for name in names]
