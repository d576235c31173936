"""``arcinvert eval identification``: 1:N identification, closed and open set, and MegaFace."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from arcinvert.cli.common import Checkpoint, Device, Json, Strict
from arcinvert.cli.eval.common import Data, Embeddings, Engine, Flip, LabelFile, labeled, refuse, show, stored
from arcinvert.errors import UsageError

NAME = "identification"


def main(
    data: Data = None,
    embeddings: Embeddings = None,
    labels: LabelFile = None,
    gallery: Annotated[Path | None, typer.Option(help="Read the gallery embeddings from this .npy.")] = None,
    gallery_labels: Annotated[Path | None, typer.Option(help="Read the labels of the gallery, one per line.")] = None,
    probes: Annotated[Path | None, typer.Option(help="Read the probe embeddings from this .npy.")] = None,
    probe_labels: Annotated[Path | None, typer.Option(help="Read the labels of the probes, one per line.")] = None,
    distractors: Annotated[
        Path | None, typer.Option(help="Add embeddings of other identities to the gallery, from this .npy.")
    ] = None,
    max_rank: Annotated[int, typer.Option(help="End the CMC at this rank.", min=1)] = 20,
    engine: Engine = "auto",
    checkpoint: Checkpoint = None,
    flip: Flip = "none",
    device_name: Device = "auto",
    strict: Strict = False,
    json_out: Json = False,
) -> None:
    """1:N identification: CMC, rank-k rates, DIR at FAR of probes outside the gallery, and MegaFace.

    In a folder or labeled set, the first image of an identity is enrolled and the others are probes; the last third of
    the identities is not enrolled. A tie counts against the probe.

    Examples:
        arcinvert eval identification --data crops/
        arcinvert eval identification --gallery g.npy --gallery-labels g.txt --probes p.npy --probe-labels p.txt
    """
    import numpy as np

    from arcinvert.evaluation.protocols.identification import identify
    from arcinvert.evaluation.protocols.labeled_sets import identify_folder
    from arcinvert.evaluation.protocols.megaface import megaface
    from arcinvert.evaluation.readers.stored_embeddings import joint_labels
    from arcinvert.evaluation.tables import identification_rows

    further = None if distractors is None else stored(distractors)
    others = None if further is None else further.rows
    if gallery is None:
        refuse({"--gallery-labels": gallery_labels, "--probes": probes, "--probe-labels": probe_labels}, "--gallery")
        rows, numbers, sources = labeled(
            data, embeddings, labels, flip=flip, checkpoint=checkpoint, device_name=device_name, strict=strict
        )
        found, among = identify_folder(rows, numbers, distractors=others, engine=engine, max_rank=max_rank)
    else:
        refuse({"--data": data, "--embeddings": embeddings, "--labels": labels}, without="--gallery")
        if gallery_labels is None or probes is None or probe_labels is None:
            raise UsageError("expected --gallery-labels, --probes and --probe-labels with --gallery")
        enrolled, asked = stored(gallery, gallery_labels), stored(probes, probe_labels)
        names, wanted = joint_labels(enrolled, asked)
        found = identify(
            enrolled.rows,
            asked.rows,
            gallery_labels=names,
            probe_labels=wanted,
            distractors=others,
            engine=engine,
            max_rank=max_rank,
        )
        among = None
        if others is not None:
            known = np.isin(wanted, names)
            images = np.concatenate([enrolled.rows, asked.rows[known]])
            among = megaface(images, others, labels=np.concatenate([names, wanted[known]]))
        sources = [*enrolled.files, *asked.files]
    if further is not None:
        sources += further.files
    results = {"identification": asdict(found), "megaface": None if among is None else asdict(among)}
    show(NAME, sources, results, identification_rows(found, among), as_json=json_out)
