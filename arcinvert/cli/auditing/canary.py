"""``arcinvert audit canary``: plant templates of nobody in a store, and find them in a dump."""

from pathlib import Path
from typing import Annotated

import typer

from arcinvert.cli.common import Json, ProgressLine, answer, answer_json, state
from arcinvert.cli.store_options import Column, Identity, Kind, Numbers, Table, opened
from arcinvert.errors import InputError, UsageError
from arcinvert.file_bytes import read_bytes

NAME = "audit canary"
MAX_LIST = 1 << 28
"""Largest size of a list of names, in bytes."""

app = typer.Typer(help="Plant templates of nobody in a store, and find them in a dump.", no_args_is_help=True)


@app.command("plant")
def plant(
    store: Annotated[str, typer.Argument(help="Store that the canaries imitate; it is only read.")],
    key: Annotated[Path, typer.Option("--key", help="File that finds them again; keep it apart from the store.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Rows to add to the store, NAME.csv or NAME.npy.")
    ] = None,
    copy: Annotated[
        Path | None,
        typer.Option("--copy", help="Copy of the store with the canaries at its end (npy, npz, CSV, parquet, SQLite)."),
    ] = None,
    count: Annotated[int, typer.Option("--count", help="Number of canaries.")] = 5,
    names: Annotated[
        Path | None, typer.Option("--names", help="Text file with a name for each canary; default: random ones.")
    ] = None,
    kind: Kind = None,
    table: Table = None,
    column: Column = None,
    identity: Identity = None,
    numbers: Numbers = None,
    json_out: Json = False,
) -> None:
    """Write templates that look like those of a store and are of nobody, for you to add to it, and their key.

    Examples:
        arcinvert audit canary plant people.npy -o canaries.npy --key canaries.key
        arcinvert audit canary plant people.parquet --copy planted.parquet --key canaries.key
    """
    from arcinvert.audit.canaries import choose_names, write_rows
    from arcinvert.audit.canaries import plant as draw
    from arcinvert.audit.canaries.plant import nearest
    from arcinvert.audit.checks import scan
    from arcinvert.migration.added import add_rows, check_addable

    if out is None and copy is None:
        raise UsageError("expected --out for the rows alone, --copy for a copy of the store with them, or both")
    for path in (out, key):
        if path is not None and path.exists():
            raise UsageError(f"expected new files, {str(path)!r} is there already")
    source = opened(store, kind, table, column, numbers, identity)
    if copy is not None:
        check_addable(source, copy)
    progress = ProgressLine("rows")
    chosen = choose_names(source, count, None if names is None else _lines(names))
    found = draw(source, scan(source, progress=progress).digest, count, progress=progress)
    if out is not None:
        vector = getattr(source, "vector", None) or "embedding"
        write_rows(out, found.templates, chosen, vector=vector, identity=source.contents.identity or "identity")
    added = None if copy is None else add_rows(source, found.templates, chosen, copy)
    found.save(key)
    closest = nearest(source, found.templates)
    if json_out:
        told: dict[str, object] = {
            "out": None if out is None else str(out),
            "store_copy": None if copy is None else str(copy),
            "empty_columns": [] if added is None else list(added.empty),
            "key": str(key),
            "count": count,
            "nearest_cosine": round(closest, 4),
        }
        answer_json("audit canary plant", told)
        return
    near = f"{count} templates of nobody; the nearest real one has cosine {closest:.3f}"
    if out is not None:
        answer(f"{out}: rows to add to the store, {near}")
    if added is not None:
        answer(f"{copy}: a copy of the store, {added.rows} rows, at its end {near}")
        if added.empty:
            answer(
                f"{copy}: they hold nothing in {', '.join(added.empty)}, which tells them apart: fill it as yours is"
            )
    answer(f"{key}: their key, which finds them again; whoever has it can remove them from a dump")


@app.command("find")
def find(
    dump: Annotated[str, typer.Argument(help="Store in which to search; it is only read.")],
    key: Annotated[Path, typer.Option("--key", help="Key that `audit canary plant` wrote.")],
    decoys: Annotated[
        int, typer.Option("--decoys", help="Templates that were never planted and are searched for too.")
    ] = 10_000,
    kind: Kind = None,
    table: Table = None,
    column: Column = None,
    numbers: Numbers = None,
    json_out: Json = False,
) -> None:
    """Search a dump for planted canaries; says with what chance as many would be found where none was planted.

    Examples:
        arcinvert audit canary find dump.npy --key canaries.key
    """
    from arcinvert.audit.canaries import CanaryKey
    from arcinvert.audit.canaries import find as search
    from arcinvert.cli.auditing.command_line import circumstances

    known = CanaryKey.load(key)
    found = search(opened(dump, kind, table, column, numbers), known, decoys=decoys, progress=ProgressLine("rows"))
    if json_out:
        answer_json("audit canary find", {"run": circumstances(state.arguments), **found.to_json()})
        return
    for match in found.matches:
        place = f"row {match.position}, cosine {match.cosine:.4f}"
        answer(f"canary {match.canary}: {'FOUND' if match.found else 'not found'}, nearest {place}")
    answer(
        f"{found.found} of {len(found.matches)} canaries found in {found.rows} rows; the nearest of {found.decoys} "
        f"decoys has cosine {found.decoy_cosine:.4f}"
    )
    if found.found:
        answer(f"chance of so many in a dump without them: {found.chance:.2g}")
    else:
        answer("none found: the dump has none of them, or its templates were protected with a key, or remapped")


def _lines(path: Path) -> list[str]:
    try:
        return [line for line in read_bytes(path, MAX_LIST).decode().splitlines() if line]
    except OSError as error:
        raise InputError(f"cannot read {str(path)!r}: {error.strerror or error}") from None
    except ValueError:
        raise InputError(f"expected text in UTF-8, {str(path)!r} is none") from None
