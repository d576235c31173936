"""The tables of README and MODEL_CARD.md that combine several measurements, made of benchmarks/results/*.json alone.

    python benchmarks/summary_table.py --results benchmarks/results

Prints each table whose measurements exist. `reproduce.py` puts them into that folder and into the documents.
"""

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Found = Mapping[str, Any]
PRESETS = ("fast", "best")
CONTROLS = {
    "the reconstruction of somebody else": "control: shuffled targets",
    "the mean face": "control: mean face",
    "a real second photo": "control: a real second photo",
}


def short(judge: str) -> str:
    """Name of a network in the documents."""
    return judge.removeprefix("insightface-mobilefacenet-")


def rates(run: Found, judge: str) -> str:
    found = run[judge]
    loose, strict = found["type1@0.01"], found["type1@0.001"]
    low, high = loose["wilson95"]
    cells = [short(judge), f"{found['cosine']:.3f}", f"{loose['rate']:.2f} ({low:.2f} to {high:.2f})"]
    return " | ".join([*cells, f"{strict['rate']:.2f}", f"{found['type2@0.01']['rate']:.2f}"])


def headline(whole: Found, foreign: Found) -> str:
    """Both attacked networks according to the judges, with the controls of the first."""
    lines = [
        "| attacked, preset | own cosine | judge | cosine | accepted at FMR 1e-2 (95 %) | at 1e-3 "
        "| another picture, at 1e-2 |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, report in (("default checkpoint", whole), ("y1", foreign)):
        for preset in PRESETS:
            run, head = report["runs"][preset], f"{name}, `{preset}`"
            for judge in report["judges"]:
                lines.append(f"| {head} | {run['own_cosine']:.3f} | {rates(run, judge)} |")
                head = ""
    for name, control in CONTROLS.items():
        head = f"control: {name}"
        for judge in whole["judges"]:
            lines.append(f"| {head} |  | {rates(whole['runs'][control], judge)} |")
            head = ""
    found = min(report["runs"][preset]["found"] for report in (whole, foreign) for preset in PRESETS)
    share = "every reconstruction" if found == 1 else f"at least {100 * found:.0f} % of the reconstructions of each run"
    left, right = (foreign["runs"][f"fast, {pose}"] for pose in ("left", "right"))
    count, own = foreign["targets"], (left["own_cosine"] + right["own_cosine"]) / 2
    turned = f"has the smaller measured yaw for {round(foreign['poses']['left of right'] * count)} of {count} targets"
    return "\n".join(
        [
            *lines,
            "",
            f"{whole['targets']} targets each. The detector finds a face in {share}. "
            f"Asked to look left and right (y1, `fast`), the one {turned}, own cosine {own:.2f}.",
        ]
    )


def costs(evaluation: Found, first: Found, step: Found) -> str:
    """The accuracy of the default checkpoint, and the time a user waits."""
    points = {point["fmr"]: point["tar"] for point in evaluation["recognizers"]["default"]["verification"]["points"]}
    auc, tar = evaluation["recognizers"]["default"]["verification"]["auc"], points[1e-3]
    least, most = step["ratio_range"]
    verified = f"verification on {len(evaluation['identities'])} held-out identities"
    return "\n".join(
        [
            "| | measured | by |",
            "|---|---|---|",
            f"| {verified} | AUC {auc:.4f}, TAR {number(tar)} at FMR 1e-3 | `benchmarks/eval_table.py` |",
            f"| one target, four variations, start-up and report included | {first['median']['seconds']:.1f} s, "
            f"{first['median']['bytes'] / 1e9:.2f} GB | the first command above, `benchmarks/command.py` |",
            f"| one step against the network's bare forward and backward pass, batch of {step['batch']} | "
            f"{step['ratio']:.2f} times ({least:.2f} to {most:.2f}), {step['ratio_attacked']:.2f} for the steps that "
            f"go through the attacked network; in a batch of {step['against']} an image takes "
            f"{1 / step['gain']:.2f} of what it takes alone | `benchmarks/step.py` |",
        ]
    )


def card(evaluation: Found, whole: Found) -> str:
    """Accuracy of the default checkpoint, and how well its embeddings are inverted."""
    verified = evaluation["recognizers"]["default"]["verification"]
    lines = ["| | |", "|---|---|", f"| AUC, EER | {verified['auc']:.4f}, {verified['eer']:.4f} |"]
    for point in verified["points"]:
        if 1e-4 <= point["fmr"] <= 1e-2:
            values = f"{number(point['threshold'], 4)}, {number(point['tar'])}"
            lines.append(f"| threshold and TAR at FMR {point['fmr']:g} | {values} |")
    for preset in PRESETS:
        run = whole["runs"][preset]
        lines.append(f"| inverted by `{preset}` | own cosine {run['own_cosine']:.3f}; {accepted(run, whole)} |")
    for name, control in CONTROLS.items():
        lines.append(f"| control: {name} | {accepted(whole['runs'][control], whole)} |")
    pairs = f"{verified['genuine_pairs']:,} genuine, {verified['impostor_pairs']:,} impostor pairs"
    over = f"Of {evaluation['pictures']} pictures of {len(evaluation['identities'])} held-out identities ({pairs})"
    return "\n".join([*lines, "", f"{over}; accepted against the enrolled picture at FMR 1e-2."])


def accepted(run: Found, report: Found) -> str:
    counts = [(short(judge), run[judge]["type1@0.01"]) for judge in report["judges"]]
    return "accepted " + ", ".join(f"by {name} {round(r['rate'] * r['n'])} of {r['n']}" for name, r in counts)


def number(value: float | None, digits: int = 3) -> str:
    return "null" if value is None else f"{value:.{digits}f}"


TABLES: Mapping[str, tuple[Callable[..., str], tuple[str, ...]]] = {
    "headline": (headline, ("inversion", "inversion-y1")),
    "costs": (costs, ("evaluation", "first", "step")),
    "card": (card, ("evaluation", "inversion")),
}
"""Name -> function, and the measurements that it takes."""


def tables(results: Path) -> dict[str, str]:
    """Name -> Markdown, for each table whose measurements exist."""
    found = {}
    for name, (make, needed) in TABLES.items():
        paths = [results / f"{needs}.json" for needs in needed]
        if all(path.is_file() for path in paths):
            found[name] = make(*(json.loads(path.read_text()) for path in paths))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    for name, table in tables(options.results).items():
        print(f"{name}\n\n{table}\n")


if __name__ == "__main__":
    main()
