"""``arcinvert eval retrieval``: retrieval of videos by identity, as in iQIYI-VID."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from arcinvert.cli.common import Checkpoint, Device, Json, Strict
from arcinvert.cli.eval.common import (
    AdapterFile,
    Data,
    Embeddings,
    Flip,
    LabelFile,
    adapted,
    labeled,
    refuse,
    show,
    stored,
)
from arcinvert.errors import UsageError

NAME = "retrieval"


def main(
    data: Data = None,
    embeddings: Embeddings = None,
    labels: LabelFile = None,
    queries: Annotated[Path | None, typer.Option(help="Read one embedding per query from this .npy.")] = None,
    query_labels: Annotated[Path | None, typer.Option(help="Read the labels of the queries, one per line.")] = None,
    videos: Annotated[Path | None, typer.Option(help="Read one embedding per video from this .npy.")] = None,
    video_labels: Annotated[Path | None, typer.Option(help="Read the labels of the videos, one per line.")] = None,
    adapter: AdapterFile = None,
    top: Annotated[int, typer.Option(help="Count this many videos of a ranked list.", min=1)] = 100,
    checkpoint: Checkpoint = None,
    flip: Flip = "none",
    device_name: Device = "auto",
    strict: Strict = False,
    json_out: Json = False,
) -> None:
    """Mean average precision (MAP@100) as in iQIYI-VID: each identity ranks all videos.

    In a folder or labeled set, the mean of the first half of an identity's images is its query, the others are videos.

    Examples:
        arcinvert eval retrieval --embeddings e.npy --labels labels.txt
    """
    from arcinvert.evaluation.protocols.labeled_sets import retrieve_folder
    from arcinvert.evaluation.protocols.retrieval import mean_average_precision
    from arcinvert.evaluation.readers.stored_embeddings import joint_labels
    from arcinvert.evaluation.tables import retrieval_rows

    if queries is None:
        refuse({"--query-labels": query_labels, "--videos": videos, "--video-labels": video_labels}, "--queries")
        rows, numbers, sources = labeled(
            data, embeddings, labels, flip=flip, checkpoint=checkpoint, device_name=device_name, strict=strict
        )
        found = retrieve_folder(adapted(rows, adapter, sources), numbers, top=top)
    else:
        refuse({"--data": data, "--embeddings": embeddings, "--labels": labels}, without="--queries")
        if query_labels is None or videos is None or video_labels is None:
            raise UsageError("expected --query-labels, --videos and --video-labels with --queries")
        asked, searched = stored(queries, query_labels), stored(videos, video_labels)
        wanted, there = joint_labels(asked, searched)
        sources = [*asked.files, *searched.files]
        ask, search = adapted(asked.rows, adapter, sources), adapted(searched.rows, adapter)
        found = mean_average_precision(ask, search, query_labels=wanted, video_labels=there, top=top)
    show(NAME, sources, {NAME: asdict(found)}, retrieval_rows(found), as_json=json_out)
