"""Qdrant's local mode: a folder with ``meta.json``, and a SQLite file of points for each collection.

Read without Qdrant's client, which would unpickle the points and lock the folder.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from arcinvert.audit.stores.columns import guess, identity_column, named
from arcinvert.audit.stores.points import check_first, read_point
from arcinvert.audit.stores.sqlite import read_only
from arcinvert.audit.stores.store import SAMPLE, Contents, RawStore
from arcinvert.errors import InputError, UsageError

META, LARGEST = "meta.json", 1 << 24


class QdrantStore(RawStore):
    """A collection of a local Qdrant folder, in the order of its points' first upload; ``column`` names one of several
    vectors, ``identity`` a field of the payload."""

    kind = "qdrant"

    def __init__(
        self, folder: Path, table: str | None = None, column: str | None = None, identity: str | None = None
    ) -> None:
        collections = _collections(folder)
        self.table = _choose(collections, table, folder)
        self.name = f"{str(folder)!r}, collection {self.table!r}"
        self.file = folder / "collection" / self.table / "storage.sqlite"
        if not self.file.is_file():
            raise InputError(f"{self.name} has no storage.sqlite")
        self.column = None
        with read_only(self.file) as connection:
            (count,) = connection.execute("select count(*) from points").fetchone()
            firsts = connection.execute("select point from points order by rowid limit ?", (SAMPLE,)).fetchall()
        if not firsts:
            raise InputError(f"expected embeddings, got no points in {self.name}")
        vector, _ = check_first(firsts[0][0], self.name)
        if isinstance(vector, dict):
            likely = [key for key, value in vector.items() if isinstance(value, list)]
            self.column = self._vector(likely, column)
        elif column is not None:
            raise UsageError(f"the vectors of {self.name} have no names; leave --column out")
        fields: dict[str, Any] = {}
        for (content,) in firsts[:100]:
            found = self._payload(content)
            fields = {**found, **fields}
        self.identity = identity_column(list(fields), identity, self.name, vector="")
        settings = collections[self.table].get("vectors")
        cosine = isinstance(settings, dict) and settings.get("distance") == "Cosine"
        self.contents = Contents(fields, self.identity, normalized_on_load=cosine)
        self.settle(count)

    def _vector(self, names: list[str], wanted: str | None) -> str:
        if wanted is not None:
            return named(names, wanted, self.name)
        found = names[0] if len(names) == 1 else guess(names, ("face", "face_embedding", "embedding", "vector"))
        if found is None:
            raise UsageError(f"{self.name} has several vectors: {', '.join(map(repr, names[:10]))}; use --column")
        return found

    def _payload(self, content: bytes) -> dict[str, Any]:
        try:
            _, payload = read_point(content)
        except ValueError:
            return {}
        return (
            {key: value for key, value in payload.items() if isinstance(key, str)} if isinstance(payload, dict) else {}
        )

    def raw(self, rows: int) -> Iterator[tuple[Sequence[object], Sequence[object] | None]]:
        with read_only(self.file) as connection:
            cursor = connection.execute("select point from points order by rowid")
            while found := cursor.fetchmany(rows):
                points = [self._point(content) for (content,) in found]
                yield [value for value, _ in points], None if self.identity is None else [name for _, name in points]

    def _point(self, content: bytes) -> tuple[object, object]:
        try:
            vector, payload = read_point(content)
        except ValueError:
            return content, None  # counts as unreadable
        if self.column is not None:
            vector = vector.get(self.column) if isinstance(vector, dict) else None
        name = payload.get(self.identity) if isinstance(payload, dict) and self.identity is not None else None
        return vector, name


def is_qdrant(folder: Path) -> bool:
    """Whether a folder is a local Qdrant."""
    return (folder / META).is_file() and (folder / "collection").is_dir()


def _collections(folder: Path) -> dict[str, dict[str, Any]]:
    file = folder / META
    try:
        if file.stat().st_size > LARGEST:
            raise InputError(f"{str(file)!r} is too large")
        found = json.loads(file.read_text(encoding="utf-8"))["collections"]
        if not all(isinstance(key, str) and isinstance(value, dict) for key, value in found.items()):
            raise TypeError
    except OSError as error:
        raise InputError(f"cannot read {str(file)!r}: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise InputError(f"{str(file)!r} is not Qdrant's list of collections") from None
    return dict(found)


def _choose(collections: dict[str, dict[str, Any]], wanted: str | None, folder: Path) -> str:
    names = [name for name in collections if name not in (".", "..") and "/" not in name and "\\" not in name]
    if wanted is not None and wanted in names:
        return wanted
    if wanted is None and len(names) == 1:
        return names[0]
    raise UsageError(
        f"expected one of the collections of {str(folder)!r}: {', '.join(map(repr, names[:10]))}; use --table"
    )
