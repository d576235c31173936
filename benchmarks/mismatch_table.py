"""How often the mismatch check suspects a store that belongs to a recognizer, and how often it finds one that does not.

    python benchmarks/mismatch_table.py --data FACES --checkpoint y1.onnx --checkpoint v3.onnx [--json OUT.json]

The recognizer's own embeddings are those of the shipped synthetic faces, as in an audit. A store is a random set of the
identities that the default checkpoint held out, one image each: as it is, as signs, rotated by a random key, with
shuffled columns, or random directions. A cell is the number of draws in which a mismatch is suspected, for stores of
each of the ``--sizes``. ``--checkpoint default`` is the one that ships with arcinvert.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from arcinvert.audit.checks import mismatch
from arcinvert.audit.judges import prior_faces
from arcinvert.errors import ArcInvertError
from arcinvert.evaluation.allpairs.search import Rows
from arcinvert.evaluation.embedding import embed_images
from arcinvert.faceprior.prior import default_face_prior
from arcinvert.recognizer import Recognizer
from arcinvert.training.data.containers import folder_images
from arcinvert.training.data.faces import FaceDataset, load_faces

BELONGS = ("as it is", "signs")


def first_pictures(data: Path, names: list[str], count: int) -> FaceDataset:
    """The first images of these identities."""
    entries = folder_images(data, names).entries
    files = {name: [entry.file for entry in entries if entry.identity == name][:count] for name in names}
    return load_faces(data, names, [file for chosen in files.values() for file in chosen])


def stores(rows: Rows, seed: int) -> dict[str, Rows]:
    """Variants of the rows (N, D) of a store."""
    generator = np.random.default_rng(seed)
    size = rows.shape[1]
    rotation = np.linalg.qr(generator.normal(size=(size, size)))[0].astype(np.float32)
    return {
        "as it is": rows,
        "signs": np.sign(rows),
        "rotated": rows @ rotation,
        "shuffled": rows[:, generator.permutation(size)],
        "random": generator.normal(size=rows.shape).astype(np.float32),
    }


def suspected(own: Rows, people: list[Rows], size: int, draws: int) -> dict[str, int]:
    """Number of draws in which each variant of a store of ``size`` identities, one image each, is suspected."""
    counts: dict[str, int] = {}
    for seed in range(draws):
        generator = np.random.default_rng(seed)
        chosen = generator.choice(len(people), size, replace=False)
        rows = np.stack([people[i][generator.integers(len(people[i]))] for i in chosen])
        for name, store in stores(rows, seed).items():
            counts[name] = counts.get(name, 0) + mismatch(own, store).suspected
    return counts


def table(report: dict[str, Any]) -> str:
    """Markdown."""
    names = list(report["recognizers"])
    lines = ["| store | templates | " + " | ".join(names) + " |", "|---|---|" + "---|" * len(names)]
    for kind in next(iter(report["recognizers"].values()))[str(report["sizes"][0])]:
        for size in report["sizes"]:
            cells = [f"{found[str(size)][kind]} of {report['draws']}" for found in report["recognizers"].values()]
            belongs = "" if kind in BELONGS else ", not the recognizer's own"
            lines.append(f"| {kind}{belongs} | {size} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="DIR/<identity>/<picture>, aligned")
    parser.add_argument("--checkpoint", action="append", required=True, help="a recognizer, may be repeated")
    parser.add_argument("--sizes", type=int, nargs="+", default=[60, 10, 2, 1], help="numbers of templates of a store")
    parser.add_argument("--pictures", type=int, default=4, help="images of each identity, of which one is drawn")
    parser.add_argument("--draws", type=int, default=8)
    parser.add_argument("--own", type=int, help="use only N of the shipped faces")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_flush_denormal(True)
    report: dict[str, Any] = {"draws": options.draws, "sizes": options.sizes, "recognizers": {}}
    try:
        faces = first_pictures(options.data, list(Recognizer.load().header["data"]["held_out"]), options.pictures)
        if max(options.sizes) > len(faces.identities):
            parser.error(f"expected stores of at most {len(faces.identities)} templates, one of each identity")
        shown = prior_faces(default_face_prior()).images[: options.own].numpy()
        labels = faces.labels.numpy()
        for checkpoint in options.checkpoint:
            recognizer = Recognizer.load(None if checkpoint == "default" else Path(checkpoint))
            own, rows = embed_images(recognizer, shown), embed_images(recognizer, faces.images.numpy())
            people = [rows[labels == label] for label in range(len(faces.identities))]
            report["recognizers"][Path(checkpoint).stem] = {
                str(size): suspected(own, people, size, options.draws) for size in options.sizes
            }
    except ArcInvertError as error:
        raise SystemExit(f"mismatch_table: {error}") from None
    print(table(report))
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
