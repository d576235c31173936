"""What the ``eval`` commands share: options, input and output."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from arcinvert.cli.common import ProgressLine, answer, answer_json, device, log
from arcinvert.errors import UsageError

if TYPE_CHECKING:
    from arcinvert.evaluation.allpairs.search import Labels, Rows
    from arcinvert.evaluation.readers.stored_embeddings import Stored
    from arcinvert.evaluation.tables import TableRow

Embeddings = Annotated[
    Path | None, typer.Option("--embeddings", help="Read stored embeddings (N, D) from this .npy; needs --labels.")
]
LabelFile = Annotated[
    Path | None, typer.Option("--labels", help="Read the labels of --embeddings from this file, one per line.")
]
Data = Annotated[
    Path | None, typer.Option("--data", help="Embed the aligned 112x112 crops DIR/<identity>/<image>.", metavar="DIR")
]
Flip = Annotated[
    str, typer.Option("--flip", help="Combine each image with its mirror image: none, average or concatenate.")
]
BatchSize = Annotated[int, typer.Option("--batch-size", help="Embed this many images per forward pass.", min=1)]
AdapterFile = Annotated[
    Path | None,
    typer.Option("--adapter", help="Map the embeddings by this adapter, which `train --embeddings` wrote."),
]
Engine = Annotated[str, typer.Option("--engine", help="Search with auto, numpy or faiss; the results are the same.")]


def labeled(
    data: Path | None,
    embeddings: Path | None,
    labels: Path | None,
    *,
    flip: str,
    checkpoint: Path | None,
    device_name: str,
    strict: bool = False,
) -> "tuple[Rows, Labels, list[dict[str, Any]]]":
    """Embeddings, labels and sources, from --embeddings with --labels or from --data."""
    if (embeddings is None) != (labels is None):
        raise UsageError("expected --embeddings and --labels together")
    if embeddings is not None:
        refuse({"--data": data}, without="--embeddings")
        if flip != "none":
            raise UsageError("--flip does not go with --embeddings, which are used as they are")
        found = stored(embeddings, labels)
        return found.rows, found.labels, list(found.files)
    if data is None:
        raise UsageError("expected --data DIR, or --embeddings E.npy with --labels L.txt")
    from arcinvert.evaluation.embedding import embed_folder
    from arcinvert.recognizer import Recognizer

    recognizer = Recognizer.load(checkpoint, device=device(device_name))
    folder = embed_folder(recognizer, data, flip=flip, strict=strict, progress=ProgressLine("picture"))
    network = {"checkpoint": str(checkpoint or "default"), "sha256": recognizer.digest, "flip": flip}
    counts = {"pictures": len(folder.files), "identities": int(folder.labels[-1]) + 1}
    counts |= {"skipped": len(folder.skipped)} if folder.skipped else {}
    return folder.rows, folder.labels, [network, {"folder": str(data), "sha256": folder.digest, **counts}]


def stored(embeddings: Path, labels: Path | None = None) -> "Stored":
    """Stored embeddings; a remark about their norms is logged."""
    from arcinvert.evaluation.readers.stored_embeddings import read_stored

    found = read_stored(embeddings, labels)
    if found.note:
        log.info(f"{embeddings}: {found.note}")
    return found


def adapted(rows: "Rows", adapter: Path | None, sources: list[dict[str, Any]] | None = None) -> "Rows":
    """The rows, mapped by an adapter if there is one, which then is named among the sources."""
    if adapter is None:
        return rows
    from arcinvert.adapter import Adapter

    network = Adapter.load(adapter)
    if sources is not None:
        sources.append({"adapter": str(adapter), "sha256": network.digest})
    return network(rows)


def refuse(options: Mapping[str, object], needs: str = "", *, without: str = "") -> None:
    """Raise a UsageError if one of the options is given.

    Args:
        options: name -> value.
        needs: the option that is missing.
        without: the option that excludes them.
    """
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise UsageError(f"{given[0]} needs {needs}" if needs else f"{given[0]} does not go with {without}")


def show(
    protocol: str,
    sources: list[dict[str, Any]],
    results: dict[str, Any],
    rows: "Sequence[TableRow]",
    *,
    as_json: bool,
) -> None:
    """Print results as JSON or as a Markdown table, with their sources; exit with 4 if files were left out."""
    from arcinvert.evaluation.tables import markdown

    if as_json:
        answer_json(f"eval {protocol}", {"protocol": protocol, "sources": sources, **results})
    else:
        for line in markdown(rows):
            answer(line)
        answer("")
        for source in sources:
            answer("of " + ", ".join(f"{key} {value}" for key, value in source.items()))
    exit_if_skipped(sources)


def exit_if_skipped(sources: "Sequence[dict[str, Any]]") -> None:
    """Exit with 4 if files of a source were left out."""
    if any("skipped" in source for source in sources):
        raise typer.Exit(4)
