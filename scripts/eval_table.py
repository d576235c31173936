"""Every protocol, side by side for several recognizers, on people that the default checkpoint has not seen.

    python scripts/eval_table.py --data FACES --checkpoint y1.onnx --checkpoint mobileface-v3.onnx [--json OUT.json]

Verification over all pairs, identification (the first picture of an identity is enrolled, the last third
of the identities is not), templates (halves of an identity's pictures), retrieval (first halves look for
the other pictures) and angles. The identities are those that the default checkpoint held out, or the last
``--identities N`` folders. ``--checkpoint default`` is the one that ships with arcinvert.
"""

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import torch

from arcinvert.errors import ArcInvertError, InputError
from arcinvert.evaluation.angles import angle_statistics
from arcinvert.evaluation.figures import (
    Figure,
    of_angles,
    of_identification,
    of_points,
    of_retrieval,
    of_templates,
    shown,
)
from arcinvert.evaluation.folder_protocols import identify_folder, retrieve_folder, template_folder
from arcinvert.evaluation.search import Labels, Rows
from arcinvert.evaluation.sources import FLIPS, embed_images
from arcinvert.evaluation.verification import verify_embeddings
from arcinvert.recognizer import Recognizer
from arcinvert.training.data import identity_folders, load_faces

FMRS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)


def measure(rows: Rows, labels: Labels) -> tuple[dict[str, Any], list[Figure]]:
    """All protocols: everything they say, and the rows of the table."""
    verified = verify_embeddings(rows, labels, FMRS)
    identified, among = identify_folder(rows, labels)
    template_pairs, template_search = template_folder(rows, labels)
    retrieved, angles = retrieve_folder(rows, labels), angle_statistics(rows, labels)
    pairs = f"{verified.genuine_pairs} genuine, {verified.impostor_pairs} impostor pairs"
    figures = [Figure("AUC", verified.auc, pairs), Figure("EER", verified.eer, pairs, verified.eer_threshold)]
    figures += of_points("TAR@FAR", verified.points)
    figures += of_identification(identified, among)
    figures += of_templates(template_pairs, template_search)
    figures += of_retrieval(retrieved) + of_angles(angles)
    everything = {
        "verification": verified,
        "identification": identified,
        "megaface": among,
        "template_verification": template_pairs,
        "template_identification": template_search,
        "retrieval": retrieved,
        "angles": angles,
    }
    return {k: None if v is None else dataclasses.asdict(v) for k, v in everything.items()}, figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="DIR/<identity>/<picture>, aligned")
    parser.add_argument("--checkpoint", action="append", help="may be repeated; default: default")
    parser.add_argument("--identities", type=int, help="the last so many folders instead of those held out")
    parser.add_argument("--flip", choices=FLIPS, default="none")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    given = options.checkpoint or ["default"]
    if len({Path(name).stem for name in given}) < len(given):
        parser.error("the checkpoints' file names must differ, they head the columns")

    torch.set_flush_denormal(True)
    try:
        if options.identities is None:
            names = list(Recognizer.load().header["data"]["held_out"])
            if missing := set(names) - set(identity_folders(options.data)):
                raise InputError(f"{str(options.data)!r} lacks {len(missing)} of the {len(names)} held-out identities")
        else:
            names = identity_folders(options.data)[-options.identities :]
        faces = load_faces(options.data, names)
        report: dict[str, Any] = {
            "pictures": len(faces),
            "identities": names,
            "digest": faces.digest,
            "flip": options.flip,
            "recognizers": {},
        }
        columns: dict[str, list[Figure]] = {}
        for checkpoint in given:
            recognizer = Recognizer.load(None if checkpoint == "default" else Path(checkpoint))
            rows = embed_images(recognizer, faces.images.numpy(), flip=options.flip)
            name = Path(checkpoint).stem
            found, columns[name] = measure(rows, faces.labels.numpy())
            report["recognizers"][name] = {"digest": recognizer.digest, **found}
            print(f"{name}: measured", file=sys.stderr)
    except ArcInvertError as error:
        raise SystemExit(f"eval_table: {error}") from None
    print(f"{len(faces)} pictures of {len(names)} identities, sha256 {faces.digest}; flip test: {options.flip}\n")
    print("| figure | " + " | ".join(columns) + " | over | remark |")
    print("|---|" + "---|" * (len(columns) + 2))
    for row in zip(*columns.values(), strict=True):
        cells = [row[0].name, *map(cell, row), row[0].of, row[0].note or ""]
        print("| " + " | ".join(cells) + " |")
    for name, found in report["recognizers"].items():
        print(f"\n{name}: sha256 {found['digest']}", end="")
    print()
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")


def cell(figure: Figure) -> str:
    interval = "" if figure.interval is None else f" ({figure.interval[0]:.3f} to {figure.interval[1]:.3f})"
    threshold = "" if figure.threshold is None else f" at {figure.threshold:.3f}"
    return shown(figure) + interval + threshold


if __name__ == "__main__":
    main()
