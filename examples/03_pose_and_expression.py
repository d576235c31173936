"""Can the person be shown as no enrolled picture does? One embedding, three poses, two expressions.

python examples/03_pose_and_expression.py --out poses.png
"""

import argparse
from pathlib import Path

import torch

from arcinvert import Recognizer
from arcinvert.calibration.cache import load_calibration
from arcinvert.embeddings import read_embeddings
from arcinvert.faceprior.prior import default_face_prior
from arcinvert.synthesis.reconstruct import SynthConfig, reconstruct
from arcinvert.synthesis.sheets import contact_sheet, write_png


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--embedding", type=Path, default=Path(__file__).with_name("target.npy"))
    parser.add_argument("--out", type=Path, default=Path("poses.png"))
    parser.add_argument("--steps", type=int)
    options = parser.parse_args()

    recognizer, prior = Recognizer.load(), default_face_prior()
    calibration = load_calibration(recognizer, prior)
    target = torch.tensor(read_embeddings(str(options.embedding), size=recognizer.embedding_size).rows[:1])
    pictures = []
    for expression in ("neutral", "smile"):
        for pose in ("left", "frontal", "right"):
            config = SynthConfig(steps=options.steps, report=False, pose=pose, expression=expression)
            (found,) = reconstruct(recognizer, target, prior, calibration, config=config)
            print(f"{pose}, {expression}: cosine {found.cosine:.3f}")
            pictures.append(found.image)
    write_png(options.out, contact_sheet(pictures, 3))
    print(options.out)


if __name__ == "__main__":
    main()
