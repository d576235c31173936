"""``arcinvert convert``: takes a store from one recognizer to another, without its photos."""

import logging
from pathlib import Path
from typing import Annotated

import typer

from arcinvert.cli.common import Device, Json, ProgressLine, answer, answer_json, device
from arcinvert.cli.store_options import Column, Identity, Kind, Numbers, Size, Table
from arcinvert.errors import UsageError

NAME = "convert"
log = logging.getLogger(__name__)


def main(
    source: Annotated[
        str, typer.Argument(metavar="STORE", help="A .npy, .npz, parquet, CSV or SQLite file; it is only read.")
    ],
    from_pairs: Annotated[
        str | None,
        typer.Option("--from-pairs", help="The store's recognizer's embeddings of the pictures, with their names."),
    ] = None,
    pictures: Annotated[
        Path | None,
        typer.Option("--pictures", help="Folder of the pictures, DIR/<identity>/<picture>, as `arcinvert faces` has."),
    ] = None,
    to: Annotated[
        Path | None, typer.Option("--to", help="Weight file of the recognizer that the store goes to.")
    ] = None,
    map_file: Annotated[
        Path | None, typer.Option("--map", help="File that keeps the map; without --from-pairs it is read.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="New file; without it only the accuracy is measured.")
    ] = None,
    kind: Kind = None,
    table: Table = None,
    column: Column = None,
    identity: Identity = None,
    numbers: Numbers = None,
    size: Size = None,
    device_name: Device = "auto",
    json_out: Json = False,
) -> None:
    """Write STORE again with the embeddings of another recognizer, predicted by a linear map from pairs.

    Pairs are pictures of other people that both recognizers embedded. What accuracy remains is said before anything
    is written.

    Examples:
        arcinvert convert people.npy --from-pairs old.npz --pictures pictures --to new.onnx --map old-to-new.safetensors
        arcinvert convert people.npy --map old-to-new.safetensors -o converted.npy
    """
    from arcinvert.audit import open_store
    from arcinvert.audit.black_box.pairs import fit_pairs, read_pairs
    from arcinvert.mapping.linear_map import LinearMap
    from arcinvert.mapping.quality import MapQuality
    from arcinvert.migration.convert import check_convertible, convert_store, doubt
    from arcinvert.recognizer import Recognizer

    if from_pairs is not None and (pictures is None or to is None):
        raise UsageError("expected --pictures and --to beside --from-pairs: the map is fitted to both embeddings")
    if from_pairs is None and (map_file is None or pictures is not None or to is not None):
        raise UsageError("expected --from-pairs with --pictures and --to, or the --map of an earlier run alone")
    store = open_store(source, kind=kind, table=table, column=column, identity=identity, numbers=numbers, size=size)
    skipped = 0
    if from_pairs is not None and pictures is not None:
        pairs = read_pairs(from_pairs, pictures)
        check_convertible(store, pairs.rows.shape[1], out)
        reason = doubt(store, pairs.rows)
        if reason is not None:
            log.warning("the store does not seem to be of the recognizer behind the pairs: %s", reason)
        recognizer = Recognizer.load(to, device=device(device_name))
        mapping, quality, pairs = fit_pairs(pairs, recognizer, progress=ProgressLine("picture"))
        skipped = len(pairs.skipped)
        if map_file is not None:
            mapping.save(map_file)
    elif map_file is not None:
        mapping = LinearMap.load(map_file)
        check_convertible(store, mapping.sizes[0], out)
        quality = MapQuality.from_json(mapping.header.get("quality"))
    if not json_out:
        for line in quality.lines():
            answer(line)
    done = None if out is None else convert_store(store, mapping, out, progress=ProgressLine("row"))
    if json_out:
        counts = {} if done is None else {"out": str(out), "kind": done.kind, "rows": done.rows, "empty": done.empty}
        answer_json(NAME, {"quality": quality.to_json(), "pictures_skipped": skipped, **counts})
    elif done is not None:
        answer(f"{out}: {done.rows} rows ({done.kind})")
    if done is not None and done.empty:
        log.warning("%d of %d rows held no usable embedding; they hold none in the new store", done.empty, done.rows)
    if skipped or (done is not None and done.empty):
        raise typer.Exit(4)
