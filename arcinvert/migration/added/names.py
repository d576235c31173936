"""Names of added people in the type of the column that holds names."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arcinvert.errors import UsageError


def names_as(names: Sequence[str], kind: "np.dtype[Any]", where: str) -> NDArray[np.generic]:
    """Names (K,) in the type of an array; text may become longer than it.

    Raises:
        UsageError: the array holds numbers, and a name is none that fits.
    """
    if kind.kind not in "iuf":
        return np.array(names)
    for name in names:
        try:
            if kind.kind == "f":
                float(name)
            else:
                kind.type(int(name))
        except (ValueError, OverflowError):
            raise UsageError(f"expected names that are numbers of type {kind}, as in {where}, got {name!r}") from None
    return np.array([float(name) if kind.kind == "f" else int(name) for name in names], kind)
