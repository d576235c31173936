"""Reshapes that work for any number of images, found from their shapes for two."""

import math
from collections.abc import Sequence

from arcinvert.errors import CheckpointError
from arcinvert.formats.values import BATCH, Values


def shape_for_any_batch(
    values: Values, value: str, shape: Sequence[int], name: str, batch: int | None, other: Sequence[int]
) -> list[int]:
    """The shape of a reshape, with -1 where the images are.

    Args:
        values: of the graph.
        value: what is reshaped; it depends on the image.
        shape: as in ONNX: 0 keeps a dimension, -1 is what remains.
        name: of the step.
        batch: the batch size if the file fixes it.
        other: the shape for a batch of :data:`~arcinvert.formats.values.OTHER_BATCH`.

    Raises:
        CheckpointError: 0 for a dimension that the value lacks.
    """
    known = values.shape(value)
    if any(s == 0 and i >= len(known) for i, s in enumerate(shape)):
        raise CheckpointError(f"the reshape step {name!r} does not fit: {tuple(known)} to {tuple(shape)}")
    numel, stride = math.prod(known), values.batch_stride(value)
    found = None
    if stride:
        computed = list(shape) != list(other)  # from the shape of a value, so not for the file's batch
        if batch and not computed:
            found = _with_batch(_whole(shape, known, numel * batch // BATCH, batch), batch, stride)
        found = found or _two_batches(values, value, shape, other)
        # A leading 1 that leaves no dimension for the batch is the batch of a file made for one image.
        found = found or _with_batch(_whole(shape, known, numel // BATCH, 1), 1, stride)
    return list(found or shape)


def _two_batches(values: Values, value: str, shape: Sequence[int], other: Sequence[int]) -> list[int] | None:
    """The shape in which -1 is the dimension that differs between the two batches."""
    if len(shape) != len(other):
        return None
    one = _whole(shape, values.shape(value), math.prod(values.shape(value)))
    two = _whole(other, values.other_shape(value), math.prod(values.other_shape(value)))
    if one is None or two is None:
        return None
    differ = [i for i, (a, b) in enumerate(zip(one, two, strict=True)) if a != b]
    if len(differ) != 1:
        return None
    return [-1 if i == differ[0] else size for i, size in enumerate(one)]


def _whole(shape: Sequence[int], known: Sequence[int], numel: int, batch: int | None = None) -> list[int] | None:
    """The shape without 0 and -1, for a value of ``known`` shape but ``numel`` elements; None if it does not fit.

    Args:
        shape: as in ONNX.
        known: for a batch of :data:`BATCH`.
        numel: number of elements.
        batch: replaces the first dimension where 0 keeps it.
    """
    sizes = [(known[i] if i or batch is None else batch) if s == 0 else s for i, s in enumerate(shape)]
    if sizes.count(-1) > 1 or any(size < -1 for size in sizes):
        return None
    if -1 in sizes:
        rest = math.prod(size for size in sizes if size != -1)
        if not rest or numel % rest:
            return None
        sizes[sizes.index(-1)] = numel // rest
    return sizes if math.prod(sizes) == numel else None


def _with_batch(sizes: list[int] | None, batch: int, stride: int) -> list[int] | None:
    """The shape in which -1 is the first dimension that holds the images, ``stride`` elements apart."""
    for i, size in enumerate(sizes or ()):
        if size % batch == 0 and size // batch * math.prod(sizes[i + 1 :]) == stride:  # type: ignore[index]
            return [*sizes[:i], -1, *sizes[i + 1 :]]  # type: ignore[index]
    return None
