"""What crops of other people of the attacked domain buy an attacker: `--calibration-faces` of `arcinvert audit`.

    python benchmarks/real_calibration.py --crops CROPS --checkpoint y1.onnx --judge JUDGE.onnx --json OUT [--people 60]

CROPS is DIR/<identity>/<image>, photographs that `arcinvert align` has aligned; for measuring only. The first image of
the first ``--people`` identities that have two is attacked with ``fast`` through two calibrations of the recognizer: on
synthetic faces, and on these and on crops of other people beside them. Of the other identities (of those with one
image, if there are enough), every second one gives such a crop (``--calibration`` at most), and the rest fix the
judge's thresholds. Nobody is in two of the three groups of people.

The same random numbers start each attack, so the calibrations are compared target by target: how many targets are
accepted with the crops alone, how many without them alone, and the chance of so lopsided a split (exact sign test,
two-sided). OUT has figures only, and is written after each calibration.
"""

import argparse
import json
from collections.abc import Callable
from math import comb
from pathlib import Path
from typing import Any

import torch
from inversion import attack_on
from real_store import crops_of, exact, people_of
from torch import Tensor

from arcinvert.audit.judges import embed_faces
from arcinvert.audit.thresholds import Fixed
from arcinvert.calibration.calibration import Calibration
from arcinvert.calibration.fit import calibrate
from arcinvert.errors import ArcInvertError, InputError
from arcinvert.evaluation.intervals import wilson_interval
from arcinvert.faceprior.prior import default_face_prior
from arcinvert.inversion.invert import invert
from arcinvert.inversion.presets import preset_of
from arcinvert.inverter import Inverter
from arcinvert.recognizer import Recognizer

FMRS = (1e-2, 1e-3)
ENOUGH = 100
BATCH = 8


def attack(inverter: Inverter, targets: Tensor, steps: int | None) -> tuple[Tensor, Tensor]:
    """Images (N, 112, 112, 3) uint8 of the targets (N, D), and the cosine of each to its target."""
    images, cosine = [], []
    for start in range(0, len(targets), BATCH):
        made = attack_on(inverter, targets[start : start + BATCH], 0, start)
        found = invert(preset_of("fast", steps).recipe(made), target=made.target, generators=made.generators)
        images.append(found.images)
        cosine.append(found.cosine)
    return torch.cat(images), torch.cat(cosine)


def scores_of(judge: Recognizer, images: Tensor, enrolled: Tensor, second: Tensor) -> dict[str, Tensor]:
    """Cosines (N,) of the images to what was enrolled, to a second photo, and of images to the next person's."""
    found, first, other = (embed_faces(judge, part) for part in (images, enrolled, second))
    compared = {"type I": first, "type II": other, "control: shuffled targets": first.roll(1, 0)}
    return {kind: (found * rows).sum(1) for kind, rows in compared.items()}


def rates(scores: dict[str, Tensor], fixed: Fixed) -> dict[str, Any]:
    """Kind -> FMR -> accepted, of so many, with the 95 % interval."""
    known = {t.fmr: t.threshold for t in fixed.thresholds if t.fmr in FMRS and t.threshold is not None}
    table: dict[str, Any] = {}
    for kind, cosine in scores.items():
        table[kind] = {"cosine": float(cosine.mean())}
        for fmr, threshold in known.items():
            count = int((cosine >= threshold).sum())
            entry = {"accepted": count, "tried": len(cosine), "wilson95": wilson_interval(count, len(cosine))}
            table[kind][f"{fmr:g}"] = entry
    return table


def gains(before: dict[str, Tensor], after: dict[str, Tensor], fixed: Fixed) -> dict[str, Any]:
    """Kind -> FMR -> targets accepted after alone, before alone, and the p-value of the exact sign test."""
    table: dict[str, Any] = {}
    for kind in ("type I", "type II"):
        for t in fixed.thresholds:
            if t.fmr in FMRS and t.threshold is not None:
                old, new = before[kind] >= t.threshold, after[kind] >= t.threshold
                won, lost = int((new & ~old).sum()), int((old & ~new).sum())
                table.setdefault(kind, {})[f"{t.fmr:g}"] = {"won": won, "lost": lost, "p": sign_test(won, lost)}
    return table


def sign_test(won: int, lost: int) -> float:
    """The two-sided p-value of so lopsided a split where each side is as likely."""
    n = won + lost
    return min(1.0, 2 * sum(comb(n, k) for k in range(max(won, lost), n + 1)) / 2**n)


def table(report: dict[str, Any]) -> str:
    """Markdown."""
    lines = [
        "| calibrated on | own cosine | compared | cosine | accepted at 1e-2 (95 %) | at 1e-3 (95 %) |",
        "|---" * 6 + "|",
    ]
    for name, found in report["calibrations"].items():
        for kind, row in found["rates"].items():
            cells = [cell(row[f"{fmr:g}"]) if f"{fmr:g}" in row else "" for fmr in FMRS]
            own = f"{found['own_cosine']:.3f}" if found["own_cosine"] is not None else ""
            lines.append(f"| {name} | {own} | {kind} | {row['cosine']:.3f} | {' | '.join(cells)} |")
    for kind, at in report.get("gains", {}).items():
        told = [f"at {fmr} {one['won']} targets won, {one['lost']} lost (p {one['p']:.2g})" for fmr, one in at.items()]
        lines += ["", f"With crops against without, {kind}: {'; '.join(told)}."]
    return "\n".join(lines)


def cell(found: dict[str, Any]) -> str:
    low, high = found["wilson95"]
    share = found["accepted"] / found["tried"]
    return f"{found['accepted']} of {found['tried']}, {share:.2f} ({low:.2f} to {high:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--crops", type=Path, required=True, help="DIR/<identity>/<image>, aligned photographs")
    parser.add_argument("--checkpoint", type=Path, required=True, help="the attacked network")
    parser.add_argument("--judge", type=Path, required=True)
    parser.add_argument("--people", type=int, default=60, help="identities that are attacked")
    parser.add_argument("--calibration", type=int, default=1000, help="crops of other people, at most")
    parser.add_argument("--faces", type=int, help="calibrate on the first so many shipped faces alone")
    parser.add_argument("--steps", type=int, help="optimization steps; default: those of fast")
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args()
    torch.set_flush_denormal(True)
    try:
        people = people_of(options.crops)
        two = [own for own in people if len(own) > 1]
        attacked, others = two[: options.people], [own[0] for own in people if len(own) == 1]
        if len(others) < ENOUGH:
            others = [own[0] for own in people if own not in attacked]
        if len(attacked) < options.people or len(others) < 2:
            got = f"{len(two)} with two images, {len(others)} others"
            raise InputError(f"expected {options.people} identities with two images and two others, got {got}")
        enrolled, second = (crops_of([own[n] for own in attacked]) for n in (0, 1))
        crops = crops_of(others[::2][: options.calibration])
        recognizer, judge = Recognizer.load(options.checkpoint), Recognizer.load(options.judge)
        fixed = exact(judge, others[1::2], "photographs")
        targets = embed_faces(recognizer, enrolled)
        prior = default_face_prior()
        prior = prior.first(options.faces or len(prior))
        made: dict[str, Callable[[], Calibration]] = {
            "synthetic faces": lambda: calibrate(recognizer, prior),
            f"these and {len(crops)} crops": lambda: calibrate(recognizer, prior, crops),
        }
        report: dict[str, Any] = {
            "checkpoint": recognizer.digest,
            "judge": judge.digest,
            "people": len(attacked),
            "crops": len(crops),
            "threshold_people": len(others[1::2]),
            "calibrations": {},
        }
        known: list[dict[str, Tensor]] = []
        for name, calibration in made.items():
            images, own = attack(Inverter(recognizer, prior, calibration()), targets, options.steps)
            known.append(scores_of(judge, images, enrolled, second))
            report["calibrations"][name] = {"own_cosine": float(own.mean()), "rates": rates(known[-1], fixed)}
            options.json.write_text(json.dumps(report, indent=2) + "\n")
        first, other = (embed_faces(judge, part) for part in (enrolled, second))
        ceiling = rates({"control: second photo": (first * other).sum(1)}, fixed)
        report["calibrations"]["no attack"] = {"own_cosine": None, "rates": ceiling}
        report["gains"] = gains(*known, fixed)
        options.json.write_text(json.dumps(report, indent=2) + "\n")
    except ArcInvertError as error:
        raise SystemExit(f"real_calibration: {error}") from None
    print(table(report))


if __name__ == "__main__":
    main()
