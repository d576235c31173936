"""What does a defense cost, and what does it stop? Noise and truncation, from weak to strong, against an attack.

python examples/07_defense_curve.py --out curve.png
python examples/07_defense_curve.py --out curve.png --data FACES --recognizer y1.onnx --judge other.onnx

The attacker knows the scheme: he estimates the embedding behind a protected template, and goes on as always.
FACES is <identity>/<picture>, aligned; without it the people are synthetic ones whom the shipped network knows.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from arcinvert.synthesis.reconstruct import SynthConfig, reconstruct
from people import people

from arcinvert import Recognizer
from arcinvert.audit.defenses import Defense
from arcinvert.audit.defenses.curve import trade_off
from arcinvert.audit.defenses.sweep import Left, sweep
from arcinvert.audit.judges import appoint, prior_faces
from arcinvert.calibration.cache import load_calibration
from arcinvert.evaluation.readers.sets import identity_files, read_crop
from arcinvert.faceprior.prior import default_face_prior

FMR = 1e-2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="aligned faces; the last --people of them are in the store")
    parser.add_argument("--recognizer", type=Path, help="the network of the store; default: our own")
    parser.add_argument("--judge", type=Path, help="one that is not attacked; default: the attacked one")
    parser.add_argument("--out", type=Path, default=Path("curve.png"))
    parser.add_argument("--people", type=int, default=16)
    parser.add_argument("--quick", action="store_true", help="few people, few steps: shows that it runs")
    options = parser.parse_args()
    count = 3 if options.quick else options.people
    specs = ["noise:0.05"] if options.quick else [f"noise:{sigma}" for sigma in (0.02, 0.05, 0.1, 0.2)]
    specs = ["none", *specs, *(f"truncate:{k}" for k in (() if options.quick else (64, 32, 16)))]

    recognizer, prior = Recognizer.load(options.recognizer), default_face_prior()
    calibration = load_calibration(recognizer, prior)
    files, numbers = identity_files(people(options.data, options.out.with_suffix(".people"), count))
    files = [file for file, number in zip(files, numbers, strict=True) if number > numbers[-1] - count]
    labels = torch.from_numpy(numbers[-len(files) :] - numbers[-len(files)])
    crops = torch.stack([torch.from_numpy(read_crop(file)) for file in files])
    embeddings = recognizer.embed(crops.permute(0, 3, 1, 2))
    first = torch.tensor([int((labels == person).nonzero()[0, 0]) for person in range(count)])  # the enrolled ones

    # Strangers fix the judge's threshold, and teach the attacker what a defense does to embeddings.
    strangers = replace(prior, codes=prior.codes[:300], labels=prior.labels[:300]) if options.quick else prior
    faces = prior_faces(strangers)
    attacked = appoint("attacked", recognizer, faces)
    judge = attacked if options.judge is None else appoint(options.judge.stem, Recognizer.load(options.judge), faces)
    threshold = next(limit.threshold for limit in judge.thresholds if limit.fmr == FMR)

    def attack(defense: Defense, known: bool) -> list[Left]:
        templates = defense.protect(embeddings[first], first.tolist())
        guess = defense.estimate(templates, attacked.own)
        config = SynthConfig(steps=2 if options.quick else None, report=False)
        made = torch.stack([found.image for found in reconstruct(recognizer, guess, prior, calibration, config=config)])
        cosine = (judge.embed(made) * judge.embed(crops[first])).sum(1)
        return [Left(judge.name, FMR, int((cosine >= threshold).sum()), count)]

    rows = sweep(specs, embeddings, labels, attacked.own, attack)
    for row in rows:
        tar = next(point.tar for point in row.kept.points if point.fmr == FMR)
        print(f"{row.spec}: TAR {tar:.2f} kept, {row.left[0].accepted} of {count} reconstructions accepted")
    trade_off(options.out, rows, judge=judge.name, fmr=FMR)
    print(options.out)


if __name__ == "__main__":
    main()
