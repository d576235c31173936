"""Writers of CSV and parquet stores: every other column stays as it is."""

import csv
import itertools
from codecs import BOM_UTF8
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arcinvert.audit.stores.arrow import BATCH, ParquetStore, open_parquet
from arcinvert.audit.stores.csv_file import CsvStore
from arcinvert.audit.stores.store import one_line
from arcinvert.audit.stores.vectors import matrix
from arcinvert.checkpoint import atomic_write
from arcinvert.errors import InputError, UsageError
from arcinvert.mapping.linear_map import LinearMap, Rows
from arcinvert.migration.arrays import BLOCK, Count
from arcinvert.migration.encoding import encode, numbers


def write_csv(store: CsvStore, mapping: LinearMap, out: Path, count: Count) -> None:
    """Write the table with the same marks between columns; a row without an embedding gets empty cells."""
    with open(store.path, "rb") as source:
        marked = source.read(len(BOM_UTF8)) == BOM_UTF8
    encoding = "utf-8" if store.encoding == "utf-8-sig" and not marked else store.encoding
    with atomic_write(out) as temporary, open(temporary, "w", encoding=encoding, newline="") as file:
        with open(store.path, encoding=store.encoding, errors="replace", newline="") as source:
            file.writelines(itertools.islice(source, store.comments))
        writer = csv.writer(file, delimiter=store.delimiter, lineterminator="\n")
        if store.headed:
            writer.writerow(_header(store, mapping.sizes[1]))
        for records in _parts(store):
            values = [value for _, value in records]
            templates, kept, _ = matrix(values, store.size, store.reader)
            rows = _mapped(templates, kept, mapping)
            count(len(rows), int(np.isnan(rows[:, 0]).sum()))
            for (cells, value), row in zip(records, rows, strict=True):
                writer.writerow(_cells(store, cells, value, row))


def _parts(store: CsvStore) -> Iterator[tuple[tuple[list[str], object], ...]]:
    records = store.records()
    while part := tuple(itertools.islice(records, BLOCK)):
        yield part


def _header(store: CsvStore, size: int) -> list[str]:
    if len(store.vectors) == 1:
        return store.names
    first = store.names[store.vectors[0]]
    prefix = first.rstrip("0123456789")
    start = int(first[len(prefix) :])
    return _spliced(store, store.names, [f"{prefix}{start + n}" for n in range(size)])


def _cells(store: CsvStore, cells: list[str], value: object, row: Rows) -> list[str]:
    missing = bool(np.isnan(row[0]))
    if len(store.vectors) == 1:
        place = store.vectors[0]
        cells = cells + [""] * (place + 1 - len(cells))
        new = "" if missing else str(encode(value, row, store.reader))
        return [new if n == place else cell for n, cell in enumerate(cells)]
    texts = [""] * len(row) if missing else numbers(row)
    return _spliced(store, cells, [text.replace(".", ",") for text in texts] if store.decimal else texts)


def _spliced(store: CsvStore, cells: list[str], new: list[str]) -> list[str]:
    """The new columns in place of the first one that they replace."""
    places = set(store.vectors)
    first = min(places)
    return [
        *(cell for n, cell in enumerate(cells[:first]) if n not in places),
        *new,
        *(cell for n, cell in enumerate(cells) if n > first and n not in places),
    ]


def write_parquet(store: ParquetStore, mapping: LinearMap, out: Path, count: Count) -> None:
    """Write one file with the compression of the old one; a row without an embedding holds null.

    Raises:
        UsageError: the store is a folder.
    """
    if store.files != [Path(store.name)]:
        raise UsageError(f"expected one parquet file to convert, {store.name!r} is a folder; convert its files")
    pa, parquet = store.pa, store.parquet
    try:
        with open_parquet(parquet, store.files[0]) as file, atomic_write(out) as temporary:
            schema = _schema(store, file.schema_arrow, mapping.sizes[1])
            with parquet.ParquetWriter(temporary, schema, compression=compression(file.metadata)) as writer:
                for batch in file.iter_batches(BATCH, use_threads=False):
                    writer.write_batch(_batch(store, batch, schema, mapping, count))
    except pa.ArrowException as error:
        raise InputError(f"{store.name!r} cannot be converted: {one_line(error)}") from None


def compression(metadata: Any) -> str:
    """How the first column of a parquet file is compressed, as its writer wants it."""
    found = metadata.row_group(0).column(0).compression.lower() if metadata.num_row_groups else "snappy"
    return "none" if found == "uncompressed" else str(found)


def _schema(store: ParquetStore, schema: Any, size: int) -> Any:
    """The schema with the embeddings' new type; the old type where it is bytes or text."""
    pa, columns = store.pa, store.columns
    first = schema.get_field_index(columns.vectors[0])
    if len(columns.vectors) > 1:
        kept = [field for field in schema if field.name not in columns.vectors]
        prefix = columns.vectors[0].rstrip("0123456789")
        start = int(columns.vectors[0][len(prefix) :])
        new = [pa.field(f"{prefix}{start + n}", _float(pa, schema.field(first).type)) for n in range(size)]
        place = sum(schema.get_field_index(field.name) < first for field in kept)
        metadata = {key: value for key, value in (schema.metadata or {}).items() if key != b"pandas"}
        return pa.schema([*kept[:place], *new, *kept[place:]], metadata)  # pandas' note names columns that are gone
    old = schema.field(first)
    kind = getattr(old.type, "storage_type", old.type)
    if pa.types.is_fixed_size_list(kind):
        kind = pa.list_(_float(pa, kind.value_type), size)
    elif pa.types.is_list(kind):
        kind = pa.list_(_float(pa, kind.value_type))
    elif pa.types.is_large_list(kind):
        kind = pa.large_list(_float(pa, kind.value_type))
    return schema.set(first, pa.field(old.name, kind, True))


def _float(pa: Any, kind: Any) -> Any:
    return kind if pa.types.is_floating(kind) else pa.float32()


def _batch(store: ParquetStore, batch: Any, schema: Any, mapping: LinearMap, count: Count) -> Any:
    pa, columns = store.pa, store.columns
    block = columns.block(batch.select(columns.wanted), 0)
    templates = np.full((batch.num_rows, store.size), np.nan, np.float32)
    templates[block.positions] = block.templates
    rows = mapping.apply(templates)
    missing = np.isnan(rows[:, 0])
    count(len(rows), int(missing.sum()))
    if len(columns.vectors) > 1:
        names = [name for name in schema.names if name not in batch.schema.names or name in columns.vectors]
        made = {name: pa.array(column, mask=missing) for name, column in zip(names, rows.T, strict=True)}
        new = {name: array.cast(schema.field(name).type) for name, array in made.items()}
    else:
        name = columns.vectors[0]
        kind = schema.field(name).type
        if columns.holds_rows(kind):
            flat = pa.array(np.ascontiguousarray(rows).reshape(-1))
            listed = pa.FixedSizeListArray.from_arrays(flat, rows.shape[1], mask=pa.array(missing))
            new = {name: listed.cast(kind)}
        else:
            old = batch.column(name).to_pylist()
            values = [
                None if gone else encode(value, row, columns.reader)
                for value, row, gone in zip(old, rows, missing, strict=True)
            ]
            new = {name: pa.array(values, kind)}
    return pa.record_batch([new[n] if n in new else batch.column(n) for n in schema.names], schema=schema)


def _mapped(templates: Rows, kept: NDArray[np.bool_], mapping: LinearMap) -> Rows:
    rows = mapping.apply(templates)
    rows[~kept] = np.nan
    return rows
