"""Copies of ``.npy`` and ``.npz`` stores with rows added."""

import io
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from arcinvert.audit.stores.arrays import WHOLE, Layout, NpyStore, NpzStore, read_layout
from arcinvert.checkpoint import atomic_write
from arcinvert.errors import InputError, UsageError
from arcinvert.mapping.linear_map import Rows
from arcinvert.migration.added.names import names_as
from arcinvert.migration.arrays import BLOCK, repacked
from arcinvert.migration.encoding import as_type


def add_to_npy(store: NpyStore, rows: Rows, names: Sequence[str], out: Path) -> tuple[str, ...]:
    """Write the array with the rows added, and ``NAME.labels.txt`` if the store has names."""
    labels = out.with_name(out.stem + ".labels.txt")
    if store.names is not None and labels.exists():
        raise UsageError(f"expected a new file, {str(labels)!r} is there already")
    with open(store.path, "rb") as source:
        layout = read_layout(source, store.path.stat().st_size, repr(store.name))
        with atomic_write(out) as temporary, open(temporary, "wb") as file:
            _header(file, layout, layout.shape[0] + len(rows))
            if layout.fortran and len(layout.shape) > 1:
                for start in range(0, store.count, BLOCK):  # opened again each time: pages do not add up
                    array = np.memmap(store.path, layout.dtype, "r", layout.start, layout.shape, "F")
                    file.write(np.ascontiguousarray(array[start : start + BLOCK]).tobytes())
            else:
                source.seek(layout.start)
                shutil.copyfileobj(source, file)
            file.write(_shaped(rows, layout).tobytes())
    if store.names is not None:
        with atomic_write(labels) as temporary:
            temporary.write_text("".join(f"{name}\n" for name in (*store.names, *names)), encoding="utf-8")
    return ()


def add_to_npz(store: NpzStore, rows: Rows, names: Sequence[str], out: Path) -> tuple[str, ...]:
    """Write the archive with longer arrays; one that has a value for each row gets empty ones, and is returned."""
    empty = []
    identity = store.contents.identity if store.names is not None else None
    with repacked(store, out) as members:
        for info, old, new in members:
            key, layout = info.filename.removesuffix(".npy"), _layout_of(old, info)
            if layout is None or layout.shape[:1] != (store.count,):
                shutil.copyfileobj(old, new)
                empty += [key] if layout is None and key not in (store.column, identity) else []
                continue
            if info.filename == store.member:
                added = _shaped(rows, layout)
            elif key == identity:
                added = names_as(names, layout.dtype, f"{key!r} of {store.name!r}")
            else:
                added = _nothing(layout, len(rows))
                empty.append(key)
            for part in _longer(old, layout, added, key):
                new.write(part)
    return tuple(empty)


def _layout_of(member: IO[bytes], info: zipfile.ZipInfo) -> Layout | None:
    """The header of a member, which is then at its start again; None where it is no array that can be read."""
    try:
        return read_layout(cast(BinaryIO, member), info.file_size, info.filename)
    except InputError:
        return None
    finally:
        member.seek(0)


def _longer(old: IO[bytes], layout: Layout, added: NDArray[np.generic], key: str) -> Iterator[bytes]:
    """The bytes of an array (N, ...) with ``added`` (K, ...) behind it."""
    header = io.BytesIO()
    old.read(layout.start)
    if (layout.fortran and len(layout.shape) > 1) or added.dtype != layout.dtype:
        size = int(np.prod(layout.shape)) * layout.dtype.itemsize
        if size > WHOLE:
            raise InputError(f"expected an array of at most {WHOLE} bytes in {key!r}, got {size}")
        array = np.frombuffer(old.read(size), layout.dtype).reshape(layout.shape, order="F" if layout.fortran else "C")
        npy.write_array(header, np.concatenate([array, added]), allow_pickle=False)
        yield header.getvalue()
        return
    _header(header, layout, layout.shape[0] + len(added))
    yield header.getvalue()
    while part := old.read(1 << 20):
        yield part
    yield np.ascontiguousarray(added).tobytes()


def _header(file: IO[bytes], layout: Layout, count: int) -> None:
    shape = (count, *layout.shape[1:])
    npy.write_array_header_1_0(
        file, {"descr": npy.dtype_to_descr(layout.dtype), "fortran_order": False, "shape": shape}
    )


def _shaped(rows: Rows, layout: Layout) -> NDArray[np.generic]:
    """Rows (K, D) in type and shape of the array."""
    return np.ascontiguousarray(as_type(rows, layout.dtype, whole=True)).reshape(len(rows), *layout.shape[1:])


def _nothing(layout: Layout, count: int) -> NDArray[Any]:
    shape = (count, *layout.shape[1:])
    return np.full(shape, np.nan, layout.dtype) if layout.dtype.kind in "fc" else np.zeros(shape, layout.dtype)
