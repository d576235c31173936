"""The conversion of a store: which writer fits it, and what became of its rows."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from arcinvert.audit.checks import mismatch
from arcinvert.audit.stores import Store
from arcinvert.errors import InputError, UsageError
from arcinvert.mapping.linear_map import LinearMap, Rows
from arcinvert.migration.arrays import Count, write_npy, write_npz
from arcinvert.migration.sqlite import write_sqlite
from arcinvert.migration.tables import write_csv, write_parquet
from arcinvert.progress import Progress, silent

WRITERS: dict[str, Callable[[Any, LinearMap, Path, Count], None]] = {
    "npy": write_npy,
    "npz": write_npz,
    "csv": write_csv,
    "parquet": write_parquet,
    "sqlite": write_sqlite,
}
"""Kind of store -> its writer."""
COMPARED = 1000
"""Rows of a store that are compared with the pairs."""


@dataclass(frozen=True)
class Converted:
    """What became of a store.

    Attributes:
        kind: of both stores.
        rows: written, all rows of the store.
        empty: rows among them whose embedding was null, ragged, unreadable, NaN or zero; they hold none.
    """

    kind: str
    rows: int
    empty: int


def check_convertible(store: Store, size: int, out: Path | None) -> None:
    """Refuse what cannot be converted, before anything is computed.

    Args:
        store: the source.
        size: D of the map.
        out: the new file.

    Raises:
        UsageError: a kind that is read and not written, or ``out`` is the store itself or a folder.
        InputError: embeddings of another size.
    """
    if store.kind not in WRITERS:
        raise UsageError(f"expected a store of kind {', '.join(WRITERS)} to convert, {store.name} is of {store.kind}")
    if store.size != size:
        raise InputError(f"expected embeddings of {size} numbers, as the map takes, {store.name} has {store.size}")
    source = getattr(store, "path", None) or Path(store.name)
    if out is not None and out.exists():
        if not out.is_file():
            raise UsageError(f"expected a new file, {str(out)!r} is none")
        if out.samefile(source):
            raise UsageError(f"expected a new file, {str(out)!r} is the store itself")


def doubt(store: Store, known: Rows) -> str | None:
    """Why a store does not seem to be of the recognizer behind the pairs; None if nothing says so.

    Args:
        store: the source; at most :data:`COMPARED` of its rows, spread evenly, are read.
        known: (M, D) embeddings of other people by the recognizer, unit norm.
    """
    positions = np.unique(np.linspace(0, store.count - 1, min(store.count, COMPARED)).astype(np.int64))
    found = mismatch(known, store.take(positions).templates)
    return "; ".join(found.evidence) if found.suspected else None


def convert_store(store: Store, mapping: LinearMap, out: Path, *, progress: Progress = silent) -> Converted:
    """Write the same kind of store, its embeddings mapped and of unit norm, in bounded memory.

    Order and number of the rows, names and other columns stay. The old file at ``out`` stays until the new one is
    complete.

    Args:
        store: see :func:`~arcinvert.audit.stores.open_store`; it is only read.
        mapping: from its recognizer to another.
        out: the new file.
        progress: called with (done, all, text), in rows.

    Raises:
        UsageError, InputError: see :func:`check_convertible`; or a damaged store.
        EnvironmentProblem: ``out`` cannot be written.
    """
    check_convertible(store, mapping.sizes[0], out)
    rows = empty = 0

    def count(some: int, without: int) -> None:
        nonlocal rows, empty
        rows, empty = rows + some, empty + without
        progress(rows, store.count, "converting")

    WRITERS[store.kind](store, mapping, out, count)
    return Converted(store.kind, rows, empty)
