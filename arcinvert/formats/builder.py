"""Builds a :class:`~arcinvert.backbones.graph.Graph` step by step, for the importers of ONNX and MXNet.

An importer walks its nodes in order and adds steps to a :class:`Builder`. The builder runs each new step
on an example batch of three images, so the shape of each value is known, arithmetic on constants is done
once, and nodes that only compute a shape leave no steps.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from arcinvert.backbones.graph import FUNCTIONS, IMAGE, LAYERS, MAX_ELEMENTS, TORCH_ERRORS, Graph, most_elements
from arcinvert.errors import CheckpointError

BATCH = 3
"""Images in the example: a size that no layer has, so that a shape shows which dimension is the batch."""
IMAGE_SIZE = (112, 112)
"""Height and width of the images of every supported network."""
DTYPES = {torch.float32: "float32", torch.int64: "int64", torch.bool: "bool"}
MAX_TOTAL_ELEMENTS = 1 << 29
"""Elements of all intermediate values together; an IResNet-200 has about 200 million."""
_TAKEN = nn.ModuleDict()


class Builder:
    """Collects steps. A *value* is the name of a step's output, or of a constant.

    Args:
        size: height and width of the image.
    """

    def __init__(self, size: tuple[int, int] = IMAGE_SIZE) -> None:
        generator = torch.Generator().manual_seed(0)
        self.examples: dict[str, Tensor] = {IMAGE: torch.rand(BATCH, 3, *size, generator=generator) * 2 - 1}
        self.constants: set[str] = set()
        self.steps: list[dict[str, Any]] = []
        self.weights: dict[str, Tensor] = {}
        self._total = 0
        self._numbers: dict[str, int] = {}

    def shape(self, value: str) -> tuple[int, ...]:
        """The shape of a value, with a batch of :data:`BATCH`."""
        return tuple(self.examples[value].shape)

    def constant(self, tensor: Tensor, name: str = "constant") -> str:
        """Add a tensor that does not depend on the image; it becomes a step only if another step uses it."""
        name = self._unique_name(name)
        if tensor.dtype in (torch.float16, torch.float64, torch.bfloat16):
            tensor = tensor.float()
        elif tensor.dtype not in DTYPES:
            tensor = tensor.long()
        self.examples[name] = tensor
        self.constants.add(name)
        return name

    def known(self, value: str) -> Tensor:
        """The tensor of a constant value.

        Raises:
            CheckpointError: the value depends on the image.
        """
        if value not in self.constants:
            raise CheckpointError(f"expected a stored tensor, but {value!r} depends on the image")
        return self.examples[value]

    def numbers(self, value: str) -> list[int]:
        """A constant value as a list of integers."""
        return [int(number) for number in self.known(value).flatten()]

    @torch.no_grad()
    def layer(self, op: str, value: str, name: str, settings: Mapping[str, Any], **weights: Tensor) -> str:
        """Add an operation with weights, which are named as in the torch layer."""
        name = self._unique_name(name)
        try:
            if any(not tensor.numel() for tensor in weights.values()):
                raise ValueError("a weight is empty")
            self._check_size(op, settings, [value])
            module = LAYERS[op](**settings).eval()
            expected = module.state_dict()
            full = {key: weights.get(key, kept) for key, kept in expected.items()}
            wrong = [key for key in full if full[key].shape != expected[key].shape] + [
                k for k in weights if k not in full
            ]
            if wrong:
                raise ValueError(f"{wrong[0]} is {tuple(weights[wrong[0]].shape)}")
            # Copies, because two layers that use one tensor of the file must not share memory.
            full = {key: tensor.to(expected[key].dtype).contiguous().clone() for key, tensor in full.items()}
            module.load_state_dict(full)
            self.examples[name] = module(self.examples[value])
        except TORCH_ERRORS as error:
            raise CheckpointError(f"the {op} layer {name!r} does not fit: {' '.join(str(error).split())}") from None
        self.weights |= {f"layers.{name}.{key}": tensor for key, tensor in full.items()}
        self.steps.append({"op": op, "inputs": [value], "output": name, "settings": dict(settings)})
        return name

    @torch.no_grad()
    def function(self, op: str, values: Sequence[str], name: str, **settings: Any) -> str:
        """Add an operation without weights; it is computed at once if its inputs are all constants."""
        name = self._unique_name(name)
        try:
            self._check_size(op, settings, values)
            self.examples[name] = FUNCTIONS[op](*(self.examples[value] for value in values), **settings)
        except TORCH_ERRORS as error:
            raise CheckpointError(f"the {op} step {name!r} does not fit: {' '.join(str(error).split())}") from None
        if all(value in self.constants for value in values):
            self.constants.add(name)
        else:
            self.steps.append({"op": op, "inputs": list(values), "output": name, "settings": settings})
        return name

    def reshape(self, value: str, shape: Sequence[int], name: str, *, batch: int | None = None) -> str:
        """Add a reshape whose first dimension stays the batch, also if the file fixes it to ``batch``."""
        if value in self.constants:
            return self.function("reshape", [value], name, shape=list(shape))
        known = self.shape(value)
        if any(s == 0 and i >= len(known) for i, s in enumerate(shape)):
            raise CheckpointError(f"the reshape step {name!r} does not fit: {tuple(known)} to {tuple(shape)}")
        shape = [known[i] if s == 0 and i else s for i, s in enumerate(shape)]
        if shape and shape[0] in (0, 1, BATCH, batch) and -1 not in shape[1:]:
            # A leading 1 that leaves no dimension for the batch is the batch of a file made for one image.
            if math.prod(shape[1:]) == math.prod(known[1:]):
                shape = [-1, *shape[1:]]
        elif shape and shape[0] in (BATCH, batch):
            shape = [0, *shape[1:]]
        return self.function("reshape", [value], name, shape=list(shape))

    def finish(self, output: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Settings and weights of a :class:`~arcinvert.backbones.graph.Graph` that returns ``output``.

        Every convolution that no BatchNorm follows gets a ``folded_norm`` after it.

        Raises:
            CheckpointError: the output is not (B, D), does not depend on the image, or rows depend on each other.
        """
        shape = self.shape(output)
        size = max(shape[1:], default=0)
        if output in self.constants or shape[:1] != (BATCH,) or math.prod(shape[1:]) != size or size < 2:
            shown = ("N", *shape[1:]) if shape[:1] == (BATCH,) else shape
            raise CheckpointError(f"expected an output of one vector per image, got ({', '.join(map(str, shown))})")
        if len(shape) > 2:
            output = self.function("reshape", [output], "embedding", shape=[-1, size])
        self._materialize_constants()
        needed, steps = {output}, []
        for step in reversed(self.steps):
            if step["output"] in needed:
                needed |= set(step["inputs"])
                steps.append(step)
        steps = self._mark_folded_norms(steps[::-1])
        weights = {key: tensor for key, tensor in self.weights.items() if key.split(".")[1] in needed}
        settings = {"steps": steps, "output": output}
        self._check_rows(settings, weights)
        return settings, weights

    def take_scaling(self) -> tuple[float, float]:
        """Remove leading additions and multiplications by a number from the graph.

        Returns:
            mean and std in the units of the image: the remaining graph expects ``(image - mean) / std``.
        """
        scale, shift = 1.0, 0.0  # scale * image + shift
        value = IMAGE
        while True:
            users = [step for step in self.steps if value in step["inputs"]]
            if len(users) != 1 or users[0]["op"] not in ("add", "sub", "mul", "div"):
                break
            step = users[0]
            left, right = step["inputs"]
            number = self.examples[right if left == value else left]
            swapped = left != value and step["op"] in ("sub", "div")
            if left == right or number.numel() != 1 or number.ndim > 4 or swapped:
                break
            if not {left, right} - {value} <= self.constants:
                break
            x = float(number)
            scale, shift = {
                "add": (scale, shift + x),
                "sub": (scale, shift - x),
                "mul": (scale * x, shift * x),
                "div": (scale / x if x else math.nan, shift / x if x else math.nan),
            }[step["op"]]
            value = step["output"]
        if value == IMAGE:
            return 0.0, 1.0
        if not (math.isfinite(scale) and math.isfinite(shift)) or scale <= 0:
            raise CheckpointError(f"expected an image contract with a positive scale, got {scale:g}")
        for step in self.steps:
            step["inputs"] = [IMAGE if name == value else name for name in step["inputs"]]
        return -shift / scale, 1 / scale

    def _unique_name(self, name: str) -> str:
        """``name`` as a valid layer name (no dots), with a number if it is taken."""
        name = re.sub(r"[^0-9A-Za-z]+", "_", name).strip("_") or "step"
        taken, number = name, self._numbers.get(name, 1)
        while taken in self.examples or hasattr(_TAKEN, taken):  # torch allows no layer named like a method
            number += 1
            taken = f"{name}_{number}"
        self._numbers[name] = number
        return taken

    def _check_size(self, op: str, settings: Mapping[str, Any], values: Sequence[str]) -> None:
        """Check the size of a step's result before it is computed.

        Raises:
            ValueError: the result is too large for an embedder.
        """
        numbers = most_elements(op, settings, [self.shape(value) for value in values])
        self._total += numbers
        if numbers > MAX_ELEMENTS or self._total > MAX_TOTAL_ELEMENTS:
            raise ValueError(f"its result has {numbers} elements, more than an embedder's")

    def _materialize_constants(self) -> None:
        """Add a step for each constant that a step uses."""
        used = {value for step in self.steps for value in step["inputs"]} & self.constants
        constants = []
        for name in sorted(used):
            tensor = self.examples[name].contiguous().clone()
            settings = {"shape": list(tensor.shape), "dtype": DTYPES[tensor.dtype]}
            constants.append({"op": "constant", "inputs": [], "output": name, "settings": settings})
            self.weights[f"layers.{name}.value"] = tensor
        self.steps = constants + self.steps
        self.constants -= used

    def _mark_folded_norms(self, steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
        users: dict[str, list[str]] = {}
        for step in steps:
            for value in step["inputs"]:
                users.setdefault(value, []).append(step["op"])
        found: list[dict[str, Any]] = []
        renamed: dict[str, str] = {}
        for step in steps:
            found.append({**step, "inputs": [renamed.get(value, value) for value in step["inputs"]]})
            name = step["output"]
            if step["op"] == "conv" and users.get(name) != ["batch_norm"]:
                renamed[name] = self._unique_name(f"{name}_norm")
                self.examples[renamed[name]] = self.examples[name]
                found.append({"op": "folded_norm", "inputs": [name], "output": renamed[name]})
        return found

    @torch.no_grad()
    def _check_rows(self, settings: dict[str, Any], weights: dict[str, Tensor]) -> None:
        network = Graph(**settings).eval()
        network.load_state_dict(weights)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and module.running_var is not None:
                # Damaged statistics must not hide rows that depend on each other.
                module.running_var.copy_(module.running_var.nan_to_num(1, 1, 1).clamp_min(module.eps))
        image = self.examples[IMAGE]
        try:
            # One image, three, and four, which a size computed from three does not fit.
            alone, together, more = (network(part) for part in (image[:1], image, torch.cat((image, image[:1]))))
        except TORCH_ERRORS as error:
            reason = " ".join(str(error).split())
            raise CheckpointError(f"the network accepts no batch size but the file's: {reason}") from None
        if [len(rows) for rows in (alone, together, more)] != [1, BATCH, BATCH + 1]:
            raise CheckpointError("the network accepts no batch size but the file's: the number of rows differs")
        for rows, same in ((together[:1], alone), (more[:BATCH], together), (more[BATCH:], alone)):
            rows, same = rows.nan_to_num(), same.nan_to_num()
            if (rows - same).norm() > 1e-3 * same.norm() + 1e-6:
                raise CheckpointError("the embedding of an image depends on the other images in its batch")
