"""``arcinvert eval identification|templates|retrieval|angles``."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from arcinvert.cli.common import Checkpoint, Device, Json, ProgressLine, answer, device, say
from arcinvert.cli.eval.verification import app
from arcinvert.errors import UsageError

if TYPE_CHECKING:
    from arcinvert.evaluation.allpairs.search import Labels, Rows
    from arcinvert.evaluation.readers.stored_embeddings import Stored
    from arcinvert.evaluation.tables import TableRow

Embeddings = Annotated[Path | None, typer.Option("--embeddings", help="Stored embeddings (N, D), .npy.")]
LabelFile = Annotated[Path | None, typer.Option("--labels", help="Who they show, a label a line.")]
Data = Annotated[Path | None, typer.Option("--data", help="DIR/<identity>/<picture>, aligned 112x112.")]
Flip = Annotated[str, typer.Option("--flip", help="With the mirror image: none, average or concatenate.")]
Engine = Annotated[str, typer.Option("--engine", help="1:N search: auto, numpy or faiss; the figures are the same.")]
Npy = Annotated[Path | None, typer.Option(help="Stored embeddings, .npy.")]
Txt = Annotated[Path | None, typer.Option(help="Their labels, a label a line.")]


@app.command()
def identification(
    data: Data = None,
    embeddings: Embeddings = None,
    labels: LabelFile = None,
    gallery: Npy = None,
    gallery_labels: Txt = None,
    probes: Npy = None,
    probe_labels: Txt = None,
    distractors: Annotated[Path | None, typer.Option(help="Embeddings of people in neither set, .npy.")] = None,
    max_rank: Annotated[int, typer.Option(help="Where the CMC ends.", min=1)] = 20,
    engine: Engine = "auto",
    checkpoint: Checkpoint = None,
    flip: Flip = "none",
    device_name: Device = "auto",
    json_out: Json = False,
) -> None:
    """1:N: CMC, rank-k, DIR@FAR of probes that are nobody of the gallery, and MegaFace style.

    Of a folder or labeled set the first picture of an identity is enrolled and the others are probes;
    the last third of the identities is not enrolled. A tie counts against the probe.
    """
    import numpy as np

    from arcinvert.evaluation.protocols.identification import identify
    from arcinvert.evaluation.protocols.labeled_sets import identify_folder
    from arcinvert.evaluation.protocols.megaface import megaface
    from arcinvert.evaluation.readers.stored_embeddings import joint_labels
    from arcinvert.evaluation.tables import identification_rows

    strangers = None if distractors is None else _stored(distractors)
    others = None if strangers is None else strangers.rows
    if gallery is None:
        _none_of({"--gallery-labels": gallery_labels, "--probes": probes, "--probe-labels": probe_labels}, "--gallery")
        rows, numbers, sources = _labeled(data, checkpoint, flip, device_name, embeddings, labels)
        found, among = identify_folder(rows, numbers, distractors=others, engine=engine, max_rank=max_rank)
    else:
        _none_of({"--data": data, "--embeddings": embeddings, "--labels": labels}, without="--gallery")
        if gallery_labels is None or probes is None or probe_labels is None:
            raise UsageError("expected --gallery-labels, --probes and --probe-labels with --gallery")
        enrolled, shown = _stored(gallery, gallery_labels), _stored(probes, probe_labels)
        names, wanted = joint_labels(enrolled, shown)
        found = identify(
            enrolled.rows,
            shown.rows,
            gallery_labels=names,
            probe_labels=wanted,
            distractors=others,
            engine=engine,
            max_rank=max_rank,
        )
        among = None
        if others is not None:
            known = np.isin(wanted, names)
            pictures = np.concatenate([enrolled.rows, shown.rows[known]])
            among = megaface(pictures, others, labels=np.concatenate([names, wanted[known]]))
        sources = [*enrolled.files, *shown.files]
    if strangers is not None:
        sources += strangers.files
    results = {"identification": asdict(found), "megaface": None if among is None else asdict(among)}
    _print("identification", sources, results, identification_rows(found, among), json_out)


@app.command()
def templates(
    data: Data = None,
    embeddings: Embeddings = None,
    labels: LabelFile = None,
    members: Annotated[
        Path | None, typer.Option("--templates", help="CSV: template,subject,media,row[,score] for --embeddings.")
    ] = None,
    pairs: Annotated[Path | None, typer.Option(help="CSV: template_a,template_b; the pairs to verify.")] = None,
    galleries: Annotated[
        Path | None, typer.Option(help="CSV: template,set; a set is `probe` or the name of a gallery.")
    ] = None,
    engine: Engine = "auto",
    checkpoint: Checkpoint = None,
    flip: Flip = "none",
    device_name: Device = "auto",
    json_out: Json = False,
) -> None:
    """Templates as in IJB-B and IJB-C: media pooling, TPR@FPR over listed pairs, rank-1 over two galleries.

    Of a folder or labeled set each half of an identity's pictures is a template.
    """
    from arcinvert.evaluation.protocols.labeled_sets import template_folder
    from arcinvert.evaluation.protocols.templates import identify_templates, pool, verify_templates
    from arcinvert.evaluation.readers.stored_embeddings import listed
    from arcinvert.evaluation.readers.template_lists import read_members, read_sets, read_template_pairs
    from arcinvert.evaluation.tables import template_rows

    identified = None
    if members is None:
        _none_of({"--pairs": pairs, "--galleries": galleries}, "--templates")
        rows, numbers, sources = _labeled(data, checkpoint, flip, device_name, embeddings, labels)
        verified, identified = template_folder(rows, numbers, engine=engine)
    else:
        _none_of({"--data": data, "--labels": labels}, without="--templates")
        if embeddings is None or pairs is None:
            raise UsageError("expected --embeddings and --pairs with --templates")
        made_of, names = read_members(members)
        compared = read_template_pairs(pairs, names)
        sets = None if galleries is None else read_sets(galleries, names)
        stored = _stored(embeddings)
        rows = pool(stored.rows, made_of)
        verified = verify_templates(rows, compared, subjects=made_of.subjects)
        if sets is not None:
            identified = identify_templates(rows, sets[0], galleries=sets[1], subjects=made_of.subjects, engine=engine)
        lists = [listed(path) for path in (members, pairs, galleries) if path is not None]
        sources = [*stored.files, *lists]
    results = {"verification": asdict(verified), "identification": None if identified is None else asdict(identified)}
    _print("templates", sources, results, template_rows(verified, identified), json_out)


@app.command()
def retrieval(
    data: Data = None,
    embeddings: Embeddings = None,
    labels: LabelFile = None,
    queries: Npy = None,
    query_labels: Txt = None,
    videos: Npy = None,
    video_labels: Txt = None,
    top: Annotated[int, typer.Option(help="How many videos of a ranked list count.", min=1)] = 100,
    checkpoint: Checkpoint = None,
    flip: Flip = "none",
    device_name: Device = "auto",
    json_out: Json = False,
) -> None:
    """MAP@100 as in iQIYI-VID: each identity ranks all videos, a row of --videos each.

    Of a folder or labeled set the mean of an identity's first half is its query, the other pictures are videos.
    """
    from arcinvert.evaluation.protocols.labeled_sets import retrieve_folder
    from arcinvert.evaluation.protocols.retrieval import mean_average_precision
    from arcinvert.evaluation.readers.stored_embeddings import joint_labels
    from arcinvert.evaluation.tables import retrieval_rows

    if queries is None:
        _none_of({"--query-labels": query_labels, "--videos": videos, "--video-labels": video_labels}, "--queries")
        rows, numbers, sources = _labeled(data, checkpoint, flip, device_name, embeddings, labels)
        found = retrieve_folder(rows, numbers, top=top)
    else:
        _none_of({"--data": data, "--embeddings": embeddings, "--labels": labels}, without="--queries")
        if query_labels is None or videos is None or video_labels is None:
            raise UsageError("expected --query-labels, --videos and --video-labels with --queries")
        asked, searched = _stored(queries, query_labels), _stored(videos, video_labels)
        wanted, there = joint_labels(asked, searched)
        found = mean_average_precision(asked.rows, searched.rows, query_labels=wanted, video_labels=there, top=top)
        sources = [*asked.files, *searched.files]
    _print("retrieval", sources, {"retrieval": asdict(found)}, retrieval_rows(found), json_out)


@app.command()
def angles(
    data: Data = None,
    embeddings: Embeddings = None,
    labels: LabelFile = None,
    centers: Annotated[
        Path | None, typer.Option(help="Class centers W (C, D), .npy, in the order of the sorted identities.")
    ] = None,
    checkpoint: Checkpoint = None,
    flip: Flip = "none",
    device_name: Device = "auto",
    json_out: Json = False,
) -> None:
    """Angles in degrees, as the ArcFace paper gives them: within a class, between classes, and to W."""
    from arcinvert.evaluation.protocols.angles import angle_statistics
    from arcinvert.evaluation.tables import angle_rows

    weights = None if centers is None else _stored(centers)
    rows, numbers, sources = _labeled(data, checkpoint, flip, device_name, embeddings, labels)
    found = angle_statistics(rows, numbers, centers=None if weights is None else weights.rows)
    if weights is not None:
        sources += weights.files
    _print("angles", sources, {"angles": asdict(found)}, angle_rows(found), json_out)


def _labeled(
    data: Path | None,
    checkpoint: Path | None,
    flip: str,
    device_name: str,
    embeddings: Path | None,
    labels: Path | None,
) -> "tuple[Rows, Labels, list[dict[str, Any]]]":
    """Rows, labels, and what they are of."""
    if (embeddings is None) != (labels is None):
        raise UsageError("expected --embeddings and --labels together")
    if embeddings is not None:
        _none_of({"--data": data}, without="--embeddings")
        if flip != "none":
            raise UsageError("--flip does not go with --embeddings, which are taken as they are")
        stored = _stored(embeddings, labels)
        return stored.rows, stored.labels, list(stored.files)
    if data is None:
        raise UsageError("expected --data DIR, or --embeddings E.npy with --labels L.txt")
    from arcinvert.evaluation.embedding import embed_folder
    from arcinvert.recognizer import Recognizer

    recognizer = Recognizer.load(checkpoint, device=device(device_name))
    found = embed_folder(recognizer, data, flip=flip, progress=ProgressLine("picture"))
    network = {"checkpoint": str(checkpoint or "default"), "sha256": recognizer.digest, "flip": flip}
    counts = {"pictures": len(found.files), "identities": int(found.labels[-1]) + 1}
    return found.rows, found.labels, [network, {"folder": str(data), "sha256": found.digest, **counts}]


def _stored(embeddings: Path, labels: Path | None = None) -> "Stored":
    from arcinvert.evaluation.readers.stored_embeddings import read_stored

    stored = read_stored(embeddings, labels)
    if stored.note:
        say(f"{embeddings}: {stored.note}")
    return stored


def _none_of(options: dict[str, Path | None], needs: str = "", *, without: str = "") -> None:
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise UsageError(f"{given[0]} needs {needs}" if needs else f"{given[0]} does not go with {without}")


def _print(
    protocol: str,
    sources: list[dict[str, Any]],
    results: dict[str, Any],
    figures: "Sequence[TableRow]",
    json_out: bool,
) -> None:
    from arcinvert.evaluation.tables import markdown

    if json_out:
        answer(json.dumps({"protocol": protocol, "sources": sources, **results}))
        return
    for line in markdown(figures):
        answer(line)
    answer("")
    for source in sources:
        answer("of " + ", ".join(f"{key} {value}" for key, value in source.items()))
