"""``arcinvert faces``: the shipped synthetic faces as pictures, for a recognizer that is known by embeddings alone."""

from pathlib import Path
from typing import Annotated

import typer

from arcinvert.cli.common import Json, ProgressLine, answer, answer_json

NAME = "faces"


def main(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write DIR/<identity>/<number>.png into.")],
    each: Annotated[int, typer.Option("--each", help="Pictures of each person.")] = 2,
    people: Annotated[
        int | None, typer.Option("--people", help="Draw only so many people; default: all 7,000 of the shipped faces.")
    ] = None,
    json_out: Json = False,
) -> None:
    """Write pictures of people who do not exist, 224x224 with a margin, so that any detector finds the face.

    Let a recognizer embed them, and give embeddings and folder to `arcinvert audit --pairs` or
    `arcinvert convert --from-pairs`.

    Examples:
        arcinvert faces -o pictures
        arcinvert faces -o pictures --each 4 --people 200
    """
    from arcinvert.faceprior.pictures import write_faces
    from arcinvert.faceprior.prior import default_face_prior

    count = write_faces(default_face_prior(), out, each=each, people=people, progress=ProgressLine("picture"))
    if json_out:
        answer_json(NAME, {"out": str(out), "pictures": count})
    else:
        answer(f"{out}: {count} pictures of people who do not exist")
