"""Can the person be shown as no enrolled picture does? One embedding, three poses, two expressions.

python examples/03_pose_and_expression.py --out poses.png
"""

import argparse
from pathlib import Path

import numpy as np

from arcinvert import Inverter, contact_sheet, write_png


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--embedding", type=Path, default=Path(__file__).with_name("target.npy"))
    parser.add_argument("--out", type=Path, default=Path("poses.png"))
    parser.add_argument("--steps", type=int)
    options = parser.parse_args()

    inverter, embedding = Inverter.load(), np.load(options.embedding)
    images = []
    for expression in ("neutral", "smile"):
        for pose in ("left", "frontal", "right"):
            face = inverter.reconstruct(embedding, steps=options.steps, pose=pose, expression=expression)[0]
            print(f"{pose}, {expression}: cosine {face.cosine:.3f}")
            images += face.images
    write_png(options.out, contact_sheet(images, 3))
    print(options.out)


if __name__ == "__main__":
    main()
