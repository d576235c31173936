"""Audit a store whose recognizer is used as nothing but a source of embeddings, and ask that recognizer in the end.

    python benchmarks/black_box_table.py --data FACES --through y1.onnx --unknown v3.onnx -o DIR

The unknown systems are run by onnxruntime alone; `:127.5` behind a file means that it takes (x - 127.5) / 127.5. The
store holds the first two images of the first 60 identities that the default checkpoint held out; pairs are images of
the other identities: of 1,760 pairs two of each person, of fewer pairs one of each. Every audit attacks one template of
each identity with ``fast``, through the open recognizer, writes the faces, lets the unknown system embed them, and
reads these embeddings by ``scores``. The second unknown system is a judge that knows nothing of either. DIR/table.md
and DIR/table.json have the rates; a run resumes after a kill.
"""

import argparse
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from PIL import Image
from places import without_place

from arcinvert.audit import AttackConfig, AuditConfig, LeakageReport, audit, open_store
from arcinvert.audit.black_box.box import NAME, open_black_box
from arcinvert.checkpoint import atomic_write
from arcinvert.errors import ArcInvertError, InputError
from arcinvert.inverter import Inverter
from arcinvert.recognizer import Recognizer

PAIRS = (1760, 400, 100)
BATCH = 16


class System:
    """A recognizer of which nothing is used but its embeddings."""

    def __init__(self, word: str) -> None:
        file, _, scale = word.partition(":")
        self.name, self.scale = Path(file).stem, float(scale) if scale else None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])

    def embed(self, files: Sequence[Path]) -> NDArray[np.float32]:
        name, parts = self.session.get_inputs()[0].name, []
        for start in range(0, len(files), BATCH):
            images = [np.asarray(Image.open(path).convert("RGB")) for path in files[start : start + BATCH]]
            x = np.stack(images).astype(np.float32).transpose(0, 3, 1, 2)
            x = x if self.scale is None else (x - self.scale) / self.scale
            parts.append(self.session.run(None, {name: x})[0])
        return np.concatenate(parts).astype(np.float32)


def pictures(data: Path, names: Sequence[str], each: int, out: Path) -> list[Path]:
    """Copy the first images of some identities."""
    if missing := [name for name in names if not (data / name).is_dir()]:
        raise InputError(f"{str(data)!r} lacks {len(missing)} of {len(names)} identities, among them {missing[0]!r}")
    found = []
    for name in names:
        for file in sorted((data / name).iterdir())[:each]:
            (out / name).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, out / name / file.name)
            found.append(out / name / file.name)
    return found


def keep(path: Path, **arrays: NDArray[Any]) -> str:
    with atomic_write(path) as temporary, open(temporary, "wb") as stream:
        np.savez(stream, **arrays)
    return str(path)


def one(
    system: System, count: int, through: Inverter, data: Path, held_out: Sequence[str], options: argparse.Namespace
) -> LeakageReport:
    """Both steps of the audit of one system with so many pairs."""
    out: Path = options.out / f"{system.name}-{count}"
    others = [name for name in sorted(path.name for path in data.iterdir()) if name not in set(held_out)]
    each = 2 if count > len(others) else 1
    shown = pictures(data, others[: -(-count // each)], each, out / "pictures")[:count]
    named = np.array([file.relative_to(out / "pictures").as_posix() for file in shown])
    pairs = keep(out / "pairs.npz", embeddings=system.embed(shown), picture=named)
    people = list(held_out[: options.identities])
    enrolled = pictures(data, people, 2, out / "photos")
    labels = np.array([file.parent.name for file in enrolled])
    store = open_store(keep(out / "store.npz", embeddings=system.embed(enrolled), labels=labels))
    config = AuditConfig(
        sample=len(people), attack=AttackConfig(steps=options.steps), photos=out / "photos", show_faces=True
    )
    judges = {judge.stem: Recognizer.load(judge) for judge in options.judge if judge.stem != system.name}
    settings: dict[str, Any] = {"judges": judges, "config": config, "out": out / "report", "name": options.through.stem}
    box = open_black_box(pairs, out / "pictures", through.recognizer)
    scores = out / "scores.npz"
    if not scores.exists():
        audit(store, through, black_box=box, **settings)
        faces = sorted((out / "report" / "faces").iterdir())
        keep(scores, embeddings=system.embed(faces), picture=np.array([file.name for file in faces]))
    box = open_black_box(pairs, out / "pictures", through.recognizer, scores=str(scores))
    return audit(store, through, black_box=box, **settings)


def rows_of(report: LeakageReport, system: str, count: int) -> list[str]:
    """A line for each judge."""
    assert report.black_box is not None
    found, again, lines = report.black_box.map, report.reidentification, []
    for judge in report.judges:
        rates = {(rate.kind, rate.fmr): rate for rate in judge.rates}

        def cell(kind: str, fmr: float, rates: dict[Any, Any] = rates) -> str:
            rate = rates.get((kind, fmr))
            return "-" if rate is None or rate.rate is None else f"{rate.rate:.2f} ({rate.low:.2f} to {rate.high:.2f})"

        if judge.rates:
            name = f"{system} itself" if judge.name == NAME else judge.name
            cells = [cell(kind, fmr) for kind in ("type I", "type II") for fmr in (1e-2, 1e-3)]
            cells += [cell("control: shuffled targets", 1e-2), cell("control: second photo", 1e-2)]
            name += " (attacked in its place)" if judge.attacked else ""
            shares = (found.own_first / found.searched, again.rate)
            head = [system, str(count), f"{found.cosine:.3f}", *(f"{share:.2f}" for share in shares), name]
            lines.append(f"| {' | '.join([*head, *cells])} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="DIR/<identity>/<picture>, aligned")
    parser.add_argument("--through", type=Path, required=True, help="the open recognizer")
    parser.add_argument("--unknown", action="append", required=True, help="ONNX file, FILE:127.5 for its scale")
    parser.add_argument("--judge", type=Path, action="append", default=[], help="recognizer without a part in it")
    parser.add_argument("--pairs", type=int, action="append", help="default: 1760, 400, 100")
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--identities", type=int, default=60, help="attack the first N held-out identities")
    parser.add_argument("--steps", type=int, help="optimization steps; default: those of fast")
    options = parser.parse_args()
    torch.set_flush_denormal(True)
    try:
        through = Inverter.of(Recognizer.load(options.through))
        held_out = list(Recognizer.load().header["data"]["held_out"])
        table, kept = [], {}
        for count in options.pairs or PAIRS:
            for word in options.unknown:
                system = System(word)
                report = one(system, count, through, options.data, held_out, options)
                table += rows_of(report, system.name, count)
                found = without_place(report.to_json(), options.out / f"{system.name}-{count}")
                kept[f"{system.name}, {count} pairs"] = found
                write(options.out, table, kept)
    except ArcInvertError as error:
        raise SystemExit(f"black_box_table: {error}") from None
    print((options.out / "table.md").read_text(), end="")


def write(out: Path, table: list[str], kept: dict[str, Any]) -> None:
    head = [
        "unknown system",
        "pairs",
        "map: cosine",
        "own first",
        "face finds its record",
        "judge",
        "type I, FMR 1e-2",
        "1e-3",
    ]
    head += ["type II, 1e-2", "1e-3", "somebody else's face", "second photo"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|", *table]
    with atomic_write(out / "table.md") as temporary:
        temporary.write_text("\n".join(lines) + "\n")
    with atomic_write(out / "table.json") as temporary:
        temporary.write_text(json.dumps(kept, indent=2) + "\n")


if __name__ == "__main__":
    main()
