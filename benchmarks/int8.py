"""Does an int8 graph compute what onnxruntime computes of it?

    python benchmarks/int8.py --model y1.onnx --data FACES [--faces 100] [--json OUT.json]

Each network is quantized by onnxruntime's own tool, with scales from 64 faces of ``DIR/<identity>/<picture>``: as QDQ
(DequantizeLinear, Conv, QuantizeLinear) and as QLinear operators, with a scale per tensor and per channel. 100 other
faces are embedded by us and by onnxruntime, with its graph optimizations (its default) and without, which is
another order of the same arithmetic: where a network amplifies a rounding, its two settings differ too. Cosines,
smallest and mean; and the largest difference between our embeddings in a batch and alone.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

from arcinvert.faces.alignment import read_photo
from arcinvert.recognizer import Recognizer

CALIBRATED = 64
OPTIMIZED = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
LITERAL = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL


class Faces(CalibrationDataReader):  # type: ignore[misc]
    """Faces one at a time, as the quantizer takes them."""

    def __init__(self, name: str, images: np.ndarray) -> None:
        self.rows: Iterator[dict[str, np.ndarray]] = iter([{name: image[None]} for image in images])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.rows, None)


def run(path: Path, images: np.ndarray, level: Any) -> Tensor:
    """Features by onnxruntime, one image at a time."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level, options.log_severity_level, options.intra_op_num_threads = level, 4, 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return torch.from_numpy(np.concatenate([session.run(None, {name: image[None]})[0] for image in images]))


def two(a: Tensor, b: Tensor) -> list[float]:
    found = cosine_similarity(a, b)
    return [float(found.min()), float(found.mean())]


def measure(model: Path, kind: str, per_channel: bool, pictures: np.ndarray, folder: Path) -> dict[str, Any]:
    """One quantized graph; ``pictures`` are (N, 3, 112, 112) in 0..255, which the models' graphs take."""
    newer, made = folder / "newer.onnx", folder / "int8.onnx"
    onnx.save(onnx.version_converter.convert_version(onnx.load(model), 13), newer)
    name = onnx.load(newer).graph.input[0].name
    quantize_static(
        newer,
        made,
        Faces(name, pictures[:CALIBRATED]),
        quant_format=QuantFormat[kind],
        per_channel=per_channel,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    tested = pictures[CALIBRATED:]
    literal, optimized = (run(made, tested, level) for level in (LITERAL, OPTIMIZED))
    recognizer = Recognizer.load(made)
    images = torch.from_numpy(tested) / 255
    found = recognizer.embed(images)
    alone = torch.cat([recognizer.embed(image[None]) for image in images])
    return {
        "model": model.stem,
        "kind": kind,
        "per_channel": per_channel,
        "optimized": two(found, optimized),
        "literal": two(found, literal),
        "between": two(optimized, literal),
        "float": two(normalize(run(model, tested, OPTIMIZED)), optimized),
        "batch": float((found - alone).abs().max()),
    }


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| network | int8 | scales per | ours to onnxruntime | to it without optimizations | between its two settings "
        "| its int8 to its float | ours, batch against alone |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [f"{row[key][0]:.3f}, {row[key][1]:.4f}" for key in ("optimized", "literal", "between", "float")]
        per = "channel" if row["per_channel"] else "tensor"
        kind = {"QDQ": "QDQ", "QOperator": "QLinear"}[row["kind"]]
        lines.append(f"| {row['model']} | {kind} | {per} | {' | '.join(cells)} | {row['batch']:.0e} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, action="append", required=True, help="takes RGB in 0..255")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--faces", type=int, default=100, help="how many are embedded")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    paths = sorted(options.data.glob("*/*.jpg"))
    count = CALIBRATED + options.faces
    chosen = np.random.default_rng(0).permutation(len(paths))[:count]
    pictures = np.stack([read_photo(paths[number]).transpose(2, 0, 1) for number in chosen]).astype(np.float32)
    rows = []
    for model in options.model:
        for kind in ("QDQ", "QOperator"):
            for per_channel in (False, True):
                with tempfile.TemporaryDirectory() as folder:
                    rows.append(measure(model, kind, per_channel, pictures, Path(folder)))
                if options.json:
                    options.json.write_text(json.dumps(rows, indent=1) + "\n")
    print(table(rows), end="")


if __name__ == "__main__":
    main()
