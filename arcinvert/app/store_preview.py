"""A look into a store: its first rows, its columns, and what one pass over it finds without any attack."""

from pathlib import Path

import numpy as np

from arcinvert.app.drawing import PARTS
from arcinvert.audit.checks import scan
from arcinvert.audit.stores import Store

ROWS, COLUMNS, CHARACTERS = 5, 8, 60
"""Rows, columns, and characters of a value that are shown."""


def preview(store: Store) -> str:
    """The head of a store, and the findings; no number of an embedding is shown.

    Raises:
        InputError: the store turns out to be damaged.
    """
    rows: list[tuple[int, str, float]] = []
    for block in store.blocks(64):
        names = block.identities or [""] * len(block.positions)
        lengths = np.linalg.norm(block.templates.astype(np.float64), axis=1).tolist()
        rows += zip(block.positions.tolist(), (name[:CHARACTERS] for name in names), lengths, strict=True)
        if len(rows) >= ROWS:
            break
    columns = [
        (name, "a value that is not shown" if value is None else str(value)[:CHARACTERS])
        for name, value in list(store.contents.columns.items())[:COLUMNS]
        if name != store.contents.identity
    ]
    return str(PARTS.preview(Path(store.name).name, store.kind, scan(store), rows[:ROWS], columns))
