"""Can an embedding be turned back into a face? The three lines of the main job.

python examples/01_face_from_embedding.py --out face.png
"""

import argparse
from pathlib import Path

import numpy as np

from arcinvert import Inverter

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--embedding", type=Path, default=Path(__file__).with_name("target.npy"))
parser.add_argument("--out", type=Path, default=Path("face.png"))
parser.add_argument("--steps", type=int)
options = parser.parse_args()

faces = Inverter.load().reconstruct(np.load(options.embedding), steps=options.steps)
faces[0].images[0].save(options.out)
print(f"{options.out}: cosine {faces[0].cosine:.3f}")
