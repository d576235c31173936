"""Readers of the stores of embeddings that exist: each opens one kind read-only and streams it."""

from collections.abc import Callable
from pathlib import Path

from arcinvert.audit.stores.arrays import NpyStore, NpzStore, refuse_transposed
from arcinvert.audit.stores.arrow import ParquetStore
from arcinvert.audit.stores.blobs import NUMBERS
from arcinvert.audit.stores.chroma import FILE as CHROMA_FILE
from arcinvert.audit.stores.chroma import ChromaStore, is_chroma
from arcinvert.audit.stores.csv_file import CsvStore
from arcinvert.audit.stores.faiss_index import FaissStore
from arcinvert.audit.stores.lance import LanceStore, is_lance
from arcinvert.audit.stores.milvus import MilvusStore, is_milvus
from arcinvert.audit.stores.mysql import MysqlStore, is_mysql
from arcinvert.audit.stores.postgres import PostgresStore, is_address
from arcinvert.audit.stores.qdrant import QdrantStore, is_qdrant
from arcinvert.audit.stores.sqlite import SqliteStore
from arcinvert.audit.stores.store import Block, Contents, Store
from arcinvert.errors import InputError, UsageError

__all__ = ["KINDS", "Block", "Contents", "Store", "kind_of", "open_store"]

_FILES: dict[str, Callable[[Path, str | None], Store]] = {"npy": NpyStore, "faiss": FaissStore}
_COLUMNS: dict[str, Callable[[Path, str | None, str | None, str | None], Store]] = {
    "parquet": ParquetStore,
    "csv": CsvStore,
}
_TABLES = ("sqlite", "lancedb", "qdrant", "chroma", "milvus")
KINDS = (*_FILES, "npz", *_COLUMNS, *_TABLES, "postgres", "mysql")
_BLOBS = (*_COLUMNS, "sqlite", "lancedb", "postgres", "mysql")
_FOLDERS = ("lancedb", "qdrant", "chroma", "milvus")
_MAGIC = ((b"\x93NUMPY", "npy"), (b"PK", "npz"), (b"PAR1", "parquet"), (b"SQLite format 3\0", "sqlite"))
MOST_ROWS = 1 << 36
"""A store that claims more is damaged: no memory holds a byte for each."""
_TEXT = (".csv", ".tsv", ".txt")
_INDEX = tuple(
    b"I" + letter for letter in (b"x", b"w", b"v", b"m", b"n", b"l", b"B", b"H", b"L", b"N", b"P", b"R", b"V")
)


def open_store(
    source: str,
    *,
    kind: str | None = None,
    table: str | None = None,
    column: str | None = None,
    identity: str | None = None,
    identity_table: str | None = None,
    numbers: str | None = None,
    size: int | None = None,
    header: bool | None = None,
) -> Store:
    """Open a store of embeddings; nothing in it is changed.

    Args:
        source: a file, a folder (LanceDB, local Qdrant, Chroma, Milvus Lite,
            parquet files) ``postgresql://USER@HOST/DATABASE`` or
            ``mysql://USER@HOST/DATABASE``.
        kind: one of :data:`KINDS`; default: found out by content.
        table: which table or collection, where there are several.
        column: which column, array or named vector holds the embeddings, or which numbered columns, as ``emb_*``;
            default: guessed by name.
        identity: which column, array or field says who a row is; default: guessed by name. For ``.npy`` and FAISS a
            text file with a label a line; default: ``NAME.labels.txt`` beside the file, if there is one.
        identity_table: names that another table of a SQL database holds, as ``TABLE.NAME=KEY``: column ``KEY`` of
            the embeddings' table is the primary key of ``TABLE``, whose column ``NAME`` says who a row is.
        numbers: format of numbers in blobs and coded text, a key of ``arcinvert.audit.stores.blobs.NUMBERS``; default:
            the one that the values are evidence for.
        size: D; default: found out. It says that an array is not transposed.
        header: whether the first line of a CSV holds the names of the columns; default: guessed.

    Raises:
        UsageError: a table or column that is not there, several that might be meant, or an option that does not fit.
        InputError: no such store, damaged, or without embeddings.
        EnvironmentProblem: a client that is not installed, a server that does not answer, or no rights.
    """
    if kind is not None and kind not in KINDS:
        raise UsageError(f"expected a kind of store out of {', '.join(KINDS)}, got {kind!r}")
    if numbers is not None and numbers not in NUMBERS:
        raise UsageError(f"expected numbers out of {', '.join(NUMBERS)}, got {numbers!r}")
    if identity is not None and identity_table is not None:
        raise UsageError("expected one of --identity and --identity-table, got both")
    if is_mysql(source) or (kind == "mysql" and is_address(source)):
        if kind not in (None, "mysql"):
            raise UsageError(f"the address of a MySQL database is no store of kind {kind}")
        store: Store = MysqlStore(source, table, column, identity, numbers, identity_table)
    elif is_address(source) or kind == "postgres":
        if kind not in (None, "postgres"):
            raise UsageError(f"the address of a PostgreSQL database is no store of kind {kind}")
        store = PostgresStore(source, table, column, identity, numbers, identity_table)
    else:
        path = Path(source)
        if path.exists() and not path.is_file() and not path.is_dir():  # to open a pipe would wait for its writer
            raise InputError(f"expected a file or a folder, {source!r} is a pipe or a device")
        try:
            if path.name == CHROMA_FILE and path.is_file() and kind in (None, "chroma"):
                path = path.parent  # the vectors lie beside it
            kind = kind or kind_of(path)
            if path.is_dir() != (kind in _FOLDERS) and not (kind == "parquet" and path.is_dir()):
                raise InputError(f"expected a {'folder' if kind in _FOLDERS else 'file'} for {kind}, got {source!r}")
            if identity_table is not None and kind != "sqlite":
                raise UsageError(f"a store of kind {kind} has no other tables; leave --identity-table out")
            if numbers is not None and kind not in _BLOBS:
                raise UsageError(f"a store of kind {kind} has no blobs; leave --numbers out")
            if header is not None and kind != "csv":
                raise UsageError(f"a store of kind {kind} has no header line; leave --header and --no-header out")
            if kind == "csv" and table is None:
                store = CsvStore(path, column, identity, numbers, header)
            elif kind == "sqlite":
                store = SqliteStore(path, table, column, identity, numbers, identity_table)
            else:
                store = _open(path, kind, table, column, identity, numbers)
        except OSError as error:
            raise InputError(f"cannot read the store {source!r}: {error.strerror or error}") from None
    if not 0 <= store.count <= MOST_ROWS:
        raise InputError(f"{store.name} is damaged: it claims {store.count} rows")
    if size is not None and store.size != size:
        raise InputError(f"expected embeddings of {size} numbers, {store.name} has {store.size}")
    if size is None and kind in ("npy", "npz"):
        refuse_transposed(store)
    return store


def _open(
    path: Path, kind: str, table: str | None, column: str | None, identity: str | None, numbers: str | None
) -> Store:
    if kind == "lancedb":
        return LanceStore(path, table, column, identity, numbers)
    if kind == "qdrant":
        return QdrantStore(path, table, column, identity)
    if kind == "milvus":
        return MilvusStore(path, table, column, identity, numbers)
    if kind == "chroma":
        return ChromaStore(path, table, column, identity, numbers)
    if table is not None:
        raise UsageError(f"a store of kind {kind} has no tables; leave --table out")
    if kind == "npz":
        return NpzStore(path, column, identity)
    if kind in _COLUMNS:
        return _COLUMNS[kind](path, column, identity, numbers)
    if column is not None:
        raise UsageError(f"a store of kind {kind} has no columns; leave --column out")
    return _FILES[kind](path, identity)


def kind_of(path: Path) -> str:
    """Which of :data:`KINDS` a file or folder is, by its content.

    Raises:
        InputError: none of them.
    """
    source = str(path)
    if path.is_dir():
        if is_qdrant(path):
            return "qdrant"
        if is_chroma(path):
            return "chroma"
        if is_milvus(path):
            return "milvus"
        if is_lance(path):
            return "lancedb"
        if next(path.rglob("*.parquet"), None) is not None:
            return "parquet"
        raise InputError(
            f"expected a LanceDB, Qdrant, Chroma, Milvus Lite or parquet folder, {source!r} is none of them"
        )
    with open(path, "rb") as file:
        start = file.read(16)
    for magic, kind in _MAGIC:
        if start.startswith(magic):
            return kind
    if path.suffix.lower() in _TEXT:
        return "csv"
    if start.startswith(_INDEX):
        return "faiss"
    if start[:1] == b"\x80":
        raise InputError(f"{source!r} is a pickle; pickles run code and are not read")
    raise InputError(f"{source!r} is none of the stores that are read: {', '.join(KINDS)}")
