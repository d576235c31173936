"""How many faces does a calibration need, by the cosine of a judge?

    python benchmarks/calibration_faces.py --data FACES --checkpoint y1.onnx --judge mobileface-v3.onnx [--json OUT]

Calibrates a recognizer on the synthetic faces of the face prior, portion by portion as the first use of a network
does, but to the end. After some of the portions it inverts ``--targets`` development identities (the last 60 of those
that the default checkpoint held out) with ``fast`` and lets the judge compare. The error is what ends a calibration:
the share of variance that is left of the auxiliary embeddings of held-out faces. Processor seconds
are those of the calibration alone, up to there.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from inversion import Judge, attack_on

from arcinvert.calibration.fit import ENOUGH, PORTIONS, CalibrationFit, face_batches
from arcinvert.calibration.regression import RIDGES
from arcinvert.calibration.statistics import Moments
from arcinvert.faceprior.prior import default_face_prior
from arcinvert.inversion.invert import invert
from arcinvert.inversion.presets import preset_of
from arcinvert.inverter import Inverter
from arcinvert.recognizer import Recognizer
from arcinvert.training.data.faces import load_faces

STATISTICS = 200


@torch.no_grad()
def moments_of(recognizer: Recognizer, prior: Any) -> Moments:
    moments = Moments(recognizer.layers, recognizer.layers[:12])
    for faces, _ in face_batches(prior, range(0, len(prior), max(1, len(prior) // STATISTICS)), 4):
        moments.add(recognizer.trace(torch.cat([faces, faces.flip(-1)]), taps=recognizer.layers).activations)
    return moments


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="DIR/<identity>/<picture>, aligned")
    parser.add_argument("--judge", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--targets", type=int, default=20)
    parser.add_argument("--offset", type=int, default=60, help="of the held-out identities, pass over this many first")
    parser.add_argument("--portions", type=int, nargs="*", default=[1, 2, 3, 4, 8], help="after which to invert")
    parser.add_argument("--faces", type=int, help="the first so many faces alone")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()

    torch.set_flush_denormal(True)
    attacked = Recognizer.load().header["data"]["held_out"][options.offset :][: options.targets]
    faces = load_faces(options.data, attacked)
    enrolled = faces.images[[int((faces.labels == i).nonzero()[0]) for i in range(len(attacked))]]
    recognizer, prior, judge = Recognizer.load(options.checkpoint), default_face_prior(), Judge(options.judge)
    prior = prior.first(options.faces or len(prior))
    target, reference = recognizer.embed(enrolled.permute(0, 3, 1, 2)), judge(enrolled)
    started = time.process_time()
    moments = moments_of(recognizer, prior)
    count = len(prior)
    fit = CalibrationFit(recognizer)
    spent, before, rows = time.process_time() - started, 0.0, []
    report = {"checkpoint": recognizer.digest, "judge": judge.name, "targets": len(attacked), "enough": ENOUGH}
    print("| faces | processor seconds | error on held-out faces | lower than before | own cosine | judged cosine |")
    print("|---|---|---|---|---|---|")
    for number, first in enumerate(range(PORTIONS), 1):
        started = time.process_time()
        with torch.no_grad():
            portion = range(first, count, PORTIONS)
            cut = len(portion) - len(portion) // 5
            for rows_of, held_out in ((portion[:cut], False), (portion[cut:], True)):
                for shown, latents in face_batches(prior, rows_of, 16):
                    fit.add(shown, latents, held_out=held_out)
        error = fit.error(RIDGES)
        spent += time.process_time() - started
        fell, before = (1 - error / before if before else None), error
        row: dict[str, Any] = {"faces": fit.count, "cpu_seconds": spent, "error": error, "fell": fell}
        if number in options.portions:
            started = time.process_time()
            calibration = fit.calibration(RIDGES, moments, prior.digest)
            row["cpu_seconds"] += time.process_time() - started
            inverter, images, own = Inverter(recognizer, prior, calibration), [], []
            for start in range(0, len(target), 8):
                attack = attack_on(inverter, target[start : start + 8], 0, start)
                found = invert(preset_of("fast").recipe(attack), target=attack.target, generators=attack.generators)
                images.append(found.images)
                own.append(found.cosine)
            judged = (judge(torch.cat(images)) * reference).sum(1)
            row |= {"own_cosine": float(torch.cat(own).mean()), "judged_cosine": float(judged.mean())}
        rows.append(row)
        cells = [f"{row['faces']}", f"{row['cpu_seconds']:.0f}", f"{error:.4f}", "" if fell is None else f"{fell:.1%}"]
        cells += [f"{row[key]:.3f}" if key in row else "" for key in ("own_cosine", "judged_cosine")]
        print("| " + " | ".join(cells) + " |", flush=True)
        if options.json:
            options.json.write_text(json.dumps(report | {"rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
