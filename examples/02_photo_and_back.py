"""What does a system keep of a photo when it keeps only the embedding? From a photo to 512 numbers, and back.

python examples/02_photo_and_back.py --photo examples/photo.jpg --out back.png
"""

import argparse
from pathlib import Path

import torch

from arcinvert import Recognizer
from arcinvert.calibration.cache import load_calibration
from arcinvert.faceprior.prior import default_face_prior
from arcinvert.faces.alignment import RetinaFace, align_photo
from arcinvert.synthesis.reconstruct import SynthConfig, reconstruct
from arcinvert.synthesis.sheets import contact_sheet, write_png


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photo", type=Path, default=Path(__file__).with_name("photo.jpg"))
    parser.add_argument("--out", type=Path, default=Path("back.png"))
    parser.add_argument("--steps", type=int)
    options = parser.parse_args()

    recognizer, prior = Recognizer.load(), default_face_prior()
    crop, _ = align_photo(options.photo, RetinaFace())
    if crop is None:
        raise SystemExit(f"no face found in {options.photo}")
    kept = recognizer.embed(torch.from_numpy(crop).permute(2, 0, 1)[None])  # all that goes on from here
    config = SynthConfig(steps=options.steps, report=False)
    (found,) = reconstruct(recognizer, kept, prior, load_calibration(recognizer, prior), config=config)

    write_png(options.out, contact_sheet([torch.from_numpy(crop), found.image], 2))
    print(f"{options.out}: the crop and what came back, cosine {found.cosine:.3f}")


if __name__ == "__main__":
    main()
