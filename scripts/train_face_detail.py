"""Train arcinvert/data/face_detail.safetensors: the network that draws what the face basis cannot.

    python scripts/train_face_detail.py --data FACES --steps 3000

The faces are those behind the face prior. Each is projected on the basis, its coefficients are
shrunk and shaken as an inversion would leave them, and the network learns to give back the
picture: in pixels, in the early layers of the default checkpoint, and in its embedding. (That
network is therefore no judge of what comes out.) Yaw, pitch and smile are measured by the detector
on a share of the pictures and regressed on the coefficients. A run that was stopped goes on.
"""

import argparse
import math
import os
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from arcinvert.checkpoint import load_checkpoint, save_checkpoint
from arcinvert.faceprior.detail import ATTRIBUTES, DetailNetwork
from arcinvert.faceprior.prior import FacePrior, load_face_prior
from arcinvert.faces.alignment import landmark_pose
from arcinvert.recognizer import Recognizer
from arcinvert.synthesis.robustness import BORDER, crop_detector
from arcinvert.training.data.faces import FaceDataset, identity_folders, load_faces, split_identities, to_float

TAPS = ("layer1.1.bn1", "layer2.0.bn2", "layer2.1.bn1", "layer3.1.bn1", "layer4.0.bn2")
WEIGHTS = {"pixels": 2.0, "layers": 0.3, "embedding": 0.3}
BATCH, RATE = 16, 1e-3


def shaken(coefficients: Tensor, generator: torch.Generator) -> Tensor:
    """What an inversion knows of (B, K) coefficients: less of the fine ones, and some of it wrong.

    Each keeps a share rho of its variance as a posterior mean would: ``rho a + sqrt(rho (1 - rho)) n``.
    In two of seven cases they are left as they are.
    """
    count, size = coefficients.shape
    amount = (torch.rand(count, 1, generator=generator) * 1.4 - 0.4).clamp_min(0)
    rho = 1 - amount * (0.15 + 0.6 * torch.arange(size) / size)
    return rho * coefficients + (rho * (1 - rho)).sqrt() * torch.randn(count, size, generator=generator)


def batch_at(step: int, faces: FaceDataset, prior: FacePrior, mean: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Soft faces at half and at full height, and the pictures behind them."""
    generator = torch.Generator().manual_seed(step)
    rows = torch.randint(len(faces), (BATCH,), generator=generator)
    coefficients = shaken(prior.codes[rows] * prior.code_scale, generator)
    half = (coefficients @ prior.components.flatten(1)).view(-1, *prior.components.shape[1:])
    mirror = torch.rand(BATCH, 1, 1, 1, generator=generator) < 0.5
    pictures = to_float(faces.images[rows])
    half, pictures = torch.where(mirror, half.flip(-1), half), torch.where(mirror, pictures.flip(-1), pictures)
    full = prior.mean + interpolate(half, size=pictures.shape[-2:], mode="bilinear")
    return (mean + half).contiguous(memory_format=torch.channels_last), full, pictures


def train(
    network: DetailNetwork, faces: FaceDataset, prior: FacePrior, recognizer: Recognizer, steps: int, state: Path
) -> dict[str, float]:
    """Adam with half a cosine; the running average of the weights is what stays."""
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE, betas=(0.9, 0.99))
    average = [p.detach().clone() for p in network.parameters()]
    first, losses = 0, dict.fromkeys(WEIGHTS, 0.0)
    if state.exists():
        kept = torch.load(state, weights_only=True)
        network.load_state_dict(kept["network"])
        optimizer.load_state_dict(kept["optimizer"])
        first, average, losses = kept["step"], kept["average"], kept["losses"]
    deviation = {layer: recognizer.statistics(layer).var.clamp_min(1e-4).sqrt().view(1, -1, 1, 1) for layer in TAPS}
    mean = interpolate(prior.mean[None], size=prior.components.shape[-2:], mode="area")
    started = time.monotonic()
    for step in range(first, steps):
        half, full, pictures = batch_at(step, faces, prior, mean)
        drawn = full + network(half)
        with torch.no_grad():
            there = recognizer.trace(pictures, taps=TAPS)
        here = recognizer.trace(drawn, taps=TAPS)
        layers = [((here.activations[t] - there.activations[t]) / deviation[t]).abs().mean() for t in TAPS]
        parts = {
            "pixels": (drawn - pictures).abs().mean(),
            "layers": torch.stack(layers).mean(),
            "embedding": (1 - (here.embedding * there.embedding).sum(1)).mean(),
        }
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, (step + 1) / 200) * 0.5 * (1 + math.cos(math.pi * step / steps))
        optimizer.zero_grad(set_to_none=True)
        torch.stack([WEIGHTS[name] * part for name, part in parts.items()]).sum().backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        keep = min(0.998, (step + 1) / (step + 21))
        for old, new in zip(average, network.parameters(), strict=True):
            old.lerp_(new.detach(), 1 - keep)
        losses = {name: 0.98 * losses[name] + 0.02 * float(part.detach()) for name, part in parts.items()}
        if (step + 1) % 50 == 0:
            rate = (step + 1 - first) * BATCH / (time.monotonic() - started)
            shown = ", ".join(f"{name} {value:.4f}" for name, value in losses.items())
            print(f"{step + 1}/{steps} {shown}, {rate:.1f} images/s", flush=True)
        if (step + 1) % 100 == 0 or step + 1 == steps:
            kept = {"network": network.state_dict(), "optimizer": optimizer.state_dict()}
            kept |= {"step": step + 1, "average": average, "losses": losses}
            temporary = state.with_suffix(".tmp")
            torch.save(kept, temporary)
            os.replace(temporary, state)
    with torch.no_grad():
        for parameter, value in zip(network.parameters(), average, strict=True):
            parameter.copy_(value)
    return losses


def measured(faces: FaceDataset, every: int) -> tuple[Tensor, Tensor]:
    """Rows of pictures, and yaw, pitch and smile (M, 3) that the detector's points show in them."""
    detector, rows, values = crop_detector(), [], []
    for row in range(0, len(faces), every):
        crop = np.pad(faces.images[row].numpy(), ((BORDER, BORDER), (BORDER, BORDER), (0, 0)), mode="edge")
        for face in detector.detect(crop)[:1]:
            left, right, _, *mouth = face.landmarks
            smile = np.linalg.norm(mouth[1] - mouth[0]) / np.linalg.norm(right - left)
            rows.append(row)
            values.append([*landmark_pose(face.landmarks), float(smile)])
    return torch.tensor(rows), torch.tensor(values)


def attributes(
    coefficients: Tensor, values: Tensor, parity: Tensor, ridge: float = 200.0
) -> tuple[Tensor, Tensor, list[float]]:
    """Ridge regression coefficients -> attributes: weight (3, K), bias (3,), correlation on the last fifth unseen.

    Args:
        coefficients: (M, K).
        values: (M, 3).
        parity: (K,) 1 where a component is symmetric, -1 where it is antisymmetric: mirror images count too.
    """

    def fit(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        x, y = torch.cat([x, x * parity]), torch.cat([y, y * torch.tensor([-1.0, 1.0, 1.0])])
        center, scale = y.mean(0), y.std(0)
        weight = torch.linalg.solve(x.T @ x + ridge * torch.eye(x.shape[1]), x.T @ ((y - center) / scale))
        weight = (weight * scale).T
        return weight, center - x.mean(0) @ weight.T

    cut = len(values) * 4 // 5
    weight, _ = fit(coefficients[:cut], values[:cut])
    unseen = coefficients[cut:] @ weight.T
    found = [float(torch.corrcoef(torch.stack([unseen[:, i], values[cut:, i]]))[0, 1]) for i in range(len(ATTRIBUTES))]
    return *fit(coefficients, values), found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="DIR/<identity>/<picture>, those of the face prior")
    parser.add_argument("--held-out", type=int, default=100, help="identities left out, as in the face prior")
    parser.add_argument("--prior", type=Path, default=Path("arcinvert/data/face_prior.safetensors"))
    parser.add_argument("--checkpoint", type=Path, help="whose layers and embedding are compared; default: our own")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--measure-every", type=int, default=4, help="one picture in so many is shown to the detector")
    parser.add_argument("--out", type=Path, default=Path("arcinvert/data/face_detail.safetensors"))
    options = parser.parse_args()

    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    prior = load_face_prior(options.prior)
    names, _ = split_identities(identity_folders(options.data), options.held_out)
    faces = load_faces(options.data, names)
    if faces.digest != load_checkpoint(options.prior).header["data"]:
        raise SystemExit("these are not the faces behind the face prior")
    network = DetailNetwork()
    recognizer = Recognizer.load(options.checkpoint)
    losses = train(network, faces, prior, recognizer, options.steps, options.out.with_suffix(".state"))
    rows, values = measured(faces, options.measure_every)
    mirrored = (prior.components * prior.components.flip(-1)).flatten(1).sum(1)
    weight, bias, correlation = attributes(prior.codes[rows] * prior.code_scale, values, mirrored.sign())
    print("correlation unseen: " + ", ".join(f"{n} {c:.2f}" for n, c in zip(ATTRIBUTES, correlation, strict=True)))
    tensors = {f"network.{name}": value.half() for name, value in network.state_dict().items()}
    tensors |= {"attributes.weight": weight.half(), "attributes.bias": bias}
    header = {"kind": "face detail", "face_prior": prior.digest, "data": faces.digest, "recognizer": recognizer.digest}
    header |= {"steps": options.steps, "losses": losses, "attributes": dict(zip(ATTRIBUTES, correlation, strict=True))}
    digest = save_checkpoint(options.out, header, tensors)
    print(f"{options.out}: {options.out.stat().st_size / 1e6:.1f} MB, digest {digest[:12]}")


if __name__ == "__main__":
    main()
