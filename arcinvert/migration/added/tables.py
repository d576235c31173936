"""Copies of CSV and parquet stores with rows added."""

import csv
import io
import shutil
from codecs import BOM_UTF16_BE
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from arcinvert.audit.stores.arrow import BATCH, ParquetStore, open_parquet, python_values
from arcinvert.audit.stores.csv_file import CsvStore
from arcinvert.audit.stores.store import one_line
from arcinvert.checkpoint import atomic_write
from arcinvert.errors import InputError, UsageError
from arcinvert.mapping.linear_map import Rows
from arcinvert.migration.encoding import as_type, encode, like, numbers
from arcinvert.migration.tables import compression

START = 1 << 16
"""Bytes in which the end of a line is looked for."""


def add_to_csv(store: CsvStore, rows: Rows, names: Sequence[str], out: Path) -> tuple[str, ...]:
    """Write the same bytes and lines for the rows behind them. Returns the columns that are empty there."""
    old = like((value for _, value in store.records()), store.size, store.reader)
    text = io.StringIO()
    with open(store.path, "rb") as source, atomic_write(out) as temporary, open(temporary, "wb") as file:
        encoding = store.encoding.removesuffix("-sig")
        if encoding == "utf-16":  # its marks of the order of bytes stand at the start alone
            encoding += "-be" if source.read(2) == BOM_UTF16_BE else "-le"
            source.seek(0)
        ending, end = "\r\n".encode(encoding), "\n".encode(encoding)
        start = source.read(START)
        writer = csv.writer(text, delimiter=store.delimiter, lineterminator="\r\n" if ending in start else "\n")
        for name, row in zip(names, rows, strict=True):
            cells = [""] * store.width
            if store.identity is not None:
                cells[store.identity] = name
            for place, cell in zip(store.vectors, _cells(store, old, row), strict=True):
                cells[place] = cell
            writer.writerow(cells)
        source.seek(0)
        shutil.copyfileobj(source, file)
        source.seek(-len(end), io.SEEK_END)
        if source.read() != end:
            file.write(ending if ending in start else end)
        file.write(text.getvalue().encode(encoding))
    known = {*store.vectors, store.identity}
    return tuple(name for place, name in enumerate(store.names) if place not in known)


def _cells(store: CsvStore, old: Any, row: Rows) -> list[str]:
    if len(store.vectors) == 1:
        return [str(encode(old, row, store.reader, whole=True))]
    whole = not np.mod(store.reader(old), 1).any()
    texts = numbers(np.rint(row) if whole else row)
    return [text.replace(".", ",") for text in texts] if store.decimal else texts


def add_to_parquet(store: ParquetStore, rows: Rows, names: Sequence[str], out: Path) -> tuple[str, ...]:
    """Write one file of the same schema and compression. Returns the columns that hold null in the added rows.

    Raises:
        UsageError: the store is a folder, or a column takes no null, or not such names.
    """
    if store.files != [Path(store.name)]:
        raise UsageError(f"expected one parquet file to copy, {store.name!r} is a folder")
    pa, parquet = store.pa, store.parquet
    try:
        with open_parquet(parquet, store.files[0]) as file:
            schema = file.schema_arrow
            added = _added(store, file, schema, rows, names)
            with (
                atomic_write(out) as temporary,
                parquet.ParquetWriter(temporary, schema, compression=compression(file.metadata)) as writer,
            ):
                for batch in file.iter_batches(BATCH, use_threads=False):
                    writer.write_batch(batch)
                writer.write_batch(added)
    except pa.ArrowException as error:
        raise InputError(f"{store.name!r} cannot be copied: {one_line(error)}") from None
    known = {*store.columns.vectors, store.columns.identity}
    return tuple(name for name in schema.names if name not in known)


def _added(store: ParquetStore, file: Any, schema: Any, rows: Rows, names: Sequence[str]) -> Any:
    """The rows as a batch of the file's schema."""
    pa, columns = store.pa, store.columns
    arrays = []
    for field in schema:
        if field.name in columns.vectors:
            arrays.append(_vectors(store, file, field, rows))
        elif field.name == columns.identity:
            arrays.append(_names(pa, names, field, store.name))
        elif field.nullable:
            arrays.append(pa.nulls(len(rows), field.type))
        else:
            raise UsageError(f"column {field.name!r} of {store.name!r} takes no null; add the rows by hand")
    return pa.record_batch(arrays, schema=schema)


def _names(pa: Any, names: Sequence[str], field: Any, where: str) -> Any:
    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    try:
        found = pa.array(names, pa.string()).cast(kind)
        return found.dictionary_encode().cast(field.type) if kind is not field.type else found
    except pa.ArrowException:
        raise UsageError(f"expected names of type {kind}, as in {where!r}, got {names[0]!r}") from None


def _vectors(store: ParquetStore, file: Any, field: Any, rows: Rows) -> Any:
    pa, columns, kind = store.pa, store.columns, field.type
    if len(columns.vectors) > 1:
        return pa.array(rows[:, columns.vectors.index(field.name)]).cast(kind)
    if not columns.holds_rows(kind):
        batches = file.iter_batches(BATCH, columns=[field.name], use_threads=False)
        values = (value for batch in batches for value in python_values(batch.column(0)))
        old = like(values, store.size, columns.reader)
        return pa.array([encode(old, row, columns.reader, whole=True) for row in rows], kind)
    inner = getattr(kind, "storage_type", kind).value_type
    flat = pa.array(as_type(rows, np.dtype(inner.to_pandas_dtype()), whole=True).reshape(-1))
    listed = pa.FixedSizeListArray.from_arrays(flat, rows.shape[1])
    return listed.cast(kind)
