"""``arcinvert data``: training pictures from one kind of container into another."""

import json
from pathlib import Path
from typing import Annotated

import typer

from arcinvert.cli.common import Json, answer

NAME = "data"

app = typer.Typer(help="Convert training pictures: identity folders, RecordIO, tar shards.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keeps ``convert`` a name of its own while it is the only command."""


@app.command("convert")
def convert(
    source: Annotated[Path, typer.Argument(help="A folder of identities, a .rec file, or (a folder of) tar shards.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="NAME.rec, or a new folder.")],
    shard: Annotated[
        int | None, typer.Option("--shard", min=1, help="Write tar shards of this many pictures, not identity folders.")
    ] = None,
    clean: Annotated[Path | None, typer.Option("--clean", help="Only the pictures that this list names.")] = None,
    json_out: Json = False,
) -> None:
    """Write the pictures of SOURCE, byte by byte as they are, to an identity folder, a .rec file or tar shards."""
    from arcinvert.training.data.clean_list import read_clean_list
    from arcinvert.training.data.containers import convert_pictures, open_pictures

    pictures = open_pictures(source)
    if clean is not None:
        pictures = pictures.of(pictures.identities, read_clean_list(clean))
    kind = convert_pictures(pictures, out, per_shard=shard)
    count, names = len(pictures.entries), len(pictures.identities)
    if json_out:
        answer(json.dumps({"out": str(out), "kind": kind, "pictures": count, "identities": names}))
    else:
        answer(f"{out}: {count} pictures of {names} identities ({kind})")
