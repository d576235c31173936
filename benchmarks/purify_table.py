"""The value of purification by sub-centers, on data whose wrong labels are known because they were inserted.

    python benchmarks/purify_table.py --data FACES -o DIR [--share 0.4] [--epochs 10] [--only sub-centers]

A share of the training labels is permuted. A network with three sub-centers per class is trained on them and selects
the images to drop. Then networks with one center are trained on the noisy labels, on the selected ones and on the true
labels, for the same number of steps, and verified on the 60 held-out identities, whose labels are true. Every step
writes a file in DIR and is not repeated; ``--only`` does one training, so that several processes can share the work.

The angle is ``--angle``, or derived from the angles themselves without any true label
(arcinvert.training.purify.flank_threshold): the paper's 75 degrees suit networks that are trained for long. The table
also shows the effect of other angles.
"""

import argparse
import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from loss_table import FIGURES, HELD_OUT, run_once, small_config, write_json

from arcinvert.checkpoint import atomic_write
from arcinvert.errors import ArcInvertError, UsageError
from arcinvert.training.data.clean_list import permute_labels, read_clean_list, write_clean_list
from arcinvert.training.data.containers import convert_images, list_images
from arcinvert.training.data.faces import split_identities
from arcinvert.training.data.image_files import ImageFile, ImageFiles
from arcinvert.training.purify import purify, read_true_labels, report
from arcinvert.training.subcenters import load_subcenters, subcenter_cosines, training_images

TRAININGS = ("sub-centers", "noisy", "clean", "true")
SETTINGS: Mapping[str, Any] = {"margin": (1.0, 0.2, 0.0), "scale": 24.0, "batch_size": 64, "lr": 0.1}
SUBCENTERS = 3
RATES = ("wrong_found", "right_dropped")


def mislabel(data: Path, out: Path, share: float) -> None:
    """Write ``out/faces``, in which a share of the training images has a wrong identity, and ``out/truth.txt``."""
    if (out / "truth.txt").is_file():
        return
    pictures = list_images(data)
    names, held_out = split_identities(pictures.identities, HELD_OUT)
    training = pictures.of(names)
    number = {name: label for label, name in enumerate(names)}
    labels = torch.tensor([number[entry.identity] for entry in training.entries])
    noisy, _ = permute_labels(labels, share, seed=0)
    origin = {}
    for entry, label in zip(training.entries, noisy.tolist(), strict=True):
        name = names[label]
        origin[f"{name}/{entry.file.replace('/', '_')}"] = (name, entry)
    for entry in pictures.of(held_out).entries:
        origin[entry.file] = (entry.identity, entry)
    moved = sorted(ImageFile(name, file, 0) for file, (name, _) in origin.items())
    shutil.rmtree(out / "faces", ignore_errors=True)  # of a run that was killed here
    convert_images(
        ImageFiles(data, tuple(moved), lambda picture: pictures.read(origin[picture.file][1])), out / "faces"
    )
    with atomic_write(out / "truth.txt") as temporary:
        temporary.write_text("".join(f"{p.file}\t{origin[p.file][1].identity}\n" for p in moved))


def keep_clean(out: Path, angle: float | None) -> dict[str, Any]:
    """Purify with the training with sub-centers; write ``out/clean.txt``."""
    if (out / "purified.json").is_file():
        done = dict(json.loads((out / "purified.json").read_text()))
        if angle is not None and angle != done["threshold_degrees"]:
            raise UsageError(f"{str(out)!r} was purified at another angle; take another folder")
        return done
    stored = load_subcenters(out / "sub-centers.safetensors.state")
    seen = subcenter_cosines(stored, training_images(stored, list_images(out / "faces")))
    truth = read_true_labels(out / "truth.txt", seen.files)
    wrong = [file.split("/")[0] != name for file, name in zip(seen.files, truth, strict=True)]
    found = purify(seen.cosines, seen.labels, len(seen.identities), threshold=angle)
    kept = {file for file, stays in zip(seen.files, found.kept, strict=True) if stays}
    write_clean_list(out / "clean.txt", kept)
    said = report(found, wrong)
    at = {str(degrees): report(replace(found, threshold=float(degrees)), wrong) for degrees in range(65, 86, 5)}
    said["at_degrees"] = {key: {name: at[key][name] for name in RATES} for key in at}
    write_json(out / "purified.json", said)
    return said


def one(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """One training and its figures."""
    out, faces = options.out, options.out / "faces"
    if name == "sub-centers":
        return run_once(faces, out / name, small_config(**SETTINGS, subcenters=SUBCENTERS, epochs=options.epochs))
    epochs, keep = options.retrain_epochs, None
    if name == "clean":
        said, keep = keep_clean(out, options.angle), read_clean_list(out / "clean.txt")
        epochs = round(epochs * said["images"] / said["kept"])
    data = options.data if name == "true" else faces
    return run_once(data, out / name, small_config(**SETTINGS, epochs=epochs), keep=keep)


def table(said: Mapping[str, Any], runs: Mapping[str, Mapping[str, Any]]) -> str:
    """Markdown: the result of the purification, then the figures of each training."""
    lines = ["| category | pictures | share | dropped |", "|---|---|---|---|"]
    for name, row in said["categories"].items():
        lines.append(f"| {name} | {row['images']} | {row['share']:.3f} | {row['dropped']} |")
    lines += [
        "",
        f"Dropped beyond {said['threshold_degrees']:.1f} degrees: {said['dropped']} of {said['images']}; "
        f"of the wrong labels {said['wrong_found']:.3f} are found, of the right ones {said['right_dropped']:.3f} go.",
        "",
        "| beyond degrees | " + " | ".join(said["at_degrees"]) + " |",
        "|---|" + "---|" * len(said["at_degrees"]),
        *(
            f"| {name} | " + " | ".join(f"{row[name]:.3f}" for row in said["at_degrees"].values()) + " |"
            for name in RATES
        ),
        "",
        "| training | pictures | epochs | " + " | ".join(FIGURES) + " |",
        "|---|---|---|" + "---|" * len(FIGURES),
    ]
    for name, run in runs.items():
        figures = " | ".join("-" if run["figures"][key] is None else f"{run['figures'][key]:.3f}" for key in FIGURES)
        lines.append(f"| {name} | {run['images']} | {run['config']['epochs']} | {figures} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, required=True, help="DIR/<identity>/<image>, aligned; the last 60 identities are held out"
    )
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder of the runs and the table")
    parser.add_argument("--share", type=float, default=0.4, help="share of the labels to permute")
    parser.add_argument("--epochs", type=int, default=10, help="epochs of the training with sub-centers")
    parser.add_argument(
        "--retrain-epochs", type=int, default=8, help="epochs of the other trainings, counted over all images"
    )
    parser.add_argument("--angle", type=float, help="degrees; default: derived from the angles")
    parser.add_argument("--only", choices=TRAININGS, help="do this training and no table; clean needs sub-centers")
    options = parser.parse_args()
    torch.set_flush_denormal(True)
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        mislabel(options.data, options.out, options.share)
        runs = {name: one(name, options) for name in ([options.only] if options.only else TRAININGS)}
        if options.only:
            return
        said = keep_clean(options.out, options.angle)
        write_json(options.out / "table.json", {"purified": said, "runs": runs})
        with atomic_write(options.out / "table.md") as temporary:
            temporary.write_text(table(said, runs))
    except ArcInvertError as error:
        raise SystemExit(f"purify_table: {error}") from None
    print(table(said, runs), end="")


if __name__ == "__main__":
    main()
