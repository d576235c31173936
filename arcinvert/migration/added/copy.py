"""A copy of a store with rows added: which writer fits the store, and what was left empty."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arcinvert.audit.stores import Store
from arcinvert.errors import InputError, UsageError
from arcinvert.mapping.linear_map import Rows
from arcinvert.migration.added.arrays import add_to_npy, add_to_npz
from arcinvert.migration.added.sqlite import add_to_sqlite
from arcinvert.migration.added.tables import add_to_csv, add_to_parquet

WRITERS: dict[str, Callable[[Any, Rows, Sequence[str], Path], tuple[str, ...]]] = {
    "npy": add_to_npy,
    "npz": add_to_npz,
    "csv": add_to_csv,
    "parquet": add_to_parquet,
    "sqlite": add_to_sqlite,
}
"""Kind of store -> its writer, which returns the columns that have no value in the added rows."""


@dataclass(frozen=True)
class Added:
    """What was written.

    Attributes:
        kind: of both stores.
        rows: of the copy.
        empty: other columns (or arrays), which hold nothing in the added rows.
    """

    kind: str
    rows: int
    empty: tuple[str, ...]


def check_addable(store: Store, out: Path) -> None:
    """Refuse what cannot be copied with more rows, before anything is computed.

    Raises:
        UsageError: a kind that is read and not written, or a file that is there already.
    """
    if store.kind not in WRITERS:
        raise UsageError(f"expected a store of kind {', '.join(WRITERS)} to copy, {store.name} is of {store.kind}")
    if out.exists():
        raise UsageError(f"expected a new file, {str(out)!r} is there already")


def add_rows(store: Store, rows: Rows, names: Sequence[str], out: Path) -> Added:
    """Write a copy of a store with rows at its end. Its own rows, other columns and tables stay as they are.

    Args:
        store: see :func:`~arcinvert.audit.stores.open_store`; it is only read.
        rows: (K, D) to add, rounded where the store holds whole numbers.
        names: (K) of their people; they are not used where the store names nobody.
        out: the new file.

    Raises:
        UsageError: see :func:`check_addable`; or the store takes no rows of an embedding and a name alone, or no such
            names.
        InputError: rows of another size, or a damaged store.
        EnvironmentProblem: ``out`` cannot be written.
    """
    check_addable(store, out)
    if rows.ndim != 2 or rows.shape[1] != store.size or len(names) != len(rows):
        raise InputError(f"expected rows (K, {store.size}) and K names, got {rows.shape} and {len(names)} names")
    empty = WRITERS[store.kind](store, rows, names, out)
    return Added(store.kind, store.count + len(rows), empty)
