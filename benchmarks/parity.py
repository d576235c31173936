"""Do two checkouts give the same faces? The cosines of reconstructions by each, compared.

    python benchmarks/parity.py --before CHECKOUT --data FACES --models MODELS --work DIR

Ten faces of FACES (DIR/<identity>/<picture>, aligned) are embedded by the default checkpoint and by each ONNX file of
MODELS that is named below, and reconstructed by either checkout, which calibrates each network itself. Prints the
largest difference of a cosine for each network, and how many images are the same to the byte. A script of a
refactoring: it goes when that is done.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NETWORKS = ("default", "insightface-mobilefacenet-y1.onnx", "mobileface-v3.onnx")
FACES, BOUND = 10, 1e-5


def run(checkout: Path, work: Path, *words: str) -> None:
    environment = os.environ | {"PYTHONPATH": str(checkout), "ARCINVERT_CACHE": str(work / "cache")}
    subprocess.run([sys.executable, "-m", "arcinvert", *words], check=True, env=environment, cwd=work)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("before", "data", "models", "work"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    options = parser.parse_args()
    crops = [str(sorted(folder.iterdir())[0].resolve()) for folder in sorted(options.data.iterdir())[-FACES:]]
    places = {"before": options.before.resolve(), "after": ROOT}
    worst = 0.0
    for network in NETWORKS:
        chosen = [] if network == "default" else ["--checkpoint", str((options.models / network).resolve())]
        target, found = (options.work / f"{network}.npy").resolve(), {}
        for name, checkout in places.items():
            work = (options.work / name).resolve()
            work.mkdir(parents=True, exist_ok=True)
            if not target.exists():
                run(checkout, work, "embed", "--aligned", *crops, *chosen, "-o", str(target))
            settings = ("--variations", "2", "--seed", "3", "--no-report")
            run(checkout, work, "synth", "-e", str(target), *chosen, *settings, "-o", network)
            found[name] = json.loads((work / network / "manifest.json").read_bytes())["results"]
        pairs = list(zip(found["before"], found["after"], strict=True))
        apart = max(abs(a["cosine"] - b["cosine"]) for a, b in pairs)
        same = sum(a["sha256"] == b["sha256"] for a, b in pairs)
        print(f"{network}: cosines differ by at most {apart:g}, {same} of {len(pairs)} images are the same")
        worst = max(worst, apart)
    sys.exit(worst > BOUND)


if __name__ == "__main__":
    main()
