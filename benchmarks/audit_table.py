"""Audit a store whose identities are known, with judges that had no part in the attack.

    python benchmarks/audit_table.py --data FACES --checkpoint y1.onnx --judge JUDGE.onnx -o DIR [--identities 60]

The store, DIR/store.npz, holds the embeddings of the first two images of identities that the default checkpoint held
out; DIR/photos holds these images. `arcinvert audit` attacks one template of each identity with ``fast``; the judges'
thresholds are fixed on these images. DIR/table.md has the rates of the judges that were not attacked,
DIR/table.json the report, DIR/report the output of the command. A run resumes after a kill.
"""

import argparse
import json
import shutil
from pathlib import Path

import numpy as np
import torch
from places import without_place

from arcinvert.audit import AttackConfig, AuditConfig, audit, open_store
from arcinvert.audit.judges import judge_names
from arcinvert.audit.rates import Rate
from arcinvert.audit.report import JudgeResult, LeakageReport
from arcinvert.checkpoint import atomic_write
from arcinvert.errors import ArcInvertError, InputError
from arcinvert.inverter import Inverter
from arcinvert.recognizer import Recognizer
from arcinvert.training.data.faces import load_faces

ENROLLED = 2


def enrol(data: Path, names: list[str], recognizer: Recognizer, out: Path) -> tuple[Path, Path]:
    """Write the store and its photos, of the identities ``names``.

    Raises:
        InputError: one of them is missing, or has too few pictures.
    """
    if missing := [name for name in names if not (data / name).is_dir()]:
        raise InputError(f"{str(data)!r} lacks {len(missing)} of {len(names)} identities, among them {missing[0]!r}")
    files = [(name, file) for name in names for file in sorted((data / name).iterdir())[:ENROLLED]]
    if len(files) < ENROLLED * len(names):
        raise InputError(f"expected {ENROLLED} pictures of each of {len(names)} identities in {str(data)!r}")
    faces = load_faces(data, names, {f"{name}/{file.name}" for name, file in files})
    for name, file in files:
        (out / "photos" / name).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, out / "photos" / name / file.name)
    rows = recognizer.embed(faces.images.permute(0, 3, 1, 2)).numpy()
    with atomic_write(out / "store.npz") as temporary, open(temporary, "wb") as stream:
        np.savez(stream, embeddings=rows, labels=np.array([name for name, _ in files]))
    return out / "store.npz", out / "photos"


def rows_of(judge: JudgeResult) -> list[str]:
    """A line for each kind of rate, with the rate at every threshold."""
    kinds: dict[str, list[Rate]] = {}
    for rate in judge.rates:
        kinds.setdefault(rate.kind, []).append(rate)
    lines = []
    for kind, rates in kinds.items():
        cosine = "-" if rates[0].cosine is None else f"{rates[0].cosine:.3f}"
        lines.append(f"| {kind} | " + " | ".join([*map(cell, rates), cosine]) + " |")
    return lines


def cell(rate: Rate) -> str:
    if rate.rate is None:
        return f"null of {rate.tried}"
    return f"{rate.accepted}, {rate.rate:.2f} ({rate.low:.2f} to {rate.high:.2f})"


def table(report: LeakageReport) -> str:
    """Markdown."""
    found = report.reidentification
    lines = []
    for judge in (judge for judge in report.judges if not judge.attacked):
        limits = [
            f"accepted at FMR {t.fmr:g}" + ("" if t.threshold is None else f" (cosine {t.threshold:.3f})")
            for t in judge.thresholds
        ]
        head = f"| {report.attack.attempts} targets, by {judge.name} | "
        lines += [head + " | ".join([*limits, "mean cosine"]) + " |"]
        lines += ["|---" * (len(limits) + 2) + "|", *rows_of(judge), ""]
    pairs = report.judges[0].thresholds[0].impostor_pairs
    mismatch = "suspected" if report.mismatch.suspected else "not suspected"
    lines += [
        f"Own cosine {report.attack.cosine:.3f}; {found.accepted} of {found.tried} find their own person "
        f"first among the {found.gallery} templates. {pairs:,} impostor pairs fix the thresholds. A mismatch of "
        f"store and network is {mismatch}. The verdict: {report.verdict.word}.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="DIR/<identity>/<picture>, aligned")
    parser.add_argument("--checkpoint", type=Path, required=True, help="the attacked network")
    parser.add_argument("--judge", type=Path, action="append", required=True)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--identities", type=int, default=60, help="attack the first N held-out identities")
    parser.add_argument("--steps", type=int, help="optimization steps; default: those of fast")
    options = parser.parse_args()
    torch.set_flush_denormal(True)
    out: Path = options.out
    try:
        out.mkdir(parents=True, exist_ok=True)
        attacked, *judges = (Recognizer.load(path) for path in (options.checkpoint, *options.judge))
        name, *names = judge_names([options.checkpoint, *options.judge])
        held_out = list(Recognizer.load().header["data"]["held_out"])
        store, photos = enrol(options.data, held_out[: options.identities], attacked, out)
        config = AuditConfig(sample=options.identities, attack=AttackConfig(steps=options.steps), photos=photos)
        report = audit(
            open_store(str(store)),
            Inverter.of(attacked),
            name=name,
            judges=dict(zip(names, judges, strict=True)),
            config=config,
            out=out / "report",
        )
        kept = without_place(report.to_json(), out)
        with atomic_write(out / "table.json") as temporary:
            temporary.write_text(json.dumps(kept, indent=2) + "\n")
        with atomic_write(out / "table.md") as temporary:
            temporary.write_text(table(report))
    except ArcInvertError as error:
        raise SystemExit(f"audit_table: {error}") from None
    print(table(report), end="")


if __name__ == "__main__":
    main()
