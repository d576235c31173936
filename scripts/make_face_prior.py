"""Make arcinvert/data/face_prior.safetensors from a folder of aligned faces.

    python scripts/make_face_prior.py --data ../shared/faces-unpacked --held-out 100

Mean face, whitened eigenfaces (8 bits, at half resolution), the faces' own coefficients (8 bits) and whom
they show, and a starting face for each pose and expression: the mean coefficients of the faces whose
attribute is at that end of its range. Attributes come from ``--attributes`` (a metadata.json with
columns identity, picture, yaw, pitch, smile).
"""

import argparse
import json
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from arcinvert.checkpoint import save_checkpoint
from arcinvert.training.data.faces import FaceDataset, identity_folders, load_faces, split_identities, to_float


def eigenfaces(small: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, components and standard deviations of (N, P) pixels and their mirror images.

    The mirror images make every component either symmetric or antisymmetric, so each half is a
    problem of half the size.
    """
    images = small.view(len(small), 3, 56, 56)
    mirror = images.flip(-1)
    even = ((images + mirror) / 2).flatten(1)
    odd = ((images - mirror) / 2).flatten(1)
    mean = even.mean(0)
    found = []
    for part in (even - mean, odd):
        # Symmetric images repeat themselves: the left half, times sqrt(2), has the same inner products.
        half = part.view(-1, 3, 56, 56)[..., :28].flatten(1) * 2**0.5
        values, vectors = torch.linalg.eigh(half.T @ half / len(half))
        keep = slice(len(values) - min(count, len(values)), None)
        found.append((values[keep].clamp_min(0), vectors[:, keep].T.reshape(-1, 3, 56, 28) / 2**0.5))
    values = torch.cat([found[0][0], found[1][0]])
    full_even = torch.cat([found[0][1], found[0][1].flip(-1)], -1)
    full_odd = torch.cat([found[1][1], -found[1][1].flip(-1)], -1)
    order = values.argsort(descending=True)[:count]
    return mean.view(3, 56, 56), torch.cat([full_even, full_odd])[order], values[order].sqrt()


def starting_faces(faces: FaceDataset, coefficients: Tensor, attributes: Path) -> dict[str, Tensor]:
    """Mean coefficients of the faces at each end of yaw, pitch and smile."""
    table = json.loads(attributes.read_text())
    columns = table["columns"]
    rows = {f"{row[0]}/{row[1]:02d}": dict(zip(columns, row, strict=True)) for row in table["rows"]}
    known = [(i, rows[f.rsplit(".", 1)[0]]) for i, f in enumerate(faces.files) if not f.endswith("/00.jpg")]
    index = torch.tensor([i for i, _ in known])
    starts = {"frontal": torch.zeros(coefficients.shape[1])}
    ends = (("yaw", "yaw_low", "yaw_high"), ("pitch", "pitch_low", "pitch_high"), ("smile", "neutral", "smile"))
    for attribute, low, high in ends:
        value = torch.tensor([row[attribute] for _, row in known])
        starts[low] = coefficients[index[value < value.quantile(0.1)]].mean(0)
        starts[high] = coefficients[index[value > value.quantile(0.9)]].mean(0)
    return starts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="DIR/<identity>/<picture>, aligned 112x112")
    parser.add_argument("--attributes", type=Path, help="metadata.json with yaw, pitch and smile")
    parser.add_argument("--held-out", type=int, default=100, help="identities left out, as in training")
    parser.add_argument("--components", type=int, default=600)
    parser.add_argument("--out", type=Path, default=Path("arcinvert/data/face_prior.safetensors"))
    options = parser.parse_args()

    names, _ = split_identities(identity_folders(options.data), options.held_out)
    faces = load_faces(options.data, names)
    full_mean = torch.zeros(3, 112, 112)
    small = torch.empty(len(faces), 3 * 56 * 56)
    for start in range(0, len(faces), 256):
        images = to_float(faces.images[start : start + 256])
        full_mean += (images + images.flip(-1)).sum(0) / (2 * len(faces))
        small[start : start + 256] = interpolate(images, size=(56, 56), mode="area").flatten(1)
    mean, components, deviation = eigenfaces(small, options.components)
    flat = components.flatten(1)
    coefficients = (small - mean.flatten()) @ flat.T / deviation
    scaled = components * deviation.view(-1, 1, 1, 1)
    component_scale = scaled.flatten(1).abs().amax(1) / 127
    code_scale = coefficients.abs().amax(0) / 127
    tensors = {
        "mean": (full_mean * 255).round().to(torch.uint8),
        "components": (scaled / component_scale.view(-1, 1, 1, 1)).round().to(torch.int8),
        "component_scale": component_scale,
        "codes": (coefficients / code_scale).round().to(torch.int8),
        "code_scale": code_scale,
        "labels": faces.labels.int(),
    }
    starts = starting_faces(faces, coefficients, options.attributes) if options.attributes else {}
    tensors |= {f"start.{name}": value for name, value in starts.items()}
    explained = float((deviation**2).sum() / (small - mean.flatten()).square().sum(1).mean())
    header = {
        "kind": "face prior",
        "images": len(faces),
        "identities": len(names),
        "data": faces.digest,
        "explained_variance_56x56": explained,
    }
    digest = save_checkpoint(options.out, header, tensors)
    size = options.out.stat().st_size / 1e6
    print(f"{options.out}: {len(faces)} faces, {options.components} components of {explained:.4f} of the variance")
    print(f"{size:.1f} MB, digest {digest[:12]}")


if __name__ == "__main__":
    main()
