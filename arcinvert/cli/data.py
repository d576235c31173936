"""``arcinvert data``: conversion of training images between containers."""

from pathlib import Path
from typing import Annotated

import typer

from arcinvert.cli.common import Json, Strict, answer, answer_json

NAME = "data"

app = typer.Typer(help="Convert training images: identity folders, RecordIO, tar shards.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keeps ``convert`` a name of its own while it is the only command."""


@app.command("convert")
def convert(
    source: Annotated[Path, typer.Argument(help="A folder of identities, a .rec file, or (a folder of) tar shards.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="File NAME.rec or new folder to write.")],
    shard: Annotated[int | None, typer.Option(min=1, help="Write tar shards of this many images each.")] = None,
    clean_list: Annotated[Path | None, typer.Option(help="Convert only the images that this list names.")] = None,
    strict: Strict = False,
    json_out: Json = False,
) -> None:
    """Write the images of SOURCE, byte for byte, to an identity folder, a .rec file or tar shards.

    Examples:
        arcinvert data convert train.rec -o crops
        arcinvert data convert crops/ -o shards --shard 10000
    """
    from arcinvert.faces.listing import report_skipped
    from arcinvert.training.data.clean_list import read_clean_list
    from arcinvert.training.data.containers import check_output, convert_images, list_images, refuse_many_damaged
    from arcinvert.training.data.streaming import readable

    images = list_images(source)
    check_output(out, per_shard=shard)
    if clean_list is not None:
        images = images.of(images.identities, read_clean_list(clean_list))
    images, _ = readable(images)
    report_skipped(images.skipped, strict=strict)
    refuse_many_damaged(images)
    kind = convert_images(images, out, per_shard=shard)
    count, names, left_out = len(images), len(images.identities), len(images.skipped)
    if json_out:
        answer_json(
            "data convert", {"out": str(out), "kind": kind, "images": count, "identities": names, "skipped": left_out}
        )
    else:
        answer(f"{out}: {count} images of {names} identities ({kind})")
    if left_out:
        raise typer.Exit(4)
