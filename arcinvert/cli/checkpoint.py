"""``arcinvert checkpoint``: import, describe, verify, export and download recognizers."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from arcinvert.cli.common import Device, Json, ProgressLine, answer, answer_json, device, log
from arcinvert.errors import UsageError

if TYPE_CHECKING:
    from arcinvert.recognizer import Recognizer

NAME = "checkpoint"

app = typer.Typer(help="Import, describe, verify, export and download recognizers.", no_args_is_help=True)

File = Annotated[
    Path,
    typer.Argument(
        help="A checkpoint of ours, ONNX, arcface_torch, CVLFace, AdaFace or MXNet, or the name of a known recognizer."
    ),
]


@app.command("import")
def import_(
    file: File,
    out: Annotated[Path, typer.Option("--out", "-o", help="The .safetensors file to write.")],
    color: Annotated[str | None, typer.Option(help="Color order, RGB or BGR, if the file's own is wrong.")] = None,
    mean: Annotated[float | None, typer.Option(help="Mean that is subtracted from the image, in 0..255.")] = None,
    std: Annotated[float | None, typer.Option(help="Number that the image is divided by, in 0..255.")] = None,
    crop: Annotated[
        str | None,
        typer.Option(
            help="Crop of the network's alignment: 'face' (the whole 112x112 crop), 'facenet', 'facenet-margin', 'dlib'"
            " or a,b,x,y: its point (u, v), in units of its width, lies at (a u - b v + x, b u + a v + y) pixels of a "
            "112x112 crop. A fifth number multiplies v: height over width of a box that is squeezed to the "
            "network's shape."
        ),
    ] = None,
    json_out: Json = False,
) -> None:
    """Convert a foreign weight file to a checkpoint of ours.

    Examples:
        arcinvert checkpoint import backbone.pth -o net.safetensors
        arcinvert checkpoint import net.onnx -o net.safetensors --color BGR --mean 127.5 --std 128
    """
    from arcinvert.checkpoint import save_checkpoint
    from arcinvert.evaluation.self_test import contract_of
    from arcinvert.formats import open_checkpoint
    from arcinvert.recognizer import Recognizer

    stored = open_checkpoint(file)
    changed = {
        "color": color,
        "mean": None if mean is None else [mean / 255] * 3,
        "std": None if std is None else [std / 255] * 3,
    }
    changed = {key: value for key, value in changed.items() if value is not None}
    if crop is not None:
        changed["crop"] = _crop(crop)
    if changed:
        stored.header["preprocessing"] = {**stored.header["preprocessing"], **changed}
        stored.header["source"] = {**stored.header.get("source", {}), "contract": "given"}
    recognizer = Recognizer.from_checkpoint(stored, str(file))  # refuses what does not fit, before anything is written
    header = {k: v for k, v in stored.header.items() if k != "format"} | {"license": recognizer.license}
    digest = save_checkpoint(out, header, stored.tensors)
    contract = contract_of(recognizer.preprocessing)
    if json_out:
        described = {"out": str(out), "digest": digest, "contract": contract, "source": stored.header.get("source")}
        answer_json("checkpoint import", described)
        return
    answer(f"{out}: {stored.header['backbone']}, {recognizer.embedding_size}-d, {_norms(recognizer)}")
    if stored.header.get("source", {}).get("contract") == "assumed":
        log.info(
            f"the file does not state its image contract; {contract['color']}, "
            f"(x - {contract['mean'][0]:g}) / {contract['std'][0]:g} is assumed; `arcinvert checkpoint verify` tests it"
        )


@app.command()
def info(file: File, json_out: Json = False) -> None:
    """Describe a checkpoint: network, image contract, BatchNorm layers, calibration, thresholds.

    Examples:
        arcinvert checkpoint info net.onnx
    """
    from arcinvert.evaluation.self_test import describe
    from arcinvert.faceprior.prior import default_face_prior
    from arcinvert.recognizer import Recognizer

    recognizer = Recognizer.load(file)
    found = describe(recognizer, default_face_prior())
    if json_out:
        answer_json("checkpoint info", found)
        return
    contract, calibration = found["contract"], found["calibration"]
    lines = {
        "format": found["format"],
        "backbone": f"{found['backbone']}, {found['parameters'] / 1e6:.2f} M parameters",
        "embedding": f"{found['embedding_size']}-d",
        "image": f"{contract['size'][0]}x{contract['size'][1]} {contract['color']}, "
        f"(x - {_numbers(contract['mean'])}) / {_numbers(contract['std'])} ({contract['from']})"
        + ("" if contract["crop"] is None else f", crop {', '.join(f'{n:g}' for n in contract['crop'])}"),
        "BatchNorm": _norms(recognizer),
        "calibrated": f"on {calibration['faces']} faces, in {calibration['in']}" if calibration else "no",
        "thresholds": "; ".join(
            f"{t['threshold']:.4f} at FMR {t['fmr']:g} ({t['impostor_pairs']} impostor pairs)"
            for t in found["thresholds"]
            if t["threshold"] is not None
        )
        or "none",
        "license": found["license"] or "not stated in the file",
        "digest": found["digest"],
    }
    for key, value in lines.items():
        answer(f"{key:<11}{value}")
    if found["batchnorm"]["dropped_channels"]:
        log.info(
            f"{found['batchnorm']['dropped_channels']} BatchNorm channels store no usable statistics and are left out"
        )
    if not calibration:
        log.info("not calibrated: `synth` does it on first use, `arcinvert calibrate` ahead of time")


@app.command()
def verify(
    file: File,
    reference: Annotated[
        Path | None, typer.Option(help="An ONNX file of the same network, which onnxruntime runs.")
    ] = None,
    faces: Annotated[int, typer.Option(help="Number of synthetic faces to test with.")] = 100,
    device_name: Device = "auto",
    json_out: Json = False,
) -> None:
    """Test a recognizer on synthetic faces; exit code 10 if a problem is found.

    Examples:
        arcinvert checkpoint verify net.safetensors --reference net.onnx
    """
    from arcinvert.evaluation import self_test as contract
    from arcinvert.faceprior.prior import default_face_prior
    from arcinvert.recognizer import Recognizer

    recognizer = Recognizer.load(file, device=device(device_name))
    prior = default_face_prior().to(recognizer.device)
    found = contract.verify(recognizer, prior, reference=reference, faces=faces, progress=ProgressLine("contract"))
    if json_out:
        answer_json("checkpoint verify", asdict(found))
    else:
        if found.parity_mean is not None:
            answer(
                f"against {reference}: cosine {found.scores[0].parity:.6f} at least, {found.parity_mean:.6f} on average"
            )
        answer(f"mirror image: cosine {found.mirror:.3f}")
        answer(f"{'contract':<26}{'BatchNorm':>12}{'d-prime':>9}{'AUC':>9}" + (f"{'parity':>11}" if reference else ""))
        for number, score in enumerate(found.scores):
            name = f"{score.color} {score.scaling}" + (" *" if number == 0 else "")
            parity = "" if score.parity is None else f"{score.parity:>11.5f}"
            distance = f"{'-':>12}" if score.mismatch is None else f"{score.mismatch:>12.3f}"
            answer(f"{name:<26}{distance}{score.separation:>9.2f}{score.auc:>9.4f}{parity}")
        answer(f"* as stored; {found.faces} synthetic faces; BatchNorm: distance to the statistics it stores")
        for problem in found.problems:
            answer(f"PROBLEM: {problem}")
        if not found.problems:
            answer("no problem found")
        if reference is None and found.scores[0].mismatch is None:
            answer("the network stores no BatchNorm statistics: only --reference can tell RGB from BGR")
    if found.problems:
        raise typer.Exit(10)


@app.command()
def export(
    file: File,
    out: Annotated[Path, typer.Option("--out", "-o", help="The .onnx to write, or .pth for arcface_torch.")],
    fold: Annotated[bool, typer.Option("--fold", help="Fold BatchNorm into the convolutions (ONNX only).")] = False,
    json_out: Json = False,
) -> None:
    """Write a recognizer as ONNX (checked against onnxruntime) or as an arcface_torch backbone.

    Examples:
        arcinvert checkpoint export net.safetensors -o net.onnx --fold
    """
    from arcinvert.formats import open_checkpoint

    kind = out.suffix.lower()
    if kind not in (".onnx", ".pth", ".pt") or (fold and kind != ".onnx"):
        raise UsageError(f"expected an output .onnx (--fold goes with it only), .pth or .pt, got {str(out)!r}")
    stored = open_checkpoint(file)
    parity: float | None = None
    if kind == ".onnx":
        from arcinvert.formats.export import export_onnx

        parity = export_onnx(stored, out, fold=fold)
    else:
        from arcinvert.checkpoint import build_network
        from arcinvert.formats.export_arcface_torch import write_arcface_torch

        write_arcface_torch(out, build_network(stored, str(file)))
    if json_out:
        answer_json("checkpoint export", {"out": str(out), "parity": parity})
    else:
        checked = "" if parity is None else f", onnxruntime agrees to a cosine of {parity:.6f}"
        answer(f"{out}: written{checked}")


@app.command()
def pull(
    name: Annotated[str, typer.Argument(help="Name of a known recognizer, or owner/name on the Hugging Face hub.")],
    revision: Annotated[str | None, typer.Option(help="Commit, branch or tag to download.")] = None,
    sha256: Annotated[str | None, typer.Option(help="SHA-256 digest that the file must have.")] = None,
    inner: Annotated[str | None, typer.Option("--file", help="Path of the file in the repository.")] = None,
    json_out: Json = False,
) -> None:
    """Download a public recognizer into the cache; `--checkpoint NAME` then finds it.

    Examples:
        arcinvert checkpoint pull auraface
        arcinvert checkpoint pull fal/AuraFace-v1 --revision main
    """
    from arcinvert.formats import hub

    found = hub.pull(name, revision=revision, sha256=sha256, file=inner)
    if json_out:
        answer_json("checkpoint pull", {"name": name, "file": str(found)})
    else:
        answer(f"{name}: {found}")


def _crop(text: str) -> list[float] | None:
    """The crop of an option: a name, or four or five numbers; None for the whole face."""
    from arcinvert.preprocessing import CROPS

    if text == "face":
        return None
    if text in CROPS:
        return [*CROPS[text]]
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in (4, 5):
        raise UsageError(
            f"expected --crop face, {', '.join(CROPS)} or numbers a,b,x,y or a,b,x,y,stretch, got {text!r}"
        )
    return numbers


def _norms(recognizer: "Recognizer") -> str:
    folded = len(recognizer.folded)
    found = len(recognizer.layers) - folded
    if not folded:
        return f"{found} BatchNorm layers"
    if recognizer.header.get("backbone") != "graph":
        return f"{found} of {found + folded} BatchNorm layers, {folded} folded into convolutions"
    return f"{found} BatchNorm layers, {folded} convolutions without one (folded, or never there)"


def _numbers(values: list[float]) -> str:
    return f"{values[0]:g}" if len(set(values)) == 1 else str(tuple(values))
