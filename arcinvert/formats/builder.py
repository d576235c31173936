"""Builds a :class:`~arcinvert.backbones.graph.Graph` step by step, for the importers of ONNX and MXNet.

An importer walks its nodes in order and adds steps to a :class:`Builder`. The builder runs each new step
on an example batch of three images, so the shape of each value is known, arithmetic on constants is done
once, and nodes that only compute a shape leave no steps. Beside the example it keeps what each value would be
for five images, so that it knows which dimensions and which numbers depend on the batch.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from arcinvert.backbones.graph import IMAGE, TORCH_ERRORS
from arcinvert.backbones.operations import FUNCTIONS, LAYERS
from arcinvert.backbones.sizes import MAX_ELEMENTS, most_elements
from arcinvert.errors import CheckpointError
from arcinvert.formats.any_batch import shape_for_any_batch
from arcinvert.formats.values import BATCH, IMAGE_SIZE, OTHER_BATCH, Values

MAX_TOTAL_ELEMENTS = 1 << 29
"""Elements of all intermediate values together; an IResNet-200 has about 200 million."""


class Builder(Values):
    """Collects steps.

    Args:
        size: height and width of the image.
    """

    def __init__(self, size: tuple[int, int] = IMAGE_SIZE) -> None:
        super().__init__(size)
        self.steps: list[dict[str, Any]] = []
        self.weights: dict[str, Tensor] = {}
        self._total = 0

    @torch.no_grad()
    def layer(self, op: str, value: str, name: str, settings: Mapping[str, Any], **weights: Tensor) -> str:
        """Add an operation with weights, named as in the torch layer; of a constant it is computed at once."""
        name = self.unique_name(name)
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
            if value in self.constants:
                self.constants.add(name)
                return name
            self.others[name] = module.to("meta")(self._other(value))
        except TORCH_ERRORS as error:
            raise CheckpointError(f"the {op} layer {name!r} does not fit: {' '.join(str(error).split())}") from None
        self.weights |= {f"layers.{name}.{key}": tensor for key, tensor in full.items()}
        self.steps.append({"op": op, "inputs": [value], "output": name, "settings": dict(settings)})
        return name

    @torch.no_grad()
    def function(self, op: str, values: Sequence[str], name: str, **settings: Any) -> str:
        """Add an operation without weights; it is computed at once if its inputs are all constants."""
        constant = all(value in self.constants for value in values)
        if not constant:
            values = [self._for_any_batch(value, op == "concat") for value in values]
        name = self.unique_name(name)
        try:
            self._check_size(op, settings, values)
            self.examples[name] = FUNCTIONS[op](*(self.examples[value] for value in values), **settings)
            if not constant:
                self.others[name] = FUNCTIONS[op](*map(self._other, values), **settings)
        except TORCH_ERRORS as error:
            raise CheckpointError(f"the {op} step {name!r} does not fit: {' '.join(str(error).split())}") from None
        if constant:
            self.constants.add(name)
        else:
            self.steps.append({"op": op, "inputs": list(values), "output": name, "settings": settings})
        return name

    def reshape(
        self, value: str, shape: Sequence[int], name: str, *, batch: int | None = None, other: Sequence[int] = ()
    ) -> str:
        """Add a reshape that works for any batch.

        Args:
            value: what is reshaped.
            shape: as in ONNX: 0 keeps a dimension, -1 is what remains.
            name: of the step.
            batch: the batch size if the file fixes it.
            other: the shape for a batch of :data:`OTHER_BATCH`, where it differs.
        """
        if value in self.constants:
            return self.function("reshape", [value], name, shape=list(shape))
        found = shape_for_any_batch(self, value, shape, name, batch, other or shape)
        return self.function("reshape", [value], name, shape=found)

    def concat(self, values: Sequence[str], axis: int, name: str, *, batch: int | None = None) -> str:
        """Add a concatenation; a constant of one image (or of the file's fixed batch) is repeated for each image."""
        moving = [value for value in values if value not in self.constants]
        ready = list(values)
        if moving:
            one, two = self.shape(moving[0]), self.other_shape(moving[0])
            axis %= len(one)
            differ = [i for i, (a, b) in enumerate(zip(one, two, strict=True)) if a != b and i != axis]
            for place, value in enumerate(values):
                sizes = self.shape(value)
                fits = value in self.constants and value not in self.others and len(sizes) == len(one)
                for i in differ if fits else ():
                    if sizes[i] != one[i] and one[i] == BATCH and sizes[i] in (1, batch):
                        first = self.constant(self.examples[value].narrow(i, 0, 1), value)
                        ready[place] = self.function("repeat", [first, IMAGE], f"{name}_each", axis=i)
        return self.function("concat", ready, name, axis=axis)

    def _other(self, value: str) -> Tensor:
        """A value in the other batch, its shape and type alone."""
        return self.others.get(value, self.examples[value]).to("meta")

    def _for_any_batch(self, value: str, whole: bool) -> str:
        """A value as steps may use it: a constant that is repeated for each image is stored once.

        Args:
            value: of any kind.
            whole: whether it must have the batch as a dimension, and not 1.

        Raises:
            CheckpointError: a constant that depends on the number of images in another way.
        """
        if value not in self.constants or value not in self.others:
            return value
        one, two = self.examples[value], self.others[value]
        differ = [i for i, (a, b) in enumerate(zip(one.shape, two.shape, strict=False)) if a != b]
        if (
            one.ndim == two.ndim
            and len(differ) == 1
            and one.shape[differ[0]] * OTHER_BATCH == two.shape[differ[0]] * BATCH
        ):
            axis = differ[0]
            each = one.narrow(axis, 0, one.shape[axis] // BATCH)
            same = all(torch.equal(t, torch.cat([each] * n, axis)) for t, n in ((one, BATCH), (two, OTHER_BATCH)))
            if same:
                first = self.constant(each, value)
                if each.shape[axis] == 1 and not whole:
                    return first
                return self.function("repeat", [first, IMAGE], f"{value}_each", axis=axis)
        raise CheckpointError(f"the constant {value!r} depends on the number of images in the batch")

    def _check_size(self, op: str, settings: Mapping[str, Any], values: Sequence[str]) -> None:
        """Check the size of a step's result before it is computed.

        Raises:
            ValueError: the result is too large for an embedder.
        """
        numbers = most_elements(op, settings, [self.shape(value) for value in values])
        self._total += numbers
        if numbers > MAX_ELEMENTS or self._total > MAX_TOTAL_ELEMENTS:
            raise ValueError(f"its result has {numbers} elements, more than an embedder's")
