"""How does the published recipe compare? Film strips of `paper` above and `fast` below, the same target and network.

python examples/08_paper_beside_ours.py --paper-steps 600 --out strips.png
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from arcinvert import Recognizer, invert, presets
from arcinvert.calibration.cache import load_calibration
from arcinvert.faceprior.prior import default_face_prior
from arcinvert.inversion.invert import to_bytes
from arcinvert.synthesis.sheets import contact_sheet, write_png

FRAMES = 6


def strip(attack: presets.Attack, name: str, steps: int | None) -> list[Tensor]:
    """FRAMES pictures from the start to the result."""
    recipe = presets.PRESETS[name](attack, steps)
    shown = {round(i * recipe.steps / (FRAMES - 1)) for i in range(FRAMES - 1)}
    frames: list[Tensor] = []

    def watch(step: int, image: Tensor) -> None:
        if step in shown:
            frames.append(to_bytes(image)[0])

    found = invert(attack.recognizer, recipe, target=attack.target, generators=attack.generators, watch=watch)
    print(f"{name}: {recipe.steps} steps, cosine {float(found.cosine[0]):.3f}")
    return [*frames, found.images[0]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--embedding", type=Path, default=Path(__file__).with_name("target.npy"))
    parser.add_argument("--out", type=Path, default=Path("strips.png"))
    parser.add_argument("--steps", type=int, help="of fast")
    parser.add_argument("--paper-steps", type=int, default=600, help="the paper takes 20,000")
    options = parser.parse_args()

    recognizer, prior = Recognizer.load(), default_face_prior()
    calibration = load_calibration(recognizer, prior)
    target = torch.from_numpy(np.load(options.embedding, allow_pickle=False)).view(-1, recognizer.embedding_size)[:1]

    def attack() -> presets.Attack:
        generators = [torch.Generator().manual_seed(0)]
        return presets.Attack(recognizer, prior, calibration, target, torch.zeros(1, dtype=torch.int64), generators)

    rows = [*strip(attack(), "paper", options.paper_steps), *strip(attack(), "fast", options.steps)]
    write_png(options.out, contact_sheet(rows, FRAMES))
    print(options.out)


if __name__ == "__main__":
    main()
