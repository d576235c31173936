"""Every protocol side by side for several recognizers, on identities that the default checkpoint has not seen.

    python benchmarks/eval_table.py --data FACES --checkpoint y1.onnx --checkpoint mobileface-v3.onnx [--json OUT.json]

Verification over all pairs, identification (the first image of an identity is enrolled; the last third of the
identities is not), templates (halves of an identity's images), retrieval (first halves search for the other images) and
angles. The identities are those that the default checkpoint held out, or the last ``--identities N`` folders.
``--distractors`` adds the images of all other folders as distractors, as in MegaFace; a recognizer that was trained
here has seen those and gets no such figures. ``--checkpoint default`` is the one that ships with arcinvert. The JSON
has every figure with its counts and Wilson interval.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from arcinvert.errors import ArcInvertError, InputError
from arcinvert.evaluation.allpairs.search import Labels, Rows
from arcinvert.evaluation.embedding import FLIPS, embed_images
from arcinvert.evaluation.metrics import FMRS
from arcinvert.evaluation.protocols.angles import angle_statistics
from arcinvert.evaluation.protocols.labeled_sets import identify_folder, retrieve_folder, template_folder
from arcinvert.evaluation.protocols.megaface import megaface
from arcinvert.evaluation.protocols.verification import verify_embeddings
from arcinvert.recognizer import Recognizer
from arcinvert.training.data.faces import identity_folders, load_faces

SEEN = "trained on the distractors"
Found = Mapping[str, Any]


def measure(rows: Rows, labels: Labels, distractors: Rows | None) -> dict[str, Any]:
    """The complete results of all protocols."""
    template_pairs, template_search = template_folder(rows, labels)
    identified, among = identify_folder(rows, labels)
    everything = {
        "verification": verify_embeddings(rows, labels, FMRS[:5]),
        "identification": identified,
        "megaface": among,
        "distractors": None if distractors is None else megaface(rows, distractors, labels=labels),
        "template_verification": template_pairs,
        "template_identification": template_search,
        "retrieval": retrieve_folder(rows, labels),
        "angles": angle_statistics(rows, labels),
    }
    return {name: None if found is None else dataclasses.asdict(found) for name, found in everything.items()}


def shown(values: Sequence[float | None], digits: int = 3) -> str:
    return ", ".join("null" if value is None else f"{value:.{digits}f}" for value in values)


def at(points: Sequence[Found], key: str, wanted: Sequence[float]) -> list[float | None]:
    """The values of points or rates at ``wanted``."""
    rate = {"fmr": "tar", "far": "dir", "at": "rate"}[key]
    found = {point[key]: point[rate] for point in points}
    return [found.get(value) for value in wanted]


def near_and_far(found: Found, name: str) -> tuple[str, str]:
    """Rank-1 rates among growing numbers of distractors, and TPR against all of them."""
    if found[name] is None:
        return ("-", "-") if name == "megaface" else (f"- ({SEEN})", "-")
    rank1 = shown([rate["rate"] for rate in found[name]["rank1"]])
    return rank1, shown([point["tar"] for point in found[name]["tpr"]])


def rows_of(recognizers: Mapping[str, Found]) -> list[tuple[str, Callable[[Found], str]]]:
    """Name and cell function of each row; counts are the same for all recognizers."""
    one = next(iter(recognizers.values()))
    known, strangers = one["identification"], one["identification"]["unmated"]
    pairs = pairs_of(one["verification"])
    rows: list[tuple[str, Callable[[Found], str]]] = [
        (
            f"AUC, EER ({pairs})",
            lambda f: shown([f["verification"]["auc"], f["verification"]["eer"]], 4),
        ),
        (
            "TAR at FAR 1e-2, 1e-3, 1e-4",
            lambda f: shown(at(f["verification"]["points"], "fmr", (1e-2, 1e-3, 1e-4))),
        ),
        (
            f"rank-1, rank-5 ({known['mated']} probes, {known['identities']} identities)",
            lambda f: shown(at(f["identification"]["ranks"], "at", (1, 5))),
        ),
        (
            f"DIR at FAR 0.1 ({strangers} probes that are nobody)",
            lambda f: shown(at(f["identification"]["open_set"], "far", (1e-1,))),
        ),
    ]
    for name, whose in (("megaface", "held-out"), ("distractors", "other")):
        among = next((found[name] for found in recognizers.values() if found[name] is not None), None)
        if among is not None:
            counts = ", ".join(f"{rate['at']:,}" for rate in among["rank1"])
            over = pairs_of(among["tpr"][0])
            rates = ", ".join(exponent(point["fmr"]) for point in among["tpr"])
            rows += [
                (f"MegaFace rank-1 among {counts} {whose} distractors", lambda f, n=name: near_and_far(f, n)[0]),  # type: ignore[misc]
                (f"MegaFace TPR at FPR {rates} ({over})", lambda f, n=name: near_and_far(f, n)[1]),  # type: ignore[misc]
            ]
    return [
        *rows,
        (
            f"templates: TPR at FPR 1e-2 ({one['template_verification']['pairs']:,} pairs), rank-1",
            lambda f: shown(
                [
                    *at(f["template_verification"]["points"], "fmr", (1e-2,)),
                    f["template_identification"]["rank1"],
                ]
            ),
        ),
        (f"MAP@{one['retrieval']['top']}", lambda f: shown([f["retrieval"]["map"]])),
        (
            "intra-class angle; nearest other center, mean and least (degrees)",
            lambda f: shown([f["angles"][key] for key in ("intra", "inter", "inter_least")], 1),
        ),
    ]


def pairs_of(counted: Found) -> str:
    return f"{counted['genuine_pairs']:,} genuine, {counted['impostor_pairs']:,} impostor pairs"


def exponent(rate: float) -> str:
    return f"{rate:.0e}".replace("e-0", "e-")


def table(report: Found) -> str:
    """Markdown: a row for each protocol, then the reasons for missing figures."""
    recognizers: Mapping[str, Found] = report["recognizers"]
    lines = ["| | " + " | ".join(recognizers) + " |", "|---|" + "---|" * len(recognizers)]
    for name, cell in rows_of(recognizers):
        lines.append(f"| {name} | " + " | ".join(cell(found) for found in recognizers.values()) + " |")
    one = next(iter(recognizers.values()))
    points = [point for point in one["verification"]["points"] if point["fmr"] >= 1e-4]
    points += [point for name in ("megaface", "distractors") if one[name] for point in one[name]["tpr"]]
    remarks = {(-point["fmr"], point["impostor_pairs"]): point["reason"] or point["warning"] for point in points}
    said = [f"At {exponent(-rate)}: {remark}." for (rate, _), remark in sorted(remarks.items()) if remark]
    about = f"{report['pictures']} pictures of {len(report['identities'])} identities; flip test: {report['flip']}."
    return "\n".join([*lines, "", " ".join([about, *said])])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="DIR/<identity>/<picture>, aligned")
    parser.add_argument("--checkpoint", action="append", help="a recognizer, may be repeated; default: default")
    parser.add_argument("--identities", type=int, help="use the last N folders instead of the held-out identities")
    parser.add_argument("--distractors", action="store_true", help="add the images of all other folders as distractors")
    parser.add_argument("--flip", choices=FLIPS, default="none")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    given = options.checkpoint or ["default"]
    if len({Path(name).stem for name in given}) < len(given):
        parser.error("the checkpoints' file names must differ, they head the columns")

    torch.set_flush_denormal(True)
    try:
        folders = identity_folders(options.data)
        if options.identities is None:
            names = list(Recognizer.load().header["data"]["held_out"])
            if missing := set(names) - set(folders):
                raise InputError(f"{str(options.data)!r} lacks {len(missing)} of the {len(names)} held-out identities")
        else:
            names = folders[-options.identities :]
        faces = load_faces(options.data, names)
        strangers = None
        if options.distractors:
            strangers = load_faces(options.data, sorted(set(folders) - set(names))).images.numpy()
        report: dict[str, Any] = {
            "pictures": len(faces),
            "identities": names,
            "digest": faces.digest,
            "distractors": 0 if strangers is None else len(strangers),
            "flip": options.flip,
            "recognizers": {},
        }
        for checkpoint in given:
            recognizer = Recognizer.load(None if checkpoint == "default" else Path(checkpoint))
            rows = embed_images(recognizer, faces.images.numpy(), flip=options.flip)
            others = None
            if strangers is not None and "training" not in recognizer.header:
                others = embed_images(recognizer, strangers, flip=options.flip)
            found = measure(rows, faces.labels.numpy(), others)
            report["recognizers"][Path(checkpoint).stem] = {"digest": recognizer.digest, **found}
            print(f"{Path(checkpoint).stem}: measured", file=sys.stderr)
    except ArcInvertError as error:
        raise SystemExit(f"eval_table: {error}") from None
    print(table(report))
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
