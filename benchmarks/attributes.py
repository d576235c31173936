"""How much of a person's skin and sex do the embeddings of a network tell?

    python benchmarks/attributes.py --data CROPS --checkpoint y1.onnx [--checkpoint default ...] [--json OUT.json]

From the embedding of one photograph of each person: the lightness of the cheeks by ridge regression, and the sex of
those whose given name says it (see likeness.py) by a support vector machine; both linear, and with radial basis
functions. Each is measured in five folds on people it was not fitted on; inside of a fold, others choose its settings.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from likeness import FOLDS, lightness, named_sex
from sklearn.kernel_ridge import KernelRidge
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import GridSearchCV, KFold, StratifiedKFold, cross_val_predict
from sklearn.svm import SVC

from arcinvert.recognizer import Recognizer
from arcinvert.training.data.faces import identity_folders, load_faces

Grid = dict[str, list[float]]
RIDGES: Grid = {"alpha": [0.01, 0.1, 1.0, 10.0]}
COSTS: Grid = {"C": [0.01, 0.1, 1.0, 10.0]}
WIDTHS: Grid = {"gamma": [0.1, 0.3, 1.0]}
"""Of a radial basis function, over the squared distance of two embeddings of unit norm: 2 for most pairs."""
KINDS = {"linear": {}, "rbf": WIDTHS}


def told(rows: np.ndarray, names: list[str], shades: np.ndarray, kind: str) -> dict[str, Any]:
    """What embeddings (N, D) of unit norm tell of the lightness (N,), and of the sex of those whose names say it."""
    folds, center = KFold(FOLDS, shuffle=True, random_state=0), shades.mean()
    ridge = GridSearchCV(KernelRidge(kernel=kind), {**RIDGES, **KINDS[kind]}, cv=3)
    guessed = cross_val_predict(ridge, rows, shades - center, cv=folds)
    found: dict[str, Any] = {
        "people": len(rows),
        "correlation": float(np.corrcoef(guessed, shades)[0, 1]),
        "slope": float(np.polyfit(shades, guessed, 1)[0]),
    }
    sex = np.array([named_sex(name) for name in names])
    men, women = int((sex > 0).sum()), int((sex < 0).sum())
    if min(men, women) > FOLDS:
        machine = SVC(kernel=kind, class_weight="balanced")
        machine = GridSearchCV(machine, {**COSTS, **KINDS[kind]}, cv=3, scoring="balanced_accuracy")
        known, split = sex != 0, StratifiedKFold(FOLDS, shuffle=True, random_state=0)
        guessed = cross_val_predict(machine, rows[known], sex[known], cv=split)
        accuracy = float(balanced_accuracy_score(sex[known], guessed))
        found |= {"men": men, "women": women, "balanced_accuracy": accuracy}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="DIR/<person>/<picture>, aligned")
    parser.add_argument("--checkpoint", action="append", required=True, help="may be repeated; default: ours")
    parser.add_argument("--people", type=int, help="only the first so many, at least 10")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()

    torch.set_flush_denormal(True)
    names = identity_folders(options.data)[: options.people]
    first = {f"{name}/{min(p.name for p in (options.data / name).iterdir())}" for name in names}
    images = load_faces(options.data, names, first).images
    shades, report = lightness(images), {}
    print("| embeddings of | people | regression | lightness: correlation, slope | sex: agrees with the names of |")
    print("|---|---|---|---|---|")
    for one in options.checkpoint:
        recognizer = Recognizer.load(None if one == "default" else one)
        rows = recognizer.embed(images).double().numpy()
        report[Path(one).stem] = each = {kind: told(rows, names, shades, kind) for kind in KINDS}
        for kind, found in each.items():
            sex = f"{found['balanced_accuracy']:.2f}" if "men" in found else ""
            way = "linear" if kind == "linear" else "radial basis functions"
            row = f"{found['people']:,} | {way} | {found['correlation']:.2f}, {found['slope']:.2f} | {sex}"
            print(f"| {Path(one).stem} | {row} |", flush=True)
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
