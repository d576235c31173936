"""What does a defense cost, and what does it stop? Noise and truncation, from weak to strong, against an attack.

python examples/07_defense_curve.py --out curve.png
python examples/07_defense_curve.py --out curve.png --data FACES --recognizer y1.onnx --judge other.onnx

The attacker knows the scheme: he estimates the embedding behind a protected template, and descends on its score.
FACES is <identity>/<picture>, aligned; without it the people are synthetic ones whom the shipped network knows.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from people import enroll, people

from arcinvert import Inverter, Recognizer, audit

FMR = 1e-2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="aligned faces; the last --people of them are in the store")
    parser.add_argument("--recognizer", type=Path, help="network of the store; the default is our own")
    parser.add_argument("--judge", type=Path, help="network that is not attacked; the default is the attacked one")
    parser.add_argument("--out", type=Path, default=Path("curve.png"))
    parser.add_argument("--people", type=int, default=16)
    parser.add_argument("--quick", action="store_true", help="few people, few steps: shows that it runs")
    options = parser.parse_args()
    count = 3 if options.quick else options.people
    specs = ["noise:0.05"] if options.quick else [f"noise:{sigma}" for sigma in (0.02, 0.05, 0.1, 0.2)]
    specs = ["none", *specs, *(f"truncate:{k}" for k in (() if options.quick else (64, 32, 16)))]

    inverter = Inverter.load(options.recognizer)
    photos = people(options.data, options.out.with_suffix(".people"), count)
    store = enroll(photos, inverter.recognizer, count, options.out.with_suffix(".parquet"))
    if options.quick:
        strangers = inverter.prior.first(300)
        inverter = replace(inverter, prior=strangers)
    attack = audit.AttackConfig(steps=2 if options.quick else None)
    report = audit.audit(
        audit.open_store(str(store), identity="person"),
        inverter,
        judges={options.judge.stem: Recognizer.load(options.judge)} if options.judge else {},
        config=audit.AuditConfig(sample=count, attack=attack, defenses=tuple(specs), photos=photos),
    )
    judge = report.judges[0].name  # those that were not attacked come first
    for row in report.defenses:
        tar = next(point.tar for point in row.accuracy.points if point.fmr == FMR)
        accepted = next(rate for rate in row.rates if rate.judge == judge and rate.fmr == FMR)
        tried = "null" if tar is None else f"{tar:.2f}"
        print(f"{row.spec}: TAR {tried}, {accepted.accepted} of {accepted.tried} reconstructions accepted by {judge}")
    audit.trade_off(options.out, report.defenses, judge=judge, fmr=FMR)
    print(options.out)


if __name__ == "__main__":
    main()
