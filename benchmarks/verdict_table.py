"""How often the whole verdict of an audit is a false alarm, and how often it finds a leak, by simulation.

    python benchmarks/verdict_table.py [--draws 400] [--json OUT.json]

People are random directions, their images noisy copies; two judges with noise of their own fix their thresholds on two
images of each of 60 people (of the n attacked people, where they are more), as in an audit with photos. Under "nothing
leaks" a reconstruction is the image of a stranger. With a leak it is the person's with the given probability, so noisy
that a judge accepts about half of such images at a false match rate of 1e-2. A cell is the share of the audits with the
verdict "leaks" or "leaks in part"; at most 5 % of them may be false alarms.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from arcinvert.audit.checks.mismatch import Mismatch, MismatchFigures
from arcinvert.audit.impostors import ImpostorScores
from arcinvert.audit.judges import Judge
from arcinvert.audit.rates import SHUFFLED, References, attack_rates, rates_at_thresholds
from arcinvert.audit.report import JudgeResult
from arcinvert.audit.thresholds import Fixed, fix
from arcinvert.audit.verdict import verdict

SIZES = (4, 14, 50, 200)
LEAKS = (0.0, 0.05, 0.2, 0.6)
LEAST_PEOPLE, DIMENSIONS, JUDGES = 60, 48, 2
IMAGE, ATTACK, VIEW = 0.9, 3.5, 0.5
"""Noise of an image, of a reconstruction that leaks, and of a judge's view; people have a standard deviation of 1."""
SHOWN = Mismatch(False, True, (), MismatchFigures(DIMENSIONS, DIMENSIONS))


@dataclass(frozen=True)
class World:
    """People, each with two images, as (N, 2, D), and a generator."""

    images: np.ndarray
    generator: np.random.Generator

    @classmethod
    def of(cls, people: int, seed: int) -> "World":
        """Random people; the first directions vary more than the last."""
        generator = np.random.default_rng(seed)
        means = generator.normal(size=(people, 1, DIMENSIONS))
        return cls(means + IMAGE * generator.normal(size=(people, 2, DIMENSIONS)), generator)

    def seen(self, images: np.ndarray) -> torch.Tensor:
        """A judge's embeddings (..., D) of images, unit norm."""
        rows = images + VIEW * self.generator.normal(size=images.shape)
        return torch.from_numpy(rows / np.linalg.norm(rows, axis=-1, keepdims=True))


def audited(size: int, leak: float, seed: int) -> str:
    """The word of one audit of ``size`` templates, whose share ``leak`` is reconstructed as the person."""
    world = World.of(max(size, LEAST_PEOPLE), seed)
    generator, targets = world.generator, world.images[:size]
    strangers = generator.normal(size=(size, DIMENSIONS)) * np.sqrt(1 + IMAGE**2)
    found = targets[:, 0] + ATTACK * generator.normal(size=strangers.shape)
    images = np.where(generator.random((size, 1)) < leak, found, strangers)
    results = []
    for number in range(JUDGES):
        photos = world.seen(world.images)
        labels = np.repeat(np.arange(len(photos)), 2)
        fixed = fix(ImpostorScores.of(photos.flatten(0, 1).numpy(), labels), "photos", "")
        results.append(judged(f"judge {number}", fixed, photos[:size], world.seen(images)))
    return verdict(results, SHOWN, size).word


def judged(name: str, fixed: Fixed, photos: torch.Tensor, rows: torch.Tensor) -> JudgeResult:
    """A judge's rates and its shuffled control: photos (N, 2, D), reconstructions (N, D)."""
    judge = Judge(name, None, False, fixed.thresholds, torch.empty(0, rows.shape[1]))  # type: ignore[arg-type]
    rates = attack_rates(judge, References(photos[:, 0], photos[:, 1]), rows)
    rates += rates_at_thresholds(judge, SHUFFLED, (rows.roll(1, 0) * photos[:, 0]).sum(1))
    return JudgeResult(name, "", False, fixed.thresholds, tuple(rates), None)


def share(size: int, leak: float, draws: int, seed: int = 0) -> float:
    """The share of audits that say that the store leaks, all of it or in part."""
    words = [audited(size, leak, seed + 7919 * draw) for draw in range(draws)]
    return sum(word in ("leaks", "leaks in part") for word in words) / draws


def table(report: dict[str, Any]) -> str:
    """Markdown."""
    lines = ["| templates | nothing leaks | " + " | ".join(f"{leak:.0%} leak" for leak in LEAKS[1:]) + " |"]
    lines += ["|---" * (len(LEAKS) + 1) + "|"]
    for size in SIZES:
        cells = [f"{report['leaks'][str(size)][f'{leak:g}']:.3f}" for leak in LEAKS]
        lines.append(f"| {size} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", f"{report['draws']} simulated audits a cell."])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=400, help="simulated audits of a cell")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = {str(n): {f"{leak:g}": share(n, leak, options.draws) for leak in LEAKS} for n in SIZES}
    report = {"draws": options.draws, "people": LEAST_PEOPLE, "judges": JUDGES, "leaks": found}
    print(table(report))
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
