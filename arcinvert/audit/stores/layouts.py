"""Databases of known photo and face tools: which table holds the embeddings, and where the people's names are."""

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from arcinvert.errors import InputError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Layout:
    """One tool's database.

    Attributes:
        tool: its name.
        table, column: of the embeddings.
        names: the people as ``TABLE.NAME=KEY``, see :class:`~arcinvert.audit.stores.columns.NamesElsewhere`.
        name_columns: columns that the table of the names must have.
    """

    tool: str
    table: str
    column: str
    names: str
    name_columns: tuple[str, ...]


LAYOUTS = (
    Layout("Immich", "face_search", "embedding", "asset_face.faceClusterId=faceId", ("id", "faceClusterId")),
    Layout("Immich", "face_search", "embedding", "asset_face.personId=faceId", ("id", "personId")),
    Layout("Immich", "face_search", "embedding", "asset_faces.personId=faceId", ("id", "personId")),
    Layout("PhotoPrism", "markers", "embeddings_json", "subjects.subj_name=subj_uid", ("subj_uid", "subj_name")),
)
"""The first that fits is taken. Immich's faces of nobody known and PhotoPrism's of no subject name nobody."""

FRIGATE = frozenset({"event", "recordings", "vec_thumbnails_rowids"})
"""Tables by which Frigate's database is known."""


def placed(
    tables: Mapping[str, Collection[str]],
    where: str,
    table: str | None,
    column: str | None,
    identity: str | None,
    identity_table: str | None,
) -> tuple[str | None, str | None, str | None]:
    """Table, column and table of the names: as the user gives them, else those of a known tool's database.

    Args:
        tables: name -> columns.
        where: name of the database, for messages.
        table, column, identity, identity_table: as the user gives them; the first two overrule every layout.

    Raises:
        InputError: a tool whose database holds no embeddings of faces.
    """
    if table is not None or column is not None:
        return table, column, identity_table
    if set(tables) >= FRIGATE:
        raise InputError(
            f"{where} is Frigate's, which stores no embeddings of faces (its vec_ tables hold those of whole scenes): "
            "it computes them from the photos in clips/faces whenever it starts"
        )
    for layout in LAYOUTS:
        there = tables.get(layout.table, ())
        names, _, key = layout.names.partition("=")
        other = tables.get(names.partition(".")[0], ())
        if layout.column in there and key in there and all(name in other for name in layout.name_columns):
            log.info(
                "%s: read as %s's: %r of %r, people from %r", where, layout.tool, layout.column, layout.table, names
            )
            return layout.table, layout.column, identity_table or (layout.names if identity is None else None)
    return None, None, identity_table
