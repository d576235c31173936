"""How much of a person's skin, sex and age do the embeddings of a network tell?

    python benchmarks/attributes.py --data CROPS --checkpoint y1.onnx [--checkpoint default ...] [--json OUT.json]

From the embedding of one photograph of each person: the lightness of the cheeks and the age by ridge regression, and
the sex of those whose given name says it by a support vector machine (see likeness.py); all linear, and with radial
basis functions. Each is measured in five folds on people it was not fitted on; inside of a fold, others choose its
settings.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from likeness import FOLDS, followed, lightness, named_sex
from sklearn.kernel_ridge import KernelRidge
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import GridSearchCV, KFold, StratifiedKFold, cross_val_predict
from sklearn.svm import SVC

from arcinvert.recognizer import Recognizer
from arcinvert.training.data.faces import identity_folders, load_faces

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
from make_age import ages_of

Grid = dict[str, list[float]]
RIDGES: Grid = {"alpha": [0.01, 0.1, 1.0, 10.0]}
COSTS: Grid = {"C": [0.01, 0.1, 1.0, 10.0]}
WIDTHS: Grid = {"gamma": [0.1, 0.3, 1.0]}
"""Of a radial basis function, over the squared distance of two embeddings of unit norm: 2 for most pairs."""
KINDS = {"linear": {}, "rbf": WIDTHS}


def told(rows: np.ndarray, names: list[str], measures: dict[str, np.ndarray], kind: str) -> dict[str, Any]:
    """What embeddings (N, D) of unit norm tell of some measures (N,), and of the sex of those whose names say it."""
    folds = KFold(FOLDS, shuffle=True, random_state=0)
    ridge = GridSearchCV(KernelRidge(kernel=kind), {**RIDGES, **KINDS[kind]}, cv=3)
    found: dict[str, Any] = {"people": len(rows)}
    for name, values in measures.items():
        found[name] = followed(values, cross_val_predict(ridge, rows, values - values.mean(), cv=folds))
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
    measures, report = {"lightness": lightness(images), "age": ages_of(images)}, {}
    heads = [f"{name}: correlation, slope" for name in measures]
    print(f"| embeddings of | people | regression | {' | '.join(heads)} | sex: agrees with the names of |")
    print("|---|---|---|" + "---|" * len(heads) + "---|")
    for one in options.checkpoint:
        recognizer = Recognizer.load(None if one == "default" else one)
        rows = recognizer.embed(images).double().numpy()
        report[Path(one).stem] = each = {kind: told(rows, names, measures, kind) for kind in KINDS}
        for kind, found in each.items():
            sex = f"{found['balanced_accuracy']:.2f}" if "men" in found else ""
            way = "linear" if kind == "linear" else "radial basis functions"
            cells = [f"{found[name]['correlation']:.2f}, {found[name]['slope']:.2f}" for name in measures]
            print(f"| {Path(one).stem} | {found['people']:,} | {way} | {' | '.join(cells)} | {sex} |", flush=True)
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
