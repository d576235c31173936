"""The int8 codec of stored tensors: each row, the first axis, has a scale of its own.

A scale is (C,), the value of one level of a symmetric row; or (C, 2), the least value of a row and its level.
"""

import torch
from torch import Tensor


def quantize(values: Tensor, bits: int = 8, *, offset: bool = False) -> tuple[Tensor, Tensor]:
    """(C, ...) -> int8 of the same shape, and its float32 scale, (C,) or with ``offset`` (C, 2).

    Args:
        values: weights, say, whose rows are about symmetric around 0; maps have an offset.
        bits: of a number, from 2 to 8; fewer are stored as int8 all the same, but pack better. 8 with an offset.
        offset: spend the levels between the least and the largest value of a row.
    """
    values = values.float()
    flat = values.flatten(1)
    if offset:
        least = flat.amin(1, keepdim=True)
        level = ((flat.amax(1, keepdim=True) - least) / 254).clamp_min(1e-12)
        return ((flat - least) / level - 127).round().to(torch.int8).view_as(values), torch.cat([least, level], 1)
    scale = flat.abs().amax(1).clamp_min(1e-12) / (2 ** (bits - 1) - 1)
    return (values / _along(scale, values)).round().to(torch.int8), scale


def dequantize(stored: Tensor, scale: Tensor) -> Tensor:
    """What :func:`quantize` was given, in float32, to half a level.

    Raises:
        ValueError: the scale does not belong to these numbers.
    """
    rows = stored.shape[:1]
    if stored.ndim == 0 or scale.shape not in (rows, (*rows, 2)):
        raise ValueError(f"expected a scale for each row of {tuple(stored.shape)}, got {tuple(scale.shape)}")
    if scale.ndim == 1:
        return stored.float() * _along(scale.float(), stored)
    least, level = (_along(part, stored) for part in scale.float().unbind(1))
    return least + (stored.float() + 127) * level


def _along(scale: Tensor, values: Tensor) -> Tensor:
    return scale.view(-1, *(1,) * (values.ndim - 1))
