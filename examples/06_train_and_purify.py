"""Can a training say which of its labels are wrong? Mislabel some pictures, purify, and train on what is left.

python examples/06_train_and_purify.py --out angles.png
python examples/06_train_and_purify.py --out angles.png --data FACES --share 0.4

FACES is <identity>/<picture>, aligned; without it the people are those behind the shipped face prior.
"""

import argparse
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from people import people

from arcinvert import TrainConfig, plots, purify_training, train

HELD_OUT = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="aligned faces")
    parser.add_argument("--out", type=Path, default=Path("angles.png"))
    parser.add_argument("--people", type=int, default=60, help="to learn from; twenty more judge")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--share", type=float, default=0.3, help="of the labels that are made wrong")
    parser.add_argument("--quick", action="store_true", help="few people, one epoch: shows that it runs")
    options = parser.parse_args()
    count, epochs = (8, 1) if options.quick else (options.people, options.epochs)

    # A wrong label: the picture lies with another person. Its name still tells who it shows; no training reads that.
    work, rng = options.out.with_suffix(".work"), np.random.default_rng(0)
    true = people(options.data, work / "true", count + HELD_OUT)
    names = sorted(path.name for path in true.iterdir() if path.is_dir())[: count + HELD_OUT]
    shutil.rmtree(work / "faces", ignore_errors=True)
    for name in names:
        (work / "faces" / name).mkdir(parents=True)
    for number, name in enumerate(names):
        for file in sorted((true / name).iterdir()):
            wrong = number < count and rng.uniform() < options.share
            home = rng.choice([other for other in names[:count] if other != name]) if wrong else name
            shutil.copy(file, work / "faces" / home / f"{name}_{file.name}")

    def trained(name: str, epochs: int, keep: list[str] | None = None, **more: Any) -> None:
        config = TrainConfig(
            width=0.125, embedding_size=64, margin=(1.0, 0.2, 0.0), scale=24.0, batch_size=32, lr=0.05,
            held_out=HELD_OUT, epochs=epochs, validate_every=epochs, **more,
        )  # fmt: skip
        header = train(work / "faces", work / f"{name}.safetensors", config=config, keep=keep, force=True)
        print(f"{name}: {header['data']['images']} pictures, AUC {header['validation']['auc']:.3f}", flush=True)

    trained("mislabeled", epochs)
    trained("sub-centers", epochs, subcenters=3)
    seen, found = purify_training(work / "sub-centers.safetensors.state", work / "faces")
    clean = [file for file, stays in zip(seen.files, found.kept, strict=True) if stays]
    trained("purified", round(epochs * len(seen.files) / len(clean)), clean)  # as many steps

    bad = np.array([not file.split("/")[1].startswith(file.split("/")[0]) for file in seen.files])
    lost = [float((~found.kept)[rows].mean()) for rows in (bad, ~bad)]
    print(
        f"dropped beyond {found.threshold:.0f} degrees: {lost[0]:.2f} of the wrong labels, {lost[1]:.2f} of the right"
    )
    with plots.drawing(options.out, 6.4, 3.6) as figure:
        axes = figure.add_subplot()
        axes.hist([found.angles[~bad], found.angles[bad]], 35, label=["right labels", "wrong labels"], stacked=True)
        axes.axvline(found.threshold, color="black", linestyle="--", label="dropped beyond")
        axes.set(xlabel="angle to the dominant sub-center, degrees", ylabel="pictures")
        axes.legend()
    print(options.out)


if __name__ == "__main__":
    main()
