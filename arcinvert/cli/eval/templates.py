"""``arcinvert eval templates``: verification and identification of pooled templates, as in IJB-B and IJB-C."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

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
        list[Path] | None,
        typer.Option(
            help="Identify with this CSV: template,set; a set is `probe` or the name of a gallery. "
            "Or IJB's 1N CSVs, the option once for each."
        ),
    ] = None,
    scores: Annotated[
        Path | None,
        typer.Option(help="Weight the faces of IJB's list by the detector scores of its name_5pts_score.txt."),
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

    Examples:
        arcinvert eval templates --embeddings e.npy --templates templates.csv --pairs pairs.csv
    """
    from arcinvert.evaluation.protocols.labeled_sets import template_folder
    from arcinvert.evaluation.protocols.templates import identify_templates, pool, verify_templates
    from arcinvert.evaluation.readers.ijb_lists import is_published, read_published, read_published_sets, read_scores
    from arcinvert.evaluation.readers.stored_embeddings import listed
    from arcinvert.evaluation.readers.template_lists import read_members, read_sets, read_template_pairs
    from arcinvert.evaluation.tables import template_rows

    identified = None
    if members is None:
        refuse({"--pairs": pairs, "--galleries": galleries, "--scores": scores}, "--templates")
        rows, numbers, sources = labeled(
            data, embeddings, labels, flip=flip, checkpoint=checkpoint, device_name=device_name, strict=strict
        )
        verified, identified = template_folder(rows, numbers, engine=engine)
    else:
        refuse({"--data": data, "--labels": labels}, without="--templates")
        if embeddings is None or pairs is None:
            raise UsageError("expected --embeddings and --pairs with --templates")
        names: tuple[str, ...] | None = None
        sets: Any = None
        subjects = None
        if is_published(members):
            made_of, compared = read_published(members, pairs)
            if scores is not None:
                made_of = replace(made_of, scores=read_scores(scores, len(made_of.rows)))
            if galleries:
                subjects, *sets = read_published_sets(galleries, members)
        else:
            refuse({"--scores": scores}, "IJB's list of faces as --templates; ours has a column score")
            if galleries and len(galleries) > 1:
                raise UsageError(f"expected one CSV of --galleries with a CSV of --templates, got {len(galleries)}")
            made_of, names = read_members(members)
            compared = read_template_pairs(pairs, names)
            sets = read_sets(galleries[0], names) if galleries else None
        found = stored(embeddings)
        if names is None and len(found.rows) != len(made_of.rows):
            raise InputError(
                f"expected a face a row, {str(members)!r} has {len(made_of.rows)} for {len(found.rows)} rows"
            )
        rows = pool(found.rows, made_of)
        verified = verify_templates(rows, compared, subjects=made_of.subjects)
        if sets is not None:
            people = made_of.subjects if subjects is None else subjects
            identified = identify_templates(rows, sets[0], galleries=sets[1], subjects=people, engine=engine)
        read = [members, pairs, *([scores] if scores else []), *(galleries or [])]
        sources = [*found.files, *map(listed, read)]
    results = {"verification": asdict(verified), "identification": None if identified is None else asdict(identified)}
    show(NAME, sources, results, template_rows(verified, identified), as_json=json_out)
