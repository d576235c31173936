"""What does an adapter gain, by MAP@100 of people that it has not seen?

    python benchmarks/adapter_table.py --data FACES --checkpoint y1.onnx [--checkpoint ...] [--json OUT.json]

Embeds aligned faces, trains an adapter on the embeddings of all identities that the default checkpoint did not hold out
(as `arcinvert train --embeddings` does), and measures retrieval as `arcinvert eval retrieval` does: the mean of the
first half of an identity's images is its query, the others are searched. The 100 held-out identities are in two parts:
settings were chosen on the last 60, the first 40 are only measured. ``--cache DIR`` keeps the embeddings.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from arcinvert.adapter import Adapter, Perceptron
from arcinvert.evaluation.protocols.labeled_sets import retrieve_folder
from arcinvert.recognizer import Recognizer
from arcinvert.training.adapter import AdapterConfig, train_adapter
from arcinvert.training.data.faces import identity_folders, load_faces

UNTOUCHED = 40


def embedded(checkpoint: str, data: Path, names: list[str], cache: Path | None) -> tuple[NDArray[Any], NDArray[Any]]:
    """Embeddings (N, D) and the positions of their identities in ``names``."""
    recognizer = Recognizer.load(None if checkpoint == "default" else Path(checkpoint))
    kept = None if cache is None else cache / f"{recognizer.digest[:16]}.npz"
    if kept is not None and kept.is_file():
        with np.load(kept) as stored:
            return stored["rows"], stored["labels"]
    faces = load_faces(data, names)
    rows, labels = recognizer.embed(faces.images, batch_size=16).cpu().numpy(), faces.labels.numpy()
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.savez(kept, rows=rows, labels=labels)
    return rows, labels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="DIR/<identity>/<picture>, aligned")
    parser.add_argument("--checkpoint", action="append", required=True, help="a file, or default")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="another setting")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_flush_denormal(True)
    settings = {name: json.loads(value) for name, _, value in (pair.partition("=") for pair in options.set)}
    held_out = list(Recognizer.load().header["data"]["held_out"])
    known = set(held_out)
    trained = sorted(name for name in identity_folders(options.data) if name not in known)
    report: dict[str, Any] = {"settings": settings, "rows": []}
    print("| embeddings of | identities trained on | measured on | MAP@100 before | after (of all seeds) | seconds |")
    print("|---|---|---|---|---|---|")
    for checkpoint in options.checkpoint:
        rows, labels = embedded(checkpoint, options.data, [*trained, *held_out], options.cache)
        adapters, started = [], time.process_time()
        for seed in range(options.seeds):
            config = AdapterConfig.from_mapping({**settings, "held_out": len(held_out), "seed": seed})
            header, tensors = train_adapter(rows, labels, config=config)
            network = Perceptron(header["size"], header["hidden"], header["embedding_size"]).eval()
            network.load_state_dict({key.removeprefix("network."): value for key, value in tensors.items()})
            adapters.append(Adapter(network, header["size"], header["embedding_size"], header, ""))
        seconds = (time.process_time() - started) / options.seeds
        parts = {"untouched": range(UNTOUCHED), "development": range(UNTOUCHED, len(held_out))}
        for name, part in parts.items():
            mine = np.isin(labels - len(trained), list(part))
            people = labels[mine] - labels[mine].min()
            before = retrieve_folder(rows[mine], people).map
            after = [retrieve_folder(adapter(rows[mine]), people).map for adapter in adapters]
            row = {"network": Path(checkpoint).stem, "trained": len(trained), "part": name, "identities": len(part)}
            row |= {"images": int(mine.sum()), "before": before, "after": after, "cpu_seconds": seconds}
            report["rows"].append(row)
            shown = ", ".join("none" if value is None else f"{value:.4f}" for value in after)
            print(
                f"| {row['network']} | {len(trained)} | {len(part)} {name} ({row['images']} images) "
                f"| {before or 0:.4f} | {shown} | {seconds:.0f} |",
                flush=True,
            )
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
