"""``arcinvert eval angles``: the angle statistics of the ArcFace paper."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from arcinvert.cli.common import Checkpoint, Device, Json, Strict
from arcinvert.cli.eval.common import Data, Embeddings, Flip, LabelFile, labeled, show, stored

NAME = "angles"


def main(
    data: Data = None,
    embeddings: Embeddings = None,
    labels: LabelFile = None,
    centers: Annotated[
        Path | None,
        typer.Option(help="Read class centers W (C, D) from this .npy, in the order of the sorted identities."),
    ] = None,
    checkpoint: Checkpoint = None,
    flip: Flip = "none",
    device_name: Device = "auto",
    strict: Strict = False,
    json_out: Json = False,
) -> None:
    """Angles in degrees as in the ArcFace paper: within a class, between classes, and to class centers.

    Examples:
        arcinvert eval angles --data crops/ --checkpoint net.onnx
    """
    from arcinvert.evaluation.protocols.angles import angle_statistics
    from arcinvert.evaluation.tables import angle_rows

    weights = None if centers is None else stored(centers)
    rows, numbers, sources = labeled(
        data, embeddings, labels, flip=flip, checkpoint=checkpoint, device_name=device_name, strict=strict
    )
    found = angle_statistics(rows, numbers, centers=None if weights is None else weights.rows)
    if weights is not None:
        sources += weights.files
    show(NAME, sources, {NAME: asdict(found)}, angle_rows(found), as_json=json_out)
