"""Maps between the embeddings of several recognizers, and what accuracy remains on people that no map has seen.

    python benchmarks/migration_table.py --data FACES --model y1.onnx --model edgeface.onnx:127.5 --model default -o DIR

Maps are fitted to two images of each identity that the default checkpoint did not hold out. They are judged on six
images of each of the first 60 that it did: mean cosine of mapped and native embedding, how many images find their own
native embedding first among all, and the true accept rates of mapped against native embeddings beside those of native
against native. Every network is run by onnxruntime alone (`:127.5` behind a file: it takes (x - 127.5) / 127.5), but
``default``, the shipped checkpoint. With ``--judged OTHER`` they are judged on the first people of another folder that
have two images or more, such as crops of photographs. DIR/table.md and DIR/table.json have the figures.
"""

import argparse
import itertools
import json
from pathlib import Path

import numpy as np
import torch
from black_box_table import System
from numpy.typing import NDArray

from arcinvert.checkpoint import atomic_write
from arcinvert.errors import ArcInvertError, InputError
from arcinvert.evaluation.embedding import embed_files
from arcinvert.mapping.fit import fit_map
from arcinvert.mapping.quality import MapQuality, measure
from arcinvert.recognizer import Recognizer

EACH, JUDGED = 2, 6


def embedded(word: str, files: list[Path]) -> tuple[str, NDArray[np.float32]]:
    """The name of a network, and its embeddings (N, D) of the files, unit norm."""
    if word == "default":
        return word, embed_files(Recognizer.load(), files)
    system = System(word)
    rows = system.embed(files)
    return system.name, rows / np.linalg.norm(rows, axis=1, keepdims=True)


def line(source: str, target: str, found: MapQuality) -> str:
    mapped, native, before = found.verification
    cells = [f"{found.cosine:.3f}", f"{found.own_first / found.searched:.2f}"]
    for one in (before, native, mapped):
        cells.append(", ".join("-" if tar is None else f"{tar:.2f}" for tar in one.tar))
    cells += [f"{mapped.eer:.3f}", f"{found.ridge:g}"]
    return f"| {source} -> {target} | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="DIR/<identity>/<picture>, aligned")
    parser.add_argument("--model", action="append", required=True, help="ONNX file, FILE:127.5, or default; repeat it")
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--identities", type=int, default=60, help="judge on the first N held-out identities")
    parser.add_argument("--judged", type=Path, help="DIR/<identity>/<picture>, aligned, of other people to judge on")
    parser.add_argument("--others", type=int, help="fit to the first N other identities; default: all")
    options = parser.parse_args()
    torch.set_flush_denormal(True)
    try:
        held_out = list(Recognizer.load().header["data"]["held_out"])
        others = sorted({path.name for path in options.data.iterdir()} - set(held_out))[: options.others]
        folders = [options.data / name for name in [*others, *held_out[: options.identities]]]
        if options.judged is not None:
            several = (path for path in sorted(options.judged.iterdir()) if len(list(path.iterdir())) > 1)
            folders = [*folders[: len(others)], *itertools.islice(several, options.identities)]
        shown: list[Path] = []
        people: list[int] = []
        for number, folder in enumerate(folders):
            if not folder.is_dir():
                raise InputError(f"expected an identity at {str(folder)!r}")
            files = sorted(folder.iterdir())[: EACH if number < len(others) else JUDGED]
            shown += files
            people += [number] * len(files)
        labels = np.array(people)
        fitted = labels < len(others)
        rows = dict(embedded(word, shown) for word in options.model)
        lines, kept = [], {}
        for source, x in rows.items():
            for target, y in rows.items():
                if source == target:
                    continue
                made = fit_map(x[fitted], y[fitted], labels[fitted])
                found = measure(
                    made.map.apply(x[~fitted]), y[~fitted], labels[~fitted], ridge=made.ridge, source=x[~fitted]
                )
                lines.append(line(source, target, found))
                kept[f"{source} -> {target}"] = found.to_json() | {
                    "pairs": int(fitted.sum()),
                    "identities": len(others),
                    "judged_images": int((~fitted).sum()),
                    "judged_identities": options.identities,
                }
    except ArcInvertError as error:
        raise SystemExit(f"migration_table: {error}") from None
    head = "| | cosine | own first | TAR at FMR 1e-2, 1e-3: before | native | mapped against native | EER | ridge |"
    text = "\n".join([head, "|---" * 8 + "|", *lines]) + "\n"
    for name, content in {"table.json": json.dumps(kept, indent=2) + "\n", "table.md": text}.items():
        with atomic_write(options.out / name) as temporary:
            temporary.write_text(content)
    print(text, end="")


if __name__ == "__main__":
    main()
