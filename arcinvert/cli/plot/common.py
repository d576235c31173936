"""What the ``plot`` commands share: options, input and output."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from arcinvert.cli.common import answer, answer_json, log, printable
from arcinvert.errors import InputError, UsageError

if TYPE_CHECKING:
    from arcinvert.evaluation.metrics import Scored
    from arcinvert.evaluation.readers.stored_embeddings import Stored

MAX_ROWS = 10_000
"""Largest number of embeddings of a file: all their pairs, 50 million, are held in memory."""

Embeddings = Annotated[
    list[Path], typer.Option("--embeddings", help="Read stored embeddings (N, D) from this .npy; may be repeated.")
]
LabelFiles = Annotated[
    list[Path], typer.Option("--labels", help="Read labels, one per line; give one file for each --embeddings.")
]
Names = Annotated[
    list[str] | None, typer.Option("--name", help="Name each curve in the legend; default: the name of the .npy file.")
]
Out = Annotated[Path, typer.Option("--out", "-o", help="Write the plot to this .png or .svg.")]


def stored(embeddings: list[Path], labels: list[Path], names: list[str] | None) -> "Iterator[tuple[str, Stored]]":
    """The files with their titles, which must differ."""
    from arcinvert.evaluation.readers.stored_embeddings import read_stored

    if len(embeddings) != len(labels) or len(names or labels) != len(labels):
        raise UsageError(
            f"expected a --labels (and, if any, a --name) for each --embeddings, got {len(embeddings)} --embeddings, "
            f"{len(labels)} --labels and {len(names or [])} --name"
        )
    titles = [printable(title) for title in names or [path.stem for path in embeddings]]
    if len(set(titles)) < len(titles):
        raise UsageError(f"expected different names, got {', '.join(titles)}; give --name for each")
    for title, rows, owners in zip(titles, embeddings, labels, strict=True):
        found = read_stored(rows, owners)
        if found.note:
            log.info(f"{title}: {found.note}")
        yield title, found


def pair_scores(
    embeddings: list[Path], labels: list[Path], names: list[str] | None
) -> tuple[dict[str, "Scored"], list[dict[str, object]]]:
    """Title -> scores of all pairs; and a description of the files."""
    from arcinvert.evaluation.metrics import score_pairs

    scores, read = {}, []
    for title, found in stored(embeddings, labels, names):
        if len(found.rows) > MAX_ROWS:
            raise InputError(f"expected at most {MAX_ROWS:,} embeddings per plot, {title!r} has {len(found.rows):,}")
        scores[title] = pairs = score_pairs(found.rows, found.labels)
        counts = {"genuine_pairs": len(pairs.genuine), "impostor_pairs": len(pairs.impostor)}
        read.append({"name": title, "files": found.files, **counts})
    return scores, read


def done(plot: str, out: Path, read: object, json_out: bool) -> None:
    """Print that the plot is written, or the description of its data as JSON."""
    if json_out:
        answer_json(f"plot {plot}", {"out": str(out), "curves": read})
    else:
        answer(f"{out}: written")
