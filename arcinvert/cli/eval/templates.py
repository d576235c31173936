"""``arcinvert eval templates``: verification and identification of pooled templates, as in IJB-B and IJB-C."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from arcinvert.cli.common import Checkpoint, Device, Json, Strict
from arcinvert.cli.eval.common import Data, Embeddings, Engine, Flip, LabelFile, labeled, refuse, show, stored
from arcinvert.errors import InputError, UsageError

NAME = "templates"


def main(
    data: Data = None,
    embeddings: Embeddings = None,
    labels: LabelFile = None,
    members: Annotated[
        Path | None,
        typer.Option(
            "--templates",
            help="Pool the rows of --embeddings by this CSV: template,subject,media,row[,score]; "
            "or by IJB's face_tid_mid.txt.",
        ),
    ] = None,
    pairs: Annotated[
        Path | None, typer.Option(help="Verify the pairs of this CSV: template_a,template_b; or IJB's list.")
    ] = None,
    galleries: Annotated[
        Path | None,
        typer.Option(help="Identify with this CSV: template,set; a set is `probe` or the name of a gallery."),
    ] = None,
    engine: Engine = "auto",
    checkpoint: Checkpoint = None,
    flip: Flip = "none",
    device_name: Device = "auto",
    strict: Strict = False,
    json_out: Json = False,
) -> None:
    """Templates as in IJB-B and IJB-C: media pooling, TPR at FPR over listed pairs, rank 1 over two galleries.

    In a folder or labeled set, each half of the images of an identity is a template.
    """
    from arcinvert.evaluation.protocols.labeled_sets import template_folder
    from arcinvert.evaluation.protocols.templates import identify_templates, pool, verify_templates
    from arcinvert.evaluation.readers.ijb_lists import is_published, read_published
    from arcinvert.evaluation.readers.stored_embeddings import listed
    from arcinvert.evaluation.readers.template_lists import read_members, read_sets, read_template_pairs
    from arcinvert.evaluation.tables import template_rows

    identified = None
    if members is None:
        refuse({"--pairs": pairs, "--galleries": galleries}, "--templates")
        rows, numbers, sources = labeled(
            data, embeddings, labels, flip=flip, checkpoint=checkpoint, device_name=device_name, strict=strict
        )
        verified, identified = template_folder(rows, numbers, engine=engine)
    else:
        refuse({"--data": data, "--labels": labels}, without="--templates")
        if embeddings is None or pairs is None:
            raise UsageError("expected --embeddings and --pairs with --templates")
        names: tuple[str, ...] | None = None
        sets = None
        if is_published(members):
            refuse({"--galleries": galleries}, "a CSV of --templates with subjects")
            made_of, compared = read_published(members, pairs)
        else:
            made_of, names = read_members(members)
            compared = read_template_pairs(pairs, names)
            sets = None if galleries is None else read_sets(galleries, names)
        found = stored(embeddings)
        if names is None and len(found.rows) != len(made_of.rows):
            raise InputError(
                f"expected a face a row, {str(members)!r} has {len(made_of.rows)} for {len(found.rows)} rows"
            )
        rows = pool(found.rows, made_of)
        verified = verify_templates(rows, compared, subjects=made_of.subjects)
        if sets is not None:
            identified = identify_templates(rows, sets[0], galleries=sets[1], subjects=made_of.subjects, engine=engine)
        sources = [*found.files, *(listed(path) for path in (members, pairs, galleries) if path is not None)]
    results = {"verification": asdict(verified), "identification": None if identified is None else asdict(identified)}
    show(NAME, sources, results, template_rows(verified, identified), as_json=json_out)
