"""The losses of the papers side by side: one small network, one schedule, several seeds, unseen identities.

    python benchmarks/loss_table.py --data FACES -o DIR [--seeds 2] [--epochs 12] [--part 1/2]

Every run writes DIR/<loss>-<seed>.json and is not repeated if that exists; a run resumes after a kill. Two processes
share the work with ``--part 1/2`` and ``--part 2/2``. DIR/table.json and DIR/table.md hold the runs done so far.

The network is an IResNet-18 with a quarter of the channels and a quarter of the resolution. It serves comparisons on a
laptop and is not meant for use.
"""

import argparse
import dataclasses
import json
import statistics
import sys
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from arcinvert.backbones import BACKBONES
from arcinvert.backbones.iresnet import BLOCKS, IResNet
from arcinvert.checkpoint import atomic_write
from arcinvert.errors import ArcInvertError, UsageError
from arcinvert.evaluation.embedding import embed_images
from arcinvert.evaluation.metrics import FMRS
from arcinvert.evaluation.protocols.verification import verify_embeddings
from arcinvert.faces.augmentation import Augmentation
from arcinvert.recognizer import Recognizer
from arcinvert.training.config import TrainConfig
from arcinvert.training.data.faces import identity_folders, load_faces, split_identities
from arcinvert.training.trainer import train

LOSSES: Mapping[str, Mapping[str, Any]] = {
    "softmax": {"margin": "softmax-bias"},
    "norm-softmax": {"margin": "softmax", "scale": 20.0},  # the scale that is best for it in the paper
    "sphereface": {"margin": "sphereface"},
    "cosface": {"margin": "cosface"},
    "arcface": {"margin": "arcface"},
    "cm1": {"margin": "cm1"},
    "cm2": {"margin": "cm2"},
}
NETWORK = "iresnet18-small"
HELD_OUT = 60
FIGURES = ("AUC", "EER", "TAR@FMR=1e-2", "TAR@FMR=1e-3")
AUGMENTATION = Augmentation(shift=0.03, scale=0.04, rotate=0.04, light=0.2, color=0.1, gray=0.1, cutout=0.0)


class Small(IResNet):
    """An IResNet-18 whose stages begin at 28x28: the input (B, 3, 112, 112) is halved, and the stem has stride 2.

    Its PReLU slopes are fixed. At width 0.25 it trains about ten times as fast as the full one of that width.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(BLOCKS[18], **settings)
        self.conv1.stride = (2, 2)
        self.fc = nn.Linear(self.fc.in_features // 49 * 4, self.fc.out_features)
        active = [name for name, module in self.named_modules() if isinstance(module, nn.PReLU)]
        for name in active:  # the gradient of the slopes is a fifth of a step on a CPU
            self.set_submodule(name, nn.LeakyReLU(0.25, inplace=True))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(avg_pool2d(x, 2))


BACKBONES[NETWORK] = Small


def small_config(**settings: Any) -> TrainConfig:
    """The configuration of all runs, with ``settings`` changed."""
    common: dict[str, Any] = {
        "backbone": NETWORK,
        "width": 0.25,
        "embedding_size": 128,
        "scale": 32.0,
        "batch_size": 32,
        "lr": 0.05,
        "warmup": 0.5,
        "held_out": HELD_OUT,
        "augmentation": AUGMENTATION,
    }
    return TrainConfig(**common | settings)


def run_once(data: Path, out: Path, config: TrainConfig, *, keep: Collection[str] | None = None) -> dict[str, Any]:
    """Train (on the images ``keep`` only, if given), verify on the held-out identities, write both to ``out``.json."""
    kept = out.with_name(f"{out.name}.json")
    config = dataclasses.replace(config, validate_every=config.epochs)
    if kept.is_file():
        done = dict(json.loads(kept.read_text()))
        asked = json.loads(json.dumps(dataclasses.asdict(config)))
        if other := sorted(key for key, value in done["config"].items() if asked[key] != value):
            raise UsageError(f"{str(kept)!r} was made with other settings ({', '.join(other)}); take another folder")
        return done
    started, said = time.monotonic(), [0.0]

    def tell(done: int, total: int, text: str) -> None:
        if time.monotonic() - said[0] > 30 or done == total:
            said[0] = time.monotonic()
            print(f"{out.name} {done}/{total} {text}", file=sys.stderr, flush=True)

    checkpoint = out.with_name(f"{out.name}.safetensors")
    header = train(data, checkpoint, config=config, keep=keep, progress=tell)
    found = {
        "config": dataclasses.asdict(config),
        "images": header["data"]["images"],
        "identities": header["data"]["identities"],
        "figures": judge(checkpoint, data),
        "seconds": round(time.monotonic() - started),  # of the last process, if there were several
    }
    write_json(kept, found)
    return found


def judge(checkpoint: Path, data: Path) -> dict[str, float | None]:
    """Verification over all pairs of the held-out identities."""
    faces = load_faces(data, split_identities(identity_folders(data), HELD_OUT)[1])
    rows = embed_images(Recognizer.load(checkpoint), faces.images.numpy())
    found = verify_embeddings(rows, faces.labels.numpy(), FMRS[1:3])
    return dict(zip(FIGURES, [found.auc, found.eer, *(point.tar for point in found.points)], strict=True))


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")


def spread(values: list[float | None], digits: int = 3) -> str:
    """Mean and, for several values, the smallest and the largest."""
    there = [value for value in values if value is not None]
    if not there:
        return "-"
    mean, least, largest = (f"{value:.{digits}f}" for value in (statistics.fmean(there), min(there), max(there)))
    return mean if len(there) == 1 else f"{mean} ({least} to {largest})"


def table(runs: Mapping[str, list[Mapping[str, Any]]]) -> str:
    """Markdown; a cell is the mean over the seeds, then the smallest and the largest."""
    lines = ["| loss | seeds | " + " | ".join(FIGURES) + " |", "|---|---|" + "---|" * len(FIGURES)]
    for loss, done in runs.items():
        cells = [spread([run["figures"][name] for run in done]) for name in FIGURES]
        lines.append(f"| {loss} | {len(done)} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def part_of(text: str) -> tuple[int, int]:
    """``2/3`` -> (1, 3)."""
    try:
        number, parts = map(int, text.split("/"))
    except ValueError:
        number, parts = 0, 0
    if not 1 <= number <= parts:
        raise UsageError(f"expected --part I/N with 1 <= I <= N, got {text!r}")
    return number - 1, parts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, required=True, help="DIR/<identity>/<image>, aligned; the last 60 identities are held out"
    )
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder of the runs and the table")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--part", default="1/1", help="do part I/N of the runs")
    options = parser.parse_args()
    torch.set_flush_denormal(True)
    names = [(loss, seed) for seed in range(options.seeds) for loss in LOSSES]
    try:
        mine, parts = part_of(options.part)
        options.out.mkdir(parents=True, exist_ok=True)
        for loss, seed in names[mine::parts]:
            config = small_config(**LOSSES[loss], epochs=options.epochs, seed=seed)
            run_once(options.data, options.out / f"{loss}-{seed}", config)
            there = {key: options.out / f"{key[0]}-{key[1]}.json" for key in names}
            done = {key: json.loads(path.read_text()) for key, path in there.items() if path.is_file()}
            runs = {name: [run for key, run in done.items() if key[0] == name] for name in LOSSES}
            runs = {name: found for name, found in runs.items() if found}
            write_json(options.out / "table.json", runs)
            with atomic_write(options.out / "table.md") as temporary:
                temporary.write_text(table(runs))
    except ArcInvertError as error:
        raise SystemExit(f"loss_table: {error}") from None
    print(table(runs), end="")


if __name__ == "__main__":
    main()
