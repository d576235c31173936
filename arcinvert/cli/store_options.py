"""The options that say where in a store the embeddings are."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from arcinvert.audit.stores import Store

Kind = Annotated[str | None, typer.Option("--kind", help="Kind of store; default: found by content.")]
Table = Annotated[str | None, typer.Option("--table", help="Table to read, if the store has several.")]
Column = Annotated[
    str | None,
    typer.Option("--column", help="Column, array of an .npz, or numbered columns 'emb_*' that hold the embeddings."),
]
Identity = Annotated[
    str | None, typer.Option("--identity", help="Column, array or text file that names the people; default: found.")
]
Numbers = Annotated[
    str | None, typer.Option("--numbers", help="Numbers in blobs: float32, float64, float16, bfloat16, int8, ...")
]
Size = Annotated[int | None, typer.Option("--size", help="Numbers of an embedding; refuses another size.")]


def opened(
    source: str,
    kind: str | None,
    table: str | None,
    column: str | None,
    numbers: str | None,
    identity: str | None = None,
) -> "Store":
    """The store, see :func:`~arcinvert.audit.stores.open_store`."""
    from arcinvert.audit.stores import open_store

    return open_store(source, kind=kind, table=table, column=column, identity=identity, numbers=numbers)
