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

SHORT_CONTROLS = ("control: shuffled targets", "control: a real second photo")


def short(judge: str) -> str:
    """Name of a network in the documents."""
    return judge.removeprefix("insightface-mobilefacenet-")


def rates(run: Found, judge: str) -> str:
    found = run[judge]
    loose, strict = found["type1@0.01"], found["type1@0.001"]
    low, high = loose["wilson95"]
    cells = [short(judge), f"{found['cosine']:.3f}", f"{loose['rate']:.2f} ({low:.2f} to {high:.2f})"]
    others = [found[f"type2@{fmr}"]["rate"] for fmr in ("0.01", "0.001")]
    second = "-" if None in others else ", ".join(number(rate, 2) for rate in others)
    return " | ".join([*cells, f"{strict['rate']:.2f}", second])


def headline(whole: Found, foreign: Found, people: Found, people_foreign: Found) -> str:
    """Both attacked networks according to the judges, on synthetic and real people, with the controls of each."""
    lines = [
        "| attacked, preset | own cosine | judge | cosine | accepted at FMR 1e-2 (95 %) | at 1e-3 "
        "| another picture, at 1e-2, 1e-3 |",
        "|---|---|---|---|---|---|---|",
    ]
    attacks = (("default checkpoint", whole), ("y1", foreign))
    real = (("real people, default checkpoint", people), ("real people, y1", people_foreign))
    for name, report in (*attacks, *real):
        for preset in PRESETS:
            run, head = report["runs"][preset], f"{name}, `{preset}`"
            for judge in report["judges"]:
                lines.append(f"| {head} | {run['own_cosine']:.3f} | {rates(run, judge)} |")
                head = ""
    for kind, report in (("", whole), (", real people", people)):
        for name, control in CONTROLS.items():
            head = f"control{kind}: {name}"
            for judge in report["judges"]:
                lines.append(f"| {head} |  | {rates(report['runs'][control], judge)} |")
                head = ""
    found = min(report["runs"][preset]["found"] for _, report in (*attacks, *real) for preset in PRESETS)
    share = "every reconstruction" if found == 1 else f"at least {100 * found:.0f} % of the reconstructions of each run"
    left, right = (foreign["runs"][f"fast, {pose}"] for pose in ("left", "right"))
    count, own = foreign["targets"], (left["own_cosine"] + right["own_cosine"]) / 2
    apart = f"{round(foreign['poses']['left of right'] * count)} of {count}"
    turned = f"that looks left is measured farther left than the other for {apart} targets"
    return "\n".join(
        [
            *lines,
            "",
            f"{whole['targets']} synthetic targets and {people['targets']} real ones each. "
            f"The detector finds a face in {share}. "
            f"Asked to look left and right (y1, `fast`), the face {turned}; mean own cosine {own:.2f}.",
        ]
    )


def short_table(whole: Found, foreign: Found, people: Found, people_foreign: Found) -> str:
    """The README's table: one line for each pair of attacked network and judge, at the strict threshold."""
    lines = [
        "| attacked | judged by | accepted, `fast` (95 %) | accepted, `best` (95 %) | control: somebody else's "
        "| control: a real second photo |",
        "|---|---|---|---|---|---|",
    ]
    attacks = {"default checkpoint": whole, "InsightFace's y1": foreign}
    attacks |= {"default checkpoint, real people": people, "InsightFace's y1, real people": people_foreign}
    for name, report in attacks.items():
        for judge in report["judges"]:
            runs = [report["runs"][run][judge]["type1@0.001"] for run in (*PRESETS, *SHORT_CONTROLS)]
            cells = [name, short(judge)]
            for run in runs[:2]:
                low, high = run["wilson95"]
                cells.append(f"{run['rate']:.2f} ({low:.2f} to {high:.2f})")
            cells += [f"{run['rate']:.2f}" for run in runs[2:]]
            lines.append(f"| {' | '.join(cells)} |")
    counts = f"{whole['targets']} synthetic and {people['targets']} real people"
    note = f"{counts}, judges' thresholds at a false match rate (FMR) of 1 in 1,000."
    return "\n".join([*lines, "", note])


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
            f"{first['median']['bytes'] / 1e9:.2f} GB | the README's first command, `benchmarks/command.py` |",
            f"| one step against the network's bare forward and backward pass, batch of {step['batch']} | "
            f"{step['ratio']:.2f} times ({least:.2f} to {most:.2f}), {step['ratio_attacked']:.2f} for the steps that "
            f"go through the attacked network; in a batch of {step['against']} an image takes "
            f"{1 / step['gain']:.2f} of what it takes alone | `benchmarks/step.py` |",
        ]
    )


def card(evaluation: Found, whole: Found, people: Found) -> str:
    """Accuracy of the default checkpoint, and how well its embeddings are inverted."""
    verified = evaluation["recognizers"]["default"]["verification"]
    lines = ["| | |", "|---|---|", f"| AUC, EER | {verified['auc']:.4f}, {verified['eer']:.4f} |"]
    for point in verified["points"]:
        if 1e-4 <= point["fmr"] <= 1e-2:
            values = f"{number(point['threshold'], 4)}, {number(point['tar'])}"
            lines.append(f"| threshold and TAR at FMR {point['fmr']:g} | {values} |")
    for preset in PRESETS:
        for kind, report in (("", whole), (", real people", people)):
            run = report["runs"][preset]
            lines.append(
                f"| inverted by `{preset}`{kind} | own cosine {run['own_cosine']:.3f}; {accepted(run, report)} |"
            )
    for name, control in CONTROLS.items():
        lines.append(f"| control: {name} | {accepted(whole['runs'][control], whole)} |")
    pairs = f"{verified['genuine_pairs']:,} genuine, {verified['impostor_pairs']:,} impostor pairs"
    over = f"Of {evaluation['pictures']} pictures of {len(evaluation['identities'])} held-out identities ({pairs})"
    return "\n".join([*lines, "", f"{over}; accepted against the enrolled picture at FMR 1e-2."])


def accepted(run: Found, report: Found) -> str:
    counts = [(short(judge), run[judge]["type1@0.01"]) for judge in report["judges"]]
    return "accepted " + ", ".join(f"by {name} {round(r['rate'] * r['n'])} of {r['n']}" for name, r in counts)


def billion(stores: Found, convert: Found, pairs: Found) -> str:
    """Core hours that 10^9 rows take at the measured rates."""
    rows, lines = 10**9, ["| what | rows a second of one core, measured | hours of one core |", "|---|---|---|"]
    rates = {
        "plain numpy scan of a `.npy` file": stores["rows"] / stores["plain"]["cpu_seconds"],
        "rows of an audit, parquet (scan, sample, rank 1)": stores["rows"] / stores["parquet"]["cpu_seconds"],
        "rows of an audit, FAISS": stores["rows"] / stores["faiss"]["cpu_seconds"],
        "conversion, `.npy`": convert["npy"]["rows_per_cpu_second"],
        "conversion, parquet": convert["parquet"]["rows_per_cpu_second"],
    }
    lines += [f"| {name} | {rate:,.0f} | {rows / rate / 3600:.1f} |" for name, rate in rates.items()]
    rate = pairs["pairs"] / pairs["seconds"] / pairs["threads"]
    years = rows * (rows - 1) / 2 / rate / 3600 / 24 / 365
    note = (
        f"All pairs of 10^9 rows would take {years:,.0f} years of one core at {rate:.1e} pairs a second: take a sample."
    )
    return "\n".join([*lines, "", note])


def number(value: float | None, digits: int = 3) -> str:
    return "null" if value is None else f"{value:.{digits}f}"


INVERSIONS = ("inversion", "inversion-y1", "people", "people-y1")
TABLES: Mapping[str, tuple[Callable[..., str], tuple[str, ...]]] = {
    "headline": (headline, INVERSIONS),
    "short": (short_table, INVERSIONS),
    "costs": (costs, ("evaluation", "first", "step")),
    "card": (card, ("evaluation", "inversion", "people")),
    "billion": (billion, ("stores", "convert", "pairs")),
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
