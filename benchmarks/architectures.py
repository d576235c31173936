"""Do foreign graphs open, and compute what onnxruntime computes, with a gradient?

    pip install timm onnxscript
    python benchmarks/architectures.py [--models FOLDER] [--only NAME ...] [--json OUT.json]

Each architecture of timm, with random weights and 512 outputs, is exported by torch's older exporter (TorchScript) and
its newer one (which needs onnxscript), with a fixed batch of one and with a batch of any size. The file is opened and
compared with onnxruntime on four smooth random images: the smallest cosine between features from which the mean of the
four is subtracted, because features of a random network are almost the same for all images. The gradient is compared
with that of the network in timm (cosine) and with differences of onnxruntime's own features along it: the ratio of the
two slopes, which kinks (ReLU) between the two ends of a difference make differ from 1. ``--models`` adds the ONNX
files of a folder, which are real recognizers. Results are written after each export, and those in the file are kept;
the table lies beside the JSON, with the ending ``.md``.
"""

import argparse
import json
import logging
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, interpolate

from arcinvert.errors import ArcInvertError
from arcinvert.formats import open_checkpoint
from arcinvert.recognizer import Recognizer

ARCHITECTURES: dict[str, dict[str, Any]] = {
    "edgenext_xx_small": {},
    "vit_tiny_patch16_224": {"img_size": 112},
    "swin_tiny_patch4_window7_224": {"img_size": 112, "window_size": 7, "depths": (2, 2, 2, 2), "embed_dim": 48},
    "convnext_atto": {},
    "mobilenetv4_conv_small": {},
    "mobilenetv4_hybrid_medium": {},
    "ghostnet_100": {},
    "ghostnetv2_100": {},
    "mobilenetv3_small_100": {},
    "efficientnet_b0": {},
    "resnet18": {},
    "mobileone_s0": {},
    "repvgg_a0": {},
    "fastvit_t8": {},
    "poolformer_s12": {},
    "mobilevit_xxs": {},
    "deit_tiny_patch16_224": {"img_size": 160},
    "xcit_nano_12_p16_224": {"img_size": 112},
    "inception_next_atto": {},
    "densenet121": {},
}
SIZES = {"deit_tiny_patch16_224": 160, "densenet121": 160, "resnet18": 224}
"""Height and width of images where they are not 112."""
EXPORTS = {
    "older, opset 17, any batch": (False, 17, True),
    "newer, opset 18, any batch": (True, 18, True),
    "older, opset 11, batch 1": (False, 11, False),
    "newer, opset 20, batch 1": (True, 20, False),
    "older, opset 14, any batch": (False, 14, True),
}
CHANNELS_LAST = ("mobilenetv3_small_100", "vit_tiny_patch16_224")
"""Those that are also exported with an input (N, H, W, 3)."""


class _ChannelsLast(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        return self.network(image.permute(0, 3, 1, 2))


def randomized(name: str) -> nn.Module:
    """A network of timm whose every weight is random; a scale of 1e-6 would hide the block behind it."""
    import timm

    torch.manual_seed(0)
    network = timm.create_model(name, pretrained=False, num_classes=512, **ARCHITECTURES[name]).eval()
    for key, parameter in network.named_parameters():
        if parameter.ndim <= 1 or key.endswith(("gamma", "gamma1", "gamma2", "gamma3")):
            around = 0.0 if key.endswith("bias") else 0.7
            parameter.data = around + 0.2 * torch.randn(parameter.shape)
    network.requires_grad_(False)
    size = SIZES.get(name, 112)
    smooth = smooth_images((size, size), count=6, seed=2)
    _match_statistics(network, torch.cat([smooth, torch.rand(smooth.shape)]) * 2 - 1)
    return network


def _match_statistics(network: nn.Module, images: Tensor) -> None:
    """Store the statistics of these images in every BatchNorm.

    With the initial ones, which no layer has, the features of some networks differ between images by less than single
    precision resolves, and parity would be that of two rounding errors.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d)]
    for norm in norms:
        norm.train().momentum = 1.0
    with torch.no_grad():
        network(images)
    network.eval()


def export(network: nn.Module, path: Path, size: int, kind: str, *, last: bool = False) -> None:
    newer, opset, any_batch = EXPORTS[kind]
    network = _ChannelsLast(network).eval() if last else network
    batch = 2 if newer and any_batch else 1  # the newer exporter takes 1 for a constant
    image = torch.rand(batch, size, size, 3) if last else torch.rand(batch, 3, size, size)
    settings: dict[str, Any] = {}
    if any_batch and newer:
        settings["dynamic_shapes"] = ({0: torch.export.Dim("n", min=1, max=64)},)
    elif any_batch:
        settings["dynamic_axes"] = {"image": {0: "n"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        settings |= {"dynamo": newer, "opset_version": opset}
        torch.onnx.export(network, (image,), str(path), input_names=["image"], output_names=["embedding"], **settings)


def run(path: Path, images: Tensor) -> Tensor:
    """Features (B, D) by onnxruntime, one image at a time."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    rows = [session.run(None, {name: image[None]})[0].reshape(1, -1) for image in images.numpy()]
    return torch.from_numpy(np.concatenate(rows))


def smooth_images(size: tuple[int, int], *, count: int = 4, seed: int = 1) -> Tensor:
    """(count, 3, H, W) in [0, 1]."""
    coarse = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    return interpolate(coarse, size, mode="bilinear")


def compare(path: Path, network: nn.Module | None = None) -> dict[str, float | str | int]:
    """Parity and gradient of a file against onnxruntime, and its gradient against that of the network it is of."""
    began = time.perf_counter()
    recognizer = Recognizer.from_checkpoint(open_checkpoint(path), path.name)
    opened = time.perf_counter() - began
    source = recognizer.header["source"]
    crops = smooth_images(recognizer.preprocessing.size)

    def reference(images: Tensor) -> Tensor:
        given = {"0..255": images * 255, "0..1": images, "-1..1": images * 2 - 1}[source["input"]]
        return run(path, given.permute(0, 2, 3, 1) if source.get("layout") == "channels last" else given)

    def features(images: Tensor) -> Tensor:
        means, stds = (
            torch.tensor(x).view(1, 3, 1, 1) for x in (recognizer.preprocessing.mean, recognizer.preprocessing.std)
        )
        return recognizer.network((images - means) / stds)

    expected = reference(crops)
    with torch.no_grad():
        found = features(crops)
    parity = float(cosine_similarity(found - expected.mean(0), expected - expected.mean(0)).min())
    direction = nn.functional.normalize(expected[1] - expected.mean(0), dim=0)
    image = crops[:1].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(features(image)[0] @ direction, image)
    slope = float(gradient.norm())
    ratios = []
    for step in (0.003, 0.01, 0.03, 0.1, 0.3, 1.0):
        ends = torch.cat([crops[:1] + sign * step * gradient / slope for sign in (1, -1)])
        up, down = (reference(ends) @ direction).tolist()
        ratios.append((up - down) / (2 * step) / slope)
    ratio = min(ratios, key=lambda r: abs(r - 1))
    row: dict[str, float | str | int] = {"size": crops.shape[2], "parity": parity, "slope": ratio, "seconds": opened}
    if network is not None:
        assert source["input"] == "-1..1"
        again = crops[:1].clone().requires_grad_()
        (expected,) = torch.autograd.grad(network.eval()(again * 2 - 1)[0] @ direction, again)
        row["gradient"] = float(cosine_similarity(gradient.flatten(), expected.flatten(), dim=0))
    return row


def jobs(models: Path | None, only: list[str]) -> Iterator[tuple[str, str, bool]]:
    if models is not None:
        yield from ((path.name, "a real file", False) for path in sorted(models.glob("*.onnx")))
    for kind in EXPORTS:
        for name in ARCHITECTURES:
            if not only or name in only:
                yield name, kind, False
    for name in CHANNELS_LAST:
        if not only or name in only:
            yield name, next(iter(EXPORTS)), True


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| architecture | image | exports opened | smallest cosine | gradient's cosine | slope |",
        "|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(row["name"] for row in rows):
        own = [row for row in rows if row["name"] == name]
        good = [row for row in own if "parity" in row]
        exported = [row for row in own if "not exported" not in row]
        slopes = [row["slope"] for row in good]
        parity = f"{min(row['parity'] for row in good):.6f}" if good else "-"
        slope = f"{min(slopes):.3f} to {max(slopes):.3f}" if good else "-"
        alike = [row["gradient"] for row in good if "gradient" in row]
        gradient = f"{min(1.0, *alike):.6f}" if alike else "-"
        size = f"{good[0]['size']}" if good else "-"
        lines.append(f"| {name} | {size} | {len(good)} of {len(exported)} | {parity} | {gradient} | {slope} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, help="folder of real ONNX recognizers")
    parser.add_argument("--only", nargs="*", default=[], choices=list(ARCHITECTURES), help="architectures to try")
    parser.add_argument("--json", type=Path, default=Path("architectures.json"))
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    rows = json.loads(options.json.read_text()) if options.json.is_file() else []
    done = {(row["name"], row["export"], row["last"]) for row in rows}
    for name, kind, last in jobs(options.models, options.only):
        if (name, kind, last) in done:
            continue
        row: dict[str, Any] = {"name": name, "export": kind, "last": last}
        with tempfile.TemporaryDirectory() as folder:
            path, network = Path(folder) / "network.onnx", None
            if kind == "a real file":
                path = options.models / name
            else:
                try:
                    network = randomized(name)
                    with torch.no_grad():
                        export(network, path, SIZES.get(name, 112), kind, last=last)
                except Exception as error:  # exporters raise anything
                    row["not exported"] = " ".join(str(error).split())[:200]
            if "not exported" not in row:
                try:
                    row |= compare(path, network)
                except Exception as error:  # a bug shall not end the run
                    kind_of = "refused" if isinstance(error, ArcInvertError) else "failed"
                    row[kind_of] = str(error).replace(str(folder), "")
        print({key: round(value, 7) if isinstance(value, float) else value for key, value in row.items()}, flush=True)
        rows.append(row)
        options.json.write_text(json.dumps(rows, indent=1) + "\n")
    text = table(rows)
    options.json.with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
