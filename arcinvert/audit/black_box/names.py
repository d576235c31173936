"""Which row of a file of embeddings belongs to which picture, by the names in it."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from arcinvert.audit.stores import Store, open_store
from arcinvert.audit.stores.columns import guess
from arcinvert.errors import InputError

PICTURE_NAMES = (
    "picture", "image", "photo", "file", "filename", "file_name", "path", "filepath", "file_path", "image_path",
    "img_path", "img", "record",
)  # fmt: skip
"""Columns that name the picture of a row, the first ones first."""


def open_named(source: str) -> Store:
    """A file of embeddings, whose identities are the names of pictures if one of :data:`PICTURE_NAMES` holds them.

    Raises:
        UsageError, InputError, EnvironmentProblem: see :func:`~arcinvert.audit.stores.open_store`.
    """
    store = open_store(source)
    column = guess(store.contents.columns, PICTURE_NAMES)
    return store if column is None or column == store.contents.identity else open_store(source, identity=column)


def rows_of_pictures(store: Store, names: Sequence[str], what: str) -> dict[int, int]:
    """Picture -> row of the store.

    A row names a picture by its path, as it is or below another folder, with or without the ending, or by the file's
    name alone where no other picture has it. A store without names has a row for each picture, in their order.

    Args:
        store: with the names of pictures as identities, or without identities.
        names: of the pictures, relative to their folder, with ``/``.
        what: the pictures, for messages.

    Returns:
        Only pictures that exactly one row names.

    Raises:
        InputError: no row names a picture, or rows without names are not as many as the pictures.
    """
    blocks = list(_named(store))
    if any(name is None for _, name in blocks):
        if store.count != len(names):
            raise InputError(
                f"expected a row for each of the {len(names)} {what}, or their names beside the rows, "
                f"{store.name} has {store.count} rows without names"
            )
        return {position: position for position, _ in blocks}
    keys = Counter(key for name in names for key in set(_suffixes(name)))
    known = {key: n for n, name in enumerate(names) for key in _suffixes(name) if keys[key] == 1}
    rows: dict[int, list[int]] = {}
    for position, name in blocks:
        found = next((known[key] for key in _suffixes(name or "") if key in known), None)
        if found is not None:
            rows.setdefault(found, []).append(position)
    if not rows:
        shown = next((name for _, name in blocks if name), "nothing")
        raise InputError(f"no row of {store.name} names one of the {what}: {shown!r}, expected such as {names[0]!r}")
    return {picture: positions[0] for picture, positions in sorted(rows.items()) if len(positions) == 1}


def _named(store: Store) -> Iterator[tuple[int, str | None]]:
    for block in store.blocks():
        for n, position in enumerate(block.positions.tolist()):
            yield position, None if block.identities is None else block.identities[n]


def _suffixes(name: str) -> Iterator[str]:
    """``a/b/1.png`` -> ``a/b/1.png``, ``a/b/1``, ``b/1.png``, ``b/1``, ``1.png``, ``1``."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    for start in range(len(parts)):
        path = PurePosixPath(*parts[start:])
        yield str(path)
        if path.suffix:
            yield str(path.with_suffix(""))
