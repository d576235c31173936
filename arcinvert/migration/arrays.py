"""Writers of ``.npy`` and ``.npz`` stores, block by block."""

import shutil
import zipfile
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from arcinvert.audit.stores.arrays import Layout, NpyStore, NpzStore, damage
from arcinvert.checkpoint import atomic_write
from arcinvert.mapping.linear_map import LinearMap
from arcinvert.migration.encoding import float_type

Count = Callable[[int, int], None]
"""Called with the rows of a block and how many of them have no embedding."""
BLOCK = 8192
"""Rows in memory at a time."""


def write_npy(store: NpyStore, mapping: LinearMap, out: Path, count: Count) -> None:
    """Write the mapped rows, in the type of the numbers if it holds fractions; and the names, if the store has some.

    Rows that are NaN, infinite or zero become NaN.
    """
    with atomic_write(out) as temporary:
        with open(temporary, "wb") as file:
            _write(store, store.layout, mapping, file, count)
        if store.names is not None:
            with atomic_write(out.with_name(out.stem + ".labels.txt")) as labels:
                labels.write_text("".join(f"{name}\n" for name in store.names), encoding="utf-8")


def write_npz(store: NpzStore, mapping: LinearMap, out: Path, count: Count) -> None:
    """Write the archive with the mapped rows; its other arrays are copied as they are, and not opened."""
    with repacked(store, out) as members:
        for info, old, new in members:
            if info.filename == store.member:
                _write(store, store.layout, mapping, new, count)
            else:
                shutil.copyfileobj(old, new)


@contextmanager
def repacked(store: NpzStore, out: Path) -> Iterator[Iterator[tuple[zipfile.ZipInfo, IO[bytes], IO[bytes]]]]:
    """Each array of the archive, open to be read, and its place in a new archive, open to be written."""

    def members(source: zipfile.ZipFile, archive: zipfile.ZipFile) -> Generator[Any, None, None]:
        for info in source.infolist():
            member = zipfile.ZipInfo(info.filename, info.date_time)
            member.compress_type = info.compress_type
            with source.open(info) as old, archive.open(member, "w", force_zip64=True) as new:
                yield info, old, new

    with (
        damage(store.name),
        atomic_write(out) as temporary,
        zipfile.ZipFile(store.path) as source,
        zipfile.ZipFile(temporary, "w", allowZip64=True) as archive,
        closing(members(source, archive)) as found,  # an archive with an open member cannot be closed
    ):
        yield found


def _write(store: NpyStore | NpzStore, layout: Layout, mapping: LinearMap, file: IO[bytes], count: Count) -> None:
    kind, size = float_type(layout.dtype), mapping.sizes[1]
    header = {"descr": npy.dtype_to_descr(kind), "fortran_order": False, "shape": (store.count, size)}
    npy.write_array_header_1_0(file, header)
    for block in store.blocks(BLOCK):
        rows = mapping.apply(block.templates)
        count(len(rows), int(np.isnan(rows[:, 0]).sum()))
        file.write(np.ascontiguousarray(rows, kind).tobytes())
