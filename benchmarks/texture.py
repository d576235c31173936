"""Are reconstructions as sharp as crops, and do they carry a periodic texture that crops do not have?

    python benchmarks/texture.py --data FACES --judge JUDGE.onnx [--pictures DIR] [--json OUT.json]

Inverts picture 00 of N identities that the default checkpoint was not trained on, and compares the reconstructions with
the first crops of other identities (no identity is on both sides, so a likeness to the target plays no part).

Distances, by each judge, in two spaces: its embeddings; and ``layer``, the mean and standard deviation over all places
of each channel of its last layer of 28 x 28 places, in deviations of the crops. The kernel distance is KID's unbiased
one and uses all dimensions. With as few pictures a full covariance is undetermined, so the Frechet distance uses the
first 16 principal components of the crops; what is left of its bias is the same in all rows, since each has N pictures.
Both come with their jackknife standard error. The floor is the same of N crops, drawn at random, against the others:
mean, and the limit that 95 % stay below.

Spectra: mean over the pictures of the logarithm of the power of the gray picture under a Hann window, in dB against
the crops, by frequency. A peak is the height of one frequency above the median of the ring around it; its limit is the
one that 95 % of draws of N crops stay below. ``over crops`` is the same of the spectrum divided by that of the crops.
No crop is larger than 112 x 112, so a larger picture is held against the limit of these.
Frequencies are in cycles per pixel of 112 x 112, or of the larger picture; 0.5 is every second pixel.

``--pictures`` measures given pictures of the same targets, one PNG each in the order of their names, instead.
"""

import argparse
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from arcinvert.evaluation.generation.distances import cosine_features, frechet_distance, squared_mmd
from arcinvert.inversion.invert import reduced
from arcinvert.inverter import Inverter
from arcinvert.recognizer import Recognizer
from arcinvert.training.data.faces import identity_folders, load_faces, to_float

COMPONENTS, PLACES = 16, 28
CROPS, DRAWS, SPECTRA = 400, 200, 100
BANDS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5)
LOWEST, LOWEST_OVER_CROPS = 0.2, 0.1
"""Cycles per pixel below which no peak is looked for: there the axes of the spectrum of any face stand out."""
RING = (3, 6)
"""Bins from a peak to the inner and outer edge of the ring around it; the window spreads a peak over two."""

Floats = NDArray[np.float64]
Measure = Callable[[Floats, Floats], float]


def features(judge: Recognizer, images: Tensor) -> dict[str, Floats]:
    """Embeddings (N, D) and moments of the channels of a middle layer (N, 2 C), of (N, 112, 112, 3) uint8."""
    layer = [name for name, (_, height, _) in judge.layer_sizes.items() if height == PLACES][-1]
    rows, moments = [], []
    for part in to_float(images).split(32):
        with torch.no_grad():
            trace = judge.trace(part, taps=[layer])
        rows.append(trace.embedding)
        moments.append(torch.cat([trace.activations[layer].mean((2, 3)), trace.activations[layer].std((2, 3))], 1))
    return {"embedding": cosine_features(torch.cat(rows).numpy()), "layer": torch.cat(moments).double().numpy()}


class Space:
    """Distances in a feature space, from the crops' features (M, D) that fix its units and principal components."""

    def __init__(self, crops: Floats, *, standardized: bool) -> None:
        self.center = crops.mean(0) if standardized else np.zeros(crops.shape[1])
        self.unit = np.maximum(crops.std(0), 1e-9) if standardized else np.ones(crops.shape[1])
        _, spread, axes = np.linalg.svd(self(crops) - self(crops).mean(0), full_matrices=False)
        self.axes, self.share = axes[:COMPONENTS].T, float((spread[:COMPONENTS] ** 2).sum() / (spread**2).sum())
        self.crops = self(crops)

    def __call__(self, rows: Floats) -> Floats:
        return (rows - self.center) / self.unit

    def frechet(self, first: Floats, second: Floats) -> float:
        """Of the first principal components."""
        return frechet_distance(first @ self.axes, second @ self.axes)

    def compared(self, rows: Floats, draws: list[NDArray[np.bool_]]) -> dict[str, dict[str, float]]:
        """Both distances of rows (N, D) to the crops, and those of crops that were drawn to the others."""
        rows, found, measures = self(rows), {}, {"kernel": squared_mmd, "frechet": self.frechet}
        for name, measure in measures.items():
            without = [measure(np.delete(rows, i, 0), self.crops) for i in range(len(rows))]
            floor = [measure(self.crops[drawn], self.crops[~drawn]) for drawn in draws]
            error = np.std(without) * np.sqrt(len(rows) - 1)
            found[name] = {"distance": measure(rows, self.crops), "standard_error": float(error)}
            found[name] |= {"floor": float(np.mean(floor)), "floor95": float(np.quantile(floor, 0.95))}
        return found


def powers(images: Tensor) -> Floats:
    """(N, S, S, 3) uint8 -> (N, S, S), dB of each frequency in the order of ``np.fft.fftfreq``."""
    gray = images.double().numpy() @ np.array([0.299, 0.587, 0.114])
    window = np.outer(*[np.hanning(gray.shape[1] + 1)[:-1]] * 2)
    gray = gray - (gray * window).sum((1, 2), keepdims=True) / window.sum()
    return np.asarray(10 * np.log10(np.abs(np.fft.fft2(gray * window)) ** 2 + 1e-6))


def radius(size: int) -> Floats:
    return np.hypot(*np.meshgrid(np.fft.fftfreq(size), np.fft.fftfreq(size)))


def peak(spectrum: Floats, lowest: float = LOWEST) -> dict[str, Any]:
    """The frequency that is highest above the median of the ring around it, of a spectrum (S, S) in dB."""
    reach = range(-RING[1], RING[1] + 1)
    ring = [(y, x) for y in reach for x in reach if RING[0] <= np.hypot(y, x) <= RING[1]]
    half = slice(len(spectrum) // 2 + 1)  # the spectrum of a real picture is symmetric
    height = spectrum[half] - np.median([np.roll(spectrum, shift, (0, 1))[half] for shift in ring], 0)
    height[radius(len(spectrum))[half] < lowest] = -np.inf
    y, x = np.unravel_index(height.argmax(), height.shape)
    each = np.abs(np.fft.fftfreq(len(spectrum)))
    return {"height": float(height.max()), "across": float(each[x]), "down": float(each[y])}


def bands(spectrum: Floats) -> dict[str, float]:
    """Mean of a spectrum (S, S) in each band of frequencies."""
    distance = radius(len(spectrum))
    pairs = itertools.pairwise(BANDS)
    return {f"{a:g} to {b:g}": float(spectrum[(distance >= a) & (distance < b)].mean()) for a, b in pairs}


def spectra(images: Tensor, pictures: Tensor, crops: Tensor, draws: list[NDArray[np.bool_]]) -> dict[str, Any]:
    """Bands and peaks of what the recognizer sees, and peaks of the larger pictures if they are larger."""
    known, own = powers(crops), powers(images).mean(0)
    drawn = [(known[chosen].mean(0), known[~chosen].mean(0)) for chosen in draws[:SPECTRA]]
    limits = {"peak": [peak(a)["height"] for a, _ in drawn]}
    limits["over_crops"] = [peak(a - b, LOWEST_OVER_CROPS)["height"] for a, b in drawn]
    over = own - known.mean(0)
    found = {"bands": bands(over), "peak": peak(own), "over_crops": peak(over, LOWEST_OVER_CROPS)}
    found |= {f"{name}_limit": float(np.quantile(heights, 0.95)) for name, heights in limits.items()}
    if pictures.shape[1] > images.shape[1]:
        found["larger"] = {"size": pictures.shape[1], "peak": peak(powers(pictures).mean(0))}
    return found


def given(folder: Path, count: int) -> Tensor:
    """The first pictures of a folder, (N, S, S, 3) uint8; a contact sheet is passed over."""
    files = [path for path in sorted(folder.glob("*.png")) if path.stem != "sheet"][:count]
    if len(files) < count:
        raise SystemExit(f"expected {count} pictures in the folder, one of each target, got {len(files)}")
    return torch.stack([torch.from_numpy(np.array(Image.open(path).convert("RGB"))) for path in files])


def first_crops(folder: Path, names: list[str]) -> Tensor:
    faces = load_faces(folder, names, {f"{name}/{min(p.name for p in (folder / name).iterdir())}" for name in names})
    return faces.images


def drawn_sets(crops: int, count: int) -> list[NDArray[np.bool_]]:
    """Random sets of ``count`` crops, each a mask (crops,)."""
    random = np.random.default_rng(0)
    return [np.isin(np.arange(crops), random.choice(crops, count, replace=False)) for _ in range(DRAWS)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="DIR/<identity>/<picture>, aligned")
    parser.add_argument("--judge", type=Path, action="append", required=True)
    parser.add_argument("--checkpoint", type=Path, help="the attacked network; default: the one that ships")
    parser.add_argument("--preset", default="fast")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--targets", type=int, default=40, help="how many of the held-out identities are inverted")
    parser.add_argument("--pictures", type=Path, help="measure these pictures of the targets instead")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()

    torch.set_flush_denormal(True)
    attacked = Recognizer.load().header["data"]["held_out"][: options.targets]
    others = [name for name in identity_folders(options.data) if name not in attacked][-CROPS:]
    crops = first_crops(options.data, others)
    if options.pictures is None:
        inverter = Inverter.load(options.checkpoint, device="cpu")
        targets = inverter.recognizer.embed(first_crops(options.data, attacked))
        faces = inverter.reconstruct(targets, preset=options.preset, steps=options.steps)
        pictures = torch.stack([torch.from_numpy(np.array(face.images[0])) for face in faces])
    else:
        pictures = given(options.pictures, len(attacked))
    images = reduced(pictures)
    draws = drawn_sets(len(crops), len(images))

    report: dict[str, Any] = {"pictures": len(images), "size": pictures.shape[1], "crops": len(crops), "distances": {}}
    print(f"{len(images)} pictures, of other people {len(crops)} crops; distance (standard error), floor (its limit)\n")
    print("| judge, space | kernel distance x 1000 | its floor | Frechet distance | its floor |\n|---|---|---|---|---|")
    for path in options.judge:
        judge = Recognizer.load(path)
        theirs, ours = features(judge, crops), features(judge, images)
        for name, rows in theirs.items():
            space = Space(rows, standardized=name == "layer")
            found = space.compared(ours[name], draws)
            report["distances"][f"{path.stem}, {name}"] = found | {"variance_in_components": space.share}
            cells = []
            for row, factor, digits in ((found["kernel"], 1000, 1), (found["frechet"], 1, 2)):
                value, error, floor, limit = (f"{factor * one:.{digits}f}" for one in row.values())
                cells += [f"{value} ({error})", f"{floor} ({limit})"]
            print(f"| {path.stem}, {name} | {' | '.join(cells)} |", flush=True)
    report["spectrum"] = found = spectra(images, pictures, crops, draws)
    print("\n| cycles per pixel | " + " | ".join(found["bands"]) + " |\n|---|" + "---|" * len(found["bands"]))
    print("| dB against crops | " + " | ".join(f"{value:+.1f}" for value in found["bands"].values()) + " |")
    print("\n| highest peak | dB | limit of crops | cycles per pixel across, down |\n|---|---|---|---|")
    rows = [("112 x 112", found["peak"], found["peak_limit"])]
    rows += [("112 x 112, over crops", found["over_crops"], found["over_crops_limit"])]
    if "larger" in found:
        size = found["larger"]["size"]
        rows += [(f"{size} x {size}", found["larger"]["peak"], found["peak_limit"])]
    for name, one, limit in rows:
        print(f"| {name} | {one['height']:.1f} | {limit:.1f} | {one['across']:.3f}, {one['down']:.3f} |")
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
