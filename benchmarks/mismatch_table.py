"""How often the mismatch check suspects a store that belongs to a recognizer, and how often it finds one that does not.

    python benchmarks/mismatch_table.py --data FACES --checkpoint y1.onnx --checkpoint v3.onnx [--json OUT.json]

The recognizer's own embeddings are those of the shipped synthetic faces, as in an audit; no photo helps. A store is a
random set of identities, one image each: as it is, as signs, rotated by a random key, with shuffled columns, some
columns of another recognizer's, or random directions. A cell says in how many draws a mismatch is suspected, and in how
many the store is shown to be the recognizer's, for stores of each of the ``--sizes``. ``--checkpoint default`` is the
shipped one. The identities are those that the default checkpoint held out, or with ``--all`` all in FACES (such as
aligned photographs of real people, for measuring only).
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


def stores(rows: Rows, others: list[Rows], seed: int) -> dict[str, Rows]:
    """Variants of the rows (N, D) of a store, and columns of ``others`` of the same people, (N, D') with D' >= D."""
    generator = np.random.default_rng(seed)
    size = rows.shape[1]
    rotation = np.linalg.qr(generator.normal(size=(size, size)))[0].astype(np.float32)
    begins = [int(generator.integers(0, other.shape[1] - size + 1)) for other in others]
    foreign = [other[:, begin : begin + size] for other, begin in zip(others, begins, strict=True)]
    return {
        "as it is": rows,
        "signs": np.sign(rows),
        "rotated": rows @ rotation,
        "shuffled": rows[:, generator.permutation(size)],
        "random": generator.normal(size=rows.shape).astype(np.float32),
    } | {f"columns of another recognizer ({n + 1})": other for n, other in enumerate(foreign)}


def judged(own: Rows, people: list[Rows], others: list[list[Rows]], size: int, draws: int) -> dict[str, list[int]]:
    """Draws in which each variant of a store of ``size`` identities is suspected, in which it is shown, and all.

    Args:
        own: the recognizer's embeddings of other faces.
        people: of each identity its images' embeddings.
        others: the same by other recognizers.
        size, draws: of the stores.
    """
    counts: dict[str, list[int]] = {}
    for seed in range(draws):
        generator = np.random.default_rng(seed)
        chosen = generator.choice(len(people), size, replace=False)
        places = [generator.integers(len(people[i])) for i in chosen]
        rows, *foreign = (np.stack([of[i][n] for i, n in zip(chosen, places, strict=True)]) for of in (people, *others))
        for name, store in stores(rows, foreign, seed).items():
            name = name.split(" (")[0]
            found, count = mismatch(own, store), counts.setdefault(name, [0, 0, 0])
            counts[name] = [count[0] + found.suspected, count[1] + found.shown, count[2] + 1]
    return counts


def table(report: dict[str, Any]) -> str:
    """Markdown."""
    names = list(report["recognizers"])
    lines = ["| store | templates | " + " | ".join(names) + " |", "|---|---|" + "---|" * len(names)]
    kinds = dict.fromkeys(kind for found in report["recognizers"].values() for at in found.values() for kind in at)
    for kind in kinds:
        for size in report["sizes"]:
            cells = [cell(found[str(size)].get(kind)) for found in report["recognizers"].values()]
            belongs = "" if kind in BELONGS else ", not the recognizer's own"
            lines.append(f"| {kind}{belongs} | {size} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", f"Suspected, shown, of so many draws. {report['identities']} identities."])


def cell(found: list[int] | None) -> str:
    return "" if found is None else f"{found[0]}, {found[1]} of {found[2]}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="DIR/<identity>/<picture>, aligned")
    parser.add_argument("--checkpoint", action="append", required=True, help="a recognizer, may be repeated")
    parser.add_argument("--sizes", type=int, nargs="+", default=[50, 14, 4, 1], help="numbers of templates of a store")
    parser.add_argument("--pictures", type=int, default=4, help="images of each identity, of which one is drawn")
    parser.add_argument("--draws", type=int, default=8)
    parser.add_argument("--all", action="store_true", help="use all identities of --data")
    parser.add_argument("--own", type=int, help="use only N of the shipped faces")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_flush_denormal(True)
    report: dict[str, Any] = {"draws": options.draws, "sizes": options.sizes, "recognizers": {}}
    try:
        names = (
            sorted(path.name for path in options.data.iterdir() if path.is_dir())
            if options.all
            else list(Recognizer.load().header["data"]["held_out"])
        )
        faces = first_pictures(options.data, names, options.pictures)
        if max(options.sizes) > len(faces.identities):
            parser.error(f"expected stores of at most {len(faces.identities)} templates, one of each identity")
        report["identities"] = len(faces.identities)
        shown = prior_faces(default_face_prior()).images[: options.own].numpy()
        labels = faces.labels.numpy()
        owns: list[Rows] = []
        people: list[list[Rows]] = []
        for checkpoint in options.checkpoint:
            recognizer = Recognizer.load(None if checkpoint == "default" else Path(checkpoint))
            rows = embed_images(recognizer, faces.images.numpy())
            owns.append(embed_images(recognizer, shown))
            people.append([rows[labels == label] for label in range(len(faces.identities))])
        for number, checkpoint in enumerate(options.checkpoint):
            wide = [of for n, of in enumerate(people) if n != number and of[0].shape[1] >= owns[number].shape[1]]
            report["recognizers"][Path(checkpoint).stem] = {
                str(size): judged(owns[number], people[number], wide, size, options.draws) for size in options.sizes
            }
    except ArcInvertError as error:
        raise SystemExit(f"mismatch_table: {error}") from None
    print(table(report))
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
