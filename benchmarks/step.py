"""What does one optimization step cost beyond the network's own forward and backward pass?

    python benchmarks/step.py [--checkpoint FILE] [--batch 4] [--preset fast] [--against 16] [--json OUT.json]

*Bare* is the network as its checkpoint describes it, frozen, in eval mode and channels-last memory:
forward to the features and backward to the pixels. *Step* is a whole step of the preset:
parameterization, view, trace, terms, backward, Adam; twenty steps, so that detail redrawn every tenth and
the auxiliary recognizer's turn every fifth count as often as they happen. Those that go through the
attacked network are also given alone. Both run in turn in one process; a ratio is the median over the
rounds, with its range.
``--against N`` also times whole steps of N images and of one, in turn: what a batch gains per image.
"""

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.nn.functional import normalize

from arcinvert.backbones import build_backbone
from arcinvert.checkpoint import load_checkpoint, load_strictly
from arcinvert.inversion.invert import invert
from arcinvert.inversion.presets import PRESETS, preset_of
from arcinvert.inversion.reconstruct import generator_for
from arcinvert.inverter import Inverter
from arcinvert.recognizer import default_checkpoint


def bare_pass(path: Path, batch: int) -> Callable[[], None]:
    stored = load_checkpoint(path)
    network = build_backbone(stored.header["backbone"], **stored.header["backbone_settings"])
    load_strictly(network, stored.network(), str(path))
    network.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = torch.rand(batch, 3, 112, 112).contiguous(memory_format=torch.channels_last).requires_grad_(True)

    def run() -> None:
        images.grad = None
        network(images).sum().backward()

    return run


def step_seconds(inverter: Inverter, preset: str, batch: int, steps: int) -> tuple[float, float]:
    """Mean seconds of a step on ``batch`` images, the first one of the run apart; and of those not the auxiliary's."""
    target = normalize(
        torch.randn(batch, inverter.recognizer.embedding_size, generator=torch.Generator().manual_seed(0))
    )
    generators = [generator_for(0, i, 0) for i in range(batch)]
    variation = torch.zeros(batch, dtype=torch.int64)
    attack = inverter.attack(target, variation, generators)
    ticks: list[float] = []

    def tick(step: int, steps: int, text: str) -> None:
        ticks.append(time.perf_counter())

    recipe = preset_of(preset, steps + 1).recipe(attack)
    invert(recipe, target=target, generators=generators, progress=tick)
    seconds = [after - before for before, after in itertools.pairwise(ticks)]
    own = [s for step, s in enumerate(seconds, 1) if recipe.view(step) is recipe.views[0]]
    return statistics.mean(seconds), statistics.mean(own)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--preset", default="fast", choices=list(PRESETS))
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--steps", type=int, default=20, help="per round; whole tens count all in its measure")
    parser.add_argument("--against", type=int, help="a second size of batch, to be compared with single images")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()

    torch.set_flush_denormal(True)
    inverter = Inverter.load(options.checkpoint, device="cpu")
    bare = bare_pass(options.checkpoint or default_checkpoint(), options.batch)
    bare_times: list[float] = []
    step_times: list[float] = []
    ratios: list[float] = []
    own_ratios: list[float] = []
    for number in range(options.rounds + 1):
        plain = []
        for _ in range(options.steps):
            started = time.perf_counter()
            bare()
            plain.append(time.perf_counter() - started)
        whole, own = step_seconds(inverter, options.preset, options.batch, options.steps)
        if number:  # the first round warms up
            bare_times.append(statistics.mean(plain))
            step_times.append(whole)
            ratios.append(whole / bare_times[-1])
            own_ratios.append(own / bare_times[-1])
    report = {
        "preset": options.preset,
        "batch": options.batch,
        "threads": torch.get_num_threads(),
        "bare_ms": statistics.median(bare_times) * 1e3,
        "step_ms": statistics.median(step_times) * 1e3,
        "ratio": statistics.median(ratios),
        "ratio_range": [min(ratios), max(ratios)],
        "ratio_attacked": statistics.median(own_ratios),
        "ratio_attacked_range": [min(own_ratios), max(own_ratios)],
    }
    print(
        f"{options.preset}, batch {options.batch}, {report['threads']} threads: bare {report['bare_ms']:.1f} ms, "
        f"step {report['step_ms']:.1f} ms, ratio {report['ratio']:.3f} "
        f"({min(ratios):.3f} to {max(ratios):.3f} over {options.rounds} rounds); through the attacked network alone "
        f"{report['ratio_attacked']:.3f} ({min(own_ratios):.3f} to {max(own_ratios):.3f})"
    )
    if options.against:
        alone, together = [], []
        for number in range(options.rounds + 1):
            one, _ = step_seconds(inverter, options.preset, 1, options.steps)
            many, _ = step_seconds(inverter, options.preset, options.against, options.steps)
            if number:
                alone.append(one)
                together.append(many / options.against)
        gain = statistics.median(one / many for one, many in zip(alone, together, strict=True))
        report |= {"against": options.against, "one_ms": statistics.median(alone) * 1e3, "gain": gain}
        print(
            f"per image and step: {report['one_ms']:.1f} ms alone, {statistics.median(together) * 1e3:.1f} ms among "
            f"{options.against}, {gain:.2f} times as fast"
        )
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
