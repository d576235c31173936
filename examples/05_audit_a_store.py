"""What does a store of embeddings leak? Enroll people as a system would, then audit the store it keeps.

python examples/05_audit_a_store.py --out audit
python examples/05_audit_a_store.py --out audit --data FACES --recognizer y1.onnx --judge other.onnx

FACES is <identity>/<picture>, aligned; without it the people are synthetic ones whom the shipped network knows.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from people import enroll, people

from arcinvert import Inverter, Recognizer, audit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="aligned faces; the last --people of them are enrolled")
    parser.add_argument("--recognizer", type=Path, help="network of the store; the default is our own")
    parser.add_argument("--judge", type=Path, help="network that is not attacked; without it the verdict says little")
    parser.add_argument("--out", type=Path, default=Path("audit"), help="folder of the store and the report")
    parser.add_argument("--people", type=int, default=20)
    parser.add_argument("--quick", action="store_true", help="few people, few steps: shows that it runs")
    options = parser.parse_args()
    count = 3 if options.quick else options.people

    # The system: it embeds two photos of everybody, and keeps only rows of numbers.
    inverter = Inverter.load(options.recognizer)
    photos = people(options.data, options.out / "photos", count, 3)
    store = enroll(photos, inverter.recognizer, count, options.out / "people.parquet")

    # The attacker: he has the file and the recognizer. Faces of strangers fix the thresholds of the judges.
    if options.quick:
        strangers = inverter.prior.first(300)
        inverter = replace(inverter, prior=strangers)
    attack = audit.AttackConfig(steps=2 if options.quick else None)
    report = audit.audit(
        audit.open_store(str(store), identity="person"),
        inverter,
        name=options.recognizer.stem if options.recognizer else "default",
        judges={options.judge.stem: Recognizer.load(options.judge)} if options.judge else {},
        config=audit.AuditConfig(sample=count, attack=attack, photos=photos, show_faces=True),
        out=options.out / "report",
    )
    print(f"{report.verdict.word.upper()}: {report.verdict.text}")
    print(options.out / "report/report.html")


if __name__ == "__main__":
    main()
