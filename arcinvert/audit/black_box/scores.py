"""What the unknown system made of the reconstructions that the auditor fed to it."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from arcinvert.audit.black_box.names import open_named, rows_of_pictures
from arcinvert.errors import InputError


def read_scores(source: str, records: Sequence[int], size: int) -> tuple[Tensor, int]:
    """The system's embeddings of the reconstructions in ``faces/``.

    Args:
        source: a store that names the images (``00000012.png``), or with a row for each in the order of their names.
        records: (N) positions of the templates in the audited store, ascending.
        size: D of the system.

    Returns:
        (N, D) unit norm, minus infinity where there is no row or no direction; and how many these are.

    Raises:
        InputError: embeddings of another size, or of none of the reconstructions.
    """
    store = open_named(source)
    if store.size != size:
        raise InputError(
            f"expected the system's embeddings of {size} numbers for the reconstructions, {store.name} has {store.size}"
        )
    names = [f"faces/{record:08d}.png" for record in records]
    found = rows_of_pictures(store, names, "reconstructions")
    rows = torch.full((len(records), size), -torch.inf)
    taken = store.take(np.unique(np.fromiter(found.values(), np.int64)))
    templates = dict(zip(taken.positions.tolist(), taken.templates.astype(np.float64), strict=True))
    for place, position in found.items():
        template = templates.get(position)
        norm = np.nan if template is None else float(np.linalg.norm(template))
        if template is not None and np.isfinite(norm) and norm > 0:
            rows[place] = torch.from_numpy(template / norm)
    return rows, int(rows.isneginf().any(1).sum())
