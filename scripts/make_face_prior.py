"""Make arcinvert/data/face_prior.safetensors from what ``train_face_decoder.py`` wrote.

    python scripts/make_pairs.py --out PAIRS --shards 14
    python scripts/train_face_decoder.py --generator generator.npz --out DIR --minutes 9
    python scripts/make_face_prior.py --generator generator.npz --trained DIR --pairs PAIRS

The decoder is stored in 8 bits. Pose and expression are regressed on latents from the points that a detector found on
the pairs' pictures, light from the pictures themselves.
"""

import argparse
import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from train_face_decoder import SIZES

from arcinvert.checkpoint import quantized, save_checkpoint
from arcinvert.faceprior.prior import ATTRIBUTES
from arcinvert.faces.alignment import landmark_pose
from arcinvert.formats.license import GENERATED

MARGIN, SIDE = 16, 224
RIDGE = 20.0
FAR = 4.0
"""Standard deviations beyond which a measured attribute is not believed."""


def measured(pairs: Path, mean: np.ndarray, encode: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Latents (N, 768) and attributes (N, 5) of all pairs."""
    latents, attributes = [], []
    for path in sorted(pairs.glob("*.npz")):
        stored = np.load(path)
        latents.append(((stored["styles"].astype(np.float32) - mean) @ encode).reshape(len(stored["index"]), -1))
        offsets = stored["offsets"]
        for row, points in enumerate(stored["landmarks"]):
            file = stored["jpeg"][offsets[row] : offsets[row + 1]].tobytes()
            picture = np.asarray(Image.open(io.BytesIO(file)).convert("L"), np.float32) / 255
            face = picture[MARGIN:-MARGIN, MARGIN:-MARGIN][60:200, 40:184]
            half = face.shape[1] // 2
            smile = np.linalg.norm(points[4] - points[3]) / np.linalg.norm(points[1] - points[0])
            light = face[:, half:].mean() - face[:, :half].mean()
            attributes.append([*landmark_pose(points), smile, light, face.mean()])
    return np.concatenate(latents), np.array(attributes, np.float32)


def regressed(latents: np.ndarray, attributes: np.ndarray) -> tuple[Tensor, Tensor, Tensor, list[float]]:
    """Weight (5, K), bias (5,), spread (5,), and the share of the variance explained on the last tenth."""
    middle, spread = attributes.mean(0), attributes.std(0)
    believed = (np.abs(attributes - middle) < FAR * spread).all(1)
    latents, attributes = latents[believed], attributes[believed]

    def fit(rows: slice) -> np.ndarray:
        x = np.c_[latents[rows], np.ones(len(latents[rows]))].astype(np.float64)
        ridge = RIDGE * np.eye(x.shape[1])
        ridge[-1, -1] = 0
        return np.asarray(np.linalg.solve(x.T @ x + ridge, x.T @ attributes[rows]))

    cut = len(latents) * 9 // 10
    weight = fit(slice(0, cut))
    left = attributes[cut:] - latents[cut:] @ weight[:-1] - weight[-1]
    explained = 1 - (left**2).mean(0) / attributes[cut:].var(0)
    weight = fit(slice(None))
    as_tensor = torch.from_numpy(weight.astype(np.float32))
    return as_tensor[:-1].T, as_tensor[-1], torch.from_numpy(attributes.std(0)), explained.tolist()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generator", type=Path, required=True)
    parser.add_argument("--trained", type=Path, required=True, help="folder of train_face_decoder.py")
    parser.add_argument("--pairs", type=Path, required=True, help="folder of make_pairs.py")
    parser.add_argument("--faces", type=int, default=7000, help="at most so many to calibrate on")
    parser.add_argument("--out", type=Path, default=Path("arcinvert/data/face_prior.safetensors"))
    options = parser.parse_args()

    generator = np.load(options.generator)
    weights: dict[str, Tensor] = {}
    for path in sorted(options.trained.glob("decoder.*.pt")):
        weights |= torch.load(path, weights_only=True)
    parts = [np.load(path) for path in sorted(options.trained.glob("faces.*.npz"))]
    sizes = np.concatenate([np.diff(part["offsets"]) for part in parts])[: options.faces]
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    files = np.concatenate([part["webp"] for part in parts])[: offsets[-1]]
    weight, bias, spread, explained = regressed(
        *measured(options.pairs, generator["space.mean"], generator["space.encode"])
    )
    tensors = quantized({name: value for name, value in weights.items() if value.ndim > 1})
    tensors |= {f"network.{name}": value.half() for name, value in weights.items() if value.ndim == 1}
    tensors |= {
        "codes": torch.from_numpy(np.concatenate([part["codes"] for part in parts])[: options.faces]),
        "code_scale": torch.from_numpy(parts[0]["scale"].astype(np.float32)),
        "files": torch.from_numpy(files),
        "offsets": torch.from_numpy(offsets),
        "attributes.weight": weight.contiguous(),
        "attributes.bias": bias.contiguous(),
        "attributes.spread": spread,
    }
    header = {
        "kind": "face prior",
        "decoder": {"latent": weight.shape[1], **SIZES},
        "faces": len(sizes),
        "attributes_explained": dict(zip(ATTRIBUTES, [round(v, 3) for v in explained], strict=True)),
        "license": GENERATED,
    }
    digest = save_checkpoint(options.out, header, tensors)
    print(f"{options.out}: {len(sizes)} faces, attributes explained {header['attributes_explained']}")
    print(f"{options.out.stat().st_size / 1e6:.1f} MB, digest {digest[:12]}")


if __name__ == "__main__":
    main()
