"""Audit a store of real people, and compare its rates with those at exact thresholds.

    python benchmarks/real_store.py --crops CROPS --checkpoint y1.onnx --judge JUDGE.onnx -o DIR [--people 60]

CROPS is DIR/<identity>/<image>, photographs that `arcinvert align` has aligned; for measuring only. The store,
DIR/store.npz, holds embeddings of the first two images of the first ``--people`` identities that have two; they are its
enrolled photos too. `arcinvert audit` attacks one template of each. Identities after the first ``--apart``, not
in the store, give the exact thresholds (one image each). DIR/table.json has figures only; everything else in DIR shows
people and is to be deleted. ``--figures FILE --set NAME`` writes the thresholds that the package carries instead.
"""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch

from arcinvert.audit import AttackConfig, AuditConfig, Gate, LeakageReport, audit, open_store
from arcinvert.audit.impostors import ImpostorScores
from arcinvert.audit.judges import embed_faces, judge_names
from arcinvert.audit.rates import TYPE_I
from arcinvert.audit.thresholds import FMRS, Fixed, fix
from arcinvert.checkpoint import atomic_write
from arcinvert.errors import ArcInvertError, InputError
from arcinvert.evaluation.readers.crops import read_crop
from arcinvert.inverter import Inverter
from arcinvert.recognizer import Recognizer
from arcinvert.synthesis.sheets import read_png

GATES = ("sar@1e-2=0.05", "sar@1e-3=0.05")


def people_of(folder: Path) -> list[list[Path]]:
    """The crops of each identity, in order."""
    homes = sorted(path for path in folder.iterdir() if path.is_dir())
    return [sorted(home.iterdir()) for home in homes]


def crops_of(files: list[Path]) -> torch.Tensor:
    """(N, 112, 112, 3) uint8."""
    return torch.from_numpy(np.stack([read_crop(path) for path in files]))


def enrol(people: list[list[Path]], recognizer: Recognizer, out: Path) -> tuple[Path, Path]:
    """Write a store of two templates each, and the photos behind it."""
    files = [path for own in people for path in own[:2]]
    for path in files:
        (out / "photos" / path.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, out / "photos" / path.parent.name / path.name)
    rows = embed_faces(recognizer, crops_of(files)).numpy()
    with atomic_write(out / "store.npz") as temporary, open(temporary, "wb") as stream:
        np.savez(stream, embeddings=rows, labels=np.array([path.parent.name for path in files]))
    return out / "store.npz", out / "photos"


def exact(recognizer: Recognizer, files: list[Path], name: str) -> Fixed:
    """The thresholds of a recognizer on one image of each of many people."""
    rows = embed_faces(recognizer, crops_of(files)).numpy()
    return fix(ImpostorScores.of(rows, np.arange(len(rows))), "public set", name)


def accepted(judge: Recognizer, out: Path, photos: Path, fixed: Fixed) -> dict[str, float]:
    """The type I rate of the reconstructions in ``out`` at other thresholds."""
    faces = sorted((out / "faces").glob("*.png"))
    files = [path for home in sorted(photos.iterdir()) for path in sorted(home.iterdir())]  # as in the store
    enrolled = embed_faces(judge, crops_of([files[int(path.stem)] for path in faces]))
    found = embed_faces(judge, torch.stack([read_png(path) for path in faces]))
    cosine = (found * enrolled).sum(1)
    known = [t for t in fixed.thresholds if t.threshold is not None]
    return {f"{t.fmr:g}": float((cosine >= t.threshold).double().mean()) for t in known}


def summary(report: LeakageReport, rates_at_exact: dict[str, dict[str, float]]) -> dict[str, Any]:
    """Figures of an audit; no name, no path, no image."""
    whole = report.to_json()
    for judge in whole["judges"]:
        judge.pop("thresholds_on")
    return {
        "verdict": {key: whole["verdict"][key] for key in ("word", "operating_fmr", "warnings")},
        "mismatch": whole["mismatch"],
        "attack": whole["attack"],
        "judges": whole["judges"],
        "type I at exact thresholds": rates_at_exact,
        "gates": {text: Gate.parse(text).check(report)[0] for text in GATES},
        "templates": whole["sample"]["count"],
    }


def table(found: dict[str, Any]) -> str:
    """Markdown."""
    lines = ["| judge | compared | FMR | threshold (95 %), people | accepted (95 %) | at the exact threshold |"]
    lines += ["|---" * 6 + "|"]
    for judge in found["judges"]:
        if judge["attacked"]:
            continue
        for rate in judge["rates"]:
            t = next(t for t in judge["thresholds"] if t["fmr"] == rate["fmr"])
            ends = f"{t['threshold']:.3f} ({t['low']:.3f} to {t['high']:.3f}), {t['impostor_identities']}"
            share = f"{rate['accepted']} of {rate['tried']}, {rate['rate']:.2f}"
            share += f" ({rate['low']:.2f} to {rate['high']:.2f})"
            other = found["type I at exact thresholds"][judge["name"]].get(f"{rate['fmr']:g}")
            last = f"{other:.2f}" if rate["kind"] == TYPE_I and other is not None else ""
            ends += ", extrapolated" if t["extrapolated"] else ""
            lines.append(f"| {judge['name']} | {rate['kind']} | {rate['fmr']:g} | {ends} | {share} | {last} |")
    gates = ", ".join(f"`{text}` {'exceeded (exit 10)' if over else 'kept'}" for text, over in found["gates"].items())
    mismatch = "suspected" if found["mismatch"]["suspected"] else "not suspected"
    told = f"Verdict: {found['verdict']['word']}. Mismatch: {mismatch}. Own cosine {found['attack']['cosine']:.3f}."
    return "\n".join([*lines, "", f"{told} {gates}."])


def public(recognizers: dict[str, Recognizer], files: list[Path], name: str) -> dict[str, Any]:
    """The table of thresholds on a named public set: a row for each network, by the digest of its file."""
    rows = []
    for title, recognizer in recognizers.items():
        found = exact(recognizer, files, name)
        keys = ("fmr", "threshold", "low", "high", "impostor_pairs", "impostor_identities", "effective_pairs")
        thresholds = [{key: getattr(t, key) for key in keys} for t in found.thresholds]
        rows.append({"network": title, "digest": recognizer.digest, "thresholds": thresholds})
    return {"set": f"{name}, one image of each of {len(files)} people", "fmrs": FMRS, "networks": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--crops", type=Path, required=True, help="DIR/<identity>/<image>, aligned photographs")
    parser.add_argument("--checkpoint", type=Path, help="the attacked network; default: the one of arcinvert")
    parser.add_argument("--judge", type=Path, action="append", default=[])
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--people", type=int, default=60, help="identities in the store, two templates each")
    parser.add_argument("--apart", type=int, default=150, help="identities with two images that fix no exact threshold")
    parser.add_argument("--calibration-faces", type=Path, help="as in `arcinvert audit`")
    parser.add_argument("--steps", type=int, help="optimization steps; default: those of fast")
    parser.add_argument("--figures", type=Path, help="write the table of public thresholds, and audit nothing")
    parser.add_argument("--set", default="", help="name of the set behind --figures")
    options = parser.parse_args()
    torch.set_flush_denormal(True)
    out: Path = options.out
    try:
        out.mkdir(parents=True, exist_ok=True)
        attacked, *judges = (Recognizer.load(path) for path in (options.checkpoint, *options.judge))
        name, *names = judge_names([options.checkpoint or Path("default"), *options.judge])
        people = people_of(options.crops)
        two = [own for own in people if len(own) > 1]
        if len(two) < options.people:
            raise InputError(f"expected two images of {options.people} identities, got {len(two)}")
        near = {own[0].parent for own in two[: options.apart]}
        others = [own[0] for own in people if own[0].parent not in near]
        if options.figures:
            found = public({name: attacked} | dict(zip(names, judges, strict=True)), others, options.set)
            options.figures.write_text(json.dumps(found, indent=2) + "\n")
            return
        store, photos = enrol(two[: options.people], attacked, out)
        config = AuditConfig(
            sample=options.people,
            attack=AttackConfig(steps=options.steps),
            photos=photos,
            calibration_faces=options.calibration_faces,
            show_faces=True,
        )
        known = dict(zip(names, judges, strict=True))
        inverter = Inverter.of(attacked)
        report = audit(open_store(str(store)), inverter, name=name, judges=known, config=config, out=out / "report")
        rates = {
            title: accepted(judge, out / "report", photos, exact(judge, others, "")) for title, judge in known.items()
        }
        kept = summary(report, rates)
        with atomic_write(out / "table.json") as temporary:
            temporary.write_text(json.dumps(kept, indent=2) + "\n")
        with atomic_write(out / "table.md") as temporary:
            temporary.write_text(table(kept) + "\n")
    except ArcInvertError as error:
        raise SystemExit(f"real_store: {error}") from None
    print(table(kept))


if __name__ == "__main__":
    main()
