"""What does a system keep of a photo when it keeps only the embedding? From a photo to 512 numbers, and back.

python examples/02_photo_and_back.py --photo examples/photo.jpg --out back.png
"""

import argparse
from pathlib import Path

import torch

from arcinvert import Inverter, align_photo, contact_sheet, write_png


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photo", type=Path, default=Path(__file__).with_name("photo.jpg"))
    parser.add_argument("--out", type=Path, default=Path("back.png"))
    parser.add_argument("--steps", type=int)
    options = parser.parse_args()

    inverter = Inverter.load()
    crop, _ = align_photo(options.photo)
    if crop is None:
        raise SystemExit(f"no face found in {options.photo}")
    embedding = inverter.recognizer.embed(torch.from_numpy(crop)[None])  # all that is kept of the photo
    (face,) = inverter.reconstruct(embedding, steps=options.steps)

    write_png(options.out, contact_sheet([crop, *face.images], 2))
    print(f"{options.out}: the crop and its reconstruction, cosine {face.cosine:.3f}")


if __name__ == "__main__":
    main()
