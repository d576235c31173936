"""A network as a list of steps, for imported graphs whose layout is not one of ours.

A step is a mapping ``{"op", "inputs", "output"}``, with ``settings`` where the operation has any.
``inputs`` name the outputs of earlier steps, or ``image``. Operations with weights are layers of
torch, named after their step; the others are functions. The list is plain JSON, so it is stored in
the header of a checkpoint, and running it needs nothing of the foreign format.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from arcinvert.backbones.operations import FUNCTIONS, LAYERS
from arcinvert.backbones.sizes import MAX_ELEMENTS, MAX_WEIGHTS, SIZES, count_weights, most_elements

IMAGE = "image"
MIN_SIDE, MAX_SIDE = 32, 512
"""Smallest and largest height and width of an image."""
TORCH_ERRORS = (RuntimeError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError, AssertionError)
"""The exceptions that torch raises where settings or shapes do not fit."""
_NOT_SETTINGS = {"inplace", "out", "device"}


class Graph(nn.Module):
    """The steps, run in order.

    Args:
        steps: see the module.
        output: the step whose result, (B, D), the network returns.
        size: height and width of its images, from 32 to 512.

    Raises:
        ValueError: another size of images, an unknown operation, an input that no earlier step computes, or settings
            that do not fit.
    """

    def __init__(self, *, steps: Sequence[Mapping[str, Any]], output: str, size: Sequence[int] = (112, 112)) -> None:
        super().__init__()
        if len(size) != 2 or any(type(n) is not int or not MIN_SIDE <= n <= MAX_SIDE for n in size):
            raise ValueError(f"images are {size}, expected a height and a width of {MIN_SIDE} to {MAX_SIDE}")
        self.size = (size[0], size[1])
        self.embedding_size = 0  # set once :func:`graph` has run the steps
        self.output = output
        self.layers = nn.ModuleDict()
        self.steps: list[tuple[str, tuple[str, ...], str, dict[str, Any]]] = []
        known = {IMAGE}
        for step in steps:
            op, inputs, name = step["op"], tuple(step["inputs"]), step["output"]
            settings = dict(step.get("settings", {}))
            if op not in LAYERS and op not in FUNCTIONS:
                raise ValueError(f"{op!r} is not an operation")
            if not set(inputs) <= known or name in known or not isinstance(name, str):
                raise ValueError(f"step {name!r} is out of order")
            known.add(name)
            foreign = settings.keys() & (_NOT_SETTINGS if op == "constant" else {*_NOT_SETTINGS, "dtype"})
            if foreign or any(settings.get(key) == 0 for key in SIZES):
                raise ValueError(f"step {name!r} has settings that do not fit: {settings}")
            if op in LAYERS:
                self.layers[name] = LAYERS[op](**settings)
                settings = {}
            self.steps.append((op, inputs, name, settings))
        if output not in known:
            raise ValueError(f"no step computes the output {output!r}")
        last = {name: number for number, step in enumerate(self.steps) for name in step[1]}
        self.spent = [
            [name for name in {*step[1], step[2]} if last.get(name, n) == n] for n, step in enumerate(self.steps)
        ]

    def forward(self, x: Tensor) -> Tensor:
        """What ``image`` is -> (B, D)."""
        found = x
        for name, value in self.values(x):
            if name == self.output:
                found = value
        return found

    def values(self, x: Tensor, before: Callable[[str], None] | None = None) -> Iterator[tuple[str, Tensor]]:
        """The result of each step by its name, in order; nothing is kept longer than a later step needs it.

        Args:
            x: what ``image`` is.
            before: called with the name of each step before it is run.
        """
        values = {IMAGE: x}
        for (op, inputs, name, settings), spent in zip(self.steps, self.spent, strict=True):
            if before is not None:
                before(name)
            arguments = [values[key] for key in inputs]
            if op in LAYERS:
                values[name] = self.layers[name](*arguments)
            else:
                values[name] = FUNCTIONS[op](*arguments, **settings)
            yield name, values[name]
            for key in spent:
                del values[key]


def graph(**settings: Any) -> Graph:
    """Build a network from its steps and run it on two images; one that needs more memory than an embedder is refused.

    Raises:
        ValueError: the steps do not fit each other or the images, or are too large.
    """
    name = IMAGE
    try:
        weights = sum(count_weights(step["op"], step.get("settings", {})) for step in settings.get("steps", []))
        if weights > MAX_WEIGHTS:
            raise ValueError(f"it has {weights} weights, expected at most {MAX_WEIGHTS}")
        network = Graph(**settings).eval()
        made = {step["output"]: step for step in settings["steps"]}
        shapes: dict[str, tuple[int, ...]] = {IMAGE: (2, 3, *network.size)}
        found = torch.zeros(shapes[IMAGE])
        with torch.no_grad():
            for name, value in network.values(found, partial(_allow, made, shapes)):
                shapes[name] = tuple(value.shape)
                found = value if name == network.output else found
    except TORCH_ERRORS as error:
        raise ValueError(f"at step {name!r}: {' '.join(str(error).split())}") from None
    if found.ndim != 2 or len(found) != 2 or not found.is_floating_point():
        raise ValueError(f"expected a vector per image, got {tuple(found.shape)}")
    network.embedding_size = found.shape[1]
    return network.train()


def _allow(made: Mapping[str, Mapping[str, Any]], shapes: Mapping[str, Sequence[int]], name: str) -> None:
    step = made[name]
    numbers = most_elements(step["op"], step.get("settings", {}), [shapes[value] for value in step["inputs"]])
    if numbers > MAX_ELEMENTS:
        raise ValueError(f"the result of step {name!r} has {numbers} elements, more than an embedder's")
