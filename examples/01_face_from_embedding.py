"""Can an embedding be turned back into a face? The same pieces that `arcinvert synth` uses, by hand.

python examples/01_face_from_embedding.py --out face.png
"""

import argparse
import dataclasses
from pathlib import Path

import numpy as np
import torch

from arcinvert import Recognizer, invert, presets
from arcinvert.calibration.cache import find_calibration
from arcinvert.faceprior.prior import default_face_prior
from arcinvert.synthesis.sheets import write_png


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--embedding", type=Path, default=Path(__file__).with_name("target.npy"))
    parser.add_argument("--out", type=Path, default=Path("face.png"))
    parser.add_argument("--steps", type=int, default=60)
    options = parser.parse_args()

    recognizer = Recognizer.load()
    calibration = find_calibration(recognizer)
    assert calibration is not None, "the default checkpoint ships calibrated"
    target = torch.from_numpy(np.load(options.embedding, allow_pickle=False)).view(-1, recognizer.embedding_size)
    generators = [torch.Generator().manual_seed(i) for i in range(len(target))]
    variation = torch.zeros(len(target), dtype=torch.int64)
    attack = presets.Attack(recognizer, default_face_prior(), calibration, target, variation, generators)

    # A recipe is a parameterization, weighted terms and a transform; change one and run it again.
    recipe = presets.fast(attack, options.steps)
    unhurried = dataclasses.replace(recipe, lr=recipe.lr / 2)
    found = invert(recognizer, unhurried, target=target, generators=generators)

    write_png(options.out, found.images[0])
    print(f"{options.out}: cosine {float(found.cosine[0]):.3f} after {options.steps} steps")


if __name__ == "__main__":
    main()
