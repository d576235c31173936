"""What the default checkpoint reveals about whom it was trained on, by the signals of `arcinvert audit membership`.

    python benchmarks/membership_table.py --data FACES [--json OUT.json]

Members are the folders of FACES that the checkpoint was trained on, nonmembers those that it held out; one
program made both. Members are drawn with seed 0, whole identities, ``--pictures`` at most.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from arcinvert.audit.membership import Signals, measure, signals_of_files
from arcinvert.errors import ArcInvertError
from arcinvert.evaluation.readers.crops import files_digest, identity_files
from arcinvert.recognizer import Recognizer


def split(data: Path, held_out: set[str], most: int) -> list[tuple[list[Path], np.ndarray]]:
    """Files and people of members and nonmembers."""
    files, _, _ = identity_files(data)
    names = sorted({path.parent.name for path in files})
    sides = []
    for side in (sorted(set(names) - held_out), sorted(set(names) & held_out)):
        chosen: list[Path] = []
        people: list[int] = []
        for number, row in enumerate(np.random.default_rng(0).permutation(len(side))):
            own = [path for path in files if path.parent.name == side[row]]
            if len(chosen) + len(own) > most:
                break
            chosen, people = chosen + own, people + [number] * len(own)
        sides.append((chosen, np.array(people, np.int64)))
    return sides


def table(report: dict[str, Any]) -> str:
    """Markdown."""
    lines = ["| signal | members and nonmembers | ROC area (95 %) | found at FPR 1 % (95 %) |", "|---|---|---|---|"]
    for row in report["results"]:
        rate = "too few nonmembers"
        if row["tpr"] is not None:
            rate = f"{row['tpr']:.3f} ({row['tpr_low']:.3f} to {row['tpr_high']:.3f})"
        counts = f"{row['members']} and {row['nonmembers']} {row['unit']}"
        area = f"{row['auc']:.3f} ({row['auc_low']:.3f} to {row['auc_high']:.3f})"
        lines.append(f"| {row['name']} | {counts} | {area} | {rate} |")
    members, others = report["people"]
    return "\n".join(
        [
            *lines,
            "",
            f"The default checkpoint, {members} identities that it was trained on and {others} that it held out.",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="DIR/<identity>/<picture>, aligned")
    parser.add_argument("--pictures", type=int, default=1000, help="of members, and of nonmembers, at most")
    parser.add_argument("--draws", type=int, default=400, help="of the bootstrap")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_flush_denormal(True)
    try:
        recognizer = Recognizer.load()
        sides = []
        for files, people in split(options.data, set(recognizer.header["data"]["held_out"]), options.pictures):
            named, features = signals_of_files(recognizer, files)
            sides.append(Signals(named, features, people, files_digest(options.data, files), 0))
        report = {"recognizer": recognizer.digest, **measure(*sides, draws=options.draws).to_json()}
    except ArcInvertError as error:
        raise SystemExit(f"membership_table: {error}") from None
    print(table(report))
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
