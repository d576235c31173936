"""Does your recognizer give its people away? Any ONNX, arcface_torch, CVLFace or MXNet file, attacked as it is.

python examples/04_your_own_recognizer.py --recognizer net.onnx --judge other.onnx --out own.png

The first run shows the network the shipped synthetic faces (some minutes) and keeps the result.
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
    parser.add_argument("--recognizer", type=Path, help="the network that is attacked; default: our own")
    parser.add_argument("--judge", type=Path, help="a network that is not, to tell whether the face is the person's")
    parser.add_argument("--photo", type=Path, default=Path(__file__).with_name("photo.jpg"))
    parser.add_argument("--out", type=Path, default=Path("own.png"))
    parser.add_argument("--steps", type=int)
    options = parser.parse_args()

    recognizer, prior = Recognizer.load(options.recognizer), default_face_prior()
    print(recognizer)
    calibration = load_calibration(recognizer, prior)
    crop, _ = align_photo(options.photo, RetinaFace())
    if crop is None:
        raise SystemExit(f"no face found in {options.photo}")
    enrolled = torch.from_numpy(crop)
    config = SynthConfig(steps=options.steps, report=False)
    target = recognizer.embed(enrolled.permute(2, 0, 1)[None])
    (found,) = reconstruct(recognizer, target, prior, calibration, config=config)
    print(f"cosine by the attacked network: {found.cosine:.3f}")
    if options.judge is not None:
        seen = Recognizer.load(options.judge).embed(torch.stack([enrolled, found.image]).permute(0, 3, 1, 2))
        print(f"cosine by {options.judge.name}, which was not attacked: {float(seen[0] @ seen[1]):.3f}")
    write_png(options.out, contact_sheet([enrolled, found.image], 2))
    print(options.out)


if __name__ == "__main__":
    main()
