"""Stand-ins for real faces and networks, so that `reproduce.py --quick` runs in a fresh clone without downloads.

    python benchmarks/stand_ins.py -o DIR [--pictures 4]

DIR/faces/<identity>/<image>.png: images that the shipped face prior draws of its identities, under the names of the
identities that the default checkpoint held out and sixty more. DIR/models: the default checkpoint as ONNX under the
name of InsightFace's y1, and again with perturbed weights under the names of mobileface-v3 and
edgeface-xxs. They have the layout of the real ones only: the default checkpoint has seen these identities, and figures
mean nothing.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from arcinvert.checkpoint import Checkpoint, load_checkpoint
from arcinvert.errors import ArcInvertError
from arcinvert.faceprior.prior import FacePrior, default_face_prior
from arcinvert.formats.export import export_onnx
from arcinvert.recognizer import default_checkpoint
from arcinvert.synthesis.sheets import write_png

FURTHER = 60
RAW = [128 / 255] * 3
"""A deviation that puts the image contract into the graph, so that the file takes RGB in 0..255."""


def faces(prior: FacePrior, names: list[str], pictures: int, out: Path) -> None:
    """Write the first images of as many identities as there are names."""
    for person, name in enumerate(names):
        drawn = prior.portraits([person], pictures, seed=person)[0]
        (out / name).mkdir(parents=True, exist_ok=True)
        for number, image in enumerate(drawn):
            write_png(out / name / f"{number:02d}.png", image)


def shaken(stored: Checkpoint, by: float) -> Checkpoint:
    """Multiply every weight of more than one dimension by random factors around 1."""
    generator = torch.Generator().manual_seed(0)
    tensors = {
        f"network.{key}": value * (1 + by * torch.randn(value.shape, generator=generator)) if value.ndim > 1 else value
        for key, value in stored.network().items()
    }
    return replace(stored, tensors=tensors)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--pictures", type=int, default=4, help="images of each identity")
    options = parser.parse_args()
    torch.set_flush_denormal(True)
    try:
        stored = load_checkpoint(default_checkpoint())
        held_out = list(stored.header["data"]["held_out"])
        names = [f"{number:05d}" for number in range(FURTHER)] + held_out
        faces(default_face_prior(), names, options.pictures, options.out / "faces")
        models: Path = options.out / "models"
        models.mkdir(parents=True, exist_ok=True)
        contract = {**stored.header["preprocessing"], "std": RAW}
        raw = replace(stored, header={**stored.header, "preprocessing": contract})
        export_onnx(raw, models / "insightface-mobilefacenet-y1.onnx")
        export_onnx(shaken(raw, 0.3), models / "mobileface-v3.onnx")
        export_onnx(shaken(stored, 0.2), models / "edgeface-xxs.onnx")
    except ArcInvertError as error:
        raise SystemExit(f"stand_ins: {error}") from None
    print(f"{len(names)} identities and three networks in {options.out}; no figure made of them means anything")


if __name__ == "__main__":
    main()
