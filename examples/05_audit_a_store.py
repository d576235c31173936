"""What does a store of embeddings give away? Enrol people as a system would, then audit the store it keeps.

python examples/05_audit_a_store.py --out audit
python examples/05_audit_a_store.py --out audit --data FACES --recognizer y1.onnx --judge other.onnx

FACES is <identity>/<picture>, aligned; without it the people are synthetic ones whom the shipped network knows.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
from people import people

from arcinvert import Recognizer, audit
from arcinvert.evaluation.embedding import embed_files
from arcinvert.faceprior.prior import default_face_prior


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="aligned faces; the last --people of them are enrolled")
    parser.add_argument("--recognizer", type=Path, help="the network of the store; default: our own")
    parser.add_argument("--judge", type=Path, help="one that is not attacked; without it the verdict says little")
    parser.add_argument("--out", type=Path, default=Path("audit"), help="folder of the store and the report")
    parser.add_argument("--people", type=int, default=20)
    parser.add_argument("--quick", action="store_true", help="few people, few steps: shows that it runs")
    options = parser.parse_args()
    count = 3 if options.quick else options.people

    # What a system does: embed two photos of everybody, and keep only rows of numbers.
    photos = people(options.data, options.out / "photos", count, 3)
    folders = sorted(path for path in photos.iterdir() if path.is_dir())[-count:]
    enrolled = [file for folder in folders for file in sorted(folder.iterdir())[:2]]
    recognizer = Recognizer.load(options.recognizer)
    columns = {"id": np.arange(len(enrolled)), "person": [file.parent.name for file in enrolled]}
    columns |= {"embedding": list(embed_files(recognizer, enrolled)), "model": [recognizer.digest] * len(enrolled)}
    options.out.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.table(columns), options.out / "people.parquet")

    # What somebody does who has taken the file, and has the recognizer. Strangers fix the thresholds of the judges.
    prior = default_face_prior()
    prior = replace(prior, codes=prior.codes[:300], labels=prior.labels[:300]) if options.quick else prior
    steps = 2 if options.quick else None
    report = audit.audit(
        audit.open_store(str(options.out / "people.parquet"), identity="person"),
        recognizer,
        judges={options.judge.stem: Recognizer.load(options.judge)} if options.judge else {},
        config=audit.AuditConfig(sample=count, steps=steps, photos=photos, show_faces=True),
        prior=prior,
        out=options.out / "report",
    )
    print(f"{report.verdict['word'].upper()}: {report.verdict['text']}")
    print(options.out / "report/report.html")


if __name__ == "__main__":
    main()
