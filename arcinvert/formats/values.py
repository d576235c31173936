"""The values of a graph that is being built: an example of each, and what depends on the number of images."""

import contextlib
import math
import re
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from arcinvert.backbones.graph import IMAGE
from arcinvert.errors import CheckpointError

BATCH = 3
"""Images in the example: a size that no layer has, so that a shape shows which dimension is the batch."""
OTHER_BATCH = 5
"""Images in the second batch, of which only shapes are computed."""
IMAGE_SIZE = (112, 112)
"""Height and width of our own images, and of a foreign network's that names no others."""
DTYPES = {torch.float32: "float32", torch.int64: "int64", torch.bool: "bool"}
_TAKEN = nn.ModuleDict()


class Values:
    """What is known of each value. A *value* is the name of a step's output, or of a constant.

    Args:
        size: height and width of the image.
    """

    def __init__(self, size: tuple[int, int] = IMAGE_SIZE) -> None:
        generator = torch.Generator().manual_seed(0)
        self.examples: dict[str, Tensor] = {IMAGE: torch.rand(BATCH, 3, *size, generator=generator) * 2 - 1}
        self.others: dict[str, Tensor] = {IMAGE: torch.empty(OTHER_BATCH, 3, *size, device="meta")}
        self.constants: set[str] = set()
        self.kinds: dict[str, torch.dtype] = {}
        self.dequantized: dict[str, tuple[str, str, int]] = {}  # the whole numbers, their scale and its axis
        self.stored: dict[str, tuple[str, str, str]] = {}  # of dequantized values: with one scale, and the zero point
        self.sums: dict[str, tuple[str, str]] = {}  # of two of these
        self._numbers: dict[str, int] = {}

    def shape(self, value: str) -> tuple[int, ...]:
        """The shape of a value, with a batch of :data:`BATCH`."""
        return tuple(self.examples[value].shape)

    def other_shape(self, value: str) -> tuple[int, ...]:
        """The shape of a value, with a batch of :data:`OTHER_BATCH`."""
        return tuple(self.others.get(value, self.examples[value]).shape)

    def constant(self, tensor: Tensor, name: str = "constant", *, other: Tensor | None = None) -> str:
        """Add a tensor that does not depend on the image; it becomes a step only if another step uses it.

        Args:
            tensor: for a batch of :data:`BATCH`.
            name: of its step, if it becomes one.
            other: what it is for a batch of :data:`OTHER_BATCH`, where that differs.
        """
        name = self.unique_name(name)
        self.examples[name] = _plain(tensor)
        self.kinds[name] = tensor.dtype
        self.constants.add(name)
        if other is not None and not (other.shape == tensor.shape and torch.equal(other, tensor)):
            self.others[name] = _plain(other)
        return name

    @contextlib.contextmanager
    def at_other_batch(self, values: Sequence[str]) -> Iterator[None]:
        """For the time of a block, the constants ``values`` are those of the other batch."""
        kept = {value: self.examples[value] for value in values if value in self.others}
        others = {value: self.others.pop(value) for value in kept}
        self.examples |= others
        try:
            yield
        finally:
            self.examples |= kept
            self.others |= others

    def join_batches(self, value: str, other: str) -> None:
        """Make the constant ``other``, computed in :meth:`at_other_batch`, that of ``value`` in the other batch."""
        if value == other:
            return
        found = self.examples.pop(other)
        self.constants.discard(other)
        kept = self.examples[value]
        if kept.shape != found.shape or not torch.equal(kept, found):
            self.others[value] = found

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

    def batch_stride(self, value: str) -> int:
        """The number of elements from one image to the next; 0 if no single dimension holds the images."""
        one, two = self.shape(value), self.other_shape(value)
        differ = [i for i, (a, b) in enumerate(zip(one, two, strict=True)) if a != b]
        if len(differ) != 1 or one[differ[0]] % BATCH:
            return 0
        return one[differ[0]] // BATCH * math.prod(one[differ[0] + 1 :])

    def unique_name(self, name: str) -> str:
        """``name`` as a valid layer name (no dots), with a number if it is taken."""
        name = re.sub(r"[^0-9A-Za-z]+", "_", name).strip("_") or "step"
        taken, number = name, self._numbers.get(name, 1)
        while taken in self.examples or hasattr(_TAKEN, taken):  # torch allows no layer named like a method
            number += 1
            taken = f"{name}_{number}"
        self._numbers[name] = number
        return taken


def _plain(tensor: Tensor) -> Tensor:
    """A tensor of one of the types of :data:`DTYPES`."""
    if tensor.is_floating_point():
        return tensor.float()
    return tensor if tensor.dtype in DTYPES else tensor.long()
