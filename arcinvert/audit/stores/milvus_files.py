"""The files of JSON in Milvus Lite's folder: which collections there are, and the fields of each."""

import json
from pathlib import Path
from typing import Any

from arcinvert.errors import InputError

COLLECTIONS, DATABASES, MANIFEST, SCHEMA, LOG = "collections", "databases", "manifest.json", "schema.json", "wal"
LARGEST = 1 << 26
"""Bytes of a file of JSON that is read."""


def collections_of(folder: Path) -> dict[str, Path]:
    """Folder of each collection; those of another database than the default one as ``DATABASE.NAME``."""
    found = {path.parent.name: path.parent for path in sorted((folder / COLLECTIONS).glob(f"*/{MANIFEST}"))}
    for path in sorted((folder / DATABASES).glob(f"*/{COLLECTIONS}/*/{MANIFEST}")):
        found[f"{path.parents[2].name}.{path.parent.name}"] = path.parent
    return found


def read_json(file: Path) -> dict[str, Any]:
    """An object of JSON.

    Raises:
        InputError: the file is missing, too large or something else.
    """
    try:
        if file.stat().st_size > LARGEST:
            raise InputError(f"{str(file)!r} is too large: {file.stat().st_size} bytes, at most {LARGEST} are read")
        found = json.loads(file.read_bytes())
        if not isinstance(found, dict):
            raise TypeError
    except OSError as error:
        raise InputError(f"cannot read {str(file)!r}: {error.strerror or error}") from None
    except (ValueError, TypeError, RecursionError):
        raise InputError(f"{str(file)!r} is not what Milvus Lite writes") from None
    return found


def fields_of(schema: dict[str, Any], name: str) -> dict[str, tuple[str, bool]]:
    """Field of a schema -> its type, and whether it is the primary key."""
    try:
        return {str(f["name"]): (str(f["dtype"]), bool(f["is_primary"])) for f in schema["fields"]}
    except (KeyError, TypeError):
        raise InputError(f"{name} has a schema without fields") from None


def dynamic_fields(text: object) -> dict[str, Any]:
    """The fields of a row beyond the schema; none if the text is no object of JSON."""
    try:
        found = json.loads(text) if isinstance(text, str) and text else {}
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
