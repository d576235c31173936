"""How does the published recipe compare? Film strips of `paper` above and `fast` below, the same target and network.

python examples/08_paper_beside_ours.py --paper-steps 600 --out strips.png
"""

import argparse
from pathlib import Path

import numpy as np

from arcinvert import Inverter, contact_sheet, write_png

FRAMES = 6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--embedding", type=Path, default=Path(__file__).with_name("target.npy"))
    parser.add_argument("--out", type=Path, default=Path("strips.png"))
    parser.add_argument("--steps", type=int, help="of fast")
    parser.add_argument("--paper-steps", type=int, default=600, help="the paper takes 20,000")
    options = parser.parse_args()

    inverter, embedding, rows = Inverter.load(), np.load(options.embedding), []
    for preset, steps in (("paper", options.paper_steps), ("fast", options.steps)):
        found = inverter.reconstruct(embedding, preset=preset, steps=steps, record=True)[0].reconstructions[0]
        print(f"{preset}: {found.steps} steps, cosine {found.cosine:.3f}")
        path = [*found.frames, found.pixels]
        rows += [path[round(i * (len(path) - 1) / (FRAMES - 1))] for i in range(FRAMES)]
    write_png(options.out, contact_sheet(rows, FRAMES))
    print(options.out)


if __name__ == "__main__":
    main()
