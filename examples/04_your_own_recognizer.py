"""Does your recognizer leak its people? Any ONNX, arcface_torch, CVLFace or MXNet file, attacked as it is.

python examples/04_your_own_recognizer.py --recognizer net.onnx --judge other.onnx --out own.png

The first run shows the network the shipped synthetic faces (some minutes) and keeps the result.
"""

import argparse
from pathlib import Path

import torch

from arcinvert import Inverter, Recognizer, align_photo, contact_sheet, write_png


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recognizer", type=Path, help="network to attack; the default is our own")
    parser.add_argument("--judge", type=Path, help="network that is not attacked, to compare the face with the photo")
    parser.add_argument("--photo", type=Path, default=Path(__file__).with_name("photo.jpg"))
    parser.add_argument("--out", type=Path, default=Path("own.png"))
    parser.add_argument("--steps", type=int)
    options = parser.parse_args()

    inverter = Inverter.load(options.recognizer)
    print(inverter.recognizer)
    crop, _ = align_photo(options.photo)
    if crop is None:
        raise SystemExit(f"no face found in {options.photo}")
    enrolled = torch.from_numpy(crop)[None]
    (face,) = inverter.reconstruct(inverter.recognizer.embed(enrolled), steps=options.steps)
    print(f"cosine by the attacked network: {face.cosine:.3f}")
    if options.judge is not None:
        pair = Recognizer.load(options.judge).embed(torch.cat([enrolled, face.pixels]))
        print(f"cosine by {options.judge.name}, which was not attacked: {float(pair[0] @ pair[1]):.3f}")
    write_png(options.out, contact_sheet([crop, *face.images], 2))
    print(options.out)


if __name__ == "__main__":
    main()
