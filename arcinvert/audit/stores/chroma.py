"""Chroma's persistent folder: ``chroma.sqlite3``, and a folder with an HNSW index for each collection.

Read without Chroma's client, which would write to the folder. New vectors lie in a queue in SQLite until Chroma moves
them to the index.
"""

import json
import re
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arcinvert.audit.stores.columns import identity_column
from arcinvert.audit.stores.hnsw import HnswVectors
from arcinvert.audit.stores.sqlite import read_only
from arcinvert.audit.stores.store import Contents, RawStore
from arcinvert.audit.stores.vectors import Reader
from arcinvert.errors import InputError, UsageError
from arcinvert.safe_pickle import DAMAGED, PickledObject, parse

FILE = "chroma.sqlite3"
INDEX_METADATA, LARGEST = "index_metadata.pickle", 1 << 30
PERSISTED = re.compile(r"chromadb\.segment\.impl\.vector\.local_persistent_hnsw PersistentData")
DELETED, VECTOR, METADATA = 3, "VECTOR", "METADATA"
VALUES = ("string_value", "int_value", "float_value")
_TABLES = {"collections", "segments", "embeddings", "embedding_metadata", "embeddings_queue"}


class ChromaStore(RawStore):
    """A collection of a Chroma folder, in the order of insertion; ``identity`` is a key of the metadata.

    Where Chroma compares by cosine, its index holds unit vectors; those of the queue are scaled as it would do.
    """

    kind = "chroma"

    def __init__(
        self,
        folder: Path,
        table: str | None = None,
        column: str | None = None,
        identity: str | None = None,
        numbers: str | None = None,
    ) -> None:
        if column is not None or numbers is not None:
            raise UsageError("a Chroma collection has one vector a row, float32; leave --column and --numbers out")
        self.file = folder / FILE
        with read_only(self.file) as connection:
            there = {name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")}
            if not there >= _TABLES:
                raise InputError(
                    f"{str(folder)!r} is no Chroma folder of version 0.4 or later: no {min(_TABLES - there)!r}"
                )
            collections = dict(connection.execute("select name, id from collections order by name").fetchall())
            self.table = _choose(collections, table, folder)
            self.name = f"{str(folder)!r}, collection {self.table!r}"
            collection = collections[self.table]
            found = connection.execute("select scope, id from segments where collection = ?", (collection,))
            segments = dict(found.fetchall())
            if not {VECTOR, METADATA} <= set(segments):
                raise InputError(f"{self.name} has no vector or no metadata segment, but {list(segments)}")
            self.segment = segments[METADATA]
            (count,) = connection.execute(
                "select count(*) from embeddings where segment_id = ?", (self.segment,)
            ).fetchone()
            keys = connection.execute(
                "select distinct key from embedding_metadata join embeddings using (id) where segment_id = ?",
                (self.segment,),
            )
            names = [key for (key,) in keys.fetchall() if isinstance(key, str)]  # SQLite holds any type anywhere
            fields = {key: self._example(connection, key) for key in names}
            self.unit = _space(connection, collection) == "cosine"
            self.queue = self._read_queue(connection, collection)
        self.index, self.labels = _open_index(folder, segments[VECTOR], self.name)
        self.identity = identity_column(list(fields), identity, self.name, vector="")
        self.contents = Contents(fields, self.identity, normalized_on_load=self.unit)
        self.settle(count, Reader())

    def _example(self, connection: Any, key: str) -> object:
        columns = ", ".join(VALUES)
        query = f"select {columns} from embedding_metadata where key = ? limit 1"  # noqa: S608
        return _value(connection.execute(query, (key,)).fetchone() or ())

    def _read_queue(self, connection: Any, collection: str) -> dict[str, NDArray[np.float32] | None]:
        """The newest vector of each id that the queue changes, None for a deleted one."""
        newest: dict[str, NDArray[np.float32] | None] = {}
        query = "select topic, id, operation, vector, encoding from embeddings_queue order by seq_id"
        for topic, row, operation, vector, encoding in connection.execute(query):
            if str(topic).rpartition("/")[2] != collection:
                continue
            if operation == DELETED:
                newest[row] = None
            elif vector is not None:
                if encoding != "FLOAT32" or not isinstance(vector, bytes) or len(vector) % 4:
                    got = f"{len(vector)} bytes" if isinstance(vector, bytes) else type(vector).__name__
                    raise InputError(f"{self.name} has a vector of {got} in {encoding!r}, expected FLOAT32")
                newest[row] = np.frombuffer(vector, "<f4")
        return newest

    def raw(self, rows: int) -> Iterator[tuple[Sequence[object], Sequence[object] | None]]:
        columns = ", ".join(f"m.{value}" for value in VALUES)
        query = (
            f"select e.embedding_id, {columns} from embeddings e "  # noqa: S608
            "left join embedding_metadata m on m.id = e.id and m.key = ? where e.segment_id = ? order by e.id"
        )
        with read_only(self.file) as connection:
            cursor = connection.execute(query, (self.identity, self.segment))
            while found := cursor.fetchmany(rows):
                values = [self._vector(row[0]) for row in found]
                yield values, None if self.identity is None else [_value(row[1:]) for row in found]

    def _vector(self, row: str) -> NDArray[np.float32] | None:
        if row in self.queue:
            vector = self.queue[row]
            wide = np.zeros(0) if vector is None else vector.astype(np.float64)  # its norm does not overflow
            length = float(np.linalg.norm(wide))
            return np.asarray(wide / length, np.float32) if self.unit and 0 < length < np.inf else vector
        label = self.labels.get(row)
        return None if label is None or self.index is None else self.index.vector(label)


def is_chroma(folder: Path) -> bool:
    """Whether a folder is Chroma's."""
    return (folder / FILE).is_file()


def _choose(collections: dict[str, str], wanted: str | None, folder: Path) -> str:
    if wanted is not None and wanted in collections:
        return wanted
    if wanted is None and len(collections) == 1:
        return next(iter(collections))
    listed = ", ".join(map(repr, list(collections)[:10])) or "none"
    raise UsageError(f"expected one of the collections of {str(folder)!r}: {listed}; use --table")


def _value(values: Sequence[object]) -> object:
    return next((value for value in values if value is not None), None)


def _space(connection: sqlite3.Connection, collection: str) -> object:
    """How vectors are compared: ``cosine``, ``l2``, ``ip``; None where nothing says so."""
    query = "select str_value from collection_metadata where collection_id = ? and key = 'hnsw:space'"
    row = connection.execute(query, (collection,)).fetchone()
    if row is not None:
        return row[0]
    columns = [name for (name,) in connection.execute("select name from pragma_table_info('collections')")]
    for column in ("schema_str", "config_json_str"):  # of newer versions
        if column in columns:
            row = connection.execute(f"select {column} from collections where id = ?", (collection,)).fetchone()  # noqa: S608
            try:
                found = json.loads((row and row[0]) or "{}")
                own = found["keys"]["#embedding"] if "keys" in found else found
            except (ValueError, KeyError, TypeError, RecursionError):
                continue
            match = re.search(r'"space": "(\w+)"', json.dumps(own))
            if match is not None:
                return match[1]
    return None


def _open_index(folder: Path, segment: str, name: str) -> tuple[HnswVectors | None, dict[str, int]]:
    """The index of a collection and its labels by id; nothing while all vectors are in the queue."""
    place = folder / str(segment)
    if not re.fullmatch(r"[0-9a-fA-F-]{36}", str(segment)) or not (place / INDEX_METADATA).is_file():
        return None, {}
    file = place / INDEX_METADATA
    if file.stat().st_size > LARGEST:
        raise InputError(f"{str(file)!r} is too large: {file.stat().st_size} bytes, at most {LARGEST} are read")
    try:
        found = parse(file.read_bytes(), PERSISTED)
        if isinstance(found, PickledObject):  # as Chroma wrote it in Python
            found = found.state.get("__dict__", found.state)
        labels = dict(found["id_to_label"])  # type: ignore[index]
        if not all(type(row) is str and type(label) is int for row, label in labels.items()):
            raise ValueError("labels of another type")
    except (*DAMAGED, AttributeError) as error:
        raise InputError(f"{name} has an index whose ids cannot be read: {str(error)[:200]}") from None
    return HnswVectors(place, name), labels
